"""Whole vCPUs from fractional entitlements, so that those whom contention hurts fit the pool.

Units: amounts of processor are pCPUs; gains are natural logarithms of a ratio of progress.

Problem
    A pool of P pCPUs runs at most P vCPUs at once. Where more are runnable, some are preempted,
    and a guest whose threads meet at barriers pays nearly the same whether few or many are in
    excess. So the whole numbers must add up to P, entitlements do not come in whole numbers, and
    vCPUs of those who do not care count like any other.

Approach
    Progress of a domain on n vCPUs is min(n, E), divided by 1 + its cost while vCPUs of its pool
    are in excess; a domain on one vCPU has no sibling to wait for and pays nothing but what more
    numerous vCPUs of others were seen to take of its share. One that queues for locks pays by how many
    of its own are in excess of its entitlement: who has no more is preempted least. Sensitive domains start at their
    entitlement rounded to what the host can keep running; neighbours that do not care are, where
    the rest does not fit, brought to their entitlement rounded up, largest saving first. Then
    single vCPUs are given or taken where the weighted sum of log progress gains most or loses
    least, until the sum fits. Where it cannot fit, each sensitive domain takes the best for
    itself of its present number, its share, and one vCPU or its floor. Greedy is exact here where
    each vCPU keeps a whole pCPU busy: the objective is separable and concave in each count, and no
    vCPU is worth more than what is left of an entitlement.
    A ceiling below its vCPUs is a pool of the domain's own, in which they must fit as well.
    Threads that go in step have their turns in rounds: four of them run no faster on three vCPUs
    than on two, so only numbers are considered that are worth more than any smaller one; with
    such steps of several vCPUs greedy is a rule.

References:
    The step penalty follows the rotation law of docs/policies.md, apportionment by marginal gain
    is M. L. Balinski, H. P. Young, "Fair Representation" (1982), with log in place of quotient.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vcpud.model import Uuid

ROUNDING_PCPUS = 0.25
"""A host is never wholly free: 1.9 pCPUs can keep two vCPUs running, most of the time."""
STICKY_PCPUS = 0.05
"""By so much more may what an earlier allotment has left exceed the pool before it is changed: what free
processors and neighbours' wants waver by would take a vCPU and give it back for ever."""
KEPT_RATIO = 0.97
"""No neighbour gets fewer vCPUs than this share of its entitlement."""
FOLLOW_RATIO = 1.02
"""A neighbour is brought to a number of vCPUs that its entitlement exceeds by no more than this, and
kept there until `KEPT_RATIO` says otherwise: what lies between is noise, and moves nobody. No sensitive
domain is given one vCPU more for so little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One domain's claim on its pool.

    Attributes:
        uuid: Whose.
        weight: Relative share.
        active: vCPUs now.
        least: Never fewer.
        home: Never more.
        entitled: pCPUs it is entitled to.
        want: pCPUs it would keep busy if it had them.
        cost: What contention costs it; 0 for one that does not care.
        contended: Whether it suffers contention now.
        used: pCPUs it uses now.
        made: Its progress now over what of its use can be progress, None where not known.
        in_step: Its threads, one for each vCPU it came with, wait for each other: on a number
            that does not divide theirs, some turn is the last one's alone. None where that is not
            told: it is given a number as if they did not, for what that is worth at the least.
        evident: Whether more speaks for its cost than that its progress is next to nothing. Else the
            attempt itself must cost little: it keeps its share, whatever would fit.
        crowded: What of its entitlement one vCPU gets while vCPUs of its pool are in excess.
        movable: It may be changed now.
        lends: It may be brought to its entitlement for the sake of others.
        ceiling: pCPUs its owner lets it use: a pool of its own, in which its vCPUs must fit, too.
        beside_steering: Somebody of the pool manages itself, and loses by what it is not left.
    """

    uuid: Uuid
    weight: float
    active: int
    least: int
    home: int
    entitled: float
    want: float
    cost: float
    contended: bool
    used: float = 0.0
    made: float | None = None
    in_step: bool | None = False
    evident: bool = True
    crowded: float = 1.0
    movable: bool = True
    lends: bool = False
    ceiling: float = math.inf
    beside_steering: bool = False

    @property
    def sensitive(self) -> bool:
        return self.movable and self.cost > 0

    @property
    def suffers(self) -> bool:
        """Whether it is hurt by what others have: though it cannot be changed, they can."""
        return self.sensitive or (self.cost > 0 and self.active == 1 and self.crowded < 1)

    def occupies(self, vcpus: int) -> float:
        """pCPUs it keeps busy or asks for on that many vCPUs."""
        return min(float(vcpus), self.want)

    def worth(self, vcpus: int) -> float:
        """That many vCPUs in ones that are never idle for want of a thread."""
        if not self.in_step or vcpus >= self.home:
            return float(vcpus)
        return self.home / math.ceil(self.home / vcpus)

    def even(self, vcpus: int) -> int:
        """The fewest vCPUs that are worth as many."""
        if not self.in_step or vcpus >= self.home:
            return vcpus
        return math.ceil(self.home / math.ceil(self.home / vcpus))

    def above(self, vcpus: int) -> int:
        """The next larger number that is worth more."""
        more = vcpus + 1
        while self.even(more) != more:
            more += 1
        return more

    def runs(self, vcpus: int) -> float:
        """pCPUs that its work gets on that many vCPUs where nobody is in its way."""
        return max(min(self.worth(vcpus), self.entitled), 1e-3)

    @property
    def most(self) -> int:
        """More vCPUs than this are of no use to it beside others; noise adds none to what it has."""
        above = math.ceil(self.entitled - 1e-9)
        return max(min(above, self.active), math.ceil(self.entitled / FOLLOW_RATIO - 1e-9))

    def progress(self, vcpus: int, *, fits: bool) -> float:
        """Progress on that many vCPUs."""
        runs = self.runs(vcpus)
        if fits:
            return runs
        return runs * self.crowded if vcpus == 1 else runs / (1 + self.cost * self.excess(vcpus))

    def excess(self, vcpus: int) -> float:
        """What of its cost so many vCPUs pay in a pool that is overfull."""
        if self.in_step or self.beside_steering or self.entitled >= self.home:
            return 1.0
        return min(max((vcpus - self.entitled) / (self.home - self.entitled), 0.0), 1.0)

    def uncapped(self, vcpus: int) -> bool:
        """Whether its ceiling never stops one of that many vCPUs."""
        return vcpus <= self.ceiling + ROUNDING_PCPUS

    def gain(self, vcpus: int, *, fits: bool) -> float:
        """Log of progress on that many vCPUs over progress now."""
        if self.in_step is None:
            either = (replace(self, in_step=in_step) for in_step in (False, True))
            return min(claim.gain(vcpus, fits=fits) for claim in either)
        now = self.progress(self.active, fits=not self.contended)
        if self.made is not None and self.contended:
            now = max(now, self.made)
        return math.log(self.progress(vcpus, fits=fits and self.uncapped(vcpus)) / now)

    def loss(self, vcpus: int) -> float:
        """Log of the use it is left with over its use now, for one that does not care; at most 0."""
        left = max(min(float(vcpus), self.entitled), 1e-3)
        return math.log(left / self.used) if vcpus < self.active and self.used > left else 0.0

    @property
    def share(self) -> int:
        """Its entitlement in vCPUs that the host can keep running."""
        return self.within(self.even(max(math.floor(self.entitled + ROUNDING_PCPUS), 1)))

    @property
    def kept(self) -> int:
        """Its entitlement in vCPUs, rounded up but for noise."""
        above = math.ceil(KEPT_RATIO * self.entitled - 1e-9)
        if above < self.active and self.entitled > FOLLOW_RATIO * above:
            above += 1
        return self.within(above)

    @property
    def floor(self) -> int:
        """The fewest that it may be given for its own sake."""
        return self.within(1) if self.evident else min(self.share, self.active)

    def within(self, vcpus: int) -> int:
        return min(max(vcpus, self.least, 1), self.home)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allotment:
    """Numbers of vCPUs for a pool.

    Attributes:
        vcpus: By domain; those that cannot be changed keep theirs.
        fits: What they keep busy does not exceed the pool.
        gain: Weighted sum of log gains, of what neighbours lose of the use they make of what
            others leave too, per weight of those whom contention hurts.
    """

    vcpus: Mapping[Uuid, int]
    fits: bool
    gain: float


