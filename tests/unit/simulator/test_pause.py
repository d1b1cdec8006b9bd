"""PAUSE-loop exits: who is yielded to, and what an emulated PAUSE has to do with the emulator's lock."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fakes.guests import MS, hogs, run_ms, tiny_host
from vcpud_simulator.entities import BLOCKED, Vcpu
from vcpud_simulator.experiment import Laboratory
from vcpud_simulator.guest.costs import TCG
from vcpud_simulator.guest.kernel import reschedule
from vcpud_simulator.pause import EMULATED, PauseLoop
from vcpud_simulator.schedulers.cfs import Cfs
from vcpud_simulator.schedulers.eevdf import Eevdf
from vcpud_simulator.schedulers.round_robin import RoundRobin
from vcpud_simulator.workloads.ammp import AmmpLike
from vcpud_simulator.workloads.gobmk import GobmkLike

if TYPE_CHECKING:
    from vcpud_simulator.host import Host
    from vcpud_simulator.schedulers.fair import FairScheduler


def running(host: Host) -> Vcpu:
    current = host.pcpus[0].current
    assert current is not None
    return current


def test_who_gave_its_pcpu_up_in_a_spin_loop_is_yielded_to_every_second_time_only() -> None:
    host = tiny_host(RoundRobin(1_000 * MS), 1)
    first, second, third = hogs(host, "guest", vcpus=3).vcpus
    pause = PauseLoop(user_mode=True)
    run_ms(host, 1)
    seen = []
    for _ in range(5):
        pause.exited(host, running(host))
        run_ms(host, 1)
        seen.append(running(host))
    # the first and the second both wait in their spin loops; each is passed over once
    assert seen == [second, third, third, first, second]


def test_who_stayed_on_its_pcpu_or_is_back_on_it_is_in_no_spin_loop() -> None:
    lab = Laboratory(pcpus=1, scheduler=RoundRobin(1_000 * MS), pause=PauseLoop(user_mode=True))
    lab.add("guest", GobmkLike(), vcpus=2)
    lab.run_for(MS)
    host = lab.host
    yielder = running(host)
    assert host.pause is not None
    host.pause.exited(host, yielder)
    lab.run_for(MS)
    assert yielder.spinning
    host.pause.exited(host, running(host))  # passes it over,
    host.pause.exited(host, running(host))  # and then takes it
    lab.run_for(MS)
    assert running(host) is yielder
    assert not yielder.spinning


def test_a_preempted_vcpu_with_an_interrupt_to_take_counts_as_in_its_kernel() -> None:
    lab = Laboratory(pcpus=1, scheduler=RoundRobin(), pause=PauseLoop())
    guest = lab.add("guest", GobmkLike(), vcpus=2)
    lab.run_for(3 * MS + MS // 2)
    waiting = next(cpu for cpu in guest.kernel.cpus if not cpu.running)
    assert not waiting.vcpu.in_kernel
    waiting.interrupt(reschedule)
    assert waiting.vcpu.in_kernel
    lab.run_for(MS)
    assert waiting.running
    assert not waiting.vcpu.in_kernel


def three_hogs(scheduler: FairScheduler) -> tuple[Host, Vcpu, list[Vcpu]]:
    """One pCPU; who runs, and who waits."""
    host = tiny_host(scheduler, 1)
    everybody = [vcpu for name in "abc" for vcpu in hogs(host, name).vcpus]
    run_ms(host, 101)
    current = running(host)
    return host, current, [vcpu for vcpu in everybody if vcpu is not current]


@pytest.mark.parametrize("scheduler", [Cfs, Eevdf])
@pytest.mark.parametrize("groups", [False, True])
def test_a_directed_yield_is_followed_only_where_that_is_fair(
    scheduler: type[FairScheduler], *, groups: bool
) -> None:
    for far in (True, False):
        host, current, waiting = three_hogs(scheduler(groups=groups))
        target = waiting[0]
        everybody = [
            vcpu.sched.queue.holder if groups else vcpu.sched for vcpu in (current, *waiting)
        ]
        for entity in everybody:
            entity.vruntime_ns = everybody[0].vruntime_ns
        if far:
            everybody[1].vruntime_ns += 50 * MS
        assert host.scheduler.yield_to(current, target, host.engine.now_ns)
        host.engine.run_until(host.engine.now_ns)
        assert (running(host) is target) is not far


def test_who_yields_under_cfs_is_passed_over_once() -> None:
    host, current, waiting = three_hogs(Cfs(groups=False))
    for vcpu in waiting:
        vcpu.sched.vruntime_ns = current.sched.vruntime_ns + MS // 2
    host.yield_(current)
    host.engine.run_until(host.engine.now_ns)
    after = running(host)
    assert after in waiting
    host.tickle(host.pcpus[0])
    host.engine.run_until(host.engine.now_ns)
    assert running(host) is not after or after.sched.vruntime_ns <= current.sched.vruntime_ns


def emulated(held_ratio: float) -> Laboratory:
    """A guest that spins with PAUSE under emulation beside a hog, after 100 ms."""
    pause = replace(EMULATED, held_ratio=held_ratio)
    lab = Laboratory(pcpus=2, scheduler=Eevdf(), pause=pause)
    lab.add("hog", GobmkLike(), vcpus=2)
    lab.add("guest", AmmpLike(grain_ns=MS, criticals=0), vcpus=4, config=TCG)
    lab.run_for(100 * MS)
    return lab


def test_spinners_sleep_while_the_emulators_lock_is_with_a_preempted_one_of_them() -> None:
    asleep_ns = {}
    for held_ratio in (0.0, 1.0):
        lab = emulated(held_ratio)
        vcpus = lab.inhabitants["guest"].kernel.domain.vcpus
        asleep_ns[held_ratio] = sum(v.in_state_ns(BLOCKED, lab.engine.now_ns) for v in vcpus)
    assert asleep_ns[0.0] < MS
    assert asleep_ns[1.0] > 50 * MS


def test_a_spinner_goes_by_the_emulators_lock_once_however_often_it_is_met() -> None:
    kernel = emulated(1 / 6).inhabitants["guest"].kernel
    lock = kernel.exit_lock
    assert lock is not None
    absent = next(cpu for cpu in kernel.cpus if not cpu.running)
    spinner = next(
        cpu for cpu in kernel.cpus if cpu is not absent and cpu.current and cpu.current.spinning
    )
    task, exits = spinner.current, spinner.exits
    assert task is not None
    assert exits is not None
    lock.holder, exits.trips = absent, 0
    for _ in range(2):
        exits.meet(task)
    assert exits.trips == 1


def test_a_pause_of_an_emulated_guest_is_no_event() -> None:
    quiet, pausing = emulated(0.0), emulated(1 / 6)
    assert pausing.engine.fired < 4 * quiet.engine.fired
