"""Gives each guest the vCPUs its pool can keep running, where that is known or shown to help.

Units: amounts of processor are pCPUs, durations ns; gains are ratios of progress minus 1.

Problem
    Guests whose vCPUs wait for each other lose nearly all progress as soon as vCPUs of their pool
    are in excess, whoever owns them; guests that do not wait lose nothing. Which is which, and
    what is lost, nobody says, and it changes. A wrong guess costs a guest that did not need help.

Approach
    Beliefs (`belief`): the prior is that contention costs nothing. Lock waits, and progress that
    falls short of the entitlement, are evidence; verdicts of the judge are proof.
    Allotment (`apportion`): whole vCPUs by weighted marginal gain, so that what the sensitive
    domains and their neighbours keep busy fits the pool; neighbours go to their entitlement,
    never below, and only where that frees a sensitive one.
    Acting (`timing`): only on entitlements that have settled (`situation`), for a predicted gain
    of at least `min_gain`, and with progress seen under the present conditions to judge by. What was
    proven before is done at once. Remainders take turns, at most once per `rotation`.
    Learning (`lessons`): every verdict changes what is believed (`memory`).

References:
    docs/policies.md derives the model. Ideas: dynamic allocation from spin-lock and run-queue
    statistics (G. Southern, 2008), entitlement as the target (vScale, EuroSys 2016; VCPU-Bal,
    APSys 2013), verify and roll back (Linux's steal governor has neither, and needs both).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from vcpud.demand import DomainDemand, HostDemand
from vcpud.model import Uuid
from vcpud.plan import Move, Outlook, Outlooks, Plan, Verdict
from vcpud.units import NS_PER_S
from vcpud_policies import lessons, prospects
from vcpud_policies.apportion import Allotment, allot
from vcpud_policies.belief import Belief
from vcpud_policies.memory import Memory, PoolMemory
from vcpud_policies.proportion import in_proportion
from vcpud_policies.situation import Situation
from vcpud_policies.timing import Timing, Turn


class Round:
    """One pool in one cycle, and what is due there; reckoned when first asked for.

    Attributes:
        seen: The pool.
    """

    def __init__(self, timing: Timing, seen: Situation) -> None:
        self.seen = seen
        self._timing = timing

    @cached_property
    def allotment(self) -> Allotment:
        """The numbers of vCPUs that would be best."""
        best = allot(self.seen.pool.available_pcpus, list(self.seen.claims.values()))
        return in_proportion(self.seen, best)

    @cached_property
    def turn(self) -> Turn:
        """What is due, and what is waited for."""
        turn = Turn(self._timing, self.seen, self.allotment)
        turn.take()
        return turn


Look: TypeAlias = tuple[DomainDemand, Round]
"""What an outlook is written from, when somebody wants it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive:
    """vcpud's own policy.

    Attributes:
        min_gain: Least predicted gain that is worth a change.
        delay_high: Run delay per active vCPU from which a domain counts as contended.
        overcommit_high: Runnable vCPUs per available pCPU from which a pool is overfull.
        settle_ns: How long contention must last before it is acted upon.
        rotation_ns: Least time between two rotations of a pool's remainder.
    """

    min_gain: float = 0.10
    delay_high: float = 0.05
    overcommit_high: float = 1.05
    settle_ns: int = 2 * NS_PER_S
    rotation_ns: int = 120 * NS_PER_S

    def __post_init__(self) -> None:
        if self.min_gain <= 0 or self.delay_high <= 0 or self.overcommit_high < 1:
            raise ValueError("min_gain > 0, delay_high > 0 and overcommit_high >= 1 are required")

    def initial(self) -> Memory:
        return Memory()

    def decide(
        self, state: Memory, demand: HostDemand, verdicts: tuple[Verdict, ...], now_ns: int
    ) -> tuple[Memory, Plan]:
        members: dict[str, list[DomainDemand]] = {}
        for domain in demand.domains:
            members.setdefault(domain.pool, []).append(domain)
        known, sought = lessons.heard(state, demand, verdicts, now_ns)
        timing = Timing(
            min_gain=self.min_gain, settle_ns=self.settle_ns, rotation_ns=self.rotation_ns
        )
        domains: dict[Uuid, Belief] = {}
        pools: dict[str, PoolMemory] = {}
        moves: list[Move] = []
        looked: list[Look] = []
        for pool in demand.pools:
            seen = Situation(
                pool=pool,
                inside=sorted(members.get(pool.name, ()), key=lambda domain: domain.uuid),
                known=known,
                memory=state.pools.get(pool.name)
                or PoolMemory(looked_at_ns=now_ns, rotated_at_ns=now_ns),
                now_ns=now_ns,
                min_gain=self.min_gain,
                delay_high=self.delay_high,
                overcommit_high=self.overcommit_high,
            )
            due = Round(timing, seen)
            if not seen.calm:
                sought |= due.turn.sought
                moves += due.turn.moves
            domains |= seen.believed
            pools[pool.name] = seen.memory
            looked += [(domain, due) for domain in seen.inside]
        after = Memory(
            domains=domains,
            pools=pools,
            sought={uuid: was for uuid, was in sought.items() if uuid in domains},
        )
        return after, Plan(moves=tuple(moves), outlooks=Outlooks(looked, self._outlook))

    def _outlook(self, domain: DomainDemand, due: Round) -> Outlook:
        seen = due.seen
        return prospects.outlook(
            domain,
            seen.believed[domain.uuid],
            seen.claims[domain.uuid],
            due.allotment,
            min_gain=self.min_gain,
            overfull=seen.overfull,
            waits_for=due.turn.waits.get(domain.uuid, ""),
            now_ns=seen.now_ns,
        )
