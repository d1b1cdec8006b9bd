"""CPU time of rendering and of replaying, against the bounds they are promised for."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from fakes.crowd import crowd
from fakes.ports import ListInbox, MemoryLedger, SimulatedClock
from fakes.runs import SETTINGS, writer
from vcpud.control import ControlLoop
from vcpud.demand import HostDemand
from vcpud.events import HostEvent
from vcpud.hypervisor.stats import parse_counters
from vcpud.metrics import Metrics
from vcpud.model import Accepted, Change, DomainSample, Effect, HostSample
from vcpud.plan import Plan
from vcpud.ports import RESTORE_NS
from vcpud.record import CycleRecord
from vcpud.status import LatestCycle
from vcpud.units import NS_PER_S

DOMAINS, CYCLES = 1000, 12
HOUR = 3600


class Played:
    """A `Hypervisor` whose samples were made beforehand, and which reads what libvirt would give.

    Its dictionaries are made anew for every sample, as libvirt's binding makes them, from JSON. That
    is less than libvirt's own answer costs (2 us a vCPU; the lab's bare call 3 to 4, with fewer counters),
    so that a real cycle costs more than this.
    """

    restore_ns = RESTORE_NS

    def __init__(self, samples: list[HostSample]) -> None:
        self._samples = iter(
            [(sample, json.dumps(list(map(row, sample.domains)))) for sample in samples]
        )

    def sample(self) -> HostSample:
        sample, rows = next(self._samples)
        for one in json.loads(rows):
            parse_counters(one)
        return sample

    def begin(self, change: Change) -> Effect:
        del change
        return Accepted()

    def events(self) -> tuple[HostEvent, ...]:
        return ()


def row(domain: DomainSample) -> dict[str, int]:
    """A domain's counters as libvirt names them."""
    found = {
        "state.state": 1,
        "state.reason": 1,
        "vcpu.current": domain.live_vcpus,
        "vcpu.maximum": domain.max_vcpus,
    }
    for vcpu in domain.vcpus:
        begin = f"vcpu.{vcpu.index}."
        found |= {
            f"{begin}state": 1,
            f"{begin}time": vcpu.run_ns or 0,
            f"{begin}wait": 0,
            f"{begin}delay": vcpu.run_delay_ns or 0,
            f"{begin}exits.sum": 7,
            f"{begin}halt_poll_success_ns.sum": vcpu.halt_poll_ns or 0,
            f"{begin}halt_poll_fail_ns.sum": 0,
            f"{begin}preemption_reported.sum": vcpu.preemptions or 0,
            f"{begin}preemption_other.sum": 0,
            f"{begin}directed_yield_attempted.sum": vcpu.directed_yields or 0,
        }
    return found


def render_share() -> float:
    """What one rendering of 1,000 domains costs, over what a cycle of them costs at least."""
    clock = SimulatedClock()
    metrics = Metrics("digest", "soak")
    loop = ControlLoop(
        clock=clock,
        hypervisor=Played(list(crowd(DOMAINS, CYCLES))),
        ledger=MemoryLedger(),
        inbox=ListInbox(),
        recorder=Both(metrics, LatestCycle()),
        settings=SETTINGS,
    )
    cycles_s, renders_s = [], []
    for _ in range(CYCLES):
        began_s = time.thread_time()
        loop.cycle()
        cycles_s.append(time.thread_time() - began_s)
        began_s = time.thread_time()
        metrics.render()
        renders_s.append(time.thread_time() - began_s)
    # The least of each: whatever else the machine did meanwhile only ever adds.
    return min(renders_s[2:]) / min(cycles_s[2:])


class Both:
    """Two recorders."""

    def __init__(self, *recorders: Metrics | LatestCycle) -> None:
        self._recorders = recorders

    def record(self, record: CycleRecord) -> None:
        for recorder in self._recorders:
            recorder.record(record)


def record_crowd(folder: Path, domains: int, cycles: int) -> Path:
    """A recording of a crowd."""
    out = writer(folder, max_file_bytes=1 << 30)
    nothing = HostDemand(window_ns=0, pools=(), domains=())
    for number, sample in enumerate(crowd(domains, cycles)):
        out.record(
            CycleRecord(
                cycle=number + 1,
                began_ns=sample.taken_at_ns,
                ended_ns=sample.taken_at_ns + NS_PER_S // 1000,
                period_ns=NS_PER_S,
                policy_name="spin_feedback",
                sample=sample,
                demand=nothing,
                proposed=Plan(),
            )
        )
    out.close()
    assert out.path is not None
    return out.path


def replay_hour_s(folder: Path) -> float:
    """CPU time of `vcpud replay` over an hour of 100 domains, start of the program included."""
    recording = record_crowd(folder / "hour", 100, HOUR)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "vcpud", "replay", str(recording)],
        check=True,
        capture_output=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
