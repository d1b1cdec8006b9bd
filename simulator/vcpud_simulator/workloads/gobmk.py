"""gobmk-like: independent compute-bound processes (SPEC CPU2006 445.gobmk, several copies)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcpud_simulator.engine import NEVER
from vcpud_simulator.guest.task import Compute
from vcpud_simulator.workloads.base import Progress

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel


@dataclass(frozen=True, slots=True, kw_only=True)
class GobmkLike:
    """Copies of a single-threaded program that never waits for anything.

    Attributes:
        copies: Processes; None for one a vCPU, as SPECrate runs it.
        unit_ns: CPU time of one counted unit; only the resolution of the count, 1 ms.
    """

    copies: int | None = None
    unit_ns: int = 1_000_000

    def start(self, kernel: GuestKernel) -> Progress:
        progress = Progress()
        for number in range(self.copies or len(kernel.cpus)):
            task = kernel.spawn(f"gobmk-{number}", iter([Compute(NEVER)]))
            progress.metered.append((task, self.unit_ns))
        return progress
