"""The lab runs under QEMU's emulation: its micro-benchmarks in, its scenarios out, nothing tuned.

Real guests, iterations a second of all domains: a blocking pair 5,021 / 13,312 / 20,551 on 4 / 2 / 1
vCPUs each; a spinner alone 1,175 / 413 / 424 / 312 on 4 / 3 / 2 / 1. The host there is Linux 6.18.
"""

from __future__ import annotations

import pytest

from vcpud_simulator.entities import BLOCKED
from vcpud_simulator.experiment import Laboratory
from vcpud_simulator.guest.costs import TCG
from vcpud_simulator.pause import EMULATED, PauseLoop
from vcpud_simulator.schedulers.eevdf import Eevdf
from vcpud_simulator.workloads.ammp import AmmpLike, Wait

MS = 1_000_000
GRAIN_NS = 91_000
"""20,000 dependent multiplications: half of what two pCPUs do of independent work, 21,894 a second."""
BLOCKING = AmmpLike(threads=4, grain_ns=GRAIN_NS, cv_ratio=0, wait=Wait.PASSIVE, criticals=0)
SPINNING = AmmpLike(threads=4, grain_ns=GRAIN_NS, cv_ratio=0, criticals=0)


def emulated(
    workload: AmmpLike, active: int, domains: int, ms: int, pause: PauseLoop | None = None
) -> Laboratory:
    """A lab that has settled, `ms` before its end."""
    lab = Laboratory(pcpus=2, scheduler=Eevdf(), pause=pause)
    names = [f"d{number}" for number in range(domains)]
    for name in names:
        lab.add(name, workload, vcpus=4, config=TCG)
    lab.run_for(20 * MS)
    for name in names if active < 4 else ():
        lab.resize(name, active)
    lab.run_for(ms * MS)
    return lab


def rate(workload: AmmpLike, active: int, domains: int, ms: int) -> float:
    lab = emulated(workload, active, domains, 100)
    return sum(found.rate for found in lab.measure(ms * MS).values())


def test_a_blocking_pair_recovers_when_it_is_shrunk_as_in_the_lab() -> None:
    wide, narrow = rate(BLOCKING, 4, 2, 300), rate(BLOCKING, 1, 2, 100)
    assert narrow == pytest.approx(20_551, rel=0.15)
    assert wide == pytest.approx(5_021, rel=0.5)
    assert 2 < narrow / wide < 8


def test_blocking_is_dear_because_waiters_spin_for_a_preempted_one_in_the_kernel() -> None:
    free = rate(BLOCKING, 4, 1, 100)
    lab = emulated(BLOCKING, 4, 2, 300)
    assert free > 2 * lab.measure(200 * MS)["d0"].rate
    assert lab.inhabitants["d0"].kernel.lock_waiter_preemptions > 0


@pytest.mark.parametrize(("active", "expected"), [(4, 1_175), (3, 413), (2, 424), (1, 312)])
def test_a_lone_spinner_does_best_at_full_width_as_in_the_lab(active: int, expected: int) -> None:
    assert rate(SPINNING, active, 1, 1_500) == pytest.approx(expected, rel=0.25)


def test_spinners_with_pause_partly_sleep_because_one_lock_takes_them_all() -> None:
    lab = emulated(SPINNING, 4, 1, 20, EMULATED)
    before = [vcpu.in_state_ns(BLOCKED, lab.engine.now_ns) for vcpu in lab.host.vcpus]
    with_pause = lab.measure(60 * MS)["d0"].rate
    after = [vcpu.in_state_ns(BLOCKED, lab.engine.now_ns) for vcpu in lab.host.vcpus]
    lock = lab.inhabitants["d0"].kernel.exit_lock
    assert lock is not None
    assert lock.contentions > 100
    assert sum(after) - sum(before) > 10 * MS
    assert with_pause > rate(SPINNING, 4, 1, 1_000)
