"""The lab runs under QEMU's emulation: its micro-benchmarks in, its scenarios out, nothing tuned.

Real guests, iterations a second of all domains: a blocking pair 8,585 / 25,820 / 28,602 / 40,453 on
4 / 3 / 2 / 1 vCPUs each; a spinner alone 951 / 427 / 442 / 329. The host there is Linux 6.18.
"""

from __future__ import annotations

import pytest

from vcpud_simulator.experiment import Laboratory
from vcpud_simulator.guest.costs import TCG
from vcpud_simulator.schedulers.eevdf import Eevdf
from vcpud_simulator.workloads.ammp import AmmpLike, Wait

MS = 1_000_000
GRAIN_NS = 34_300
"""20,000 dependent multiplications: 29,187 a second in the best block of the micro-benchmark."""
BLOCKING = AmmpLike(threads=4, grain_ns=GRAIN_NS, cv_ratio=0, wait=Wait.PASSIVE, criticals=0)
SPINNING = AmmpLike(threads=4, grain_ns=GRAIN_NS, cv_ratio=0, criticals=0)


def emulated(workload: AmmpLike, active: int, domains: int) -> Laboratory:
    """A lab that has settled."""
    lab = Laboratory(pcpus=2, scheduler=Eevdf())
    names = [f"d{number}" for number in range(domains)]
    for name in names:
        lab.add(name, workload, vcpus=4, config=TCG)
    lab.run_for(20 * MS)
    for name in names if active < 4 else ():
        lab.resize(name, active)
    lab.run_for(100 * MS)
    return lab


def rate(lab: Laboratory, ms: int) -> float:
    return sum(found.rate for found in lab.measure(ms * MS).values())


def test_a_blocking_pair_recovers_when_it_is_shrunk_as_in_the_lab() -> None:
    """What it loses is lost to waiters that spin in the kernel for a preempted one."""
    lab = emulated(BLOCKING, 4, 2)
    wide, narrow = rate(lab, 500), rate(emulated(BLOCKING, 1, 2), 100)
    assert narrow == pytest.approx(40_453, rel=0.2)
    assert 2 < narrow / wide < 16
    assert lab.inhabitants["d0"].kernel.lock_waiter_preemptions > 0


@pytest.mark.parametrize(("active", "expected"), [(4, 951), (3, 427), (2, 442), (1, 329)])
def test_a_lone_spinner_does_best_at_full_width_as_in_the_lab(active: int, expected: int) -> None:
    assert rate(emulated(SPINNING, active, 1), 1_500) == pytest.approx(expected, rel=0.25)
