"""What real guests do (tests/lab) must emerge: order and rough magnitude, no figure of theirs used."""

from __future__ import annotations

import pytest

from vcpud_simulator.entities import Scheduler
from vcpud_simulator.experiment import Laboratory
from vcpud_simulator.guest.locks import UnfairLock
from vcpud_simulator.schedulers.cfs import Cfs
from vcpud_simulator.schedulers.credit import Credit
from vcpud_simulator.workloads.ammp import AmmpLike, Wait
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike

MS = 1_000_000


def rates(  # noqa: PLR0913 - all but two by name
    workload: Workload,
    active: int,
    *,
    domains: int = 2,
    scheduler: Scheduler | None = None,
    ms: int = 200,
    warm_up_ms: int = 20,
) -> tuple[float, list[int]]:
    """Iterations a second of all domains, with 4 threads each on 2 pCPUs; what resizing took."""
    lab = Laboratory(pcpus=2, scheduler=scheduler or Cfs())
    names = [f"d{number}" for number in range(domains)]
    for name in names:
        lab.add(name, workload, vcpus=4)
    lab.run_for(20 * MS)
    for name in names:
        if active < 4:
            lab.resize(name, active)
    lab.run_for(warm_up_ms * MS)
    found = lab.measure(ms * MS)
    latencies = [n for name in names for n in lab.inhabitants[name].agent.latencies_ns]
    return sum(measurement.rate for measurement in found.values()), latencies


@pytest.mark.parametrize("scheduler", [Cfs, pytest.param(Credit, marks=pytest.mark.slow)])
def test_fair_kernel_locks_collapse_by_orders_of_magnitude_when_overcommitted(
    scheduler: type[Cfs | Credit],
) -> None:
    wide, _ = rates(Descriptors(), 4, scheduler=scheduler(), ms=3_000, warm_up_ms=1_500)
    narrow, latencies = rates(Descriptors(), 1, scheduler=scheduler(), ms=30)
    assert narrow > 200 * wide
    assert max(latencies) > 400 * MS, "taking vCPUs offline is slow in a collapsed guest"


def test_unfair_kernel_locks_suffer_mildly() -> None:
    wide, _ = rates(Descriptors(lock=UnfairLock, rounds=20, gap_ns=1_500), 4, ms=40)
    narrow, _ = rates(Descriptors(lock=UnfairLock, rounds=20, gap_ns=1_500), 1, ms=40)
    assert 0.5 * narrow < wide < 1.05 * narrow


def test_independent_work_neither_gains_nor_loses() -> None:
    wide, _ = rates(GobmkLike(), 4)
    narrow, latencies = rates(GobmkLike(), 1)
    assert wide == pytest.approx(narrow, rel=0.02)
    assert all(30 * MS < latency < 700 * MS for latency in latencies)


def test_blocking_barriers_gain_when_shrunk_and_spinning_ones_alone_lose() -> None:
    passive = AmmpLike(threads=4, grain_ns=20_000, cv_ratio=0, wait=Wait.PASSIVE, criticals=0)
    assert rates(passive, 1, ms=100)[0] > 1.05 * rates(passive, 4, ms=100)[0]
    active = AmmpLike(threads=4, grain_ns=20_000, cv_ratio=0, criticals=0)
    assert rates(active, 1, domains=1, ms=500)[0] < 0.8 * rates(active, 4, domains=1, ms=500)[0]


def test_nobody_spins_for_long_where_every_vcpu_has_a_pcpu() -> None:
    lab = Laboratory(pcpus=4, scheduler=Cfs())
    lab.add("alone", AmmpLike(grain_ns=MS), vcpus=4)
    lab.run_for(20 * MS)
    found = lab.measure(500 * MS)["alone"]
    assert found.useful_pcpus > 0.9 * 4
