"""Kernel spinlocks: test-and-set, queued FIFO, preemptable, paravirtual.

Problem: a spinlock assumes that its holder, and with a fair lock also the next in line, executes.

Approach: an acquisition either succeeds at once or starts an interval of spinning, with guest
preemption disabled, that the release ends. What differs is who comes next:
  * test-and-set: whoever executes, in the order of the cache's chances; newcomers may be first;
  * queued (ticket, MCS, native qspinlock): the first in line, even if its vCPU has no pCPU;
  * preemptable: the first in line, but a later one whose vCPU executes may go ahead when it has
    waited its place in line times a timeout;
  * paravirtual: queued, but a waiter halts its vCPU after a threshold, or at once when the one
    before it does not execute; the release kicks the first in line; while the first is halted,
    newcomers may steal.

References: Linux `virt_spin_lock` (arch/x86/include/asm/qspinlock.h); kernel/locking/qspinlock.c;
kernel/locking/qspinlock_paravirt.h (SPIN_THRESHOLD 1 << 15, pv_wait_early, hybrid steal unless
pending); Ouyang, Lange, "Preemptable ticket spinlocks", VEE 2013.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud_simulator.guest.platform import Platform
from vcpud_simulator.guest.task import NO_LIMIT, Task

if TYPE_CHECKING:
    from vcpud_simulator.guest.cpu import GuestCpu
    from vcpud_simulator.guest.kernel import GuestKernel

SPIN_THRESHOLD_NS: Final = 300_000
"""1 << 15 turns of a loop with PAUSE, at about 9 ns a turn."""
PREEMPTABLE_TIMEOUT_NS: Final = 20_000
"""tau of the VEE 2013 paper: a few uncontended critical sections; per place in line."""


class Spinlock(Platform):
    """Base: a lock that is owned by one task at most.

    Attributes:
        owner: Who holds it, or who was handed it and does not execute yet.
        waiters: Who waits, in order of arrival.
        acquisitions: Times it was taken, batched ones included.
        contentions: Times it was not free.
    """

    queued = True
    """Whether waits pass the kernel's lock tracepoint."""

    def __init__(self, kernel: GuestKernel, name: str = "lock") -> None:
        super().__init__(kernel, name)
        self.owner: Task | None = None
        self.waiters: list[Task] = []
        self.acquisitions = 0
        self.contentions = 0
        self._pending: Task | None = None

    @property
    def quiet(self) -> bool:
        return self.owner is None and not self.waiters

    def acquire(self, cpu: GuestCpu, task: Task) -> bool:
        """Take it, or begin to spin; preemption is disabled until `release` either way."""
        task.preempt_count += 1
        task.in_kernel = True
        if self.batched:
            self.closed = True
            self.unbatch()
            self.closed = False
        if self.owner is None and self._may_take():
            self.owner = task
            self.acquisitions += 1
            return True
        self.contentions += 1
        if self.queued and not self.waiters:
            self._pending = task
        self.waiters.append(task)
        cpu.spin(task, self, in_kernel=True, limit_ns=self._limit_ns(task))
        return False

    def release(self, cpu: GuestCpu, task: Task) -> None:
        """Give it back; the next one goes on."""
        if self.owner is not task:
            raise RuntimeError(f"{task} released {self.name}, which {self.owner} holds")
        self.owner = None
        task.preempt_count -= 1
        if self.waiters:
            self._hand_on(cpu)
        if self.members and self.quiet:
            self.rebatch()

    def adopt(self, task: Task) -> None:
        """A batched train turns out to hold it just now."""
        task.preempt_count += 1
        self._take(task)

    def _take(self, task: Task) -> None:
        if self.owner is not None:
            raise RuntimeError(f"{task} takes {self.name}, which {self.owner} holds")
        self.owner = task
        self.acquisitions += 1

    def _grant(self, task: Task) -> None:
        kernel = self.kernel
        self.waiters.remove(task)
        self._take(task)
        if task is self._pending:
            self._pending = None  # its wait never reached the queue, where the tracepoint is
        elif self.queued:
            kernel.lock_waits += 1
            kernel.lock_wait_ns += kernel.host.engine.now_ns - task.spin_began_ns
        task.cpu.stop_spin(task, kernel.config.handoff_ns)

    def _may_take(self) -> bool:
        """Whether a newcomer may take the lock that nobody holds."""
        return not self.waiters

    def _limit_ns(self, task: Task) -> int:  # noqa: ARG002
        return NO_LIMIT

    def _hand_on(self, cpu: GuestCpu) -> None:
        """Choose who comes next; there are waiters."""
        raise NotImplementedError

    def resumed(self, cpu: GuestCpu, task: Task) -> None:
        """A waiter executes again."""

    def suspended(self, cpu: GuestCpu, task: Task) -> None:  # noqa: ARG002
        """A waiter no longer executes."""
        if self.queued and self.waiters and self.waiters[0] is task:
            self.kernel.lock_waiter_preemptions += 1

    def expired(self, cpu: GuestCpu, task: Task) -> None:
        """A waiter has spun long enough."""


