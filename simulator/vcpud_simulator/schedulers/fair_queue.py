"""Entities of CFS and EEVDF, and the queues they wait in.

References: `struct sched_entity`, `struct cfs_rq`, Linux kernel/sched/sched.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from vcpud_simulator.entities import Domain, Pcpu, Vcpu

MIGRATION_COST_NS: Final = 500_000
"""sysctl_sched_migration_cost: who ran so recently is not pulled."""
UNIT_WEIGHT: Final = 1024
"""NICE_0_LOAD: at this weight virtual time is real time."""
SHARES_PER_WEIGHT: Final = 4
"""The simulator's default weight, Xen's 256, is Linux's default, 1024 shares."""


class Entity:
    """A vCPU, or a domain on one pCPU.

    Attributes:
        vcpu: The vCPU, None for a domain.
        queue: The queue it is on or belongs to.
        own: The queue of a domain's vCPUs on this pCPU.
        weight: Its share among its neighbours.
        vruntime_ns: Time it ran, in units of UNIT_WEIGHT.
        deadline_ns: Virtual deadline of its request (EEVDF).
        lag_ns: Virtual lag kept while it sleeps (EEVDF).
        ran_ns: Time since it was picked.
        stopped_ns: When it last stopped running.
        waiting: Whether it is queued and not current.
    """

    __slots__ = (
        "deadline_ns", "lag_ns", "own", "queue", "ran_ns", "stopped_ns", "vcpu", "vruntime_ns",
        "waiting", "weight",
    )  # fmt: skip

    def __init__(self, queue: FairQueue, weight: int, vcpu: Vcpu | None) -> None:
        self.queue = queue
        self.vcpu = vcpu
        self.own: FairQueue | None = None
        self.weight = weight
        self.vruntime_ns = 0
        self.deadline_ns = 0
        self.lag_ns = 0
        self.ran_ns = 0
        self.stopped_ns = -MIGRATION_COST_NS
        self.waiting = False


class Pool:
    """What a domain with a ceiling may use (see `fair_bandwidth`).

    Attributes:
        quota_ns: Of each period.
        left_ns: Of this one, not drawn yet.
        throttled: Its queues that may not run, in the order in which they were throttled.
    """

    __slots__ = ("left_ns", "quota_ns", "throttled")

    def __init__(self, quota_ns: int) -> None:
        self.quota_ns = quota_ns
        self.left_ns = quota_ns
        self.throttled: list[FairQueue] = []


class FairQueue:
    """Entities of one pCPU, or of one domain on it.

    Attributes:
        holder: The domain's entity on the pCPU, None for the pCPU's own queue.
        entities: Those waiting.
        current: The one that runs.
        min_vruntime_ns: Never decreases.
        load: Weights of those waiting and running.
        buddy: Preferred until it is picked, by a directed yield, where that is fair (`set_next_buddy`).
        skipped: Who yielded and has not been picked since (CFS, `set_skip_buddy`).
        next_balance_ns: When the pCPU balances next.
        balance_failures: Times in a row that loads were uneven and nobody could be taken
            (`nr_balance_failed`).
        groups: The domains' entities on the pCPU.
        pcpu: Where a domain's queue is.
        pool: What its domain may use, None without a ceiling.
        left_ns: Time drawn from that and not used; below 0, used and not drawn yet.
        throttled: Whether it has to wait for more, so that its holder is not queued.
    """

    __slots__ = (
        "balance_failures", "buddy", "current", "entities", "groups", "holder", "left_ns", "load",
        "min_vruntime_ns", "next_balance_ns", "pcpu", "pool", "skipped", "throttled", "updated_ns",
    )  # fmt: skip

    def __init__(self, holder: Entity | None) -> None:
        self.holder = holder
        self.entities: list[Entity] = []
        self.current: Entity | None = None
        self.min_vruntime_ns = 0
        self.load = 0
        self.buddy: Entity | None = None
        self.skipped: Entity | None = None
        self.next_balance_ns = 0
        self.balance_failures = 0
        self.updated_ns = 0
        self.groups: dict[Domain, Entity] = {}
        self.pcpu: Pcpu | None = None
        self.pool: Pool | None = None
        self.left_ns = 0
        self.throttled = False

    @property
    def count(self) -> int:
        """Entities waiting and running."""
        return len(self.entities) + (self.current is not None)

    def join(self, entity: Entity) -> None:
        """One that has been placed begins to wait."""
        self.entities.append(entity)
        self.load += entity.weight
        entity.waiting = True

    def part(self, entity: Entity) -> None:
        """One that waits leaves."""
        self.entities.remove(entity)
        self.load -= entity.weight
        entity.waiting = False
        self.forget_wishes(entity)

    def first(self) -> Entity:
        """The one with the least virtual run time; there is one. The oldest of equals."""
        return min(self.entities, key=_vruntime)

    def forget_wishes(self, entity: Entity) -> None:
        """It is picked or leaves: neither preferred nor passed over any more (`clear_buddies`)."""
        if self.buddy is entity:
            self.buddy = None
        if self.skipped is entity:
            self.skipped = None

    def settle(self) -> None:
        """Let `min_vruntime_ns` follow."""
        least = self.current.vruntime_ns if self.current is not None else None
        for entity in self.entities:
            if least is None or entity.vruntime_ns < least:
                least = entity.vruntime_ns
        if least is not None and least > self.min_vruntime_ns:
            self.min_vruntime_ns = least


