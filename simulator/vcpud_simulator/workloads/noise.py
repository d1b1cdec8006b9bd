"""Dom0 or host noise: short bursts on every vCPU of a small domain, mostly asleep; idle guests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from vcpud_simulator.bounds import DAY_NS, Within
from vcpud_simulator.guest.task import Compute, Program, Sleep
from vcpud_simulator.workloads.base import Progress

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel
    from vcpud_simulator.rng import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Background work, as of dom0's back-ends and monitoring; nothing at all when `burst_ns` is 0.

    Attributes:
        burst_ns: Mean CPU time of a burst, 100 us.
        sleep_ns: Mean time between bursts, 10 ms: together 1 % of each vCPU.
    """

    burst_ns: Annotated[int, Within(0, DAY_NS)] = 100_000
    sleep_ns: int = 10_000_000

    def start(self, kernel: GuestKernel) -> Progress:
        progress = Progress()
        for number in range(len(kernel.cpus) if self.burst_ns else 0):
            chance = kernel.host.chance.stream("noise", kernel.name, number)
            kernel.spawn(f"noise-{number}", self._program(progress, chance))
        return progress

    def _program(self, progress: Progress, chance: Stream) -> Program:
        while True:
            yield Sleep(chance.exponential_ns(self.sleep_ns))
            yield Compute(chance.exponential_ns(self.burst_ns))
            progress.iterations += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """A guest nobody uses: its services wake now and then, its CPUs tick or not as configured.

    Attributes:
        wake_ns: Mean time between wake-ups of each vCPU, 100 ms: timers of a bare Linux guest.
        work_ns: Mean CPU time of one, 20 us.
    """

    wake_ns: int = 100_000_000
    work_ns: int = 20_000

    def start(self, kernel: GuestKernel) -> Progress:
        return Noise(burst_ns=self.work_ns, sleep_ns=self.wake_ns).start(kernel)
