"""Every workload does what its name says, and stops without leaving anything behind."""

from __future__ import annotations

import pytest

from vcpud_simulator.experiment import Inhabitant, Laboratory
from vcpud_simulator.guest.locks import QueuedLock, UnfairLock
from vcpud_simulator.host import FREE
from vcpud_simulator.schedulers.cfs import Cfs
from vcpud_simulator.workloads.ammp import AmmpLike, Wait
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.bursty import Bursty
from vcpud_simulator.workloads.database import Database
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.hackbench import HackbenchLike
from vcpud_simulator.workloads.kernbench import KernbenchLike
from vcpud_simulator.workloads.noise import Idle, Noise
from vcpud_simulator.workloads.phased import Phase, Phased
from vcpud_simulator.workloads.web import WebServer

MS = 1_000_000
ALL: list[Workload] = [
    GobmkLike(),
    AmmpLike(grain_ns=MS),
    AmmpLike(grain_ns=MS, wait=Wait.PASSIVE, kernel_sections=20),
    KernbenchLike(compile_ns=5 * MS),
    HackbenchLike(),
    Database(),
    WebServer(),
    Bursty(period_ns=10 * MS),
    Descriptors(rounds=10),
    Noise(),
]


def alone(workload: Workload, *, vcpus: int = 4, ms: int = 100) -> tuple[Inhabitant, float]:
    """A guest with as many pCPUs; its rate after a short warm-up."""
    lab = Laboratory(pcpus=vcpus, scheduler=Cfs(), costs=FREE)
    guest = lab.add("guest", workload, vcpus=vcpus)
    lab.run_for(20 * MS)
    return guest, lab.measure(ms * MS)["guest"].rate


def test_a_build_keeps_all_cpus_busy_and_as_many_compilers_as_it_was_told() -> None:
    guest, rate = alone(KernbenchLike(compile_ns=5 * MS), ms=400)
    compilers = sum(task.name == "cc" for task in guest.kernel.tasks)
    assert 6 <= compilers <= 8
    # 5 ms, one visit of 1.5 us to the allocator each 250 us, and half a millisecond of fork
    assert rate == pytest.approx(4 / (5e-3 * (1 + 1.5 / 250) + 0.5e-3), rel=0.15)


def test_a_build_waits_for_kernel_locks_once_the_host_is_overcommitted() -> None:
    def waited_ns(domains: int) -> int:
        lab = Laboratory(pcpus=4, scheduler=Cfs())
        for number in range(domains):
            lab.add(f"d{number}", KernbenchLike(compile_ns=5 * MS, fault_gap_ns=25_000), vcpus=4)
        lab.run_for(800 * MS)
        return sum(inhabitant.kernel.lock_wait_ns for inhabitant in lab.inhabitants.values())

    assert waited_ns(3) > 5 * waited_ns(1)


def test_hackbench_receives_what_was_sent() -> None:
    lab = Laboratory(pcpus=2, scheduler=Cfs())
    work = HackbenchLike(groups=1)
    guest = lab.add("guest", work, vcpus=2)
    lab.run_for(10 * MS)
    received = guest.progress.iterations
    assert received > 1_000
    assert received % work.burst == 0
    names = [task.name.split("-")[0] for task in guest.kernel.tasks]
    assert names.count("sender") == names.count("receiver") == work.fan


def test_a_transaction_takes_its_statements_and_the_disks_time() -> None:
    guest, _ = alone(Database(clients=1), vcpus=1, ms=400)
    responses = guest.progress.responses_ns
    mean_ns = sum(responses) / len(responses)
    # ten times 50 us and a latch, the log, and the flush, on average
    assert mean_ns == pytest.approx(10 * 52_000 + 3_000 + 200_000, rel=0.1)


def test_a_bursty_guest_is_busy_for_its_part_of_each_period() -> None:
    lab = Laboratory(pcpus=2, scheduler=Cfs(), costs=FREE)
    lab.add("guest", Bursty(period_ns=100 * MS, busy_ratio=0.3, offset_ns=20 * MS), vcpus=2)
    lab.run_for(20 * MS)
    used = [lab.measure(50 * MS)["guest"].run_pcpus / 2 for _ in range(4)]
    assert used == pytest.approx([0.6, 0, 0.6, 0], abs=0.05)


def test_an_idle_guest_uses_next_to_nothing() -> None:
    lab = Laboratory(pcpus=2, scheduler=Cfs())
    lab.add("guest", Idle(), vcpus=2)
    assert 0 < lab.measure(2_000 * MS)["guest"].run_pcpus < 0.002


def test_the_kernel_lock_variant_of_ammp_waits_where_the_platform_can_show_it() -> None:
    lab = Laboratory(pcpus=4, scheduler=Cfs())
    for name, sections in (("quiet", 0), ("loud", 200)):
        lab.add(name, AmmpLike(grain_ns=10 * MS, kernel_sections=sections), vcpus=4)
    lab.run_for(800 * MS)
    assert lab.inhabitants["quiet"].kernel.lock_wait_ns == 0
    assert lab.inhabitants["loud"].kernel.lock_wait_ns > MS


def test_phases_follow_each_other_and_are_counted_apart() -> None:
    phases = (
        Phase(workload=GobmkLike(), duration_ns=50 * MS),
        Phase(workload=Bursty(busy_ratio=0.0), duration_ns=30 * MS),
    )
    lab = Laboratory(pcpus=2, scheduler=Cfs(), costs=FREE)
    guest = lab.add("guest", Phased(phases=phases), vcpus=2)
    lab.run_for(159 * MS)
    counts = [phase.total for phase in guest.progress.phases]
    assert counts == [pytest.approx(98, abs=3), 0, pytest.approx(98, abs=3), 0]
    assert guest.progress.total == sum(counts)


@pytest.mark.parametrize("lock", [QueuedLock, UnfairLock])
@pytest.mark.parametrize("workload", ALL, ids=lambda workload: type(workload).__name__)
def test_the_end_of_a_session_leaves_no_task_and_no_lock_behind(
    workload: Workload, lock: type[QueuedLock | UnfairLock]
) -> None:
    """Overcommitted, so that some are preempted in the middle of something."""
    if isinstance(workload, Descriptors):
        workload = Descriptors(rounds=10, lock=lock)
    lab = Laboratory(pcpus=2, scheduler=Cfs())
    guest = lab.add("guest", workload, vcpus=4)
    lab.add("hog", GobmkLike(), vcpus=2)
    lab.run_for(20 * MS)
    guest.progress.stop()
    guest.kernel.end_session()
    lab.run_for(200 * MS)
    assert [task.name for task in guest.kernel.tasks] == ["qemu-ga"]
    assert guest.kernel.runnable_tasks == 0
    assert lab.measure(100 * MS)["guest"].run_pcpus < 0.001
    guest.agent.request(frozenset({0}))
    lab.run_for(500 * MS)
    assert not guest.agent.busy


def test_phases_need_a_duration() -> None:
    with pytest.raises(ValueError, match="positive duration"):
        Phased(phases=(Phase(workload=GobmkLike(), duration_ns=0),))
    with pytest.raises(ValueError, match="needs phases"):
        Phased(phases=())
