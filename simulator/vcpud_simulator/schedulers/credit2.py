"""Xen credit2 (default since Xen 4.12): queues shared by pCPUs and sorted by credit; no classes.

Problem: fairness and low latency without the accounting periods and classes of credit.

Approach: credit is time. Who runs burns it, the faster the less its weight; the heaviest of a queue
burns 1 credit a nanosecond. The one with most credit runs, until it has none left or as little as
the next in line. When even the best has none, an epoch ends and all of the queue get 10 ms more,
those that slept as well, but nobody may keep more than 10.5 ms. A vCPU that wakes preempts by
credit alone, and only whoever has had its pCPU for nearly a rate limit; moving to another pCPU
takes 0.5 ms more credit. Weight counts per vCPU.

At most 16 pCPUs share a queue. Between queues load is compared at the end of an epoch, averaged
over a second: a waiting vCPU may stay beside an idle pCPU of another queue for that long. A cap is
a budget refilled every 10 ms; who finds none is parked (co-stopped here, offline in Xen).

Not modelled: SMT, affinity, refills of domains out of step, moves of two vCPUs at a time.

References: Xen c447b7308b (2026-08-18), xen/common/sched/credit2.c; names are its functions'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud_simulator.engine import NEVER
from vcpud_simulator.entities import CO_STOPPED, RUNNABLE, RUNNING, Dispatch, Domain, Pcpu, Vcpu
from vcpud_simulator.schedulers.base import BaseScheduler
from vcpud_simulator.schedulers.credit2_queues import (
    CAP_PERIOD_NS,
    CARRYOVER_MAX_NS,
    CREDIT_INIT_NS,
    CREDIT_MIN_NS,
    LOAD_WINDOW_NS,
    MIGRATE_COMPENSATION_NS,
    MIGRATE_RESIST_NS,
    MIN_TIMER_NS,
    PCPUS_PER_QUEUE,
    RATELIMIT_NS,
    RATELIMIT_TOLERANCE_NS,
    RunQueue,
    Unit,
    best_move,
)

if TYPE_CHECKING:
    from vcpud_simulator.host import Host

_IDLE_CREDIT_NS: Final = CREDIT_MIN_NS - 1


class Credit2(BaseScheduler):
    """The credit2 scheduler.

    Attributes:
        ratelimit_ns: How long a vCPU keeps its pCPU at least; 0 for no such time.
        pcpus_per_queue: pCPUs that share a queue.
        migrate_resist_ns: Credit that a move to another pCPU needs beyond the other's.
    """

    name = "credit2"
    accounting_ns = CAP_PERIOD_NS
    keeps_caps = True

    def __init__(
        self,
        *,
        ratelimit_ns: int = RATELIMIT_NS,
        pcpus_per_queue: int = PCPUS_PER_QUEUE,
        migrate_resist_ns: int = MIGRATE_RESIST_NS,
    ) -> None:
        super().__init__()
        self.ratelimit_ns = ratelimit_ns
        self.pcpus_per_queue = pcpus_per_queue
        self.migrate_resist_ns = migrate_resist_ns
        self._queues: list[RunQueue] = []
        self._budgets: dict[Domain, int] = {}
        self._parked: list[Vcpu] = []

    def attach(self, host: Host) -> None:
        self.host = host
        for first in range(0, len(host.pcpus), self.pcpus_per_queue):
            queue = RunQueue(host.pcpus[first : first + self.pcpus_per_queue])
            self._queues.append(queue)
            for pcpu in queue.pcpus:
                pcpu.sched = queue
        if len(self._queues) > 1:
            self.balance_ns = LOAD_WINDOW_NS

    def insert(self, vcpu: Vcpu, now_ns: int) -> None:  # noqa: ARG002
        queue: RunQueue = vcpu.pcpu.sched
        vcpu.sched = Unit(queue)
        queue.members.append(vcpu)
        queue.weigh()
        if vcpu.domain.cap_pcpus is not None:
            self._budgets[vcpu.domain] = self._full_budget_ns(vcpu.domain)

    def adjust(self, domain: Domain, now_ns: int) -> None:  # noqa: ARG002
        for queue in self._queues:
            queue.weigh()
        if domain.cap_pcpus is None:
            self._budgets.pop(domain, None)
        else:
            self._budgets.setdefault(domain, self._full_budget_ns(domain))

    # ------------------------------------------------------------------ queues

    def wake(self, vcpu: Vcpu, now_ns: int) -> None:
        self._count(vcpu, 1, now_ns)
        vcpu.sched.queue.enqueue(vcpu)
        self._tickle(vcpu, now_ns, None)

    def sleep(self, vcpu: Vcpu, now_ns: int) -> None:
        unit: Unit = vcpu.sched
        if vcpu in unit.queue.waiting:
            unit.queue.waiting.remove(vcpu)
            self._count(vcpu, -1, now_ns)
        elif vcpu in self._parked:
            self._parked.remove(vcpu)

    def yield_(self, vcpu: Vcpu, now_ns: int) -> None:  # noqa: ARG002
        vcpu.sched.yielding = True

    @staticmethod
    def _count(vcpu: Vcpu, by: int, now_ns: int) -> None:
        vcpu.sched.load.change(by, now_ns)
        vcpu.sched.queue.load.change(by, now_ns)

    def _tickle(self, vcpu: Vcpu, now_ns: int, leaving: Pcpu | None) -> None:
        """An idler, best where it was; else whom it outbids, best where it was (`runq_tickle`)."""
        host, unit, home = self.host, vcpu.sched, vcpu.pcpu
        idle_mask = host.idle_mask & unit.queue.mask
        target: Pcpu | None = None
        if idle_mask:
            later = idle_mask & -(1 << home.index)
            mask = later or idle_mask
            target = host.pcpus[(mask & -mask).bit_length() - 1]
        elif home is not leaving and self._score(vcpu, home, now_ns) > 0:
            target = home
        else:
            best = 0
            for pcpu in unit.queue.pcpus:
                if pcpu is not leaving and pcpu is not home:
                    score = self._score(vcpu, pcpu, now_ns)
                    if score > best:
                        best, target = score, pcpu
        if target is not None:
            unit.tickled = target
            host.tickle(target)

    def _score(self, vcpu: Vcpu, pcpu: Pcpu, now_ns: int) -> int:
        """By how much it outbids who runs there (`tickle_score`)."""
        current = pcpu.current
        if current is None or pcpu.pending:
            return -1
        held_ns = now_ns - current.sched.dispatched_ns
        if 0 <= held_ns <= self.ratelimit_ns - RATELIMIT_TOLERANCE_NS:
            return -1
        self._burn(current, now_ns)
        score: int = vcpu.sched.credit_ns - current.sched.credit_ns
        return score if vcpu.pcpu is pcpu else score - self.migrate_resist_ns

    # ------------------------------------------------------------------ decisions

    def schedule(self, pcpu: Pcpu, now_ns: int) -> Dispatch:
        previous = pcpu.current
        current = None if previous is None else self._still_here(previous, now_ns)
        chosen = self._candidate(pcpu, current, now_ns)
        until_ns = NEVER
        if chosen is not None:
            displaced = None if chosen is current else current
            until_ns = now_ns + self._begin(pcpu, chosen, displaced, now_ns)
        if previous is not None and previous is not chosen:
            previous.sched.yielding = False
            self._return_budget(previous)
            if current is not None:
                current.sched.queue.enqueue(current)
                self._tickle(current, now_ns, pcpu)
        return chosen, until_ns

    def _still_here(self, current: Vcpu, now_ns: int) -> Vcpu | None:
        """Who ran, once it has paid, if it may go on."""
        self._burn(current, now_ns)
        if current.state <= RUNNABLE and not self._may_run(current):
            self._park(current)
        if current.state > RUNNABLE:
            self._count(current, -1, now_ns)
            return None
        if current.sched.destination is not None:
            self._move(current, now_ns)
            return None
        return current

    def _begin(self, pcpu: Pcpu, chosen: Vcpu, displaced: Vcpu | None, now_ns: int) -> int:
        """Out of its queue and into its run, perhaps a new epoch; returns for how long."""
        queue: RunQueue = pcpu.sched
        unit: Unit = chosen.sched
        unit.yielding = False
        if pcpu.current is not chosen:
            queue.waiting.remove(chosen)
            unit.dispatched_ns = now_ns
        unit.charged_ns = now_ns
        unit.tickled = None
        best_ns = max(v.sched.credit_ns for v in [chosen, *queue.waiting[:1]])
        if best_ns <= 0:
            self._reset(queue, unit, now_ns)
            self._balance(queue, now_ns)
        if chosen.pcpu is not pcpu:
            unit.credit_ns += MIGRATE_COMPENSATION_NS
            chosen.pcpu = pcpu
        return self._runtime_ns(chosen, displaced, now_ns)

    def _candidate(self, pcpu: Pcpu, current: Vcpu | None, now_ns: int) -> Vcpu | None:
        """Who should run here (`runq_candidate`); it stays in its queue for now."""
        credit_ns, yielding = _IDLE_CREDIT_NS, False
        if current is not None:
            unit: Unit = current.sched
            credit_ns, yielding = unit.credit_ns, unit.yielding
            if not yielding and now_ns - unit.dispatched_ns < self.ratelimit_ns:
                return current
        waiting: list[Vcpu] = pcpu.sched.waiting
        for vcpu in list(waiting):
            other: Unit = vcpu.sched
            if not yielding and other.credit_ns <= credit_ns:
                break
            if other.tickled is not None and other.tickled is not pcpu and other.tickled.pending:
                continue
            if vcpu.pcpu is not pcpu and credit_ns + self.migrate_resist_ns > other.credit_ns:
                continue
            if self._may_run(vcpu):
                return vcpu
            waiting.remove(vcpu)
            self._count(vcpu, -1, now_ns)
            self._park(vcpu)
        return current

    def _runtime_ns(self, vcpu: Vcpu, displaced: Vcpu | None, now_ns: int) -> int:
        """Until its credit is gone or as little as that of the next (`csched2_runtime`)."""
        unit: Unit = vcpu.sched
        queue = unit.queue
        rivals = [*queue.waiting[:1], displaced]
        rival_ns = max((v.sched.credit_ns for v in rivals if v is not None), default=0)
        credit_ns = max(0, unit.credit_ns - max(0, rival_ns))
        time_ns = credit_ns * vcpu.domain.weight // queue.max_weight
        if vcpu.domain in self._budgets:
            time_ns = min(time_ns, unit.budget_ns)
        limited_ns = unit.dispatched_ns + self.ratelimit_ns - now_ns
        return min(max(time_ns, MIN_TIMER_NS, limited_ns), CREDIT_INIT_NS)

    # ------------------------------------------------------------------ credit

    def _burn(self, vcpu: Vcpu, now_ns: int) -> None:
        unit: Unit = vcpu.sched
        ran_ns = now_ns - unit.charged_ns
        unit.charged_ns = now_ns
        burnt_ns, unit.remainder = divmod(
            ran_ns * unit.queue.max_weight + unit.remainder, vcpu.domain.weight
        )
        unit.credit_ns = max(unit.credit_ns - burnt_ns, CREDIT_MIN_NS)
        if vcpu.domain in self._budgets:
            unit.budget_ns -= ran_ns

    def _reset(self, queue: RunQueue, chosen: Unit, now_ns: int) -> None:
        """An epoch ends (`reset_credit`); the order in the queue stays as it is."""
        given_ns = CREDIT_INIT_NS
        if chosen.credit_ns == CREDIT_MIN_NS:
            given_ns += CREDIT_INIT_NS
        for vcpu in queue.members:
            unit: Unit = vcpu.sched
            if vcpu.state == RUNNING and unit is not chosen:
                self._burn(vcpu, now_ns)
            unit.credit_ns = min(unit.credit_ns + given_ns, CREDIT_INIT_NS + CARRYOVER_MAX_NS)

    # ------------------------------------------------------------------ caps

    @staticmethod
    def _full_budget_ns(domain: Domain) -> int:
        return round((domain.cap_pcpus or 0) * CAP_PERIOD_NS)

    def account(self, now_ns: int) -> None:
        """Budgets are refilled, never beyond full; the parked may try again."""
        for domain, left_ns in self._budgets.items():
            full_ns = self._full_budget_ns(domain)
            self._budgets[domain] = min(left_ns + full_ns, full_ns)
        self._unpark(now_ns)

    def _may_run(self, vcpu: Vcpu) -> bool:
        """Draw from the domain's budget if its own is used up (`unit_grab_budget`)."""
        domain, unit = vcpu.domain, vcpu.sched
        left_ns = self._budgets.get(domain)
        if left_ns is None or unit.budget_ns > 0:
            return True
        left_ns += unit.budget_ns
        quota_ns = max(self._full_budget_ns(domain) // len(domain.vcpus), MIN_TIMER_NS)
        unit.budget_ns = max(0, min(left_ns, quota_ns))
        self._budgets[domain] = left_ns - unit.budget_ns
        return bool(unit.budget_ns)

    def _return_budget(self, vcpu: Vcpu) -> None:
        if vcpu.sched.budget_ns > 0 and vcpu.domain in self._budgets:
            self._budgets[vcpu.domain] += vcpu.sched.budget_ns
            vcpu.sched.budget_ns = 0
            self._unpark(self.host.engine.now_ns)

    def _park(self, vcpu: Vcpu) -> None:
        self._parked.append(vcpu)
        self.host.co_stop(vcpu)

    def _unpark(self, now_ns: int) -> None:
        for vcpu in list(self._parked):
            if vcpu.state == CO_STOPPED and self._budgets.get(vcpu.domain, 1) > 0:
                self._parked.remove(vcpu)
                self.host.co_start(vcpu)
                if vcpu.pcpu.current is not vcpu:
                    self.wake(vcpu, now_ns)

    # ------------------------------------------------------------------ between queues

    def _balance(self, here: RunQueue, now_ns: int) -> None:
        """Move the one vCPU that evens out the loads best (`balance_load`)."""
        mover, destination = best_move(here, self._queues, now_ns)
        if mover is None:
            return
        unit: Unit = mover.sched
        unit.destination = destination
        if mover in unit.queue.waiting:
            unit.queue.waiting.remove(mover)
            self._move(mover, now_ns)
        elif mover.pcpu.current is mover:
            self.host.tickle(mover.pcpu)
        elif mover.state != RUNNABLE:
            self._assign(mover)

    def _move(self, vcpu: Vcpu, now_ns: int) -> None:
        """A runnable vCPU that is on no queue goes where it has to."""
        self._count(vcpu, -1, now_ns)
        self._assign(vcpu)
        self._count(vcpu, 1, now_ns)
        vcpu.sched.queue.enqueue(vcpu)
        self._tickle(vcpu, now_ns, None)

    def _assign(self, vcpu: Vcpu) -> None:
        unit: Unit = vcpu.sched
        if unit.destination is not None:
            for queue, sign in ((unit.queue, -1), (unit.destination, 1)):
                queue.load.average += sign * unit.load.average
            unit.queue.members.remove(vcpu)
            unit.queue.weigh()
            unit.queue, unit.destination = unit.destination, None
            unit.queue.members.append(vcpu)
            unit.queue.weigh()
            vcpu.pcpu = unit.queue.pcpus[vcpu.number % len(unit.queue.pcpus)]
