from __future__ import annotations

from collections.abc import Callable

import pytest

from vcpud_simulator.experiment import Inhabitant, Laboratory
from vcpud_simulator.guest.costs import GuestConfig
from vcpud_simulator.guest.locks import (
    Acquire,
    ParavirtualLock,
    PreemptableLock,
    QueuedLock,
    Release,
    Spinlock,
    UnfairLock,
)
from vcpud_simulator.guest.mutex import Lock, Mutex, SleepingLock, Unlock
from vcpud_simulator.guest.shootdown import Shootdown
from vcpud_simulator.guest.task import Call, Compute, Program
from vcpud_simulator.pause import PauseLoop
from vcpud_simulator.schedulers.cfs import Cfs
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.noise import Noise

MS = 1_000_000
KINDS = [UnfairLock, QueuedLock, PreemptableLock, ParavirtualLock]


def overcommitted(pause: PauseLoop | None = None) -> tuple[Laboratory, Inhabitant]:
    """A domain of four vCPUs without work yet, beside a hog, on two pCPUs."""
    lab = Laboratory(pcpus=2, scheduler=Cfs(), pause=pause)
    lab.add("hog", GobmkLike(), vcpus=2)
    return lab, lab.add("guest", Noise(burst_ns=0), vcpus=4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_spinlock_has_one_holder_and_loses_no_waiter(kind: type[Spinlock]) -> None:
    lab, guest = overcommitted()
    lock = kind(guest.kernel)
    inside: list[str] = []
    entered = [0, 0, 0, 0]

    def enter(number: int) -> Call:
        def note(*_: object) -> None:
            assert not inside
            inside.append(str(number))
            entered[number] += 1

        return Call(note)

    def program(number: int) -> Program:
        while True:
            yield Compute(7_000 + 1_000 * number)
            yield Acquire(lock)
            yield enter(number)
            yield Compute(3_000, in_kernel=True)
            yield Call(lambda *_: inside.clear())
            yield Release(lock)

    for number in range(4):
        guest.kernel.spawn(f"t{number}", program(number))
    lab.run_for(500 * MS)
    halfway = list(entered)
    lab.run_for(500 * MS)
    assert all(after > before for after, before in zip(entered, halfway, strict=True))


def progress(kind: type[Spinlock], pause: PauseLoop | None = None) -> int:
    lab = Laboratory(pcpus=2, scheduler=Cfs(), pause=pause)
    work = Descriptors(rounds=5, gap_ns=3_000, hold_ns=1_000, lock=kind)
    for name in ("a", "b"):
        lab.add(name, work, vcpus=4)
    lab.run_for(600 * MS)
    return sum(inhabitant.progress.iterations for inhabitant in lab.inhabitants.values())


def test_what_was_invented_against_the_collapse_helps_against_it() -> None:
    queued = progress(QueuedLock)
    assert progress(ParavirtualLock) > 2 * queued
    assert progress(PreemptableLock) > 2 * queued
    assert progress(QueuedLock, PauseLoop()) > queued


@pytest.mark.parametrize("make", [SleepingLock, Mutex])
def test_a_sleeping_lock_has_one_holder_and_loses_no_waiter(
    make: Callable[..., SleepingLock],
) -> None:
    lab, guest = overcommitted()
    lock = make(guest.kernel)
    done = [0] * 6

    def program(number: int) -> Program:
        while True:
            yield Compute(20_000)
            yield Lock(lock)
            yield Compute(20_000)
            done[number] += 1
            yield Unlock(lock)

    for number in range(6):
        guest.kernel.spawn(f"t{number}", program(number))
    lab.run_for(300 * MS)
    halfway = list(done)
    lab.run_for(300 * MS)
    assert all(after > before for after, before in zip(done, halfway, strict=True))
    assert lock.contentions > 0


def test_nobody_who_sleeps_on_a_mutex_is_passed_over_for_ever() -> None:
    """Whoever was woken and came too late is handed it at the next release (MUTEX_FLAG_HANDOFF)."""
    lab = Laboratory(pcpus=2, scheduler=Cfs())
    guest = lab.add("guest", Noise(burst_ns=0), vcpus=2)
    mutex = Mutex(guest.kernel)
    took = [0] * 4

    def program(number: int) -> Program:
        while True:
            yield Compute(5_000)
            yield Lock(mutex)
            took[number] += 1
            yield Compute(50_000, in_kernel=True)
            yield Unlock(mutex)

    for number in range(4):
        guest.kernel.spawn(f"t{number}", program(number))
    lab.run_for(200 * MS)
    assert min(took) > 0.5 * max(took)


def test_a_shootdown_waits_for_preempted_vcpus() -> None:
    lab, guest = overcommitted()
    waited: list[int] = []

    def program() -> Program:
        while True:
            yield Compute(500_000)
            began_ns = lab.engine.now_ns
            yield Shootdown()
            waited.append(lab.engine.now_ns - began_ns)

    guest.kernel.spawn("unmap", program())
    for number in range(3):
        guest.kernel.spawn(f"t{number}", iter([Compute(10_000 * MS)]))
    lab.run_for(2_000 * MS)
    assert min(waited) < 200_000
    assert max(waited) > 2 * MS, "at least once a target had no pCPU"


FOUR = [
    pytest.param(2, 1, 2, 20_000, 200, QueuedLock, id="rare, two CPUs"),
    pytest.param(4, 1, 4, 10_000, 500, QueuedLock, id="four CPUs"),
    pytest.param(2, 1, 2, 1_000, 100, UnfairLock, id="often contended"),
    pytest.param(2, 2, 2, 5_000, 200, UnfairLock, id="overcommitted"),
]


@pytest.mark.parametrize(("pcpus", "domains", "vcpus", "gap_ns", "hold_ns", "kind"), FOUR)
def test_batched_and_exact_lock_sections_agree(  # noqa: PLR0913, PLR0917
    pcpus: int, domains: int, vcpus: int, gap_ns: int, hold_ns: int, kind: type[Spinlock]
) -> None:
    found = {}
    for batched in (True, False):
        lab = Laboratory(pcpus=pcpus, scheduler=Cfs())
        work = Descriptors(rounds=50, gap_ns=gap_ns, hold_ns=hold_ns, lock=kind)
        for number in range(domains):
            config = GuestConfig(batch_locks=batched)
            lab.add(f"d{number}", work, vcpus=vcpus, config=config)
        lab.run_for(20 * MS)
        rate = sum(m.rate for m in lab.measure(20 * gap_ns * 1_000).values())
        found[batched] = rate, lab.engine.fired
    assert found[True][0] == pytest.approx(found[False][0], rel=0.03)
    assert found[True][1] < found[False][1]
