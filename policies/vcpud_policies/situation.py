"""A pool as `adaptive` sees it in one cycle: what each domain wants, is entitled to and claims.

Units: amounts of processor are pCPUs, durations ns.

Problem
    Host-side figures are smoothed, so after a step they are on their way for ten seconds; use
    alone understates what a domain wants that was shrunk or has to wait.

Approach
    A smoothed figure approaches its new level along an exponential whose end two points tell;
    entitlements are taken from there, and nothing is decided until they have settled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from vcpud.demand import DomainDemand, PoolDemand, water_filled
from vcpud.model import Method, Mode, Trouble, Uuid
from vcpud.rates import SMOOTH_NS
from vcpud.swift import maker
from vcpud.units import NS_PER_S
from vcpud_policies import belief as beliefs
from vcpud_policies import readings
from vcpud_policies.apportion import ROUNDING_PCPUS, Claim
from vcpud_policies.belief import Belief
from vcpud_policies.evidence import LEAST_PCPUS, SATURATED_RATIO
from vcpud_policies.memory import PoolMemory

STEADY_RATIO = 0.05
"""Entitlements that move by less of the pool than this in a cycle have settled."""
STEADY_CYCLES = 2
"""One could be chance: where figures are on their way to is reckoned from two readings, which after a step
lie on either side of it."""
STILL_RATIO = 0.03
"""A figure that moves by less than this share of itself is noise and not on its way anywhere."""


class Situation:
    """One pool in one cycle; lives for one call of `decide`.

    Attributes:
        pool: The pool.
        inside: Its domains, by UUID.
        now_ns: The instant.
        overfull: Whether more vCPUs want to run than there are pCPUs.
        calm: Whether nobody waits for pCPUs that others use, and all have what they came with: nothing
            is to be done about the pool, whatever anybody claims.
        entitled: pCPUs each is entitled to where its figures are on their way to.
        believed: What is believed of each, after this cycle's readings.
        claims: What each claims; reckoned when first asked for.
        memory: Of the pool, after this cycle.
    """

    def __init__(  # noqa: PLR0913 - what a cycle is made of
        self,
        *,
        pool: PoolDemand,
        inside: Sequence[DomainDemand],
        known: Mapping[Uuid, Belief],
        memory: PoolMemory,
        now_ns: int,
        min_gain: float,
        delay_high: float,
        overcommit_high: float,
    ) -> None:
        self.pool = pool
        self.inside = inside
        self.now_ns = now_ns
        self._min_gain = min_gain
        self._delay_high = delay_high
        runnable = {d.uuid: _runnable(d, memory.runnable.get(d.uuid)) for d in inside}
        self._wants = _where_to(inside, runnable, memory, now_ns)
        self.entitled = water_filled(
            pool.available_pcpus,
            [(d.uuid, float(d.weight), self._wants[d.uuid], d.ceiling_pcpus) for d in inside],
        )
        self._elapsed_s = (now_ns - memory.looked_at_ns) / NS_PER_S
        self.memory = _looked(memory, runnable, self.entitled, pool, now_ns)
        # What a ceiling keeps from running is in nobody's way.
        asked = sum(min(runnable[d.uuid], d.ceiling_pcpus) for d in inside)
        self.overfull = asked > overcommit_high * pool.available_pcpus
        # A host on which nothing may be enforced is shown what would be done if it might.
        modes = {domain.mode for domain in inside}
        self._mode = Mode.ENFORCE if Mode.ENFORCE in modes else Mode.OBSERVE
        self._steering = any(domain.hold is Trouble.SELF_MANAGED for domain in inside)
        self.believed = {domain.uuid: self._look(domain, known) for domain in inside}
        self.calm = all(
            belief.contended_since_ns is None and domain.active_vcpus >= _home(belief, domain)
            for domain, belief in zip(inside, self.believed.values(), strict=True)
        )
        self.believed = {
            uuid: _at_rest(belief) if self.calm else self._owed(belief, self.claims[uuid])
            for uuid, belief in self.believed.items()
        }

    @cached_property
    def claims(self) -> Mapping[Uuid, Claim]:
        """By UUID.

        Where contention evidently hurts one, less is needed to believe it of the others. Who is hurt alike,
        but was not seen for as long, would be left out of the move, and two attempts were made where one
        is enough, the first at the expense of the second.
        """
        claims = {
            domain.uuid: self._claim(domain, self.believed[domain.uuid]) for domain in self.inside
        }
        if any(claim.sensitive and claim.evident for claim in claims.values()):
            for domain in self.inside:
                if not claims[domain.uuid].sensitive:
                    belief = self.believed[domain.uuid]
                    claims[domain.uuid] = self._claim(domain, belief, beside=True)
        return claims

    @property
    def settled(self) -> bool:
        """Whether entitlements have."""
        return self.memory.steady_cycles >= STEADY_CYCLES

    @property
    def sensitive(self) -> list[Claim]:
        """Those whom contention hurts."""
        return [claim for claim in self.claims.values() if claim.sensitive]

    @property
    def suffering(self) -> list[Claim]:
        """Those, and who gets too little of its share and cannot be changed now."""
        return [claim for claim in self.claims.values() if claim.suffers]

    def due(self, domain: DomainDemand) -> float | None:
        """Progress a neighbour has a right to: its entitlement, at the worth of its use."""
        window = domain.progress
        if window is None or window.worth_ratio is None:
            return None
        return self.entitled[domain.uuid] * window.worth_ratio

    def _contended(self, domain: DomainDemand) -> bool | None:
        """Whether its vCPUs wait for pCPUs that others use, or for its own ceiling; None while untold."""
        if _capped(domain):
            return True
        delay = domain.run_delay_pcpus
        if delay is None:
            return None
        return self.overfull and delay > self._delay_high * domain.active_vcpus

    def _look(self, domain: DomainDemand, known: Mapping[Uuid, Belief]) -> Belief:
        """What is believed of a domain after this cycle's readings."""
        belief = known.get(domain.uuid) or beliefs.first(domain, min_gain=self._min_gain)
        if domain.hold is not None:
            return belief
        return readings.look(
            belief,
            domain,
            contended=self._contended(domain),
            now_ns=self.now_ns,
            min_gain=self._min_gain,
        )

    def _claim(self, domain: DomainDemand, belief: Belief, *, beside: bool = False) -> Claim:
        movable = (
            domain.hold is None
            and domain.engaged is None
            and domain.mode is self._mode
            and domain.method is not Method.NONE
            and domain.entitled_pcpus is not None
            and domain.used_pcpus is not None
            and domain.run_delay_pcpus is not None
        )
        shrinkable = domain.method not in {Method.GROW_ONLY, Method.NONE}
        cost: float = 0.0
        in_step: bool | None = False
        if shrinkable and not beliefs.barred(belief, domain, self.now_ns):
            cost, in_step = beliefs.believed_cost(belief, domain, beside=beside)
        if cost < self._min_gain:
            cost = 0.0
        made = None
        if domain.progress is not None and beliefs.comparable(belief, domain):
            made = domain.progress.rate_pcpus / max(belief.calm_worth_ratio, LEAST_PCPUS)
        home = _home(belief, domain)
        want = self._wants[domain.uuid]
        if domain.active_vcpus < home and domain.queued_tasks is None and _busy(domain, want):
            # It is entitled to what it was seen to want, but may fill whatever it is given.
            want = min(float(home), domain.ceiling_pcpus)
        return _make_claim(
            domain.uuid,
            float(domain.weight),
            domain.active_vcpus,
            domain.min_vcpus,
            home,
            self.entitled[domain.uuid],
            want,
            cost,
            belief.contended_since_ns is not None,
            domain.used_pcpus or 0.0,
            made,
            in_step,
            beliefs.evident(belief, domain),
            belief.crowded_ratio,
            movable,
            movable
            and shrinkable
            and domain.progress is not None
            and self.now_ns >= belief.lent_not_before_ns,
            domain.ceiling_pcpus,
            self._steering,
        )

    def _owed(self, belief: Belief, claim: Claim) -> Belief:
        """What whole vCPUs leave a sensitive domain short of, as time goes by."""
        owed = 0.0
        if claim.sensitive and claim.active < claim.home:
            owed = belief.owed_pcpu_s + (claim.entitled - claim.active) * self._elapsed_s
        return belief if owed == belief.owed_pcpu_s else replace(belief, owed_pcpu_s=owed)


