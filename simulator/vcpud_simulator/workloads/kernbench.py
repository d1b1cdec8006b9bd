"""kernbench-like: a parallel build (make -j of a kernel): fork, compile, exit, kernel locks all share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcpud_simulator.guest.channel import Channel, Receive
from vcpud_simulator.guest.locks import Acquire, QueuedLock, Release, Spinlock
from vcpud_simulator.guest.task import Call, Compute, Program, Spawn
from vcpud_simulator.guest.train import Train
from vcpud_simulator.workloads.base import Progress

if TYPE_CHECKING:
    from vcpud_simulator.guest.cpu import GuestCpu
    from vcpud_simulator.guest.kernel import GuestKernel
    from vcpud_simulator.guest.task import Task
    from vcpud_simulator.rng import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class KernbenchLike:
    """A make process that keeps so many compilers going; each ends after one file.

    Attributes:
        jobs: Compilers at a time; None for two a vCPU (kernbench's "optimal" load is 4, and the
            kernel's own advice 1 to 2).
        compile_ns: Mean CPU time of a file in user mode, exponential: 100 ms, a small C file.
        fork_ns: fork and exec in kernel mode: 500 us (lmbench `lat_proc exec`).
        tasklist_ns: Part of fork and of exit under the lock of the process list: 1 us.
        fault_gap_ns: Mean CPU time between visits to the page allocator's zone: 250 us: a compiler
            faults once per 15 us or so, and a CPU's own cache of pages is refilled every 16th time.
        fault_hold_ns: Such a visit under the zone's lock: 1.5 us for 31 pages (`rmqueue_bulk`).
        lock: Kind of spinlock.
    """

    jobs: int | None = None
    compile_ns: int = 100_000_000
    fork_ns: int = 500_000
    tasklist_ns: int = 1_000
    fault_gap_ns: int = 250_000
    fault_hold_ns: int = 1_500
    lock: type[Spinlock] = QueuedLock

    def start(self, kernel: GuestKernel) -> Progress:
        progress = Progress()
        jobs = self.jobs or 2 * len(kernel.cpus)
        kernel.spawn("make", self._make(kernel, progress, jobs))
        return progress

    def _make(self, kernel: GuestKernel, progress: Progress, jobs: int) -> Program:
        chance = kernel.host.chance.stream("kernbench", kernel.name)
        tasklist, zone = self.lock(kernel, "tasklist"), self.lock(kernel, "zone")
        ended = Channel(kernel, capacity=2 * jobs)
        link = self._under(tasklist)
        wait = Receive(ended, 0)
        running = 0
        while True:
            yield from link
            yield Spawn(
                "cc",
                self._compiler(progress, zone, link, chance),
                cost_ns=self.fork_ns,
                on_exit=lambda cpu: ended.post(cpu, 0),
            )
            running += 1
            if running == jobs:
                yield wait
                running -= 1

    def _under(self, lock: Spinlock) -> tuple[Acquire, Compute, Release]:
        return Acquire(lock), Compute(self.tasklist_ns, in_kernel=True), Release(lock)

    def _compiler(
        self,
        progress: Progress,
        zone: Spinlock,
        link: tuple[Acquire, Compute, Release],
        chance: Stream,
    ) -> Program:
        rounds, rest_ns = divmod(chance.exponential_ns(self.compile_ns), self.fault_gap_ns)
        yield Compute(rest_ns)
        if rounds:
            yield Train(
                zone,
                rounds=rounds,
                gap_ns=self.fault_gap_ns,
                hold_ns=self.fault_hold_ns,
                in_kernel=False,
            )
        yield from link

        def count(cpu: GuestCpu, task: Task) -> None:  # noqa: ARG001
            progress.iterations += 1

        yield Call(count)
