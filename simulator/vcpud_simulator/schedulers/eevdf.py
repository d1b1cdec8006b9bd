"""Linux EEVDF (6.6 and later), with and without a group per domain.

Problem: give everybody its weighted share with bounded lag, and latency by request length, without
CFS's heuristics for sleepers.

Approach: the queue's virtual time V is the weighted mean of virtual run times. Who is not ahead of
V is owed service: eligible. Each has a request of one slice with a virtual deadline; of the
eligible, the earliest deadline runs. A tick looks whether the request is served. Who wakes
preempts only if it would be picked and the current one has had its slice or has lost eligibility
(RUN_TO_PARITY). Lag survives sleep (PLACE_LAG), within a bound; a debt is worked off while V moves
on (the effect of DELAY_DEQUEUE with DELAY_ZERO), credit is not spent by sleeping.

Queues and groups are those of `fair`, wake-up placement and balancing those of `fair_placement`. Not
modelled: slices set per task (so PREEMPT_SHORT never applies), buddies other than a directed yield's
(which counts while eligible: PICK_BUDDY, as of Linux 6.14; before, it was ignored), the weight that
a delayed sleeper keeps in V.

References: Linux 6.12 kernel/sched/fair.c: `pick_eevdf`, `entity_eligible`, `update_entity_lag`,
`place_entity`, `update_deadline`; base slice 0.70 ms since 2025-02; Stoica and Abdel-Wahab, TR-95-22
(1995).
"""

from __future__ import annotations

from typing import Final

from vcpud_simulator.entities import Vcpu
from vcpud_simulator.schedulers.fair import TICK_NS, FairScheduler
from vcpud_simulator.schedulers.fair_queue import UNIT_WEIGHT, Entity, FairQueue

BASE_SLICE_NS: Final = 700_000
"""sysctl_sched_base_slice before scaling: 2.8 ms with 8 pCPUs or more."""


class Eevdf(FairScheduler):
    """The earliest eligible virtual deadline first scheduler.

    Attributes:
        base_slice_ns: Length of a request before it grows with the number of pCPUs.
        run_to_parity: Whether a slice once begun is protected from wake-ups.
        place_lag: Whether lag survives sleep.
    """

    name = "eevdf"

    def __init__(  # noqa: PLR0913 - a scheduler has these knobs
        self,
        *,
        groups: bool = True,
        siblings_apart: bool = False,
        wake_affine: bool = False,
        tick_ns: int = TICK_NS,
        base_slice_ns: int = BASE_SLICE_NS,
        run_to_parity: bool = True,
        place_lag: bool = True,
    ) -> None:
        super().__init__(
            groups=groups,
            siblings_apart=siblings_apart,
            wake_affine=wake_affine,
            tick_ns=tick_ns,
        )
        self.base_slice_ns = base_slice_ns
        self.run_to_parity = run_to_parity
        self.place_lag = place_lag

    @property
    def slice_ns(self) -> int:
        """Length of a request on this host."""
        return self.base_slice_ns * self.factor

    # ------------------------------------------------------------------ virtual time

    @staticmethod
    def virtual_time_ns(queue: FairQueue, leaving: Entity | None = None) -> int:
        """V: the mean of virtual run times by weight; one that leaves still counts."""
        base_ns = queue.min_vruntime_ns
        members = [*queue.entities]
        if queue.current is not None:
            members.append(queue.current)
        if leaving is not None and leaving not in members:
            members.append(leaving)
        weight = sum(entity.weight for entity in members)
        if weight == 0:
            return base_ns
        ahead = sum((entity.vruntime_ns - base_ns) * entity.weight for entity in members)
        return base_ns + ahead // weight

    def lag_ns(self, queue: FairQueue, entity: Entity) -> int:
        """What an entity is owed, in virtual time, within its bound (`entity_lag`)."""
        bound_ns = self._virtual_ns(max(2 * self.slice_ns, self.tick_ns), entity)
        lag_ns = self.virtual_time_ns(queue, entity) - entity.vruntime_ns
        return max(-bound_ns, min(bound_ns, lag_ns))

    @staticmethod
    def _virtual_ns(real_ns: int, entity: Entity) -> int:
        return real_ns * UNIT_WEIGHT // entity.weight

    def _renew(self, entity: Entity) -> bool:
        """A served request is followed by the next (`update_deadline`); whether it was."""
        if entity.vruntime_ns < entity.deadline_ns:
            return False
        entity.deadline_ns = entity.vruntime_ns + self._virtual_ns(self.slice_ns, entity)
        return True

    # ------------------------------------------------------------------ hooks of `fair`

    def pick_entity(self, queue: FairQueue) -> Entity:
        """The earliest deadline among those not ahead of V; the oldest of equals."""
        now_ns = self.virtual_time_ns(queue)
        candidates = queue.entities
        if queue.current is not None:
            candidates = [queue.current, *candidates]
        best: Entity | None = None
        for entity in candidates:
            self._renew(entity)
            if entity.vruntime_ns <= now_ns and (
                best is None or entity.deadline_ns < best.deadline_ns
            ):
                best = entity
        return best or queue.first()

    def fair_to_favour(self, queue: FairQueue, buddy: Entity) -> bool:
        return buddy.vruntime_ns <= self.virtual_time_ns(queue)

    def place(self, queue: FairQueue, entity: Entity, *, initial: bool) -> None:
        now_ns = self.virtual_time_ns(queue)
        lag_ns = 0
        if self.place_lag and not initial and queue.load and queue.count:
            lag_ns = entity.lag_ns
            if lag_ns < 0:
                lag_ns = max(lag_ns, min(0, now_ns - entity.vruntime_ns))
            # It moves V by joining; so it must join with more lag than it shall have.
            lag_ns = lag_ns * (queue.load + entity.weight) // queue.load
        entity.vruntime_ns = now_ns - lag_ns
        request_ns = self.slice_ns // 2 if initial else self.slice_ns
        entity.deadline_ns = entity.vruntime_ns + self._virtual_ns(request_ns, entity)

    def leaves(self, queue: FairQueue, entity: Entity) -> None:
        entity.lag_ns = self.lag_ns(queue, entity)

    def preempts(self, current: Entity, woken: Entity) -> bool:
        queue = current.queue
        if self.run_to_parity and current.vruntime_ns < min(
            current.deadline_ns, self.virtual_time_ns(queue) + 1
        ):
            return False
        return self.pick_entity(queue) is woken

    def slice_over(self, queue: FairQueue, current: Entity) -> bool:  # noqa: ARG002
        return self._renew(current)

    def yield_(self, vcpu: Vcpu, now_ns: int) -> None:
        """It gives up what is left of its request (`yield_task_fair`)."""
        self._charge(vcpu.pcpu, now_ns)
        entity: Entity = vcpu.sched
        entity.deadline_ns += self._virtual_ns(self.slice_ns, entity)
