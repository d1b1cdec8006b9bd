"""Round robin over one queue of the host: the yardstick scheduler.

Problem: closed forms and benchmarks need a scheduler whose every decision can be foreseen.

Approach: one FIFO queue for all pCPUs, a fixed slice, no weights, no wake-up preemption. With an
endless slice it is first come, first served, as in M/M/c.

References: Kleinrock, Queueing Systems I (1975), chapter 3.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from vcpud_simulator.engine import NEVER
from vcpud_simulator.schedulers.base import BaseScheduler

if TYPE_CHECKING:
    from vcpud_simulator.entities import Dispatch, Pcpu, Vcpu

SLICE_NS: Final = 1_000_000


class RoundRobin(BaseScheduler):
    """One queue, one slice.

    Attributes:
        slice_ns: Time until the head of the queue gets its turn; NEVER for none.
    """

    name = "round-robin"

    def __init__(self, slice_ns: int = SLICE_NS) -> None:
        super().__init__()
        self.slice_ns = slice_ns
        self._queue: deque[Vcpu] = deque()

    def wake(self, vcpu: Vcpu, now_ns: int) -> None:  # noqa: ARG002
        self._queue.append(vcpu)
        host = self.host
        idle_mask = host.idle_mask
        if idle_mask:
            host.tickle(host.pcpus[(idle_mask & -idle_mask).bit_length() - 1])

    def sleep(self, vcpu: Vcpu, now_ns: int) -> None:  # noqa: ARG002
        self._queue.remove(vcpu)

    def yield_to(self, vcpu: Vcpu, target: Vcpu, now_ns: int) -> bool:  # noqa: ARG002
        self._queue.remove(target)
        self._queue.appendleft(target)
        return True

    def schedule(self, pcpu: Pcpu, now_ns: int) -> Dispatch:
        current = pcpu.current
        queue = self._queue
        until_ns = now_ns + self.slice_ns
        if current is not None and current.state <= 1:
            if not queue:
                return current, until_ns
            queue.append(current)
        return (queue.popleft(), until_ns) if queue else (None, NEVER)
