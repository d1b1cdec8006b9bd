"""What CFS and EEVDF share: queues per pCPU, groups per domain, time, ticks, decisions.

Without groups each vCPU thread is an entity of its domain's weight on its pCPU's queue. With
groups (libvirt gives each domain a cgroup) a domain is an entity on each pCPU where it has runnable
vCPUs; its weight there is the domain's weight times the part of its runnable vCPUs that are there
(`calc_group_shares`), and its vCPUs share what the group gets.

Where vCPUs go is chosen by `fair_placement`. A tick with somebody waiting wakes an idle pCPU, so that
it pulls one. All pCPUs tick at the same instants (`tick_setup_sched_timer` without `skew_tick`). A
domain with a group is kept to its ceiling by `fair_bandwidth`.

References: Linux kernel/sched/fair.c, v6.1 (CFS) and v6.12 (EEVDF); kernel/time/tick-sched.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud_simulator.engine import NEVER
from vcpud_simulator.entities import RUNNABLE, Dispatch, Domain, Pcpu, Vcpu
from vcpud_simulator.schedulers.base import BaseScheduler
from vcpud_simulator.schedulers.fair_bandwidth import PERIOD_NS, Bandwidth
from vcpud_simulator.schedulers.fair_placement import Placement
from vcpud_simulator.schedulers.fair_queue import (
    SHARES_PER_WEIGHT,
    UNIT_WEIGHT,
    Entity,
    FairQueue,
    reweigh,
    threads,
)

if TYPE_CHECKING:
    from vcpud_simulator.host import Host

TICK_NS: Final = 4_000_000
"""CONFIG_HZ 250, as Debian and Ubuntu build it."""
BALANCE_NS: Final = 32_000_000
"""Periodic balancing of a busy pCPU: sd->balance_interval x busy_factor 16, small domain."""
_MAX_SCALED: Final = 8


class FairScheduler(BaseScheduler):
    """Base of CFS and EEVDF.

    Attributes:
        groups: Whether weights count per domain (a cgroup each) rather than per vCPU.
        placement: Chooses where vCPUs go.
        bandwidth: Keeps domains to their ceilings.
    """

    ticks_together = True

    def __init__(
        self,
        *,
        groups: bool = True,
        siblings_apart: bool = False,
        wake_affine: bool = False,
        tick_ns: int = TICK_NS,
    ) -> None:
        super().__init__()
        self.groups = groups
        self.placement = Placement(siblings_apart=siblings_apart, wake_affine=wake_affine)
        self.bandwidth = Bandwidth()
        self.weight_per_domain = self.keeps_caps = groups
        self.accounting_ns = PERIOD_NS if groups else 0
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
        self.host = self.placement.host = host
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
            holder.own = own = FairQueue(holder)
            own.pcpu, own.pool = pcpu, self.bandwidth.pool(domain)
            root.groups[domain] = holder
            self.place(root, holder, initial=False)
            return own
        if holder.own is None:
            raise RuntimeError(f"{domain} has no queue on {pcpu}")
        return holder.own

    # ------------------------------------------------------------------ queues

    def wake(self, vcpu: Vcpu, now_ns: int) -> None:
        pcpu = self.placement.for_woken(vcpu)
        self._enqueue(vcpu, pcpu, now_ns, woken=True)
        if vcpu.sched.queue.throttled:
            return
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

    def _enqueue(self, vcpu: Vcpu, pcpu: Pcpu, now_ns: int, *, woken: bool) -> None:
        self._charge(pcpu, now_ns)
        entity: Entity = vcpu.sched
        queue = self._home(vcpu.domain, pcpu)
        if queue is not entity.queue:
            shift_ns = queue.min_vruntime_ns - entity.queue.min_vruntime_ns
            entity.vruntime_ns += shift_ns
            entity.deadline_ns += shift_ns
            entity.queue = queue
        vcpu.pcpu = pcpu
        if woken:
            self.place(queue, entity, initial=False)
        queue.join(entity)
        self._runnable[vcpu.domain] += 1
        holder = queue.holder
        if (
            holder is not None
            and not (holder.waiting or queue.throttled)
            and holder.queue.current is not holder
        ):
            self.place(holder.queue, holder, initial=False)
            holder.queue.join(holder)
            self._throttle(holder, queue)
        self._reweigh(vcpu.domain)

    def _dequeue(self, vcpu: Vcpu, now_ns: int, *, sleeps: bool) -> None:
        """A waiting vCPU leaves its queue."""
        self._charge(vcpu.pcpu, now_ns)
        entity: Entity = vcpu.sched
        if sleeps:
            self.leaves(entity.queue, entity)
        entity.queue.part(entity)
        self._runnable[vcpu.domain] -= 1
        holder = entity.queue.holder
        if holder is not None and holder.waiting and not entity.queue.count:
            if sleeps:
                self.leaves(holder.queue, holder)
            holder.queue.part(holder)
            self.bandwidth.give_back(entity.queue)
        self._reweigh(vcpu.domain)

    def _reweigh(self, domain: Domain) -> None:
        if self.groups:
            reweigh(domain, self.host.pcpus, self._runnable[domain])

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
            if queue is not None:
                entity = queue.current
                queue.left_ns -= ran_ns if queue.pool is not None else 0

    def tick(self, pcpu: Pcpu, now_ns: int) -> None:
        self._charge(pcpu, now_ns)
        root: FairQueue = pcpu.sched
        queue: FairQueue | None = root
        waiting = over = False
        while queue is not None and queue.current is not None:
            if queue.entities:
                waiting = True
                over = over or self.slice_over(queue, queue.current)
            over = over or self.bandwidth.exhausted(queue)
            queue = queue.current.own
        if over:
            self.host.tickle(pcpu)
        idle_mask = self.host.idle_mask
        if waiting and idle_mask:
            self.host.tickle(self.host.pcpus[(idle_mask & -idle_mask).bit_length() - 1])
        self._release(self.bandwidth.pass_on(), now_ns)
        if now_ns >= root.next_balance_ns:
            root.next_balance_ns = now_ns + BALANCE_NS
            if self._take(self.placement.to_balance(pcpu), pcpu, now_ns):
                self.host.tickle(pcpu)

    def account(self, now_ns: int) -> None:
        self._release(self.bandwidth.begin(), now_ns)

    # ------------------------------------------------------------------ ceilings

    def _throttle(self, holder: Entity, own: FairQueue) -> None:
        """A domain that waits on a pCPU leaves it where it may run no more (`throttle_cfs_rq`)."""
        if self.bandwidth.throttles(own):
            self.leaves(holder.queue, holder)
            holder.queue.part(holder)

    def _release(self, queues: list[FairQueue], now_ns: int) -> None:
        """They are back on their pCPUs, which take them up if they idle (`unthrottle_cfs_rq`)."""
        for queue in queues:
            holder, pcpu = queue.holder, queue.pcpu
            if holder is not None and pcpu is not None and queue.count:
                self._charge(pcpu, now_ns)
                self.place(holder.queue, holder, initial=False)
                holder.queue.join(holder)
                if pcpu.current is None:
                    self.host.tickle(pcpu)

    # ------------------------------------------------------------------ decisions

    def schedule(self, pcpu: Pcpu, now_ns: int) -> Dispatch:
        self._charge(pcpu, now_ns)
        root: FairQueue = pcpu.sched
        current = pcpu.current
        if root.current is not None and current is not None:
            self._put(pcpu, current, stays=current.state <= RUNNABLE)
        if not root.entities:
            self._take(self.placement.to_pull(pcpu, now_ns), pcpu, now_ns)
        if not root.entities:
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
            if entity.own is not None and entity.waiting:
                self._throttle(entity, entity.own)
            elif entity.own is not None:
                self.bandwidth.give_back(entity.own)
        if not stays:
            self._runnable[vcpu.domain] -= 1
            self._reweigh(vcpu.domain)

    def yield_to(self, vcpu: Vcpu, target: Vcpu, now_ns: int) -> bool:
        """It yields, and the target is preferred where it waits (`yield_to_task_fair`)."""
        entity: Entity = target.sched
        if not entity.waiting or entity.queue.throttled:
            return False
        if threads(vcpu.pcpu) == 1 and threads(target.pcpu) == 1:
            return False
        entity.queue.buddy = entity
        holder = entity.queue.holder
        if holder is not None and holder.waiting:
            holder.queue.buddy = holder
        self.yield_(vcpu, now_ns)
        self.host.tickle(target.pcpu)
        return True

    def _take(self, vcpu: Vcpu | None, pcpu: Pcpu, now_ns: int) -> bool:
        """A pCPU takes a vCPU that waits elsewhere; whether there is one to take."""
        if vcpu is None:
            return False
        self._dequeue(vcpu, now_ns, sleeps=False)
        self._enqueue(vcpu, pcpu, now_ns, woken=False)
        return True
