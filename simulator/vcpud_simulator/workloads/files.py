"""Files: processes that copy into one file, and meet at its sleeping lock (UnixBench fstime)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcpud_simulator.guest.mutex import Lock, Mutex, Unlock
from vcpud_simulator.guest.task import Compute, Program
from vcpud_simulator.workloads.base import Progress

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel
    from vcpud_simulator.rng import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """A process a vCPU; each reads a block, and writes it under the lock of the file all write.

    Attributes:
        processes: Processes; None for one a vCPU.
        read_ns: Mean CPU time of reading a block, exponential: 500 ns. Of what UnixBench copies in a
            process of its own, reading is 0.38 to 0.45 of the time.
        write_ns: CPU time of writing it, under the inode's semaphore: 740 ns. 1,352,407 blocks a
            second (1885aa7041c9) are published where the semaphore is nearly always taken.
        sees_preemption: Whether the guest knows of preempted vCPUs (`vcpu_is_preempted`).
    """

    processes: int | None = None
    read_ns: int = 500
    write_ns: int = 740
    sees_preemption: bool = False

    def start(self, kernel: GuestKernel) -> Progress:
        progress = Progress()
        mutex = Mutex(kernel, sees_preemption=self.sees_preemption)
        for number in range(self.processes or len(kernel.cpus)):
            chance = kernel.host.chance.stream("files", kernel.name, number)
            kernel.spawn(f"copy-{number}", self._program(progress, mutex, chance))
        return progress

    def _program(self, progress: Progress, mutex: Mutex, chance: Stream) -> Program:
        write = Compute(self.write_ns, in_kernel=True)
        lock, unlock = Lock(mutex), Unlock(mutex)
        while True:
            yield Compute(chance.exponential_ns(self.read_ns), in_kernel=True)
            yield lock
            yield write
            yield unlock
            progress.iterations += 1
