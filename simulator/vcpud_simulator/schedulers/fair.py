"""What CFS and EEVDF share: entities, queues per pCPU, groups per domain, placement, balancing.

Without groups each vCPU thread is an entity of its domain's weight on its pCPU's queue. With
groups (libvirt gives each domain a cgroup) a domain is an entity on each pCPU where it has runnable
vCPUs; its weight there is the domain's weight times the part of its runnable vCPUs that are there
(`calc_group_shares`), and its vCPUs share what the group gets.

A sleeper goes back to where it was if that idles, else to an idle pCPU, else where it was. A pCPU
that runs out of work pulls a waiting vCPU whose caches are cold; a tick with somebody waiting wakes
an idle pCPU to do so; a periodic balance evens out loads, which are sums of weights. All pCPUs tick
at the same instants (`tick_setup_sched_timer` without `skew_tick`). Balance scheduling (Sukwong and
Kim, EuroSys 2011) never puts two siblings on one pCPU's queue, where that can be avoided. Not
modelled: NUMA, caches, PELT's decaying averages (loads are those of the instant), bandwidth control.

References: Linux kernel/sched/fair.c, v6.1 (CFS) and v6.12 (EEVDF); kernel/time/tick-sched.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud_simulator.engine import NEVER
from vcpud_simulator.entities import RUNNABLE, Dispatch, Domain, Pcpu, Vcpu
from vcpud_simulator.schedulers.base import BaseScheduler

if TYPE_CHECKING:
    from vcpud_simulator.host import Host

TICK_NS: Final = 4_000_000
"""CONFIG_HZ 250, as Debian and Ubuntu build it."""
BALANCE_NS: Final = 32_000_000
"""Periodic balancing of a busy pCPU: sd->balance_interval x busy_factor 16, small domain."""
IMBALANCE_PERCENT: Final = 117
"""sd->imbalance_pct of pCPUs that share a cache: a load less than a sixth larger is no reason."""
MIGRATION_COST_NS: Final = 500_000
"""sysctl_sched_migration_cost: who ran so recently is not pulled."""
UNIT_WEIGHT: Final = 1024
"""NICE_0_LOAD: at this weight virtual time is real time."""
SHARES_PER_WEIGHT: Final = 4
"""The simulator's default weight, Xen's 256, is Linux's default, 1024 shares."""
_MAX_SCALED: Final = 8


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
        balance_failures: Times in a row that it found nothing to take (`nr_balance_failed`).
        groups: The domains' entities on the pCPU.
    """

    __slots__ = (
        "balance_failures", "buddy", "current", "entities", "groups", "holder", "load", "min_vruntime_ns",
        "next_balance_ns", "skipped", "updated_ns",
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

    @property
    def count(self) -> int:
        """Entities waiting and running."""
        return len(self.entities) + (self.current is not None)

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


def _vruntime(entity: Entity) -> int:
    return entity.vruntime_ns


class FairScheduler(BaseScheduler):
    """Base of CFS and EEVDF.

    Attributes:
        groups: Whether weights count per domain (a cgroup each) rather than per vCPU.
        siblings_apart: Balance scheduling.
    """

    ticks_together = True

    def __init__(
        self, *, groups: bool = True, siblings_apart: bool = False, tick_ns: int = TICK_NS
    ) -> None:
        super().__init__()
        self.groups = groups
        self.siblings_apart = siblings_apart
        self.weight_per_domain = groups
        self.tick_ns = tick_ns
        self.balance_ns = 2 * tick_ns
        self.factor = 1
        self._runnable: dict[Domain, int] = {}

    # ------------------------------------------------------------------ what differs

    def pick_entity(self, queue: FairQueue) -> Entity:
        """Who of those waiting is next; there is one."""
        raise NotImplementedError

    def fair_to_favour(self, queue: FairQueue, buddy: Entity) -> bool:
        """Whether one of those waiting may go first because somebody wishes it."""
        raise NotImplementedError

    def place(self, queue: FairQueue, entity: Entity, *, initial: bool) -> None:
        """Give an entity that joins a queue its virtual time."""
        raise NotImplementedError

    def leaves(self, queue: FairQueue, entity: Entity) -> None:
        """An entity leaves a queue to sleep."""

    def preempts(self, current: Entity, woken: Entity) -> bool:
        """Whether one that woke goes before the current one."""
        raise NotImplementedError

    def slice_over(self, queue: FairQueue, current: Entity) -> bool:
        """Whether, at a tick, the current one has had its time; others wait."""
        raise NotImplementedError

    # ------------------------------------------------------------------ set-up

    def attach(self, host: Host) -> None:
        self.host = host
        self.factor = min(len(host.pcpus), _MAX_SCALED).bit_length()
        for pcpu in host.pcpus:
            pcpu.sched = FairQueue(None)
            pcpu.sched.next_balance_ns = BALANCE_NS + pcpu.phase_ns

    def insert(self, vcpu: Vcpu, now_ns: int) -> None:  # noqa: ARG002
        self._runnable.setdefault(vcpu.domain, 0)
        queue = self._home(vcpu.domain, vcpu.pcpu)
        entity = Entity(queue, self._weight(vcpu.domain), vcpu)
        vcpu.sched = entity
        self.place(queue, entity, initial=True)

    def adjust(self, domain: Domain, now_ns: int) -> None:
        for pcpu in self.host.pcpus:
            self._charge(pcpu, now_ns)
        for vcpu in domain.vcpus if not self.groups else ():
            entity: Entity = vcpu.sched
            if entity.waiting or entity.queue.current is entity:
                entity.queue.load += self._weight(domain) - entity.weight
            entity.weight = self._weight(domain)
        self._reweigh(domain)

    def _weight(self, domain: Domain) -> int:
        return UNIT_WEIGHT if self.groups else domain.weight * SHARES_PER_WEIGHT

    def _home(self, domain: Domain, pcpu: Pcpu) -> FairQueue:
        """The queue a domain's vCPUs join on a pCPU."""
        root: FairQueue = pcpu.sched
        if not self.groups:
            return root
        holder = root.groups.get(domain)
        if holder is None:
            holder = Entity(root, domain.weight * SHARES_PER_WEIGHT, None)
            holder.own = FairQueue(holder)
            root.groups[domain] = holder
            self.place(root, holder, initial=False)
        own = holder.own
        if own is None:
            raise RuntimeError(f"{domain} has no queue on {pcpu}")
        return own

    # ------------------------------------------------------------------ queues

    def wake(self, vcpu: Vcpu, now_ns: int) -> None:
        pcpu = self.pick(vcpu)
        self._enqueue(vcpu, pcpu, now_ns, woken=True)
        current = pcpu.current
        if current is None or current.state > 0:
            self.host.tickle(pcpu)
            return
        self._charge(pcpu, now_ns)
        theirs: Entity = current.sched
        ours: Entity = vcpu.sched
        if ours.queue is not theirs.queue:
            ours, theirs = ours.queue.holder or ours, theirs.queue.holder or theirs
        if self.preempts(theirs, ours):
            self.host.tickle(pcpu)

    def pick(self, vcpu: Vcpu) -> Pcpu:
        """Where a vCPU that wakes is queued."""
        before, host = vcpu.pcpu, self.host
        if self.siblings_apart:
            return min(host.pcpus, key=lambda p: (self._siblings(vcpu, p), self._crowd(p, before)))
        if not host.idle_mask or host.idle_mask >> before.index & 1:
            return before
        later = host.idle_mask & -(2 << before.index)
        mask = later or host.idle_mask
        return host.pcpus[(mask & -mask).bit_length() - 1]

    @staticmethod
    def _siblings(vcpu: Vcpu, pcpu: Pcpu) -> int:
        return sum(
            other is not vcpu
            and other.pcpu is pcpu
            and (other.sched.waiting or pcpu.current is other)
            for other in vcpu.domain.vcpus
        )

    def _crowd(self, pcpu: Pcpu, before: Pcpu) -> tuple[int, bool]:
        return self._threads(pcpu), pcpu is not before

    @staticmethod
    def _threads(pcpu: Pcpu) -> int:
        root: FairQueue = pcpu.sched
        waiting = sum(
            len(entity.own.entities) if entity.own is not None else entity.waiting
            for entity in (root.groups.values() if root.groups else root.entities)
        )
        return waiting + (pcpu.current is not None)

    def _enqueue(self, vcpu: Vcpu, pcpu: Pcpu, now_ns: int, *, woken: bool) -> None:
        self._charge(pcpu, now_ns)
        entity: Entity = vcpu.sched
        queue = self._home(vcpu.domain, pcpu)
        if queue is not entity.queue:
            if not woken:
                entity.vruntime_ns += queue.min_vruntime_ns - entity.queue.min_vruntime_ns
                entity.deadline_ns += queue.min_vruntime_ns - entity.queue.min_vruntime_ns
            elif entity.queue is not queue:
                shift_ns = queue.min_vruntime_ns - entity.queue.min_vruntime_ns
                entity.vruntime_ns += shift_ns
                entity.deadline_ns += shift_ns
            entity.queue = queue
        vcpu.pcpu = pcpu
        if woken:
            self.place(queue, entity, initial=False)
        self._join(queue, entity)
        self._runnable[vcpu.domain] += 1
        holder = queue.holder
        if holder is not None and not holder.waiting and holder.queue.current is not holder:
            self.place(holder.queue, holder, initial=False)
            self._join(holder.queue, holder)
        self._reweigh(vcpu.domain)

    @staticmethod
    def _join(queue: FairQueue, entity: Entity) -> None:
        queue.entities.append(entity)
        queue.load += entity.weight
        entity.waiting = True

    def _dequeue(self, vcpu: Vcpu, now_ns: int, *, sleeps: bool) -> None:
        """A waiting vCPU leaves its queue."""
        self._charge(vcpu.pcpu, now_ns)
        entity: Entity = vcpu.sched
        self._part(entity, sleeps=sleeps)
        self._runnable[vcpu.domain] -= 1
        holder = entity.queue.holder
        if holder is not None and not entity.queue.count:
            self._part(holder, sleeps=sleeps)
        self._reweigh(vcpu.domain)

    def _part(self, entity: Entity, *, sleeps: bool) -> None:
        queue = entity.queue
        if sleeps:
            self.leaves(queue, entity)
        queue.entities.remove(entity)
        queue.load -= entity.weight
        entity.waiting = False
        queue.forget_wishes(entity)

    def _reweigh(self, domain: Domain) -> None:
        """A group's weight on each pCPU follows where its runnable vCPUs are."""
        if not self.groups:
            return
        total = self._runnable[domain]
        for pcpu in self.host.pcpus:
            holder: Entity | None = pcpu.sched.groups.get(domain)
            if holder is None or holder.own is None:
                continue
            here = holder.own.count
            weight = holder.weight
            if total and here:
                weight = max(2, domain.weight * SHARES_PER_WEIGHT * here // total)
            if holder.waiting or holder.queue.current is holder:
                holder.queue.load += weight - holder.weight
            holder.weight = weight

    def sleep(self, vcpu: Vcpu, now_ns: int) -> None:
        if vcpu.sched.waiting:
            self._dequeue(vcpu, now_ns, sleeps=True)

    # ------------------------------------------------------------------ time

    def _charge(self, pcpu: Pcpu, now_ns: int) -> None:
        """Charge the running entities of a pCPU until now (`update_curr`)."""
        root: FairQueue = pcpu.sched
        ran_ns = now_ns - root.updated_ns
        root.updated_ns = now_ns
        entity = root.current
        if entity is None or ran_ns <= 0:
            return
        queue: FairQueue | None = root
        while queue is not None and entity is not None:
            entity.vruntime_ns += ran_ns * UNIT_WEIGHT // entity.weight
            entity.ran_ns += ran_ns
            queue.settle()
            queue = entity.own
            entity = queue.current if queue is not None else None

    def tick(self, pcpu: Pcpu, now_ns: int) -> None:
        self._charge(pcpu, now_ns)
        root: FairQueue = pcpu.sched
        queue: FairQueue | None = root
        waiting = False
        over = False
        while queue is not None and queue.current is not None:
            if queue.entities:
                waiting = True
                over = over or self.slice_over(queue, queue.current)
            queue = queue.current.own
        if over:
            self.host.tickle(pcpu)
        idle_mask = self.host.idle_mask
        if waiting and idle_mask:
            self.host.tickle(self.host.pcpus[(idle_mask & -idle_mask).bit_length() - 1])
        if now_ns >= root.next_balance_ns:
            root.next_balance_ns = now_ns + BALANCE_NS
            self._balance(pcpu, now_ns)

    # ------------------------------------------------------------------ decisions

    def schedule(self, pcpu: Pcpu, now_ns: int) -> Dispatch:
        self._charge(pcpu, now_ns)
        root: FairQueue = pcpu.sched
        current = pcpu.current
        if root.current is not None and current is not None:
            self._put(pcpu, current, stays=current.state <= RUNNABLE)
        if not root.entities and not self._pull(pcpu, now_ns):
            return None, NEVER
        queue: FairQueue | None = root
        vcpu: Vcpu | None = None
        while queue is not None:
            entity = self.pick_entity(queue)
            if queue.buddy is not None and self.fair_to_favour(queue, queue.buddy):
                entity = queue.buddy
            queue.forget_wishes(entity)
            queue.entities.remove(entity)
            entity.waiting = False
            if entity.vcpu is not current or entity.vcpu is None:
                entity.ran_ns = 0
            queue.current = entity
            vcpu, queue = entity.vcpu, entity.own
        return vcpu, NEVER

    def _put(self, pcpu: Pcpu, vcpu: Vcpu, *, stays: bool) -> None:
        """Whoever ran is queued again, or has gone to sleep."""
        root: FairQueue = pcpu.sched
        chain: list[FairQueue] = [root]
        while chain[-1].current is not None and chain[-1].current.own is not None:
            chain.append(chain[-1].current.own)
        for queue in reversed(chain):
            entity = queue.current
            queue.current = None
            if entity is None:
                continue
            entity.stopped_ns = root.updated_ns
            if stays or (entity.own is not None and entity.own.count):
                queue.entities.append(entity)
                entity.waiting = True
            else:
                self.leaves(queue, entity)
                queue.load -= entity.weight
                queue.forget_wishes(entity)
        if not stays:
            self._runnable[vcpu.domain] -= 1
            self._reweigh(vcpu.domain)

    def yield_to(self, vcpu: Vcpu, target: Vcpu, now_ns: int) -> bool:
        """It yields, and the target is preferred where it waits (`yield_to_task_fair`)."""
        entity: Entity = target.sched
        if not entity.waiting:
            return False
        if self._threads(vcpu.pcpu) == 1 and self._threads(target.pcpu) == 1:
            return False
        entity.queue.buddy = entity
        holder = entity.queue.holder
        if holder is not None and holder.waiting:
            holder.queue.buddy = holder
        self.yield_(vcpu, now_ns)
        self.host.tickle(target.pcpu)
        return True

    # ------------------------------------------------------------------ balancing

    def _pull(self, pcpu: Pcpu, now_ns: int) -> bool:
        """A pCPU without work takes a waiting vCPU from the most crowded one; whether it got one.

        None that ran a moment ago: its caches are warm over there (`task_hot`).
        """
        busiest = max(self.host.pcpus, key=self._threads)
        if busiest is pcpu or self._threads(busiest) < 2:  # noqa: PLR2004 - one runs
            return False
        for vcpu in self._waiting(busiest):
            if now_ns - vcpu.sched.stopped_ns >= MIGRATION_COST_NS:
                self._move(vcpu, pcpu, now_ns)
                return True
        return False

    def _balance(self, pcpu: Pcpu, now_ns: int) -> None:
        """A busy pCPU takes a vCPU from the one with most load (`calculate_imbalance`).

        It takes none whose load is more than what is out of balance, until it has found nothing
        else several times: so nobody shares a pCPU for ever beside one who has his own.
        """
        root: FairQueue = pcpu.sched
        loads = [other.sched.load for other in self.host.pcpus]
        most = max(loads)
        if 100 * most <= IMBALANCE_PERCENT * root.load:
            return
        mean = sum(loads) // len(loads)
        imbalance = min(most - mean, mean - root.load)
        busiest = self.host.pcpus[loads.index(most)]
        for vcpu in self._waiting(busiest):
            if self.siblings_apart and self._siblings(vcpu, pcpu):
                continue
            if self._load(vcpu) >> root.balance_failures <= imbalance:
                root.balance_failures = 0
                self._move(vcpu, pcpu, now_ns)
                self.host.tickle(pcpu)
                return
        root.balance_failures += 1

    def _move(self, vcpu: Vcpu, pcpu: Pcpu, now_ns: int) -> None:
        self._dequeue(vcpu, now_ns, sleeps=False)
        self._enqueue(vcpu, pcpu, now_ns, woken=False)

    @staticmethod
    def _load(vcpu: Vcpu) -> int:
        """Its part of its pCPU's load (`task_h_load`)."""
        entity: Entity = vcpu.sched
        holder = entity.queue.holder
        return entity.weight if holder is None else holder.weight // entity.queue.count

    @staticmethod
    def _waiting(pcpu: Pcpu) -> list[Vcpu]:
        """vCPUs waiting on a pCPU, those that have waited longest first."""
        root: FairQueue = pcpu.sched
        queues = [g.own for g in root.groups.values() if g.own is not None] or [root]
        found = [e.vcpu for queue in queues for e in queue.entities if e.vcpu is not None]
        return sorted(found, key=lambda vcpu: (vcpu.since_ns, vcpu.number))
