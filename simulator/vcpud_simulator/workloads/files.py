"""Files: processes that copy files, and meet at sleeping locks of the kernel (UnixBench fstime)."""

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
    """A process a vCPU; each block is copied, then accounted for under a mutex all share.

    Attributes:
        processes: Processes; None for one a vCPU.
        copy_ns: Mean CPU time of a block, exponential: 2 us, read and write of 1 KiB in the cache.
        locked_ns: Part of it under the mutex: 500 ns, what allocates blocks and writes the inode.
        sees_preemption: Whether the guest knows of preempted vCPUs (`vcpu_is_preempted`).
    """

    processes: int | None = None
    copy_ns: int = 2_000
    locked_ns: int = 500
    sees_preemption: bool = False

    def start(self, kernel: GuestKernel) -> Progress:
        progress = Progress()
        mutex = Mutex(kernel, sees_preemption=self.sees_preemption)
        for number in range(self.processes or len(kernel.cpus)):
            chance = kernel.host.chance.stream("files", kernel.name, number)
            kernel.spawn(f"copy-{number}", self._program(progress, mutex, chance))
        return progress

    def _program(self, progress: Progress, mutex: Mutex, chance: Stream) -> Program:
        locked = Compute(self.locked_ns, in_kernel=True)
        lock, unlock = Lock(mutex), Unlock(mutex)
        while True:
            yield Compute(chance.exponential_ns(self.copy_ns), in_kernel=True)
            yield lock
            yield locked
            yield unlock
            progress.iterations += 1
