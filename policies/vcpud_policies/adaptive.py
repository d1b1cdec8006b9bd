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
    Acting: only on entitlements that have settled, for a predicted gain above `min_gain`, and
    with progress seen under the present conditions to judge by. All that must fit together is one
    move. What was proven before is done at once and undone only when it harms. vCPUs are given
    back as soon as there is room for them; where that did not last, later each time.
    Remainders: whoever is short of a fraction of a vCPU for long enough takes turns with whoever
    has one beyond, at most once per `rotation`.

References:
    docs/policies.md derives the model. Ideas: dynamic allocation from spin-lock and run-queue
    statistics (G. Southern, 2008), entitlement as the target (vScale, EuroSys 2016; VCPU-Bal,
    APSys 2013), verify and roll back (Linux's steal governor has neither, and needs both).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from vcpud.demand import DomainDemand, HostDemand, PoolDemand, water_filled
from vcpud.model import Method, Mode, Uuid
from vcpud.plan import Move, Outcome, Outlook, Plan, Proof, Resize, Verdict
from vcpud.tracks import SMOOTH_NS
from vcpud.units import NS_PER_S
from vcpud_policies import belief as beliefs
from vcpud_policies import prospects
from vcpud_policies.apportion import Allotment, Claim, allot
from vcpud_policies.belief import Belief

STEADY_RATIO = 0.05
"""Entitlements that move by less of the pool than this in a cycle have settled."""
STEADY_CYCLES = 2
STILL_RATIO = 0.03
"""A figure that moves by less than this share of itself is noise and not on its way anywhere."""
GROW_PATIENCE_NS = 3 * NS_PER_S
GROW_PATIENCE_MAX_NS = 600 * NS_PER_S
IDLE_PATIENCE_NS = 120 * NS_PER_S
"""A guest that could not use more vCPUs now gets them back when there has been room so long."""
SATURATED_RATIO = 0.9
"""A guest that keeps so much of its vCPUs busy could use more."""
WORTH_NS = 20 * NS_PER_S
"""vCPUs given back for less long than this were not worth two changes."""
OWED_RATIO = 0.10
"""Share of an entitlement that must be missing before vCPUs rotate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolMemory:
    """What is remembered of a pool.

    Attributes:
        runnable: vCPUs that ran or wanted to a cycle ago, by domain.
        entitled: Entitlements then.
        looked_at_ns: When that was.
        steady_cycles: Cycles in a row in which they hardly moved.
        patience_ns: How long there must be room before vCPUs are given back.
        grown_at_ns: When vCPUs were last given back.
        rotated_at_ns: When vCPUs last changed hands.
    """

    runnable: Mapping[Uuid, float] = field(default_factory=dict)
    entitled: Mapping[Uuid, float] = field(default_factory=dict)
    looked_at_ns: int = 0
    steady_cycles: int = 0
    patience_ns: int = GROW_PATIENCE_NS
    grown_at_ns: int | None = None
    rotated_at_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The policy's state.

    Attributes:
        domains: What is believed of each.
        pools: What is remembered of each.
        seekers: Domains of moves not yet judged that were made for their own sake: progress before
            it, None where not known, and what contention was believed to cost.
    """

    domains: Mapping[Uuid, Belief] = field(default_factory=dict)
    pools: Mapping[str, PoolMemory] = field(default_factory=dict)
    seekers: Mapping[Uuid, tuple[float | None, float]] = field(default_factory=dict)


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
        known, pools, seekers = _heard(state, demand, verdicts, now_ns)
        domains: dict[Uuid, Belief] = {}
        moves: list[Move] = []
        outlooks: list[Outlook] = []
        for pool in demand.pools:
            turn = _Turn(
                policy=self,
                pool=pool,
                inside=sorted(members.get(pool.name, ()), key=lambda domain: domain.uuid),
                known=known,
                memory=pools.get(pool.name, PoolMemory(looked_at_ns=now_ns)),
                now_ns=now_ns,
            )
            turn.take()
            domains |= turn.believed
            pools[pool.name] = turn.memory
            seekers |= turn.seekers
            moves += turn.moves
            outlooks += turn.outlooks
        after = Memory(
            domains=domains,
            pools={pool.name: pools[pool.name] for pool in demand.pools},
            seekers={uuid: sought for uuid, sought in seekers.items() if uuid in domains},
        )
        return after, Plan(moves=tuple(moves), outlooks=tuple(outlooks))


# ------------------------------------------------------------------------------ one pool


class _Turn:
    """One decision for one pool; lives for one call of `decide`."""

    def __init__(  # noqa: PLR0913 - what a decision is made of
        self,
        *,
        policy: Adaptive,
        pool: PoolDemand,
        inside: list[DomainDemand],
        known: Mapping[Uuid, Belief],
        memory: PoolMemory,
        now_ns: int,
    ) -> None:
        self._policy = policy
        self._pool = pool
        self._inside = inside
        self._now_ns = now_ns
        self.memory = memory
        self.seekers: dict[Uuid, tuple[float | None, float]] = {}
        self.moves: list[Move] = []
        self.outlooks: list[Outlook] = []
        runnable = {domain.uuid: _runnable(domain) for domain in inside}
        self._wants = self._where_to(runnable)
        self._entitled = water_filled(
            pool.available_pcpus,
            [(d.uuid, float(d.weight), self._wants[d.uuid], float(d.max_vcpus)) for d in inside],
        )
        self._look_at_entitlements(runnable)
        self._overfull = sum(runnable.values()) > policy.overcommit_high * pool.available_pcpus
        # A host on which nothing may be enforced is shown what would be done if it might.
        modes = {domain.mode for domain in inside}
        self._mode = Mode.ENFORCE if Mode.ENFORCE in modes else Mode.OBSERVE
        self.believed: dict[Uuid, Belief] = {}
        self._claims: dict[Uuid, Claim] = {}
        for domain in inside:
            belief = known.get(domain.uuid) or Belief(home_vcpus=domain.active_vcpus)
            if domain.hold is None:
                belief = beliefs.look(
                    belief, domain, contended=self._contended(domain), now_ns=now_ns
                )
            self.believed[domain.uuid] = belief
            self._claims[domain.uuid] = self._claim(domain, belief)

    def take(self) -> None:
        """Decide."""
        self._account()
        allotment = allot(self._pool.available_pcpus, list(self._claims.values()))
        changed = [
            domain
            for domain in self._inside
            if allotment.vcpus[domain.uuid] != domain.active_vcpus
        ]
        if any(allotment.vcpus[d.uuid] < d.active_vcpus for d in changed):
            self._bring_together(allotment, changed)
        if not self.moves:
            self._give_back(allotment, changed)
        if not self.moves:
            self._rotate()
        self.outlooks = [
            prospects.outlook(
                domain,
                self.believed[domain.uuid],
                self._claims[domain.uuid],
                allotment,
                min_gain=self._policy.min_gain,
                overfull=self._overfull,
            )
            for domain in self._inside
        ]

    # ---------------------------------------------------------------- what there is

    def _contended(self, domain: DomainDemand) -> bool:
        delay = domain.run_delay_pcpus
        return (
            self._overfull
            and delay is not None
            and delay > self._policy.delay_high * domain.active_vcpus
        )

    def _claim(self, domain: DomainDemand, belief: Belief) -> Claim:
        movable = (
            domain.hold is None
            and domain.engaged is None
            and domain.mode is self._mode
            and domain.method is not Method.NONE
            and domain.entitled_pcpus is not None
            and domain.used_pcpus is not None
        )
        shrinkable = domain.method not in {Method.GROW_ONLY, Method.NONE}
        contended = belief.contended_since_ns is not None
        cost = 0.0
        if shrinkable and self._now_ns >= belief.not_before_ns:
            cost = beliefs.believed_cost(belief, domain)
        if cost < self._policy.min_gain:
            cost = 0.0
        made = None
        if domain.progress is not None and beliefs.comparable(belief, domain):
            made = domain.progress.rate_pcpus / max(belief.calm_worth_ratio, beliefs.LEAST_PCPUS)
        return Claim(
            uuid=domain.uuid,
            weight=float(domain.weight),
            active=domain.active_vcpus,
            least=domain.min_vcpus,
            home=min(belief.home_vcpus, max(domain.max_vcpus, domain.active_vcpus)),
            entitled=self._entitled[domain.uuid],
            want=self._wants[domain.uuid],
            cost=cost,
            contended=contended,
            used=domain.used_pcpus or 0.0,
            made=made,
            movable=movable,
            lends=movable
            and shrinkable
            and domain.progress is not None
            and self._now_ns >= belief.lent_not_before_ns,
        )

    def _where_to(self, runnable: Mapping[Uuid, float]) -> dict[Uuid, float]:
        """What each domain wants, where its smoothed figures are on their way to.

        Host-side figures are smoothed over `SMOOTH_NS`. After a step they approach the new level
        along an exponential, whose end two points tell.
        """
        elapsed_ns = self._now_ns - self.memory.looked_at_ns
        ahead = 1 / math.expm1(elapsed_ns / SMOOTH_NS) if elapsed_ns > 0 else 0.0
        wants = {}
        for domain in self._inside:
            now = runnable[domain.uuid]
            before = self.memory.runnable.get(domain.uuid, now)
            if abs(now - before) > STILL_RATIO * max(now, 1.0):
                now = min(max(now + ahead * (now - before), 0.0), float(domain.active_vcpus))
            if now > SATURATED_RATIO * domain.active_vcpus:
                # With a vCPU to spare tasks do not queue for long: the reading is an old one.
                now += domain.queued_tasks or 0.0
            wants[domain.uuid] = min(now, float(domain.max_vcpus))
        return wants

    def _look_at_entitlements(self, runnable: Mapping[Uuid, float]) -> None:
        """Whether they have settled."""
        before, after = self.memory.entitled, self._entitled
        moved = sum(abs(share - before.get(uuid, 0.0)) for uuid, share in after.items())
        moved += sum(share for uuid, share in before.items() if uuid not in after)
        steady = moved <= STEADY_RATIO * self._pool.available_pcpus
        self._elapsed_s = (self._now_ns - self.memory.looked_at_ns) / NS_PER_S
        self.memory = replace(
            self.memory,
            runnable=runnable,
            entitled=after,
            looked_at_ns=self._now_ns,
            steady_cycles=self.memory.steady_cycles + 1 if steady else 0,
        )

    def _account(self) -> None:
        """What whole vCPUs leave each sensitive domain short of, as time goes by."""
        for domain in self._inside:
            belief = self.believed[domain.uuid]
            claim = self._claims[domain.uuid]
            owed = 0.0
            if claim.sensitive and claim.active < claim.home:
                owed = belief.owed_pcpu_s + (claim.entitled - claim.active) * self._elapsed_s
            if owed != belief.owed_pcpu_s:
                self.believed[domain.uuid] = replace(belief, owed_pcpu_s=owed)

    # ---------------------------------------------------------------- what to do

    def _bring_together(self, allotment: Allotment, changed: list[DomainDemand]) -> None:
        """One move to an allotment that spares the sensitive ones, where it is worth it."""
        hurt = [c for c in self._claims.values() if c.sensitive]
        moving = [c for c in hurt if allotment.vcpus[c.uuid] != c.active or c.contended]
        if (
            not moving
            or self.memory.steady_cycles < STEADY_CYCLES
            or allotment.gain < math.log1p(self._policy.min_gain)
        ):
            return
        seeking = {c.uuid for c in hurt}
        since_ns = [
            since_ns
            for c in hurt
            if (since_ns := self.believed[c.uuid].contended_since_ns) is not None
        ]
        if not since_ns or self._now_ns - min(since_ns) < self._policy.settle_ns:
            return
        proven = all(self.believed[c.uuid].proven for c in hurt if c.contended)
        comparable_from_ns = max(since_ns)
        if not proven and not all(
            d.progress is not None
            and d.progress.began_at_ns >= comparable_from_ns
            and d.progress.active_vcpus == d.active_vcpus
            for d in changed
        ):
            return
        self._propose(
            [(d, allotment.vcpus[d.uuid]) for d in changed],
            prospects.reason(self._pool, [self._claims[d.uuid] for d in changed], allotment),
            proof=Proof.NO_HARM if proven else Proof.GAIN,
            comparable_from_ns=comparable_from_ns,
            seeking=seeking,
        )
        self.memory = replace(self.memory, rotated_at_ns=self._now_ns)
        grown_at_ns = self.memory.grown_at_ns
        if grown_at_ns is not None:
            lasted_ns = self._now_ns - grown_at_ns
            patience_ns = self.memory.patience_ns
            patience_ns = patience_ns * 2 if lasted_ns < WORTH_NS else patience_ns // 2
            self.memory = replace(
                self.memory,
                grown_at_ns=None,
                patience_ns=min(max(patience_ns, GROW_PATIENCE_NS), GROW_PATIENCE_MAX_NS),
            )

    def _give_back(self, allotment: Allotment, changed: list[DomainDemand]) -> None:
        """More vCPUs for whoever has room for them, once that has lasted."""
        growing = {d.uuid: d for d in changed if allotment.vcpus[d.uuid] > d.active_vcpus}
        shrinks = len(growing) < len(changed)
        for uuid, belief in self.believed.items():
            since_ns = (belief.short_since_ns or self._now_ns) if uuid in growing else None
            if since_ns != belief.short_since_ns:
                self.believed[uuid] = replace(belief, short_since_ns=since_ns)
        if self.memory.steady_cycles < STEADY_CYCLES or (shrinks and self._sensitive):
            return
        for uuid, domain in growing.items():
            since_ns, claim = self.believed[uuid].short_since_ns, self._claims[uuid]
            hurried = claim.want > SATURATED_RATIO * claim.active
            patience_ns = self.memory.patience_ns if hurried else IDLE_PATIENCE_NS
            if since_ns is None or self._now_ns - since_ns < patience_ns:
                continue
            self._propose(
                [(domain, allotment.vcpus[uuid])],
                f"there is room: wants {claim.want:.2f} pCPUs, is entitled to "
                f"{claim.entitled:.2f}",
                proof=Proof.NO_HARM if hurried else Proof.NONE,
                comparable_from_ns=None,
                seeking={uuid} if hurried else set(),
            )
            if hurried:
                self.memory = replace(self.memory, grown_at_ns=self._now_ns)

    def _rotate(self) -> None:
        """The vCPU that one has beyond its entitlement goes to the one that is owed most."""
        last_ns = self.memory.rotated_at_ns
        if last_ns is None:
            self.memory = replace(self.memory, rotated_at_ns=self._now_ns)
            return
        if self._now_ns - last_ns < self._policy.rotation_ns:
            return
        hurt = [c for c in self._claims.values() if c.sensitive and not c.contended]
        owed = {c.uuid: self.believed[c.uuid].owed_pcpu_s for c in hurt}
        takers = [
            c
            for c in hurt
            if c.active < c.home
            and c.entitled - c.active > OWED_RATIO * c.entitled
            and owed[c.uuid] > 0
        ]
        givers = [c for c in hurt if c.active > max(c.least, c.entitled) and owed[c.uuid] < 0]
        if not takers or not givers:
            return
        taker = max(takers, key=lambda c: (owed[c.uuid] / c.entitled, c.uuid))
        giver = min(givers, key=lambda c: (owed[c.uuid] / c.entitled, c.uuid))
        by_uuid = {d.uuid: d for d in self._inside}
        self._propose(
            [
                (by_uuid[giver.uuid], giver.active - 1),
                (by_uuid[taker.uuid], taker.active + 1),
            ],
            f"turns: entitled to {taker.entitled:.2f} pCPUs on {taker.active} vCPUs and "
            f"{giver.entitled:.2f} on {giver.active}",
            proof=Proof.SUM,
            comparable_from_ns=None,
            seeking=set(),
        )
        self.memory = replace(self.memory, rotated_at_ns=self._now_ns)

    @property
    def _sensitive(self) -> bool:
        return any(claim.sensitive for claim in self._claims.values())

    def _propose(
        self,
        targets: Iterable[tuple[DomainDemand, int]],
        reason: str,
        *,
        proof: Proof,
        comparable_from_ns: int | None,
        seeking: set[Uuid],
    ) -> None:
        resizes = []
        for domain, vcpus in targets:
            resizes.append(
                Resize(
                    uuid=domain.uuid,
                    from_vcpus=domain.active_vcpus,
                    to_vcpus=vcpus,
                    step_vcpus=abs(vcpus - domain.active_vcpus),
                    due_pcpus=None
                    if domain.uuid in seeking or proof is Proof.SUM
                    else self._due(domain),
                )
            )
            if domain.uuid in seeking:
                rate = None if domain.progress is None else domain.progress.rate_pcpus
                self.seekers[domain.uuid] = rate, self._claims[domain.uuid].cost
        self.moves.append(
            Move(
                resizes=tuple(resizes),
                reason=reason,
                proof=proof,
                comparable_from_ns=comparable_from_ns,
            )
        )

    def _due(self, domain: DomainDemand) -> float | None:
        """Progress a neighbour has a right to: its entitlement, at the worth of its use."""
        window = domain.progress
        if window is None or window.worth_ratio is None:
            return None
        return self._entitled[domain.uuid] * window.worth_ratio


def _runnable(domain: DomainDemand) -> float:
    """vCPUs that run or want to, on average."""
    if domain.used_pcpus is None:
        return float(domain.active_vcpus)
    return min(domain.used_pcpus + (domain.run_delay_pcpus or 0.0), float(domain.active_vcpus))


# ------------------------------------------------------------------------------ verdicts


def _heard(
    state: Memory, demand: HostDemand, verdicts: tuple[Verdict, ...], now_ns: int
) -> tuple[dict[Uuid, Belief], dict[str, PoolMemory], dict[Uuid, tuple[float | None, float]]]:
    """Beliefs and memories after the verdicts since the last decision."""
    known, pools, seekers = dict(state.domains), dict(state.pools), dict(state.seekers)
    domains = {domain.uuid: domain for domain in demand.domains} if verdicts else {}
    for verdict in verdicts:
        if verdict.move.proof is Proof.SUM:
            continue
        for resize in verdict.move.resizes:
            domain, belief = domains.get(resize.uuid), known.get(resize.uuid)
            if domain is None or belief is None:
                continue
            shrunk = resize.to_vcpus < resize.from_vcpus
            if resize.uuid in seekers:
                rate, believed = seekers.pop(resize.uuid)
                window, after = domain.progress, None
                if window is not None and window.active_vcpus == resize.to_vcpus:
                    after = window.rate_pcpus
                cost = max(_measured(resize, domain.entitled_pcpus, rate, after), believed)
                if verdict.outcome is not Outcome.UNKNOWN or not verdict.kept:
                    known[resize.uuid] = beliefs.judged(
                        belief, verdict.outcome, shrunk=shrunk, cost_ratio=cost, now_ns=now_ns
                    )
            elif shrunk:
                harmed = verdict.outcome is Outcome.HARMED
                known[resize.uuid] = beliefs.lent(belief, harmed=harmed, now_ns=now_ns)
    return known, pools, seekers


def _measured(
    resize: Resize, entitled: float | None, before: float | None, after: float | None
) -> float:
    """What contention cost at least, from progress before and after a shrink."""
    if before is None or after is None or entitled is None:
        return 0.0
    was, now = min(float(resize.from_vcpus), entitled), min(float(resize.to_vcpus), entitled)
    return after / max(before, beliefs.LEAST_PCPUS) * was / max(now, beliefs.LEAST_PCPUS) - 1
