"""QEMU without hardware help: whatever leaves the translated code takes one lock of the process.

Problem: under TCG a PAUSE, a halt, an interrupt sent or taken ends the execution of translated
code, and the vCPU's thread then takes QEMU's "big lock". Who finds it taken sleeps in the host; who
holds it may be preempted by the host. So spinners with PAUSE partly sleep, and wake-ups are dear.

Approach: such an exit is a trip: the vCPU takes the domain's lock, works `exit_lock_ns` under it,
and releases it. A vCPU that waits for it is blocked as far as the host can see. The lock is a
pthread mutex: released, it belongs to nobody, the first sleeper is woken and competes anew.

A spin with PAUSE makes millions of trips a second, and they are no events: with the lock for less
time than it takes to go to sleep for it (`futex_wait` looks at the word once more), spinners that
execute do not put one another to sleep. What matters is where the host preempts one: with the lock,
by the part of its time that it has it (`PauseLoop.held_ratio`), and then everybody else who comes
by, spinners at once, sleeps until that vCPU runs again.

References: QEMU 7.2 accel/tcg/tcg-accel-ops-mttcg.c `mttcg_cpu_thread_fn`, cpu-exec.c
`cpu_handle_interrupt`, cputlb.c `io_writex` (the APIC is memory-mapped), softmmu/cpus.c
`qemu_wait_io_event`; glibc lowlevellock.c `__lll_lock_wait`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcpud_simulator.guest.cpu import GuestCpu
    from vcpud_simulator.guest.task import Task


class ExitLock:
    """The lock that all vCPUs of one emulated domain share.

    Attributes:
        holder: Who has it.
        contentions: Times it was not free.
    """

    __slots__ = ("_waiting", "contentions", "holder")

    def __init__(self) -> None:
        self.holder: GuestCpu | None = None
        self.contentions = 0
        self._waiting: deque[GuestCpu] = deque()

    def take(self, cpu: GuestCpu) -> bool:
        """Take it if it is free, else get in line."""
        if self.holder is None:
            self.holder = cpu
            return True
        self.contentions += 1
        self._waiting.append(cpu)
        return False

    @property
    def stuck(self) -> bool:
        """Whether it is held by a vCPU that does not execute."""
        return self.holder is not None and not self.holder.running

    def release(self) -> None:
        """Give it back, and wake who has waited longest."""
        self.holder = None
        if self._waiting:
            cpu = self._waiting.popleft()
            cpu.in_line = False
            cpu.host.wake(cpu.vcpu)


class Exits:
    """How one vCPU leaves the translated code.

    Attributes:
        trips: Trips through the lock that it has to make before anything else, the present one
            included.
    """

    __slots__ = ("_cpu", "_lock", "trips")

    def __init__(self, cpu: GuestCpu, lock: ExitLock) -> None:
        self._cpu = cpu
        self._lock = lock
        self.trips = 0

    def travel(self) -> None:
        """Take the lock and work under it, or release it, or wait."""
        cpu, lock = self._cpu, self._lock
        if lock.holder is cpu:
            self.trips -= 1
            lock.release()
        elif lock.take(cpu):
            cpu.overhead_ns += cpu.config.exit_lock_ns
        else:
            cpu.in_line = True
            cpu.stop_executing()
            cpu.host.block(cpu.vcpu)

    def meet(self, task: Task) -> None:
        """Its task comes by the lock, if it spins with PAUSE: behind a preempted holder it sticks.

        Whoever has to go there anyway sticks then: a PAUSE goes by once, however often it is met.
        """
        if not self.trips and self._lock.stuck and self._held_ratio(task):
            self.trips = 1

    def preempted(self) -> None:
        """Perhaps with the lock: then others who spin with PAUSE stick at once."""
        cpu, lock = self._cpu, self._lock
        task = cpu.current
        if lock.holder is None and task is not None:
            held_ratio = self._held_ratio(task)
            if held_ratio and cpu.kernel.chance.unit() < held_ratio:
                lock.holder = cpu
                self.trips += 1
        if lock.holder is not cpu:
            return
        for other in cpu.kernel.cpus:
            if other.running and other.current is not None and other.exits is not None:
                other.advance()
                other.exits.meet(other.current)
                other.refresh()

    def _held_ratio(self, task: Task) -> float:
        """Part of its time that the task has the lock: none, unless it spins with PAUSE."""
        pause = self._cpu.host.pause
        if pause is None or not task.spinning or not (task.in_kernel or pause.user_mode):
            return 0.0
        return pause.held_ratio