class UnfairLock(Spinlock):
    """Test-and-set, unfair: whoever executes when it is free gets it."""

    queued = False

    def _may_take(self) -> bool:
        return True

    def _hand_on(self, cpu: GuestCpu) -> None:  # noqa: ARG002
        executing = [task for task in self.waiters if task.cpu.executes(task)]
        if executing:
            self._grant(self.kernel.chance.choose(executing))

    def resumed(self, cpu: GuestCpu, task: Task) -> None:  # noqa: ARG002
        if self.owner is None:
            self._grant(task)


class QueuedLock(Spinlock):
    """FIFO: ticket lock, MCS lock, native queued spinlock."""

    def _hand_on(self, cpu: GuestCpu) -> None:  # noqa: ARG002
        self._grant(self.waiters[0])


class PreemptableLock(Spinlock):
    """FIFO as long as the first in line executes, or nobody else has waited long enough."""

    def _limit_ns(self, task: Task) -> int:
        return self.waiters.index(task) * PREEMPTABLE_TIMEOUT_NS + 1

    def _hand_on(self, cpu: GuestCpu) -> None:  # noqa: ARG002
        for task in self.waiters:
            if task.cpu.executes(task) and (
                task is self.waiters[0] or task.spin_left_ns == NO_LIMIT
            ):
                self._grant(task)
                return

    def resumed(self, cpu: GuestCpu, task: Task) -> None:  # noqa: ARG002
        if self.owner is None and (task is self.waiters[0] or task.spin_left_ns == NO_LIMIT):
            self._grant(task)

    def expired(self, cpu: GuestCpu, task: Task) -> None:  # noqa: ARG002
        task.spin_left_ns = NO_LIMIT
        if self.owner is None:
            self._grant(task)


class ParavirtualLock(Spinlock):
    """Queued; waiters halt their vCPU instead of spinning on and on, and are kicked."""

    def __init__(
        self, kernel: GuestKernel, name: str = "lock", threshold_ns: int = SPIN_THRESHOLD_NS
    ) -> None:
        super().__init__(kernel, name)
        self.threshold_ns = threshold_ns
        self._halted: set[Task] = set()

    def _may_take(self) -> bool:
        """Newcomers steal while the first in line is not there to set the pending bit."""
        return not self.waiters or not self.waiters[0].cpu.executes(self.waiters[0])

    def _limit_ns(self, task: Task) -> int:
        place = self.waiters.index(task)
        if place and not self._executes(self.waiters[place - 1]):
            return 0
        return self.threshold_ns

    @staticmethod
    def _executes(task: Task) -> bool:
        return task.cpu.executes(task)

    def _hand_on(self, cpu: GuestCpu) -> None:
        first = self.waiters[0]
        if self._executes(first):
            self._grant(first)
        elif first in self._halted:
            self._halted.discard(first)
            cpu.charge_exit(self.kernel.config.kick_ns)
            vcpu = first.cpu.vcpu
            vcpu.woken_on = cpu.vcpu.pcpu
            self.kernel.host.wake(vcpu)

    def resumed(self, cpu: GuestCpu, task: Task) -> None:  # noqa: ARG002
        self._halted.discard(task)
        if self.owner is None and self.waiters[0] is task:
            self._grant(task)
        else:
            task.spin_left_ns = self._limit_ns(task)

    def suspended(self, cpu: GuestCpu, task: Task) -> None:
        super().suspended(cpu, task)
        self._warn_next(task)

    def expired(self, cpu: GuestCpu, task: Task) -> None:
        if self.owner is None and self.waiters[0] is task:
            self._grant(task)
            return
        self._halted.add(task)
        cpu.wait_halted()
        self._warn_next(task)

    def _warn_next(self, task: Task) -> None:
        """Whoever waits behind one that does not execute stops spinning early (pv_wait_early)."""
        place = self.waiters.index(task) + 1
        if place < len(self.waiters) and self._executes(self.waiters[place]):
            behind = self.waiters[place]
            behind.cpu.advance()
            behind.spin_left_ns = 0
            behind.cpu.refresh()


class Acquire:
    """Take a kernel spinlock."""

    __slots__ = ("lock",)

    def __init__(self, lock: Spinlock) -> None:
        self.lock = lock

    def begin(self, cpu: GuestCpu, task: Task) -> None:
        self.lock.acquire(cpu, task)


class Release:
    """Give a kernel spinlock back."""

    __slots__ = ("lock",)

    def __init__(self, lock: Spinlock) -> None:
        self.lock = lock

    def begin(self, cpu: GuestCpu, task: Task) -> None:
        self.lock.release(cpu, task)