def allot(capacity: float, claims: Sequence[Claim]) -> Allotment:
    """The best numbers of vCPUs for a pool, or those it has where they are as good but for noise.

    Args:
        capacity: pCPUs there are for these domains.
        claims: One a domain, in any order.
    """
    found = _best(capacity, claims, ROUNDING_PCPUS)
    allotted = any(c.sensitive and c.active < c.home for c in claims)
    if allotted and any(found.vcpus[c.uuid] < c.active for c in claims):
        kept = _best(capacity, claims, ROUNDING_PCPUS + STICKY_PCPUS)
        if all(kept.vcpus[c.uuid] == c.active for c in claims):
            return kept
    return found


def _best(capacity: float, claims: Sequence[Claim], rounding: float) -> Allotment:
    """The best numbers; `rounding` may be missing of the last pCPU, and is how far wants may exceed."""
    room = math.floor(capacity + rounding)
    hurt = sorted((c for c in claims if c.sensitive), key=lambda c: c.uuid)
    calm = sorted((c for c in claims if not c.sensitive), key=lambda c: c.uuid)
    stuck = [c for c in calm if c.suffers]
    fragile = any(c.cost > 0 for c in claims)
    vcpus = {c.uuid: _calm(c, fragile=fragile) for c in calm}
    if not hurt and not stuck:
        return Allotment(vcpus=vcpus, fits=_busy(calm, vcpus) <= room, gain=0.0)
    shares = {c.uuid: c.share for c in hurt}
    left = room - sum(c.occupies(vcpus[c.uuid]) for c in calm)
    left = _lend(calm, vcpus, left + rounding, _busy(hurt, shares))
    counts = _fit(hurt, shares, left)
    fits = _busy(hurt, counts) <= left
    if not fits:
        counts = {c.uuid: _alone(c, shares[c.uuid]) for c in hurt}
    found = vcpus | counts
    won = _won([*hurt, *stuck], found, fits=fits)
    if fits and any(count > 1 for count in counts.values()):
        lost = sum(c.weight * c.loss(found[c.uuid]) for c in calm)
        weight = sum(c.weight for c in (*hurt, *stuck))
        return Allotment(vcpus=found, fits=True, gain=won + lost / weight)
    # Who has no sibling to wait for needs nothing of others but its share. What they have beyond
    # theirs is not theirs where it is missing there, so that they lose it does not count.
    unspared = _won([*hurt, *stuck], found, fits=False)
    if fits and won > unspared + _TIE:
        return Allotment(vcpus=found, fits=True, gain=won)
    apart = {c.uuid: _calm(c, fragile=False) for c in calm}
    return Allotment(vcpus=apart | counts, fits=False, gain=unspared)


