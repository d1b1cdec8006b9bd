"""Linux CFS (until 6.5), with and without a group per domain.

Problem: share a processor in proportion to weights, without fixed slices, and favour sleepers.

Approach: run whoever has the least weighted run time. A latency period is divided among those that
wait, by weight, but nobody gets less than a granularity; a slice is looked at only at ticks. A
sleeper comes back half a latency behind the others at most, and preempts whoever leads it by more
than the wake-up granularity. All three grow with 1 + log2(pCPUs, at most 8). Who yields is passed
over, and who is yielded to goes first, both only within a wake-up granularity of whoever is due.

References: Linux 6.1 kernel/sched/fair.c: `sched_slice`, `check_preempt_tick`,
`wakeup_preempt_entity`, `pick_next_entity`, `place_entity` (GENTLE_FAIR_SLEEPERS, START_DEBIT),
`get_update_sysctl_factor`.
"""

from __future__ import annotations

from typing import Final

from vcpud_simulator.entities import Vcpu
from vcpud_simulator.schedulers.fair import FairScheduler
from vcpud_simulator.schedulers.fair_queue import UNIT_WEIGHT, Entity, FairQueue

LATENCY_NS: Final = 6_000_000
"""sysctl_sched_latency before scaling: 24 ms with 8 pCPUs or more."""
MIN_GRANULARITY_NS: Final = 750_000
"""sysctl_sched_min_granularity before scaling: 3 ms."""
WAKEUP_GRANULARITY_NS: Final = 1_000_000
"""sysctl_sched_wakeup_granularity before scaling: 4 ms."""
NR_LATENCY: Final = 8
"""sched_nr_latency: with more than these the period grows instead of the slices shrinking."""


class Cfs(FairScheduler):
    """The completely fair scheduler."""

    name = "cfs"

    def _slice_ns(self, queue: FairQueue, entity: Entity) -> int:
        count = queue.count
        period_ns = LATENCY_NS * self.factor
        if count > NR_LATENCY:
            period_ns = count * MIN_GRANULARITY_NS * self.factor
        share_ns = period_ns * entity.weight // max(1, queue.load)
        return max(share_ns, MIN_GRANULARITY_NS * self.factor)

    def pick_entity(self, queue: FairQueue) -> Entity:
        first = queue.first()
        if first is queue.skipped and len(queue.entities) > 1:
            others = (entity for entity in queue.entities if entity is not first)
            second = min(others, key=lambda entity: entity.vruntime_ns)
            if self._near(first, second):
                return second
        return first

    def fair_to_favour(self, queue: FairQueue, buddy: Entity) -> bool:
        return self._near(queue.first(), buddy)

    def _near(self, first: Entity, other: Entity) -> bool:
        """Whether nobody minds when that one goes before the first."""
        return not self.preempts(other, first)

    def yield_(self, vcpu: Vcpu, now_ns: int) -> None:
        """Whoever is next goes before it, where that is fair (`yield_task_fair`)."""
        self._charge(vcpu.pcpu, now_ns)
        entity: Entity = vcpu.sched
        entity.queue.skipped = entity
        holder = entity.queue.holder
        if holder is not None:
            holder.queue.skipped = holder

    def place(self, queue: FairQueue, entity: Entity, *, initial: bool) -> None:
        floor_ns = queue.min_vruntime_ns
        if initial:
            entity.vruntime_ns = floor_ns
        else:
            floor_ns -= LATENCY_NS * self.factor // 2
            entity.vruntime_ns = max(entity.vruntime_ns, floor_ns)

    def preempts(self, current: Entity, woken: Entity) -> bool:
        granularity_ns = WAKEUP_GRANULARITY_NS * self.factor * UNIT_WEIGHT // woken.weight
        return current.vruntime_ns - woken.vruntime_ns > granularity_ns

    def slice_over(self, queue: FairQueue, current: Entity) -> bool:
        slice_ns = self._slice_ns(queue, current)
        if current.ran_ns > slice_ns:
            return True
        if current.ran_ns < MIN_GRANULARITY_NS * self.factor:
            return False
        return current.vruntime_ns - queue.first().vruntime_ns > slice_ns
