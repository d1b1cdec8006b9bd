"""ammp-like: OpenMP regions that end in a barrier (SPEC OMP2001 332.ammp_m)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from vcpud_simulator.bounds import DAY_NS, Within
from vcpud_simulator.guest.barrier import Barrier
from vcpud_simulator.guest.locks import QueuedLock, Spinlock
from vcpud_simulator.guest.mutex import Lock, SleepingLock, Unlock
from vcpud_simulator.guest.task import NO_LIMIT, Compute, Program
from vcpud_simulator.guest.train import Train
from vcpud_simulator.workloads.base import Progress

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel
    from vcpud_simulator.rng import Stream


class Wait(StrEnum):
    """How early threads wait (OMP_WAIT_POLICY, GOMP_SPINCOUNT)."""

    ACTIVE = "active"
    YIELDING = "yielding"
    SPIN_THEN_FUTEX = "spin_then_futex"
    PASSIVE = "passive"


@dataclass(frozen=True, slots=True, kw_only=True)
class AmmpLike:
    """A team of threads: compute, enter critical sections, meet at a barrier.

    Attributes:
        threads: The team; None for one a vCPU. Fixed at start-up, as libgomp's is.
        grain_ns: CPU time of each thread between barriers: 1 to 100 ms in the study.
        cv_ratio: Spread of the grain between threads, 5 %: the loops are statically balanced.
        wait: How early threads wait.
        spin_ns: CPU time of spin-then-futex, 3 ms: libgomp's 300,000 turns of about 10 ns.
        criticals: Critical sections a thread enters per region (neighbour list updates).
        critical_ns: Length of one, 200 ns: a few additions to shared forces.
        kernel_sections: Sections under a spinlock of the kernel that a thread enters per region;
            0, but for the variant whose threads fault in fresh memory: 20 per millisecond of
            grain, then, are a fifth of the time in the kernel.
        kernel_gap_ns: Mean time between them, in the kernel: 10 us, sixteen page faults.
        kernel_hold_ns: Length of one: 1.5 us, refilling a CPU's cache of free pages under the
            lock of the zone (`rmqueue_bulk`).
        lock: Kind of that spinlock.
    """

    threads: int | None = None
    grain_ns: int = 10_000_000
    cv_ratio: float = 0.05
    wait: Wait = Wait.ACTIVE
    spin_ns: Annotated[int, Within(0, DAY_NS)] = 3_000_000
    criticals: Annotated[int, Within(0, 1_000)] = 1
    critical_ns: int = 200
    kernel_sections: Annotated[int, Within(0, 65_536)] = 0
    kernel_gap_ns: int = 10_000
    kernel_hold_ns: int = 1_500
    lock: type[Spinlock] = QueuedLock

    def start(self, kernel: GuestKernel) -> Progress:
        progress = Progress()
        threads = self.threads or len(kernel.cpus)
        spin_ns = {Wait.PASSIVE: 0, Wait.SPIN_THEN_FUTEX: self.spin_ns}.get(self.wait, NO_LIMIT)
        barrier = Barrier(kernel, threads, spin_ns=spin_ns, yields=self.wait is Wait.YIELDING)
        lock = SleepingLock(kernel, spin_ns=spin_ns)
        memory = self.lock(kernel, "memory")
        for number in range(threads):
            chance = kernel.host.chance.stream("ammp", kernel.name, number)
            program = self._program(progress, barrier, lock, memory, chance)
            kernel.spawn(f"ammp-{number}", program)
        return progress

    def _program(
        self,
        progress: Progress,
        barrier: Barrier,
        lock: SleepingLock,
        memory: Spinlock,
        chance: Stream,
    ) -> Program:
        critical, enter, leave = Compute(self.critical_ns), Lock(lock), Unlock(lock)
        while True:
            grain_ns = chance.around_ns(self.grain_ns, self.cv_ratio)
            for _ in range(self.criticals):
                yield Compute(grain_ns // (self.criticals + 1))
                yield enter
                yield critical
                yield leave
            yield Compute(grain_ns // (self.criticals + 1))
            if self.kernel_sections:
                yield Train(
                    memory,
                    rounds=self.kernel_sections,
                    gap_ns=self.kernel_gap_ns,
                    hold_ns=self.kernel_hold_ns,
                )
            yield barrier
            progress.iterations += 1
