"""Bounded channels: pipes between tasks, and queues fed from outside (a listening socket)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from vcpud_simulator.guest.task import Task

if TYPE_CHECKING:
    from vcpud_simulator.guest.cpu import GuestCpu
    from vcpud_simulator.guest.kernel import GuestKernel


class Channel:
    """First in, first out; senders sleep while it is full, receivers while it is empty.

    Attributes:
        capacity: Items it holds; a Linux pipe holds 64 KiB.
        items: What is in it: for a socket, the instants at which requests came.
        delivered: Items taken out so far.
        dropped: Items from outside that found it full.
    """

    def __init__(self, kernel: GuestKernel, capacity: int) -> None:
        self.kernel = kernel
        self.capacity = capacity
        self.items: deque[int] = deque()
        self.delivered = 0
        self.dropped = 0
        self._senders: deque[Task] = deque()
        self._receivers: deque[Task] = deque()

    def post(self, cpu: GuestCpu, item: int) -> None:
        """An interrupt on that CPU brings an item from outside."""
        if len(self.items) >= self.capacity:
            self.dropped += 1
            return
        self.items.append(item)
        if self._receivers:
            self.kernel.wake(self._receivers.popleft(), cpu)

    def send(self, cpu: GuestCpu, task: Task) -> None:
        """The current task puts an item in, or sleeps until it can."""
        if len(self.items) >= self.capacity:
            self._senders.append(task)
            task.then = self.send
            cpu.sleep(task)
            return
        self.items.append(self.kernel.host.engine.now_ns)
        if self._receivers:
            self.kernel.wake(self._receivers.popleft(), cpu)

    def take(self, cpu: GuestCpu) -> int:
        """The oldest item, of which there is one; makes room for a sender."""
        item = self.items.popleft()
        self.delivered += 1
        if self._senders:
            self.kernel.wake(self._senders.popleft(), cpu)
        return item

    def wait(self, cpu: GuestCpu, task: Task) -> None:
        """The current task sleeps until there may be an item."""
        self._receivers.append(task)
        cpu.sleep(task)


class Completion:
    """Something one task waits for and another context announces, in either order."""

    __slots__ = ("_waiter", "done", "kernel")

    def __init__(self, kernel: GuestKernel) -> None:
        self.kernel = kernel
        self.done = False
        self._waiter: Task | None = None

    def begin(self, cpu: GuestCpu, task: Task) -> None:
        """Wait for it (`task.Operation`)."""
        if not self.done:
            self._waiter = task
            cpu.sleep(task)

    def announce(self, cpu: GuestCpu) -> None:
        """It is done."""
        self.done = True
        if self._waiter is not None:
            self.kernel.wake(self._waiter, cpu)


class Send:
    """Write to a channel; `cost_ns` of kernel work first."""

    __slots__ = ("channel", "cost_ns")

    def __init__(self, channel: Channel, cost_ns: int) -> None:
        self.channel = channel
        self.cost_ns = cost_ns

    def begin(self, cpu: GuestCpu, task: Task) -> None:  # noqa: ARG002
        task.in_kernel = True
        task.left_ns = self.cost_ns
        task.then = self.channel.send


class Receive:
    """Read from a channel; `cost_ns` of kernel work first. Each receiver has its own.

    Attributes:
        item: What was read last.
    """

    __slots__ = ("channel", "cost_ns", "item")

    def __init__(self, channel: Channel, cost_ns: int) -> None:
        self.channel = channel
        self.cost_ns = cost_ns
        self.item = 0

    def begin(self, cpu: GuestCpu, task: Task) -> None:  # noqa: ARG002
        task.in_kernel = True
        task.left_ns = self.cost_ns
        task.then = self._take

    def _take(self, cpu: GuestCpu, task: Task) -> None:
        if self.channel.items:
            self.item = self.channel.take(cpu)
        else:
            task.then = self._take
            self.channel.wait(cpu, task)