def reweigh(domain: Domain, pcpus: Sequence[Pcpu], runnable: int) -> None:
    """A group's weight on each pCPU follows where its runnable vCPUs are (`calc_group_shares`)."""
    for pcpu in pcpus:
        holder: Entity | None = pcpu.sched.groups.get(domain)
        if holder is None or holder.own is None:
            continue
        here = holder.own.count
        weight = holder.weight
        if runnable and here:
            weight = max(2, domain.weight * SHARES_PER_WEIGHT * here // runnable)
        if holder.waiting or holder.queue.current is holder:
            holder.queue.load += weight - holder.weight
        holder.weight = weight


def throttled(domain: Domain, pcpu: Pcpu) -> bool:
    """Whether a domain's vCPUs may not run on a pCPU (`throttled_lb_pair`)."""
    holder: Entity | None = pcpu.sched.groups.get(domain)
    return holder is not None and holder.own is not None and holder.own.throttled


def threads(pcpu: Pcpu) -> int:
    """vCPUs running and waiting on a pCPU; those that are throttled do neither."""
    root: FairQueue = pcpu.sched
    queued = sum(
        (0 if entity.own.throttled else len(entity.own.entities))
        if entity.own is not None
        else entity.waiting
        for entity in (root.groups.values() if root.groups else root.entities)
    )
    return queued + (pcpu.current is not None)


def waiting(pcpu: Pcpu) -> list[Vcpu]:
    """vCPUs waiting on a pCPU, those that have waited longest first."""
    root: FairQueue = pcpu.sched
    owns = [g.own for g in root.groups.values()]
    queues = [own for own in owns if own is not None and not own.throttled] if owns else [root]
    found = [e.vcpu for queue in queues for e in queue.entities if e.vcpu is not None]
    return sorted(found, key=lambda vcpu: (vcpu.since_ns, vcpu.number))


def siblings(vcpu: Vcpu, pcpu: Pcpu) -> int:
    """Others of its domain that run or wait on a pCPU."""
    return sum(
        other is not vcpu and other.pcpu is pcpu and (other.sched.waiting or pcpu.current is other)
        for other in vcpu.domain.vcpus
    )


def load(vcpu: Vcpu) -> int:
    """A waiting vCPU's part of its pCPU's load (`task_h_load`)."""
    entity: Entity = vcpu.sched
    holder = entity.queue.holder
    return entity.weight if holder is None else holder.weight // entity.queue.count


def _vruntime(entity: Entity) -> int:
    return entity.vruntime_ns
