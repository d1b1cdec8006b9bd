"""Barriers of threads in user mode: active spin, spin with sched_yield, spin then sleep, sleep.

Problem: OpenMP regions end in a barrier; how the early threads wait decides what a preempted
sibling costs (libgomp spins, throttled only when it has more threads than the
CPUs it found at start-up, so shrinking a guest later does not make it sleep).

Approach: one interval of user-mode spinning per waiter and episode, ended by the last to arrive,
or by its own limit in CPU time, after which it sleeps in a futex. The last to arrive pays for each
wake-up of a sleeper.

References: libgomp config/linux/wait.h `do_spin`, env.c (spin count 300,000 by default, 100 or
1,000 throttled); the lab's guest program tests/lab/guest/workload.c `barrier_wait`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vcpud_simulator.guest.futex import Futex
from vcpud_simulator.guest.task import NO_LIMIT, Task

if TYPE_CHECKING:
    from vcpud_simulator.guest.cpu import GuestCpu
    from vcpud_simulator.guest.kernel import GuestKernel


class Barrier:
    """All parties wait for the last.

    Attributes:
        parties: How many take part.
        spin_ns: CPU time each spins before it sleeps; NO_LIMIT for ever, 0 to sleep at once.
        yields: Whether the spin calls sched_yield.
        in_kernel: Whether it is the kernel that waits (stop_machine): no preemption meanwhile.
        rounds: Times it has opened.
    """

    def __init__(
        self,
        kernel: GuestKernel,
        parties: int,
        *,
        spin_ns: int = NO_LIMIT,
        yields: bool = False,
        in_kernel: bool = False,
    ) -> None:
        self.kernel = kernel
        self.parties = parties
        self.spin_ns = spin_ns
        self.yields = yields
        self.in_kernel = in_kernel
        self.rounds = 0
        self._arrived = 0
        self.futex = Futex(kernel)
        self._spinning: list[Task] = []

    def begin(self, cpu: GuestCpu, task: Task) -> None:
        """A party arrives (`task.Operation`)."""
        self._arrived += 1
        if self._arrived == self.parties:
            self._open(cpu, task)
        elif self.spin_ns == 0:
            self._sleep(cpu, task)
        else:
            self._spinning.append(task)
            task.preempt_count += self.in_kernel
            cpu.spin(
                task, self, in_kernel=self.in_kernel, limit_ns=self.spin_ns, yields=self.yields
            )

    def _open(self, cpu: GuestCpu, task: Task) -> None:
        """The last has come: spinners go on at once, sleepers are woken by a system call."""
        self._arrived = 0
        self.rounds += 1
        spinning, self._spinning = self._spinning, []
        for other in spinning:
            other.preempt_count -= self.in_kernel
            other.cpu.stop_spin(other, self.kernel.config.handoff_ns)
        if self.spin_ns != NO_LIMIT:
            self.futex.wake(cpu, task)

    def _sleep(self, cpu: GuestCpu, task: Task) -> None:
        rounds = self.rounds
        self.futex.wait(cpu, task, lambda: self.rounds == rounds)

    def resumed(self, cpu: GuestCpu, task: Task) -> None:
        """It goes on spinning."""

    def suspended(self, cpu: GuestCpu, task: Task) -> None:
        """Nobody notices."""

    def expired(self, cpu: GuestCpu, task: Task) -> None:
        """It has spun enough, and sleeps."""
        self._spinning.remove(task)
        cpu.stop_spin(task)
        self._sleep(cpu, task)
