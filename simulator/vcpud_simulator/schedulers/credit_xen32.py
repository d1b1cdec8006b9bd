"""Xen credit as of 3.2 (2008): sampled debit, BOOST, one weight per domain.

Problem: share pCPUs by weight, leave none idle beside waiting work, and answer wake-ups at once.

Approach: every 30 ms credit is handed out by weight; whoever runs at a tick pays a whole tick of
it. Credit decides the class: UNDER (some left) before OVER (none left); a vCPU of class UNDER that
wakes is in class BOOST until it is seen at a tick. Each pCPU has a queue, first come, first served
within a class, and looks into the queues of others only when its own best is OVER or there is
none; it then takes what is of strictly higher class. So a waiting UNDER vCPU is not moved to a
pCPU that has UNDER work of its own: siblings queue behind one another for whole slices.

Known weakness, on purpose: a vCPU that blocks over each tick never pays (claim L12).

Parked vCPUs of capped domains are co-stopped here; Xen calls that offline. Not modelled: affinity,
SMT siblings and sockets, for which alone this `csched_cpu_pick` would move a running vCPU.

References: Xen tag 3.2.0-rc6, xen/common/sched_credit.c. Names of rules are its functions'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud_simulator.engine import NEVER
from vcpud_simulator.entities import (
    BLOCKED,
    CO_STOPPED,
    OFFLINE,
    RUNNABLE,
    Dispatch,
    Domain,
    Pcpu,
    Vcpu,
)
from vcpud_simulator.schedulers.base import BaseScheduler

if TYPE_CHECKING:
    from vcpud_simulator.host import Host

BOOST: Final = 0
"""CSCHED_PRI_TS_BOOST: woken with credit left."""
UNDER: Final = -1
"""CSCHED_PRI_TS_UNDER: has credit left."""
OVER: Final = -2
"""CSCHED_PRI_TS_OVER: has none left."""
IDLE: Final = -64
"""CSCHED_PRI_IDLE: the class of an idle pCPU."""

SLICE_NS: Final = 30_000_000
"""CSCHED_MSECS_PER_TSLICE."""
TICKS_PER_SLICE: Final = 3
"""CSCHED_TICKS_PER_TSLICE, and CSCHED_TICKS_PER_ACCT: accounting is at every third tick."""
CREDITS_PER_TICK: Final = 100
"""CSCHED_CREDITS_PER_TICK: what a vCPU seen at a tick pays, whatever it used."""


class Account:
    """What the scheduler knows of one vCPU.

    Attributes:
        credit: What it may still use.
        priority: Its class.
        active: Whether it earns.
        parked: Whether its domain's cap withholds it.
        charged_ns: Until when it has paid (unused in 3.2).
        remainder: What it ran beyond a whole credit, in credit x ns (unused in 3.2).
        dispatched_ns: When it was last given a pCPU.
        yielding: Whether it yielded and has not run since (unused in 3.2).
        moving: Whether it is on its way to another pCPU (unused in 3.2).
    """

    __slots__ = (
        "active", "charged_ns", "credit", "dispatched_ns", "moving", "parked", "priority",
        "remainder", "yielding",
    )  # fmt: skip

    def __init__(self) -> None:
        self.credit = 0
        self.priority = UNDER
        self.active = False
        self.parked = False
        self.charged_ns = 0
        self.remainder = 0
        self.dispatched_ns = 0
        self.yielding = False
        self.moving = False


class Queue:
    """What the scheduler knows of one pCPU.

    Attributes:
        waiting: vCPUs in the order in which they would run.
        ticks: Ticks so far.
        sorted_at: The accounting after which the queue was last sorted.
        balanced_ns: When it last looked into other queues (unused in 3.2).
    """

    __slots__ = ("balanced_ns", "sorted_at", "ticks", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Vcpu] = []
        self.ticks = 0
        self.sorted_at = 0
        self.balanced_ns = 0


class CreditXen32(BaseScheduler):
    """The credit scheduler of Xen 3.2.

    Attributes:
        slice_ns: Time until the next of the same class gets its turn; ticks come three a slice.
        boosting: Whether wake-ups are boosted; off only to show what that does.
    """

    name = "credit-xen32"
    ticks_when_idle = True  # also an idle pCPU's slice ends, and it looks around again
    weight_per_domain = True
    keeps_caps = True

    def __init__(self, *, slice_ns: int = SLICE_NS, boosting: bool = True) -> None:
        super().__init__()
        self.slice_ns = slice_ns
        self.boosting = boosting
        self.tick_ns = slice_ns // TICKS_PER_SLICE
        self.balance_ns = slice_ns
        self.credits_per_slice = CREDITS_PER_TICK * TICKS_PER_SLICE
        self._active: list[Domain] = []
        self._credit_balance = 0
        self._accountings = 0
        self._others: list[list[Pcpu]] = []
        """For each pCPU all others, beginning with the next."""

    def attach(self, host: Host) -> None:
        self.host = host
        pcpus = host.pcpus
        self._others = [pcpus[i + 1 :] + pcpus[:i] for i in range(len(pcpus))]
        for pcpu in pcpus:
            pcpu.sched = Queue()

    def insert(self, vcpu: Vcpu, now_ns: int) -> None:  # noqa: ARG002
        vcpu.sched = Account()
        if vcpu.domain.sched is None:
            earning: list[Vcpu] = []
            vcpu.domain.sched = earning

    # ------------------------------------------------------------------ queues

    def wake(self, vcpu: Vcpu, now_ns: int) -> None:  # noqa: ARG002
        if vcpu.sched.parked:
            self.host.co_stop(vcpu)
            return
        if vcpu.sched.priority == UNDER and self.boosting:
            vcpu.sched.priority = BOOST
        self._enqueue(vcpu)
        self._tickle(vcpu)

    def sleep(self, vcpu: Vcpu, now_ns: int) -> None:  # noqa: ARG002
        waiting: list[Vcpu] = vcpu.pcpu.sched.waiting
        if vcpu in waiting:
            waiting.remove(vcpu)

    def _enqueue(self, vcpu: Vcpu) -> None:
        """Behind all of its class (`__runq_insert`)."""
        waiting: list[Vcpu] = vcpu.pcpu.sched.waiting
        priority = vcpu.sched.priority
        place = len(waiting)
        for index, other in enumerate(waiting):
            if priority > other.sched.priority:
                place = index
                break
        waiting.insert(place, vcpu)

    def _tickle(self, vcpu: Vcpu) -> None:
        """This pCPU if it is outranked; every idler if this pCPU is busy (`__runq_tickle`)."""
        host = self.host
        pcpu = vcpu.pcpu
        current = pcpu.current
        if vcpu.sched.priority > (IDLE if current is None else current.sched.priority):
            host.tickle(pcpu)
        if current is not None and host.idle_mask:
            for peer in self._others[pcpu.index]:
                if host.idle_mask >> peer.index & 1:
                    host.tickle(peer)

    # ------------------------------------------------------------------ decisions

    def schedule(self, pcpu: Pcpu, now_ns: int) -> Dispatch:
        current = pcpu.current
        if current is not None and current.state <= RUNNABLE:
            self._enqueue(current)
        chosen = self._choose(pcpu, now_ns)
        if chosen is None:
            return None, NEVER
        chosen.sched.dispatched_ns = now_ns
        return chosen, now_ns + self.slice_ns

    def _choose(self, pcpu: Pcpu, now_ns: int) -> Vcpu | None:
        """The head of the queue, or something of strictly higher class from another one."""
        waiting: list[Vcpu] = pcpu.sched.waiting
        best = waiting[0].sched.priority if waiting else IDLE
        if best <= OVER:
            stolen = self._steal(pcpu, best, now_ns)
            if stolen is not None:
                return stolen
        return waiting.pop(0) if waiting else None

    def _steal(self, pcpu: Pcpu, above: int, now_ns: int) -> Vcpu | None:  # noqa: ARG002
        """The first of strictly higher class in the queue of a busy pCPU (`csched_runq_steal`)."""
        for peer in self._others[pcpu.index]:
            if peer.current is not None and peer.sched.waiting:
                vcpu = self._steal_from(peer, above)
                if vcpu is not None:
                    vcpu.pcpu = pcpu
                    return vcpu
        return None

    def _steal_from(self, peer: Pcpu, above: int) -> Vcpu | None:
        waiting: list[Vcpu] = peer.sched.waiting
        return waiting.pop(0) if waiting[0].sched.priority > above else None

    # ------------------------------------------------------------------ credit

    def tick(self, pcpu: Pcpu, now_ns: int) -> None:
        queue: Queue = pcpu.sched
        queue.ticks += 1
        current = pcpu.current
        if current is not None:
            self._charge(current, now_ns)
        elif queue.ticks % TICKS_PER_SLICE == 0 and any(p.sched.waiting for p in self.host.pcpus):
            self.host.tickle(pcpu)
        if pcpu.index == 0 and queue.ticks % TICKS_PER_SLICE == 0:
            self._account()
        self._sort(queue)

    def _charge(self, vcpu: Vcpu, now_ns: int) -> None:  # noqa: ARG002
        """Who runs at a tick pays all of it, is no longer boosted, and earns from now on."""
        account: Account = vcpu.sched
        if account.priority == BOOST:
            account.priority = UNDER
        account.credit -= CREDITS_PER_TICK
        if not account.active:
            self._start_earning(vcpu)

    def _sort(self, queue: Queue) -> None:
        """Once after each accounting: UNDER before OVER, else as before (`csched_runq_sort`)."""
        if queue.sorted_at != self._accountings:
            queue.sorted_at = self._accountings
            queue.waiting.sort(key=lambda vcpu: vcpu.sched.priority < UNDER)

    def _start_earning(self, vcpu: Vcpu) -> None:
        vcpu.sched.active = True
        earning: list[Vcpu] = vcpu.domain.sched
        earning.insert(0, vcpu)
        if len(earning) == 1:
            self._active.insert(0, vcpu.domain)

    def _stop_earning(self, vcpu: Vcpu) -> None:
        """It does not use what it is given."""
        vcpu.sched.active = False
        vcpu.sched.credit = self._kept(vcpu.sched.credit)
        earning: list[Vcpu] = vcpu.domain.sched
        earning.remove(vcpu)
        if not earning:
            self._active.remove(vcpu.domain)

    def _kept(self, credit: int) -> int:  # noqa: ARG002
        """What is left to a vCPU that stops earning."""
        return 0

    def _weight(self, domain: Domain) -> int:
        """The weight of an active domain as a whole."""
        return domain.weight

    def _account(self) -> None:
        """Hand out the credit of one slice of all pCPUs by weight (`csched_acct`).

        A domain gets at most what its earning vCPUs could use in a slice; what is cut off is
        offered to the domains after it. Rounding is upwards, as there.
        """
        weight_total = weight_left = sum(map(self._weight, self._active))
        if weight_total == 0:
            self._credit_balance = 0
            return
        debt = max(0, -self._credit_balance)
        total = self.credits_per_slice * len(self.host.pcpus) + debt
        balance, someone_short = 0, False
        for domain in list(self._active):
            weight, earning = self._weight(domain), len(domain.sched)
            weight_left -= weight
            peak = earning * self.credits_per_slice + _up(debt * weight, weight_total)
            cap = self._cap(domain)
            peak = peak if cap is None else min(peak, cap)
            fair = _up(total * weight, weight_total)
            if fair < peak:
                someone_short = True
            else:
                if weight_left:
                    total += _up((fair - peak) * weight_total, weight_left)
                if someone_short:  # it comes first next time, so that others get its surplus
                    self._active.remove(domain)
                    self._active.insert(0, domain)
                fair = peak
            each = _up(fair, earning)
            floor = None if cap is None else -_up(cap, earning)
            balance += sum(self._earn(vcpu, each, floor) for vcpu in list(domain.sched))
        self._credit_balance = balance
        self._accountings += 1

    def _cap(self, domain: Domain) -> int | None:
        """The most a capped domain may earn at an accounting; caps are whole hundredths."""
        if domain.cap_pcpus is None:
            return None
        return _up(round(domain.cap_pcpus * 100) * self.credits_per_slice, 100)

    def _earn(self, vcpu: Vcpu, credit: int, park_below: int | None) -> int:
        """Give it credit, find its class; returns its credit."""
        account: Account = vcpu.sched
        account.credit += credit
        if account.credit < 0:
            account.priority = OVER
            if park_below is not None and account.credit < park_below and not account.parked:
                self._park(vcpu)
            account.credit = max(account.credit, -self.credits_per_slice)
            return account.credit
        account.priority = UNDER
        if account.parked:
            self._unpark(vcpu)
        if account.credit > self.credits_per_slice:
            self._stop_earning(vcpu)
        return account.credit

    def _park(self, vcpu: Vcpu) -> None:
        vcpu.sched.parked = True
        if vcpu.state not in {BLOCKED, OFFLINE}:
            if vcpu.pcpu.current is not vcpu:
                vcpu.pcpu.sched.waiting.remove(vcpu)
            self.host.co_stop(vcpu)

    def _unpark(self, vcpu: Vcpu) -> None:
        """Back into its queue, without a boost."""
        vcpu.sched.parked = False
        if vcpu.state == CO_STOPPED:
            self.host.co_start(vcpu)
            self._enqueue(vcpu)
            self._tickle(vcpu)


def _up(dividend: int, divisor: int) -> int:
    """Division rounded upwards."""
    return -(-dividend // divisor)
