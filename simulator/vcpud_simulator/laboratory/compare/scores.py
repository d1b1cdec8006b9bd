"""From runs to scores: floors, shares of the oracle, and what the comparison as a whole says.

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
TAGGED: Final = ("blind", "stuck")

ByDomain = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded:
    """What one policy did to one scenario under one seed.

    Attributes:
        progress: Of each domain.
        oracle: The oracle's.
        unmanaged: That of the host that nobody manages.
        over_floor: Progress of the whole run over the floor, of domains that have one.
    """

    progress: ByDomain
    oracle: ByDomain
    unmanaged: ByDomain
    over_floor: ByDomain


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One policy on one scenario.

    Attributes:
        raw_over_oracle: Weighted geometric mean of progress over the oracle's, with its interval.
        over_unmanaged: The same over the unmanaged host's.
        worst_domain_over_floor: Of the domain that comes off worst, over seeds.
        worst_domain: Which that is.
        changes: Changes begun, per run.
        harmed: Decisions that harmed, per run.
        examined: Decisions whose counterfactual was run, of all runs together.
        by_domain: Each domain's progress over the oracle's and the unmanaged one's.
        responses_ns: Response times by percentile, by domain, of the first seed.
    """

    raw_over_oracle: Interval
    over_unmanaged: Interval
    worst_domain_over_floor: float
    worst_domain: str
    changes: float
    harmed: float
    examined: int
    by_domain: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    responses_ns: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    @property
    def over_oracle(self) -> float:
        return min(1.0, self.raw_over_oracle.value)

    @property
    def oracle_too_weak(self) -> bool:
        return self.raw_over_oracle.value > TOO_WEAK


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


def score(  # noqa: PLR0913 - all by name
    *,
    seeds: Sequence[Seeded],
    weights: ByDomain,
    changes: float,
    harmed: float,
    examined: int,
    responses_ns: Mapping[str, Mapping[int, int]],
) -> Score:
    """Put the seeds together."""
    shares = {
        name: geometric(one.over_floor[name] for one in seeds)
        for name in seeds[0].progress
        if all(name in one.over_floor for one in seeds)
    }
    worst = min(shares, key=lambda name: shares[name], default="")
    return Score(
        raw_over_oracle=ratio(
            [(weighted(one.progress, one.oracle, weights), 1.0) for one in seeds]
        ),
        over_unmanaged=ratio(
            [(weighted(one.progress, one.unmanaged, weights), 1.0) for one in seeds]
        ),
        worst_domain_over_floor=shares.get(worst, 1.0),
        worst_domain=worst,
        changes=changes,
        harmed=harmed,
        examined=examined,
        by_domain={
            name: (
                geometric(one.progress[name] / one.oracle[name] for one in seeds),
                geometric(one.progress[name] / one.unmanaged[name] for one in seeds),
            )
            for name in seeds[0].progress
        },
        responses_ns=responses_ns,
    )


def geometric(values: Iterable[float]) -> float:
    """Geometric mean; 1 of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else 1.0


def harms(with_it: ByDomain, without: ByDomain, weights: ByDomain, span_s: float) -> bool:
    """Whether a change made the host worse than it would have been without.

    Args:
        with_it: Units of work a second after the change.
        without: The same seed, the same time, without the change.
        weights: How much each domain counts.
        span_s: How long that was.
    """
    share = weighted(with_it, without, weights)
    fewest = min((min(with_it[name], without[name]) for name in with_it), default=0.0) * span_s
    chance = 2.0 * math.sqrt(2.0 / max(fewest, 1.0))
    return share < min(HARM, math.exp(-chance))


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A scenario with its scores.

    Attributes:
        name: The scenario.
        kind: Its class.
        tags: Its tags.
        scheduler: Its scheduler.
        policies: Scores by policy.
        oracle: What the oracle did, for people.
        exhaustive: Whether the oracle tried everything.
    """

    name: str
    kind: str
    tags: tuple[str, ...]
    scheduler: str
    policies: Mapping[str, Score]
    oracle: str
    exhaustive: bool

    @property
    def plain(self) -> bool:
        """Whether nothing hides what is to be seen or stands in the way of acting."""
        return not set(self.tags) & set(TAGGED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One policy over all scenarios.

    Attributes:
        oracle_geomean: Geometric mean of `over_oracle`, scenarios tagged blind or stuck left out.
        oracle_min: Its least, over the same.
        oracle_p5: Its 5th percentile, over all.
        worst_domain_over_floor: The least of all scenarios, tagged ones too.
        floor_p1: Its 1st percentile.
        by_class: Geometric mean of `over_oracle` by class, tagged ones left out.
        changes: Changes a run, on average.
        harmed: Decisions that harmed, of a run, on average.
    """

    oracle_geomean: float
    oracle_min: float
    oracle_p5: float
    worst_domain_over_floor: float
    floor_p1: float
    by_class: Mapping[str, float]
    changes: float
    harmed: float


def summary(cards: Sequence[Card], policy: str) -> Summary:
    """One policy over all scenarios."""
    every = [(card, card.policies[policy]) for card in cards]
    plain = [(card, one) for card, one in every if card.plain] or every
    shares = [one.over_oracle for _, one in plain]
    kinds = dict.fromkeys(card.kind for card, _ in plain)
    return Summary(
        oracle_geomean=geometric(shares),
        oracle_min=min(shares),
        oracle_p5=percentile([one.over_oracle for _, one in every], 0.05),
        worst_domain_over_floor=min(one.worst_domain_over_floor for _, one in every),
        floor_p1=percentile([one.worst_domain_over_floor for _, one in every], 0.01),
        by_class={
            kind: geometric(one.over_oracle for card, one in plain if card.kind == kind)
            for kind in kinds
        },
        changes=sum(one.changes for _, one in every) / len(every),
        harmed=sum(one.harmed for _, one in every) / len(every),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
