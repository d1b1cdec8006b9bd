"""hackbench-like: groups of senders and receivers that shout over pipes (Rusty Russell, 2002)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcpud_simulator.guest.channel import Channel, Receive, Send
from vcpud_simulator.guest.locks import QueuedLock, Spinlock
from vcpud_simulator.guest.task import Program
from vcpud_simulator.guest.train import Train
from vcpud_simulator.workloads.base import Progress

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel


@dataclass(frozen=True, slots=True, kw_only=True)
class HackbenchLike:
    """Each sender of a group writes to each receiver's queue in turn; receivers read theirs.

    Messages go in bursts of `burst`, which is how many a sender writes between two looks at
    whether somebody must be woken or it must sleep; each message takes the queue's spinlock once
    on either side.

    Attributes:
        groups: Groups; None for one per two vCPUs (hackbench: 10).
        fan: Senders, and receivers, of a group: 4 (hackbench: 20; only the number of tasks differs,
            since already these are four runnable tasks a vCPU).
        burst: Messages of an operation: 8.
        queued: Bursts a queue holds: 8; a socket buffer of 212,992 bytes holds about 80 messages,
            which count 2.5 KiB each with their bookkeeping.
        message_ns: CPU time of writing or reading 100 bytes: 1 us (lmbench `lat_unix`, half of a
            round trip without the context switch).
        hold_ns: Part of it under the queue's spinlock: 100 ns, linking one buffer.
        lock: Kind of spinlock.
    """

    groups: int | None = None
    fan: int = 4
    burst: int = 8
    queued: int = 8
    message_ns: int = 1_000
    hold_ns: int = 100
    lock: type[Spinlock] = QueuedLock

    def start(self, kernel: GuestKernel) -> Progress:
        progress = Progress()
        for group in range(self.groups or max(1, len(kernel.cpus) // 2)):
            queues = [
                (Channel(kernel, self.queued), self.lock(kernel, "queue")) for _ in range(self.fan)
            ]
            for number, queue in enumerate(queues):
                kernel.spawn(f"receiver-{group}.{number}", self._receiver(progress, *queue))
                kernel.spawn(f"sender-{group}.{number}", self._sender(queues))
        return progress

    def _messages(self, lock: Spinlock) -> Train:
        return Train(
            lock, rounds=self.burst, gap_ns=self.message_ns - self.hold_ns, hold_ns=self.hold_ns
        )

    def _sender(self, queues: list[tuple[Channel, Spinlock]]) -> Program:
        while True:
            for channel, lock in queues:
                yield self._messages(lock)
                yield Send(channel, 0)

    def _receiver(self, progress: Progress, channel: Channel, lock: Spinlock) -> Program:
        receive = Receive(channel, 0)
        while True:
            yield receive
            yield self._messages(lock)
            progress.iterations += self.burst
