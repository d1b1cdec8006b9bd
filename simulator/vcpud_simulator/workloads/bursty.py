"""Bursty: busy and idle in turns, the neighbour whose toggling an allocator must keep up with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from vcpud_simulator.bounds import DAY_NS, Within
from vcpud_simulator.guest.task import Compute, Program, Sleep
from vcpud_simulator.workloads.base import Progress

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursty:
    """Independent threads that all compute during the first part of each period, then all sleep.

    Attributes:
        threads: Threads; None for one a vCPU.
        period_ns: From one beginning to the next: 10 s, about where a governor that decides once
            a second stops to be of use (the steal governor's own documentation).
        busy_ratio: Part of a period that is busy: a half.
        offset_ns: When the first period begins: 0.
        unit_ns: CPU time of one counted unit, the resolution of the count and of the edges, 1 ms.
    """

    threads: int | None = None
    period_ns: int = 10_000_000_000
    busy_ratio: float = 0.5
    offset_ns: Annotated[int, Within(0, DAY_NS)] = 0
    unit_ns: int = 1_000_000

    def start(self, kernel: GuestKernel) -> Progress:
        progress = Progress()
        for number in range(self.threads or len(kernel.cpus)):
            kernel.spawn(f"bursty-{number}", self._program(kernel, progress))
        return progress

    def _program(self, kernel: GuestKernel, progress: Progress) -> Program:
        engine, unit = kernel.host.engine, Compute(self.unit_ns)
        busy_ns = round(self.period_ns * self.busy_ratio)
        while True:
            into_ns = (engine.now_ns - self.offset_ns) % self.period_ns
            if into_ns < busy_ns:
                yield unit
                progress.iterations += 1
            else:
                yield Sleep(self.period_ns - into_ns)