_make_claim = maker(Claim)
"""One for each domain in each cycle, so they are made the fast way: fields in their order."""


def _home(belief: Belief, domain: DomainDemand) -> int:
    """vCPUs that it came with, as far as it may have them."""
    return min(belief.home_vcpus, max(domain.max_vcpus, domain.active_vcpus))


def _at_rest(belief: Belief) -> Belief:
    """What is believed of one that goes short of nothing."""
    if belief.owed_pcpu_s == 0 and belief.short_since_ns is None:
        return belief
    return replace(belief, owed_pcpu_s=0.0, short_since_ns=None)


def _runnable(domain: DomainDemand, before: float | None) -> float:
    """vCPUs that run or want to, on average; while that is not read what was last, or else all."""
    used, delay, all_vcpus = domain.used_pcpus, domain.run_delay_pcpus, float(domain.active_vcpus)
    if used is None or delay is None:
        return all_vcpus if before is None else min(before, all_vcpus)
    return min(used + delay, all_vcpus)


def _busy(domain: DomainDemand, want: float) -> bool:
    """Whether it has hardly a vCPU to spare."""
    return want > SATURATED_RATIO * domain.active_vcpus


def _capped(domain: DomainDemand) -> bool:
    """Whether its own ceiling stops its vCPUs: schedulers do not all count that as waiting."""
    most, used = domain.most_pcpus, domain.used_pcpus
    return (
        most is not None
        and used is not None
        and domain.active_vcpus > most + ROUNDING_PCPUS
        and used > SATURATED_RATIO * most
    )


