"""Xen credit as of today: debit to the nanosecond, a rate limit, a yield that works.

Problem: with sampled debit a guest that sleeps over the ticks runs for free; a yield did nothing
when none of the same class waited; wake-ups made for context switches by the thousand; and every
idle pCPU went through all queues again and again.

Approach: credit of 3.2 (see there) with these changes, in the order in which Xen made them:

* credit is burnt for the time that was run, 10 a millisecond (78c9b2a64b, 2009);
* a vCPU that yields goes behind one that has less priority; the next sort undoes it (5fc9f5ef6c,
  2010), and it is not stolen meanwhile;
* more than a slice of credit is halved, not lost, when a vCPU stops earning (c92d5f4e0f, 2010);
* the weight counts for each earning vCPU (3a37d430ce, 2010, Xen 4.1), so that a domain that gives
  up vCPUs gives up its share with them;
* who was dispatched keeps the pCPU for 1 ms unless it blocks or yields (64908a0466, 2012);
* one idler is woken, not all, and then nobody is preempted; who runs before a queue moves to an
  idle pCPU at a tick, unboosted;
* queues are searched at most once a millisecond by each pCPU (58feb9e0ac, 2023), beginning after
  the one where something was found last.

Not modelled: SMT siblings, sockets, nodes, affinity, `vcpu_migration_delay` (0 by default).

References: Xen c447b7308b (2026-08-18), xen/common/sched/credit.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud_simulator.engine import NEVER
from vcpud_simulator.entities import RUNNABLE, Dispatch, Domain, Pcpu, Vcpu
from vcpud_simulator.schedulers.credit_xen32 import (
    BOOST,
    SLICE_NS,
    TICKS_PER_SLICE,
    UNDER,
    Account,
    CreditXen32,
)

if TYPE_CHECKING:
    from vcpud_simulator.host import Host

CREDITS_PER_MS: Final = 10
"""CSCHED_CREDITS_PER_MSEC."""
RATELIMIT_NS: Final = 1_000_000
"""SCHED_DEFAULT_RATELIMIT_US."""
BALANCE_RATELIMIT_NS: Final = 1_000_000
"""CSCHED_DEFAULT_LOAD_BALANCE_RATELIMIT_US."""
_NS_PER_MS: Final = 1_000_000


class Credit(CreditXen32):
    """The credit scheduler of current Xen.

    Attributes:
        ratelimit_ns: How long a vCPU keeps its pCPU at least; 0 switches that off.
        balance_ratelimit_ns: How long a pCPU does not look into other queues again.
    """

    name = "credit"
    ticks_when_idle = False
    weight_per_domain = False

    def __init__(
        self,
        *,
        slice_ns: int = SLICE_NS,
        ratelimit_ns: int = RATELIMIT_NS,
        balance_ratelimit_ns: int = BALANCE_RATELIMIT_NS,
        boosting: bool = True,
    ) -> None:
        super().__init__(slice_ns=slice_ns, boosting=boosting)
        self.ratelimit_ns = ratelimit_ns
        self.balance_ratelimit_ns = balance_ratelimit_ns
        if slice_ns < TICKS_PER_SLICE * _NS_PER_MS:
            self.tick_ns = slice_ns
        self.accounting_ns = slice_ns
        # A running vCPU looks for an idle pCPU from the second tick on after it began to earn.
        self.balance_ns = slice_ns
        self.credits_per_slice = CREDITS_PER_MS * slice_ns // _NS_PER_MS
        self._tickled_last = 0
        self._stolen_last = 0

    def attach(self, host: Host) -> None:
        super().attach(host)
        for pcpu in host.pcpus:
            pcpu.sched.balanced_ns = -NEVER

    # ------------------------------------------------------------------ queues

    def yield_(self, vcpu: Vcpu, now_ns: int) -> None:  # noqa: ARG002
        vcpu.sched.yielding = True

    def _enqueue(self, vcpu: Vcpu) -> None:
        super()._enqueue(vcpu)
        if vcpu.sched.yielding:
            waiting: list[Vcpu] = vcpu.pcpu.sched.waiting
            behind = waiting.index(vcpu) + 1
            if behind < len(waiting):
                waiting[behind - 1], waiting[behind] = waiting[behind], vcpu

    def _tickle(self, vcpu: Vcpu) -> None:
        """An idler if there is one, else this pCPU if it is outranked."""
        host = self.host
        pcpu = vcpu.pcpu
        current = pcpu.current
        if current is None:
            host.tickle(pcpu)
        elif host.idle_mask:
            idler = self._next_idler(self._tickled_last)
            self._tickled_last = idler.index
            host.tickle(idler)
        elif vcpu.sched.priority > current.sched.priority:
            host.tickle(pcpu)

    def _next_idler(self, after: int) -> Pcpu:
        """The first idle pCPU after that one, in a circle; there is one."""
        idle_mask = self.host.idle_mask
        later = idle_mask & -(2 << after)
        mask = later or idle_mask
        return self.host.pcpus[(mask & -mask).bit_length() - 1]

    # ------------------------------------------------------------------ decisions

    def schedule(self, pcpu: Pcpu, now_ns: int) -> Dispatch:
        current = pcpu.current
        if current is not None:
            account: Account = current.sched
            self._burn(account, now_ns)
            if current.state <= RUNNABLE:
                if account.moving:
                    self._move(current)
                else:
                    limited_until_ns = account.dispatched_ns + self.ratelimit_ns
                    if now_ns < limited_until_ns and not account.yielding:
                        return current, limited_until_ns
                    self._enqueue(current)
            else:
                account.moving = account.yielding = False
        chosen = self._choose(pcpu, now_ns)
        if chosen is None:
            return None, NEVER
        account = chosen.sched
        account.yielding = False
        account.charged_ns = now_ns
        if chosen is not current:
            account.dispatched_ns = now_ns
        return chosen, now_ns + self.slice_ns

    def _move(self, vcpu: Vcpu) -> None:
        """To an idle pCPU if there still is one, without a boost (`csched_res_pick`)."""
        vcpu.sched.moving = False
        if self.host.idle_mask:
            vcpu.pcpu = self._next_idler(vcpu.pcpu.index)
            self.host.tickle(vcpu.pcpu)
        self._enqueue(vcpu)

    def _steal(self, pcpu: Pcpu, above: int, now_ns: int) -> Vcpu | None:
        if now_ns - pcpu.sched.balanced_ns <= self.balance_ratelimit_ns:
            return None
        pcpu.sched.balanced_ns = now_ns
        pcpus = self.host.pcpus
        begin = self._stolen_last + 1
        for peer in pcpus[begin:] + pcpus[:begin]:
            if peer is not pcpu and peer.sched.waiting and peer.current is not None:
                vcpu = self._steal_from(peer, above)
                if vcpu is not None:
                    self._stolen_last = peer.index
                    vcpu.pcpu = pcpu
                    return vcpu
        return None

    def _steal_from(self, peer: Pcpu, above: int) -> Vcpu | None:
        waiting: list[Vcpu] = peer.sched.waiting
        for index, vcpu in enumerate(waiting):
            if vcpu.sched.priority <= above:
                return None
            if not vcpu.sched.yielding:
                return waiting.pop(index)
        return None

    # ------------------------------------------------------------------ credit

    def account(self, now_ns: int) -> None:  # noqa: ARG002
        self._account()

    def tick(self, pcpu: Pcpu, now_ns: int) -> None:
        if pcpu.current is not None:
            self._charge(pcpu.current, now_ns)
        self._sort(pcpu.sched)

    def _charge(self, vcpu: Vcpu, now_ns: int) -> None:
        account: Account = vcpu.sched
        if account.priority == BOOST:
            account.priority = UNDER
        self._burn(account, now_ns)
        if not account.active:
            self._start_earning(vcpu)
        elif self.host.idle_mask and vcpu.pcpu.sched.waiting:
            account.moving = True
            self.host.tickle(vcpu.pcpu)

    def _burn(self, account: Account, now_ns: int) -> None:
        """Pay for the time run since it last paid; what is below one credit is kept in mind."""
        owed = (now_ns - account.charged_ns) * CREDITS_PER_MS + account.remainder
        account.charged_ns = now_ns
        account.credit -= owed // _NS_PER_MS
        account.remainder = owed % _NS_PER_MS

    def _kept(self, credit: int) -> int:
        return credit // 2

    def _weight(self, domain: Domain) -> int:
        return domain.weight * len(domain.sched)
