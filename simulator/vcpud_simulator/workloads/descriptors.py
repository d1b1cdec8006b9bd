"""The lab's kernel-lock program: dup and close on a descriptor table all threads share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcpud_simulator.guest.locks import QueuedLock, Spinlock
from vcpud_simulator.guest.task import Compute, Program
from vcpud_simulator.guest.train import Train
from vcpud_simulator.workloads.base import Progress

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptors:
    """Threads that compute, then take the table's spinlock many times (tests/lab workload.c).

    Attributes:
        threads: Threads; None for one a vCPU.
        grain_ns: CPU time between bursts of system calls: 20,000 dependent multiplications.
        rounds: Sections per burst: 50 pairs of dup and close.
        gap_ns: Mean time between sections: the rest of a short system call.
        hold_ns: Length of a section: finding and clearing a bit in the table.
        lock: Kind of spinlock.
    """

    threads: int | None = None
    grain_ns: int = 20_000
    rounds: int = 100
    gap_ns: int = 250
    hold_ns: int = 60
    lock: type[Spinlock] = QueuedLock

    def start(self, kernel: GuestKernel) -> Progress:
        progress = Progress()
        lock = self.lock(kernel, "files")
        for number in range(self.threads or len(kernel.cpus)):
            kernel.spawn(f"dup-{number}", self._program(progress, lock))
        return progress

    def _program(self, progress: Progress, lock: Spinlock) -> Program:
        grain = Compute(self.grain_ns)
        while True:
            yield grain
            yield Train(lock, rounds=self.rounds, gap_ns=self.gap_ns, hold_ns=self.hold_ns)
            progress.iterations += 1