def _won(claims: Sequence[Claim], vcpus: Mapping[Uuid, int], *, fits: bool) -> float:
    """Weighted mean of log gains."""
    won = sum(c.weight * c.gain(vcpus[c.uuid], fits=fits) for c in claims)
    return won / sum(c.weight for c in claims)


_TIE = 1e-9


def _calm(claim: Claim, *, fragile: bool) -> int:
    """What a domain that does not care may have: all, or among fragile ones its entitlement."""
    if not claim.movable:
        return claim.active
    return max(claim.active, claim.kept) if fragile else claim.home


def _busy(claims: Sequence[Claim], vcpus: Mapping[Uuid, int]) -> float:
    return sum(c.occupies(vcpus[c.uuid]) for c in claims)


def _lend(calm: Sequence[Claim], vcpus: dict[Uuid, int], left: float, needed: float) -> float:
    """Bring neighbours to their entitlement until what is needed is left; what is left then."""
    savings = sorted(
        (
            (c.occupies(vcpus[c.uuid]) - c.occupies(c.kept), c)
            for c in calm
            if c.lends and c.movable
        ),
        key=lambda pair: (-pair[0], pair[1].uuid),
    )
    for saving, claim in savings:
        if left >= needed or saving <= 0:
            break
        vcpus[claim.uuid] = claim.kept
        left += saving
    return left


def _fit(hurt: Sequence[Claim], shares: Mapping[Uuid, int], left: float) -> dict[Uuid, int]:
    """Give or take single vCPUs where the weighted sum of log progress gains most, loses least."""
    counts = dict(shares)
    busy = _busy(hurt, counts)
    over = [step for c in hurt if (step := _down(c, counts[c.uuid])) is not None]
    heapq.heapify(over)
    while over and busy > left:
        _, uuid, fewer, claim = heapq.heappop(over)
        busy -= claim.occupies(counts[uuid]) - claim.occupies(fewer)
        counts[uuid] = fewer
        if (step := _down(claim, fewer)) is not None:
            heapq.heappush(over, step)
    under = [step for c in hurt if (step := _up(c, counts[c.uuid])) is not None]
    heapq.heapify(under)
    while under:
        _, uuid, more, claim = heapq.heappop(under)
        grown = claim.occupies(more) - claim.occupies(counts[uuid])
        if more > claim.most or not claim.uncapped(more) or busy + grown > left:
            continue
        busy += grown
        counts[uuid] = more
        if (step := _up(claim, more)) is not None:
            heapq.heappush(under, step)
    return counts


_Step = tuple[float, Uuid, int, Claim]
"""What a step loses, or less what it gains, per vCPU; whose, and to how many. Domains differ, so
claims are never compared."""


def _down(claim: Claim, vcpus: int) -> _Step | None:
    fewer = claim.within(claim.even(vcpus - 1)) if vcpus > 1 else vcpus
    if fewer >= vcpus or fewer < claim.floor:
        return None
    lost = math.log(claim.runs(vcpus) / claim.runs(fewer)) / (vcpus - fewer)
    return claim.weight * lost, claim.uuid, fewer, claim


def _up(claim: Claim, vcpus: int) -> _Step | None:
    more = claim.above(vcpus)
    if more > claim.home:
        return None
    won = math.log(claim.runs(more) / claim.runs(vcpus)) / (more - vcpus)
    return -claim.weight * won, claim.uuid, more, claim


def _alone(claim: Claim, share: int) -> int:
    """The better number for a domain whose pool stays overfull."""
    choices = {claim.active, share, claim.floor}
    return max(sorted(choices), key=lambda n: (claim.progress(n, fits=False), n == claim.active))
