"""Dom0 or host noise: short bursts on every vCPU of a small domain, mostly asleep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcpud_simulator.guest.task import Compute, Program, Sleep
from vcpud_simulator.workloads.base import Progress

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel
    from vcpud_simulator.rng import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Background work, as of dom0's back-ends and monitoring; an idle guest when `burst_ns` is 0.

    Attributes:
        burst_ns: Mean CPU time of a burst, 100 us.
        sleep_ns: Mean time between bursts, 10 ms: together 1 % of each vCPU.
    """

    burst_ns: int = 100_000
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