def _where_to(
    inside: Sequence[DomainDemand],
    runnable: Mapping[Uuid, float],
    memory: PoolMemory,
    now_ns: int,
) -> dict[Uuid, float]:
    """What each domain wants, where its smoothed figures are on their way to."""
    elapsed_ns = now_ns - memory.looked_at_ns
    ahead = 1 / math.expm1(elapsed_ns / SMOOTH_NS) if elapsed_ns > 0 else 0.0
    wants = {}
    for domain in inside:
        now = runnable[domain.uuid]
        before = memory.runnable.get(domain.uuid, now)
        if abs(now - before) > STILL_RATIO * max(now, 1.0):
            now = min(max(now + ahead * (now - before), 0.0), float(domain.active_vcpus))
        if _busy(domain, now):
            # With a vCPU to spare tasks do not queue for long: the reading is an old one.
            now += domain.queued_tasks or 0.0
        if domain.hold is Trouble.SELF_MANAGED:
            # It holds itself back while time is stolen from it, and takes whatever room it is left.
            now = float(domain.active_vcpus)
        wants[domain.uuid] = min(now, domain.ceiling_pcpus)
    return wants


def _looked(
    memory: PoolMemory,
    runnable: Mapping[Uuid, float],
    entitled: Mapping[Uuid, float],
    pool: PoolDemand,
    now_ns: int,
) -> PoolMemory:
    """The pool's memory after this cycle: whether entitlements have settled."""
    before = memory.entitled
    moved = sum(abs(share - before.get(uuid, 0.0)) for uuid, share in entitled.items())
    moved += sum(share for uuid, share in before.items() if uuid not in entitled)
    steady = moved <= STEADY_RATIO * pool.available_pcpus
    return replace(
        memory,
        runnable=runnable,
        entitled=entitled,
        looked_at_ns=now_ns,
        steady_cycles=memory.steady_cycles + 1 if steady else 0,
    )
