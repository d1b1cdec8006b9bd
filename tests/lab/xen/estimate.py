"""How well vcpud's estimate of run-queue wait agrees with Xen's own trace, and what it costs dom0.

dom0's kernel, as Debian builds it (without PARAVIRT_TIME_ACCOUNTING), charges processes for the time in which its vCPU
waited for a pCPU. What vcpud and libvirtd really used is that part of it for which, by Xen's trace, the vCPU had one.
"""

from __future__ import annotations

import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lab.board import Kind, Order
from lab.intervals import Bound
from lab.outcome import Outcome, report
from lab.stage import say
from lab.xen.books import DOM0
from lab.xen.commands import TREE
from lab.xen.service import STATE, XenVcpud, main_pid
from lab.xen.trace import Times, Trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lab.xen.stage import XenStage
    from vcpud.model import HostSample

WATCHED_S: Final = 60.0
NEEDS_S: Final = 150.0
SETTLE_S: Final = 15.0
BEGUN_S: Final = 75.0
"""The estimate begins when every domain has been looked at a few times, which takes longer where looks are dear."""
WAIT_ERROR: Final = "vcpud_domain_runqueue_wait_error_ratio"
RELATIVE: Final = 0.10
OF_THE_TIME: Final = 0.03
ERRORS: Final = 3.0
ORDERS: Final = {
    "x1": Order(kind=Kind.INDEPENDENT, threads=3),
    "x2": Order(kind=Kind.BLOCKING_BARRIER),
}
"""vCPUs that always want to run, one that never does, and some that come and go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What vcpud made of one vCPU over a stretch of time.

    Attributes:
        ratio: Share of the time it is said to have waited for a pCPU.
        error: Standard error of that.
    """

    ratio: float
    error: float


def allowed(exact: float, error: float) -> float:
    """Return how far an estimate may be from the exact share of time."""
    return max(RELATIVE * exact, OF_THE_TIME, ERRORS * error)


def estimates(
    samples: Sequence[HostSample], began_ns: int, ended_ns: int
) -> dict[tuple[str, int], Estimate]:
    """Return the estimates between the outermost samples of a stretch of time, by domain and vCPU."""
    inside = [sample for sample in samples if began_ns <= sample.taken_at_ns <= ended_ns]
    found: dict[tuple[str, int], Estimate] = {}
    if len(inside) < 2:
        return found
    earlier = {domain.name: domain for domain in inside[0].domains}
    for domain in inside[-1].domains:
        was = earlier.get(domain.name)
        if was is None or was.incarnation != domain.incarnation:
            continue
        window_ns = domain.taken_at_ns - was.taken_at_ns
        before = {vcpu.index: vcpu for vcpu in was.vcpus}
        for vcpu in domain.vcpus:
            first = before.get(vcpu.index)
            if first is None or first.run_delay_ns is None or vcpu.run_delay_ns is None:
                continue
            variance = (vcpu.run_delay_error_ns or 0) ** 2 - (first.run_delay_error_ns or 0) ** 2
            found[domain.name, vcpu.index] = Estimate(
                ratio=(vcpu.run_delay_ns - first.run_delay_ns) / window_ns,
                error=math.sqrt(max(variance, 0)) / window_ns,
            )
    return found


def measure(stage: XenStage) -> Outcome:
    """Compare the estimate with the trace over a minute."""
    guests = stage.guests("pair")
    stage.end_vcpud()
    stage.give(guests, ORDERS)
    recordings = STATE / "recordings"
    more = {
        "defaults": {"mode": "observe"},
        "recording": {"enabled": True, "directory": str(recordings)},
    }
    vcpud = XenVcpud(stage.commands, ignore_host=True, more=more)
    stage.vcpud = vcpud
    vcpud.start()
    time.sleep(SETTLE_S)
    _wait_until_begun(vcpud, [guest.name for guest in guests])
    pids = {"vcpud": vcpud.pid, "libvirtd": main_pid("libvirtd.service")}
    with Trace() as trace:
        began_ns, before_s = time.monotonic_ns(), {name: _cpu_s(pid) for name, pid in pids.items()}
        time.sleep(WATCHED_S)
        ended_ns, after_s = time.monotonic_ns(), {name: _cpu_s(pid) for name, pid in pids.items()}
    stage.end_vcpud()
    outcome = Outcome()
    exact = {
        (guest.name, vcpu): times.runnable_ratio if times else None
        for guest in guests
        for vcpu in sorted(guest.every_cpu)
        for times in (trace.times.get((guest.domain.ID(), vcpu)),)
    }
    judge(outcome, exact, estimates(list(_samples(recordings)), began_ns, ended_ns))
    served = trace.times.get((DOM0, 0), Times()).served_ratio
    for name in pids:
        charged = (after_s[name] - before_s[name]) / ((ended_ns - began_ns) / 1e9)
        outcome.record_exact(f"{name}_dom0_vcpus", charged)
        if served is not None:
            outcome.record_exact(f"{name}_pcpus", charged * served)
            say(f"  {name} used {charged * served:.3f} of a pCPU; dom0 charged it {charged:.3f}")
    outcome.judge((Bound(figure="worst_error_over_allowed", limit=1.0, at_least=False),))
    report(outcome)
    return outcome


def _wait_until_begun(vcpud: XenVcpud, names: Sequence[str]) -> None:
    """Wait until vcpud says of every domain how sure its estimate is; what it never says is judged later."""
    deadline_s = time.monotonic() + BEGUN_S
    while not all(vcpud.metrics(WAIT_ERROR, domain=name) for name in names):
        if time.monotonic() > deadline_s:
            say(f"  no estimate of every domain within {SETTLE_S + BEGUN_S:g} s")
            return
        time.sleep(3.0)  # each scrape costs dom0 something


def judge(
    outcome: Outcome,
    exact: Mapping[tuple[str, int], float | None],
    estimated: Mapping[tuple[str, int], Estimate],
) -> None:
    """Record every vCPU beside what Xen traced; a vCPU nothing was said of leaves no figure to pass."""
    table = []
    worst: float | None = 0.0
    for (name, vcpu), ratio in sorted(exact.items()):
        found = estimated.get((name, vcpu))
        if ratio is None or found is None:
            worst = None
            say(f"  {name} vCPU {vcpu}: traced {ratio}, estimated {found}")
            continue
        limit = allowed(ratio, found.error)
        if worst is not None:
            worst = max(worst, abs(found.ratio - ratio) / limit)
        say(
            f"  {name} vCPU {vcpu}: waited {ratio:.3f} of the time, estimated {found.ratio:.3f} "
            f"with a standard error of {found.error:.3f}; {limit:.3f} off is allowed"
        )
        table.append(
            {
                "domain": name,
                "vcpu": vcpu,
                "traced": ratio,
                "estimated": found.ratio,
                "error": found.error,
                "allowed": limit,
            }
        )
    outcome.figures["vcpus"] = table
    if worst is not None and table:
        outcome.record_exact("worst_error_over_allowed", worst)


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far, that of children it has waited for included."""
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(word) for word in words[11:15]) / os.sysconf("SC_CLK_TCK")


def _samples(folder: Path) -> Iterator[HostSample]:
    """Yield what vcpud has recorded, in order."""
    sys.path.append(str(TREE))
    from vcpud.recording.files import Recording, found  # noqa: PLC0415  in dom0 the package's own

    for path in found([folder]):
        for record in Recording(path).cycles():
            yield record.sample
