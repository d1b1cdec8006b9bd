"""From runs to scores: floors, and shares of the oracle.

Seeds are paired: each policy meets the same chance as the unmanaged host and as the oracle.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from vcpud_simulator.laboratory.statistics import Interval, ratio

TOO_WEAK: Final = 1.03
"""A raw share of the oracle above this says that the oracle, not the policy, is at fault."""
HARM: Final = 0.98
"""A change after which the host's progress is below this share of what it would have been, beyond
what the counts' own chance explains, has harmed."""
FLOOR: Final = 0.97
"""What no domain may be left below, as a share of its floor."""
TAGGED: Final = ("blind", "stuck")
"""Where nothing is claimed of shares of the oracle."""
UNWEIGHTED: Final = "unweighted"
"""Where weight counts per vCPU and cannot be set, so that fewer vCPUs cost share. What is claimed is
claimed there as well; how much of what is missing is missing there is told beside it."""

ByDomain = Mapping[str, float]
Responses = Mapping[str, Mapping[int, float]]
"""Nanoseconds by percentile, by domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded:
    """What one policy did to one scenario under one seed.

    Attributes:
        progress: Of each domain.
        oracle: The oracle's; None where it was not looked for.
        unmanaged: That of the host that nobody manages.
        over_floor: Progress of the whole run over the floor, of domains that have one.
        changes: Changes begun in the window in which all are compared.
        busiest: Changes of each domain in its busiest ten minutes of the whole run, rotations apart.
        final: Active vCPUs at the end, by domain.
        why: Why each is as it is, for people.
    """

    progress: ByDomain
    oracle: ByDomain | None
    unmanaged: ByDomain
    over_floor: ByDomain
    changes: int = 0
    busiest: Mapping[str, int] = field(default_factory=dict)
    final: Mapping[str, int] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainScore:
    """One domain under one policy.

    Attributes:
        over_oracle: Its progress over the oracle's; None where that was not looked for.
        over_unmanaged: And over the unmanaged one's.
        over_floor: Over its floor, the least of all seeds; None for one that has no floor.
        changes: In its busiest ten minutes, rotations apart, the most of all seeds.
        final_vcpus: What it ended on under the first seed; None for one that has left.
        why: Why it did, as that run tells; may be empty.
    """

    over_oracle: float | None
    over_unmanaged: float
    over_floor: float | None = None
    changes: int = 0
    final_vcpus: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One policy on one scenario.

    Attributes:
        raw_over_oracle: Weighted geometric mean of progress over the oracle's, with its interval; None
            where that was not looked for.
        over_unmanaged: The same over the unmanaged host's.
        worst_domain_over_floor: Of the domain that comes off worst under any seed: what one run
            loses another does not make good. Over all seeds where that may have been chance (`doubt`).
        over_floor_at_first: The same before chance was told apart (`doubt`), where it was.
        worst_domain: Which that is.
        floor_interval: Of that domain's share of its floor, over seeds.
        changes: Changes begun, per run.
        changes_in_ten_minutes: Of one domain, rotations apart, at most.
        harmed: Decisions that harmed, per run.
        examined: Decisions whose counterfactual was run, of all runs together.
        by_domain: Each domain.
    """

    raw_over_oracle: Interval | None
    over_unmanaged: Interval
    worst_domain_over_floor: float
    over_floor_at_first: float
    worst_domain: str
    floor_interval: Interval
    changes: float
    changes_in_ten_minutes: int
    harmed: float
    examined: int
    by_domain: Mapping[str, DomainScore] = field(default_factory=dict)

    @property
    def over_oracle(self) -> float | None:
        return None if self.raw_over_oracle is None else min(1.0, self.raw_over_oracle.value)

    @property
    def oracle_too_weak(self) -> bool:
        """Whether it beats the oracle by the oracle's own rules: who takes of others what is theirs may."""
        raw = self.raw_over_oracle
        return raw is not None and raw.value > TOO_WEAK and self.worst_domain_over_floor >= FLOOR


def plain(tags: Iterable[str]) -> bool:
    """Whether nothing hides what is to be seen or stands in the way of acting."""
    return not set(tags) & set(TAGGED)


def floors(unmanaged: ByDomain, run_pcpus: ByDomain, entitled_pcpus: ByDomain) -> dict[str, float]:
    """What no domain may fall below: what it had, or its entitlement's share of that."""
    return {
        name: figure
        * (
            min(1.0, entitled_pcpus.get(name, 0.0) / run_pcpus[name])
            if run_pcpus.get(name, 0.0) > 0
            else 1.0
        )
        for name, figure in unmanaged.items()
    }


def weighted(progress: ByDomain, other: ByDomain, weights: ByDomain) -> float:
    """Weighted geometric mean of one progress over another."""
    names = [name for name in progress if name in other]
    total = sum(weights[name] for name in names)
    if not total:
        return 1.0
    logs = sum(weights[name] * math.log(progress[name] / other[name]) for name in names)
    return math.exp(logs / total)


