"""What a comparison as a whole says of a policy. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vcpud_simulator.laboratory.compare.scores import Card, geometric


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One policy over all scenarios.

    Attributes:
        oracle_geomean: Geometric mean of `over_oracle`, scenarios tagged blind or stuck left out.
        oracle_min: Its least, over the same.
        oracle_p5: Its 5th percentile, over the same.
        worst_domain_over_floor: The least of all scenarios, tagged ones too.
        floor_p1: Its 1st percentile, over all.
        floor_at_first: The worst before chance was told apart.
        floor_p1_at_first: The percentile then.
        by_class: Geometric mean of `over_oracle` by class, tagged ones left out.
        changes: Changes a run, on average.
        harmed: Decisions that harmed, of a run, on average.
    """

    oracle_geomean: float
    oracle_min: float
    oracle_p5: float
    worst_domain_over_floor: float
    floor_p1: float
    floor_at_first: float
    floor_p1_at_first: float
    by_class: Mapping[str, float]
    changes: float
    harmed: float


def summary(cards: Sequence[Card], policy: str) -> Summary:
    """One policy over all scenarios."""
    every = [(card, card.policies[policy]) for card in cards]
    counted = [(card, one) for card, one in every if card.plain] or every
    shares = [(card.kind, one.over_oracle) for card, one in counted if one.over_oracle is not None]
    all_shares = [share for _, share in shares]
    return Summary(
        oracle_geomean=geometric(all_shares),
        oracle_min=min(all_shares),
        oracle_p5=percentile(all_shares, 0.05),
        worst_domain_over_floor=min(one.worst_domain_over_floor for _, one in every),
        floor_p1=percentile([one.worst_domain_over_floor for _, one in every], 0.01),
        floor_at_first=min(one.over_floor_at_first for _, one in every),
        floor_p1_at_first=percentile([one.over_floor_at_first for _, one in every], 0.01),
        by_class={
            kind: geometric(share for one, share in shares if one == kind)
            for kind in dict.fromkeys(kind for kind, _ in shares)
        },
        changes=sum(one.changes for _, one in every) / len(every),
        harmed=sum(one.harmed for _, one in every) / len(every),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """By linear interpolation between ranks: of two hundred values, the first is just below the third-lowest.

    So that it says whether at most so many in a hundred are below a bound.
    """
    return float(np.percentile(values, 100 * share))
