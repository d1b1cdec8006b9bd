"""Locks that put their waiters to sleep: the kernel's mutex, and a user-space spin-then-park lock.

Problem: a sleeping lock costs a wake-up on every contended hand-over, so real ones spin first; how
they decide to stop spinning is what overcommit upsets.

Approach: the kernel's mutex spins while its owner is on a CPU *as the guest sees it*, and until
another task needs the CPU. Spinners queue (the OSQ): the first watches the owner, each other one
the one before it, and only the first may take the mutex. With `vcpu_is_preempted` they also stop
when whom they watch has no pCPU. Each release wakes the first sleeper besides; comes it too late,
the next release hands the mutex over to it, and until then it watches the owner as well. The
user-space lock spins for a time of its own, and a release hands nothing over: the first sleeper is
woken and competes with newcomers.

References: kernel/locking/mutex.c `mutex_optimistic_spin`, `mutex_spin_on_owner`,
`__mutex_lock_common` (`__mutex_trylock_or_handoff`), `__mutex_unlock_slowpath`; osq_lock.c; commits
05ffc951392d and 1885aa7041c9 (vcpu_is_preempted); InnoDB's sync_spin_loops (30 rounds of about
6 us with its default delay); glibc PTHREAD_MUTEX_ADAPTIVE_NP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vcpud_simulator.guest.task import NO_LIMIT, Task

if TYPE_CHECKING:
    from vcpud_simulator.guest.cpu import GuestCpu
    from vcpud_simulator.guest.kernel import GuestKernel


class SleepingLock:
    """Base: spins for at most `spin_ns` of CPU time in user mode, then sleeps in a futex.

    Attributes:
        owner: Who holds it.
        spin_ns: CPU time to spin before sleeping; NO_LIMIT for ever.
        contentions: Times it was not free.
        sleeps: Times a waiter slept.
    """

    in_kernel = False

    def __init__(self, kernel: GuestKernel, *, spin_ns: int = 0) -> None:
        self.kernel = kernel
        self.spin_ns = spin_ns
        self.owner: Task | None = None
        self.contentions = 0
        self.sleeps = 0
        self._spinning: list[Task] = []
        self._sleeping: list[Task] = []

    def acquire(self, cpu: GuestCpu, task: Task) -> None:
        """Take it, or begin to wait."""
        if self.owner is None:
            self._take(task)
            return
        self.contentions += 1
        if self._may_spin(task):
            self._spinning.append(task)
            cpu.spin(task, self, in_kernel=self.in_kernel, limit_ns=self.spin_ns)
        else:
            self._sleep(cpu, task)

    def release(self, cpu: GuestCpu, task: Task) -> None:
        """Give it back; one who executes takes it, else one who sleeps is woken to try."""
        if self.owner is not task:
            raise RuntimeError(f"{task} released a lock which {self.owner} holds")
        self.owner = None
        for waiter in self._spinning:
            if waiter.cpu.executes(waiter):
                self._grant(waiter)
                return
        self._wake_one(cpu)

    def _wake_one(self, cpu: GuestCpu) -> None:
        if self._sleeping:
            cpu.charge(self.kernel.config.syscall_ns)
            woken = self._sleeping.pop(0)
            woken.then = self._retry
            self.kernel.wake(woken, cpu)

    def _take(self, task: Task) -> None:
        self.owner = task

    def _grant(self, task: Task) -> None:
        self._spinning.remove(task)
        self._take(task)
        task.cpu.stop_spin(task, self.kernel.config.handoff_ns)

    def _retry(self, cpu: GuestCpu, task: Task) -> None:
        if self.owner is None:
            self._take(task)
        else:
            self._sleep(cpu, task, first=True)

    def _sleep(self, cpu: GuestCpu, task: Task, *, first: bool = False) -> None:
        self.sleeps += 1
        self._sleeping.insert(0 if first else len(self._sleeping), task)
        cpu.charge(self.kernel.config.syscall_ns)
        cpu.sleep(task, interruptible=not self.in_kernel)

    def _may_spin(self, task: Task) -> bool:  # noqa: ARG002
        return self.spin_ns != 0

    def resumed(self, cpu: GuestCpu, task: Task) -> None:  # noqa: ARG002
        """A spinner executes again, and sees at once whether it is free."""
        if self.owner is None:
            self._grant(task)

    def suspended(self, cpu: GuestCpu, task: Task) -> None:
        """Nobody notices."""

    def expired(self, cpu: GuestCpu, task: Task) -> None:
        """It has spun enough."""
        self._stop(cpu, task)

    def _stop(self, cpu: GuestCpu, task: Task) -> None:
        self._spinning.remove(task)
        cpu.stop_spin(task)
        if self.owner is None:
            self._take(task)
        else:
            self._sleep(cpu, task)


class Mutex(SleepingLock):
    """The kernel's mutex, with optimistic spinning on its owner.

    Attributes:
        sees_preemption: Whether the guest knows that a vCPU has no pCPU (vcpu_is_preempted).
    """

    in_kernel = True

    def __init__(self, kernel: GuestKernel, *, sees_preemption: bool = False) -> None:
        super().__init__(kernel, spin_ns=NO_LIMIT)
        self.sees_preemption = sees_preemption
        self._woken: Task | None = None
        self._promised = False

    def _may_spin(self, task: Task) -> bool:  # noqa: ARG002
        return self._owner_on_cpu() and (not self._spinning or self._on_cpu(self._spinning[-1]))

    def _owner_on_cpu(self) -> bool:
        return self.owner is not None and self._on_cpu(self.owner)

    def _on_cpu(self, task: Task) -> bool:
        """Whether a task executes, as far as the guest knows."""
        return task.cpu.current is task and (task.cpu.running or not self.sees_preemption)

    def _take(self, task: Task) -> None:
        super()._take(task)
        task.owns = self

    def release(self, cpu: GuestCpu, task: Task) -> None:
        """To whom it is promised; else the first spinner may take it, and the first sleeper wakes.

        While the first spinner's vCPU has no pCPU it stays free.
        """
        if self.owner is not task:
            raise RuntimeError(f"{task} released a mutex which {self.owner} holds")
        task.owns = self.owner = None
        if self._promised:
            self._hand_over(cpu)
            return
        if self._spinning and self._spinning[0].cpu.executes(self._spinning[0]):
            self._grant(self._spinning[0])
        if self._woken is None:
            self._wake_one(cpu)

    def _wake_one(self, cpu: GuestCpu) -> None:
        """It stays first in line until it has the mutex."""
        if self._sleeping:
            self._woken = self._sleeping.pop(0)
            self._woken.then = self._retry
            self.kernel.wake(self._woken, cpu)

    def _hand_over(self, cpu: GuestCpu) -> None:
        """Whoever is first in line has it now, whether it executes or not (`__mutex_handoff`)."""
        self._promised = False
        if self._woken is None:
            self._wake_one(cpu)
        heir, self._woken = self._woken, None
        if heir is None:
            raise RuntimeError("a mutex was promised to nobody")
        self._take(heir)
        if heir.spinning:
            heir.cpu.stop_spin(heir, self.kernel.config.handoff_ns)

    def _retry(self, cpu: GuestCpu, task: Task) -> None:
        """The woken one takes it, or makes sure that it is next, and watches the owner meanwhile."""
        if self.owner is task:
            return
        if self.owner is None:
            self._woken = None
            self._take(task)
            return
        self._promised = True
        if self._owner_on_cpu():
            cpu.spin(task, self, in_kernel=True)
        else:
            self._stop(cpu, task)

    def _stop(self, cpu: GuestCpu, task: Task) -> None:
        if task is not self._woken:
            super()._stop(cpu, task)
            return
        if task.spinning:
            cpu.stop_spin(task)
        self._woken = None
        self._sleep(cpu, task, first=True)

    def owner_left(self) -> None:
        """The owner was switched out by the guest: nobody spins for it any longer."""
        self._give_up(self._spinning)
        self._give_up_woken()

    def owner_preempted(self) -> None:
        """The owner's vCPU has lost its pCPU."""
        if self.sees_preemption:
            self.owner_left()

    def _give_up_woken(self) -> None:
        if self._woken is not None and self._woken.spinning:
            self._give_up([self._woken])

    @staticmethod
    def _give_up(waiters: list[Task]) -> None:
        for waiter in tuple(waiters):
            if waiter.cpu.executes(waiter):
                waiter.cpu.advance()
                waiter.spin_left_ns = 0
                waiter.cpu.refresh()

    def suspended(self, cpu: GuestCpu, task: Task) -> None:
        """A spinner whose CPU is needed by another task goes to sleep (need_resched).

        When its vCPU was preempted, whoever knows that does not spin behind it.
        """
        if cpu.running:
            task.spin_left_ns = 0
        elif self.sees_preemption and task is not self._woken:
            self._give_up(self._spinning[self._spinning.index(task) + 1 :])

    def resumed(self, cpu: GuestCpu, task: Task) -> None:  # noqa: ARG002
        if task is self._woken:
            if not self._owner_on_cpu():
                task.spin_left_ns = 0
        elif self._spinning[0] is task:
            if self.owner is None:
                self._grant(task)
            elif not self._owner_on_cpu():
                task.spin_left_ns = 0
        elif not self._on_cpu(self._spinning[self._spinning.index(task) - 1]):
            task.spin_left_ns = 0


class Lock:
    """Take a sleeping lock."""

    __slots__ = ("lock",)

    def __init__(self, lock: SleepingLock) -> None:
        self.lock = lock

    def begin(self, cpu: GuestCpu, task: Task) -> None:
        self.lock.acquire(cpu, task)


class Unlock:
    """Give a sleeping lock back."""

    __slots__ = ("lock",)

    def __init__(self, lock: SleepingLock) -> None:
        self.lock = lock

    def begin(self, cpu: GuestCpu, task: Task) -> None:
        self.lock.release(cpu, task)