def score(
    *,
    seeds: Sequence[Seeded],
    weights: ByDomain,
    harmed: float,
    examined: int,
    over_floor: ByDomain | None = None,
) -> Score:
    """Put the seeds together.

    Args:
        seeds: What was done under each.
        weights: How much each domain counts.
        harmed: Decisions that harmed, per run.
        examined: How many were looked at.
        over_floor: What each has of its floor, where that was told apart from chance.
    """
    at_first = _of_floors([one.over_floor for one in seeds], seeds[0].progress)
    shares = at_first
    if over_floor is not None:
        shares = _of_floors([over_floor], seeds[0].progress)
    worst = min(shares, key=lambda name: min(shares[name]), default="")
    measured = [(one, one.oracle) for one in seeds if one.oracle is not None]
    by_domain = {
        name: DomainScore(
            over_oracle=geometric(one.progress[name] / oracle[name] for one, oracle in measured)
            if measured
            else None,
            over_unmanaged=geometric(one.progress[name] / one.unmanaged[name] for one in seeds),
            over_floor=min(shares.get(name, ()), default=None),
            changes=max(one.busiest.get(name, 0) for one in seeds),
            final_vcpus=seeds[0].final.get(name),
            why=seeds[0].why.get(name, ""),
        )
        for name in seeds[0].progress
    }
    return Score(
        raw_over_oracle=ratio(
            [(weighted(one.progress, oracle, weights), 1.0) for one, oracle in measured]
        )
        if measured
        else None,
        over_unmanaged=ratio(
            [(weighted(one.progress, one.unmanaged, weights), 1.0) for one in seeds]
        ),
        worst_domain_over_floor=min(shares.get(worst, (1.0,))),
        over_floor_at_first=min((min(found) for found in at_first.values()), default=1.0),
        worst_domain=worst,
        floor_interval=ratio([(share, 1.0) for share in shares.get(worst, (1.0,))]),
        changes=sum(one.changes for one in seeds) / len(seeds),
        changes_in_ten_minutes=max((one.changes for one in by_domain.values()), default=0),
        harmed=harmed,
        examined=examined,
        by_domain=by_domain,
    )


def _of_floors(seeds: Sequence[ByDomain], names: Iterable[str]) -> dict[str, list[float]]:
    return {
        name: found for name in names if (found := [one[name] for one in seeds if name in one])
    }


def geometric(values: Iterable[float]) -> float:
    """Geometric mean; 1 of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else 1.0


def harms(
    *, with_it: ByDomain, without: ByDomain, floors: ByDomain, weights: ByDomain, span_s: float
) -> bool:
    """Whether a decision made the host worse than it would have been without.

    All of it, or whoever is furthest below its floor: what the others gain does not make good that
    one domain was ruined. A turn that one gives and another takes leaves the worst as it was.

    Args:
        with_it: Units of work a second after the decision.
        without: The same seed, the same time, without the decision.
        floors: What each may not fall below in that time.
        weights: How much each domain counts.
        span_s: How long that was.
    """
    total = sum(weights[name] for name in with_it)
    variance = sum(
        (weights[name] / total) ** 2 * (_variance(one, span_s) + _variance(without[name], span_s))
        for name, one in with_it.items()
    )
    share = weighted(with_it, without, weights)
    if share < HARM and _beyond_chance(share, variance):
        return True
    floored = [name for name in with_it if floors.get(name)]
    if not floored:
        return False
    worst, otherwise = (
        min(floored, key=lambda name: made[name] / floors[name]) for made in (with_it, without)
    )
    left = with_it[worst] / floors[worst]
    loss = left / (without[otherwise] / floors[otherwise])
    variance = _variance(with_it[worst], span_s) + _variance(without[otherwise], span_s)
    return left < FLOOR and loss < HARM and _beyond_chance(loss, variance)


def _variance(rate: float, span_s: float) -> float:
    """Of the logarithm of a rate that so many units were counted of."""
    return 1.0 / max(rate * span_s, 0.5)


def _beyond_chance(share: float, variance: float) -> bool:
    """Whether a share is below one by more than two standard deviations of its logarithm."""
    return math.log(share) < -2.0 * math.sqrt(variance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A scenario with its scores.

    Attributes:
        name: The scenario.
        kind: Its class.
        tags: Its tags.
        scheduler: Its scheduler.
        policies: Scores by policy.
        oracle: What the oracle did, for people; empty where it was not looked for.
        exhaustive: Whether the oracle tried everything.
        constant: Whether the load never changes by itself.
        responses_ns: Response times by percentile, by domain, by policy, of the unmanaged host and of
            the oracle, for domains whose requests come whether they are answered or not.
    """

    name: str
    kind: str
    tags: tuple[str, ...]
    scheduler: str
    policies: Mapping[str, Score]
    oracle: str
    exhaustive: bool
    constant: bool = True
    responses_ns: Mapping[str, Responses] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """Whether nothing hides what is to be seen or stands in the way of acting."""
        return plain(self.tags)
