"""Rogue: a guest that is asleep whenever the hypervisor samples who runs (claim L12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcpud_simulator.guest.task import Compute, Program, Sleep
from vcpud_simulator.workloads.base import Progress

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Rogue:
    """One thread that computes between the ticks of its pCPU and sleeps over each of them.

    A real one finds the ticks by watching when it is preempted (Zhou, Goel, Desnoyers and Sundaram,
    IEEE NCA 2011); this one is told.

    Attributes:
        period_ns: Of the ticks: 10 ms in Xen.
        asleep_ns: How long it sleeps, half of it before the tick: 0.5 ms, so that it runs 9.5 ms.
        honest_ns: Until when it does not dodge, as a guest that boots: 100 ms.
    """

    period_ns: int = 10_000_000
    asleep_ns: int = 500_000
    honest_ns: int = 100_000_000

    def start(self, kernel: GuestKernel) -> Progress:
        progress = Progress()
        task = kernel.spawn("rogue", self._program(kernel), on=0)
        progress.metered.append((task, 1_000_000))
        return progress

    def _program(self, kernel: GuestKernel) -> Program:
        engine, vcpu = kernel.host.engine, kernel.domain.vcpus[0]
        yield Compute(self.honest_ns)
        while True:
            into_ns = (engine.now_ns - vcpu.pcpu.phase_ns) % self.period_ns
            bedtime_ns = self.period_ns - self.asleep_ns // 2
            if into_ns < bedtime_ns:
                yield Compute(bedtime_ns - into_ns)
            yield Sleep(self.asleep_ns)
