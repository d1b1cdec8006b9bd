"""How long vCPUs waited, as far as vcpud on Xen can tell: from looks at which of them are blocked.

Xen tells dom0 how long a vCPU ran and not how long it waited. vcpud looks at random instants which are blocked, and
estimates the rest (`vcpud.waiting`); here it is given looks as often as there, with the same arithmetic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud.units import NS_PER_MS, NS_PER_US
from vcpud.waiting import Wait, counted, sampled, told_at
from vcpud_simulator.engine import Timer
from vcpud_simulator.entities import BLOCKED, RUNNING

if TYPE_CHECKING:
    from vcpud_simulator.rng import Stream
    from vcpud_simulator.world import Resident, World

PERIOD_NS: Final = 100 * NS_PER_MS
"""Spacing of looks at one domain, where they cost next to nothing: vcpud's `sampling_period`."""
COST_NS: Final = 500 * NS_PER_US
"""Of one look, as measured in a dom0."""
COST_RATIO: Final = 0.01
"""Of a vCPU of dom0 that all looks together may use: vcpud's `sampling_cost_ratio`."""


class Looks:
    """What is known of one domain's waits."""

    def __init__(self, resident: Resident, world: World, chance: Stream) -> None:
        self._kernel = resident.inhabitant.kernel
        self._world = world
        self._chance = chance
        self._waits = [Wait() for _ in self._kernel.cpus]
        self._slot_ns = world.engine.now_ns
        self._timer = Timer(self._look)
        self._next()

    def close(self) -> None:
        """The domain is gone."""
        self._timer.cancel()

    def delays(self, now_ns: int) -> list[tuple[int | None, int | None]]:
        """How long each vCPU has waited until now and the standard error of that, None where nothing can be told."""
        told: list[tuple[int | None, int | None]] = []
        for index, (vcpu, cpu) in enumerate(
            zip(self._kernel.domain.vcpus, self._kernel.cpus, strict=True)
        ):
            run_ns = vcpu.in_state_ns(RUNNING, now_ns)
            wait = counted(self._waits[index], run_ns=run_ns, at_ns=now_ns, online=cpu.online)
            self._waits[index] = wait
            told.append(told_at(wait, now_ns) or (None, None))
        return told

    def _next(self) -> None:
        """One look in each slot, at an instant that nobody can foresee."""
        among = max(len(self._world.residents), 1)
        spacing_ns = max(PERIOD_NS, round(among * COST_NS / COST_RATIO))
        at_ns = self._slot_ns + self._chance.below(spacing_ns)
        self._slot_ns += spacing_ns
        self._world.engine.arm(self._timer, max(at_ns, self._world.engine.now_ns))

    def _look(self) -> None:
        now_ns = self._world.engine.now_ns
        for index, vcpu in enumerate(self._kernel.domain.vcpus):
            wait = self._waits[index]
            if wait.at_ns is not None:
                self._waits[index] = sampled(wait, blocked=vcpu.state == BLOCKED, at_ns=now_ns)
        self._next()
