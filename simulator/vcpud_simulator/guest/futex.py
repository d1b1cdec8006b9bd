"""Futexes: sleep while a word has a value, wake all who do, under the lock of a hash bucket.

Problem: blocking synchronisation is not free of spinning. Everybody who sleeps on a futex or wakes
its sleepers takes the spinlock of its hash bucket, and threads of a team arrive there together: a
preempted holder makes the others burn whole slices in the kernel.

Approach: a system call, then the bucket's lock for `GuestConfig.futex_hold_ns`. Under it a waiter
looks whether the word still has its value and queues; a waker takes the sleepers off the queue,
and wakes them after it has released the lock (wake_q).

References: Linux kernel/futex/waitwake.c `futex_wait_setup`, `futex_wake`; `wake_up_q`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vcpud_simulator.guest.locks import QueuedLock
from vcpud_simulator.guest.task import Task

if TYPE_CHECKING:
    from vcpud_simulator.guest.cpu import GuestCpu
    from vcpud_simulator.guest.kernel import GuestKernel


class Futex:
    """One futex with a bucket of its own.

    Attributes:
        bucket: The spinlock of its hash bucket.
    """

    __slots__ = ("_sleeping", "_waiting", "bucket", "kernel")

    def __init__(self, kernel: GuestKernel) -> None:
        self.kernel = kernel
        self.bucket = QueuedLock(kernel, "futex")
        self._waiting: dict[Task, Callable[[], bool]] = {}
        self._sleeping: list[Task] = []

    def wait(self, cpu: GuestCpu, task: Task, unchanged: Callable[[], bool]) -> None:
        """The current task sleeps, unless the word has changed when it has the bucket."""
        self._waiting[task] = unchanged
        self._enter(cpu, task, self._queue)

    def wake(self, cpu: GuestCpu, task: Task) -> None:
        """The current task wakes all who sleep."""
        self._enter(cpu, task, self._collect)

    def _enter(self, cpu: GuestCpu, task: Task, then: Callable[[GuestCpu, Task], None]) -> None:
        cpu.charge(self.kernel.config.syscall_ns)
        if self.bucket.acquire(cpu, task):
            task.left_ns = self.kernel.config.futex_hold_ns
            task.then = then
        else:
            task.then = lambda _, me: self._hold(me, then)

    def _hold(self, task: Task, then: Callable[[GuestCpu, Task], None]) -> None:
        task.left_ns = self.kernel.config.futex_hold_ns
        task.then = then

    def _queue(self, cpu: GuestCpu, task: Task) -> None:
        unchanged = self._waiting.pop(task)()
        if unchanged:
            self._sleeping.append(task)
        self.bucket.release(cpu, task)
        if unchanged:
            cpu.sleep(task)

    def _collect(self, cpu: GuestCpu, task: Task) -> None:
        sleeping, self._sleeping = self._sleeping, []
        self.bucket.release(cpu, task)
        for other in sleeping:
            self.kernel.wake(other, cpu)
