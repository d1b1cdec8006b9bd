"""What a comparison says: as a table, as JSON, and whether it may be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vcpud.status import columns
from vcpud.text import printable
from vcpud.units import NS_PER_MS, NS_PER_S
from vcpud_simulator.laboratory.compare import worst
from vcpud_simulator.laboratory.compare.claims import OWN, Claim, Extent, claims
from vcpud_simulator.laboratory.compare.scores import (
    UNWEIGHTED,
    Card,
    Responses,
    Score,
)
from vcpud_simulator.laboratory.compare.summaries import Summary, summary
from vcpud_simulator.laboratory.compare.verdict import Verdict
from vcpud_simulator.laboratory.statistics import Interval

_TAIL = 99
"""The percentile of response times that a table has room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A finished comparison.

    Attributes:
        cards: Scenarios with their scores.
        policies: Labels in order.
        seeds: Runs of each.
        commit: Of the code.
        wall_s: How long it took.
        spared: Decisions whose counterfactual was not run.
        extent: How much was compared.
    """

    cards: Sequence[Card]
    policies: Sequence[str]
    seeds: int
    commit: str
    wall_s: float
    spared: int = 0
    extent: Extent = Extent.WHOLE

    @property
    def claims(self) -> list[Claim]:
        """What vcpud claims of its own policy, and whether it holds here."""
        return claims(self.cards, self.policies, self.extent)

    @property
    def failed(self) -> list[Claim]:
        """Those that do not hold."""
        return [one for one in self.claims if one.verdict is Verdict.FAILS]

    @property
    def told(self) -> str:
        """Whose worst results are told: vcpud's own policy, or the last one."""
        return OWN if OWN in self.policies else self.policies[-1]

    @property
    def too_weak(self) -> list[tuple[Card, str]]:
        """Where a policy beat the oracle by more than chance: the oracle is at fault."""
        return [
            (card, label)
            for card in self.cards
            for label, one in card.policies.items()
            if one.oracle_too_weak
        ]


def document(comparison: Comparison) -> dict[str, Any]:
    """As JSON; `details` holds what the scores were made of."""
    return {
        "commit": comparison.commit,
        "scenarios": [
            {
                "name": card.name,
                "class": card.kind,
                "tags": list(card.tags),
                "scheduler": card.scheduler,
                "policies": {label: _score(one) for label, one in card.policies.items()},
            }
            for card in comparison.cards
        ],
        "summary": {
            label: _summary(summary(comparison.cards, label)) for label in comparison.policies
        },
        "details": {
            "without_unweighted": {
                label: {
                    "oracle_geomean": _round(one.oracle_geomean),
                    "oracle_min": _round(one.oracle_min),
                    "oracle_p5": _round(one.oracle_p5),
                }
                for label, one in _without_unweighted(comparison).items()
            },
            "seeds": comparison.seeds,
            "wall_s": round(comparison.wall_s, 1),
            "decisions_not_examined": comparison.spared,
            "oracle_too_weak": [
                {"scenario": card.name, "policy": label} for card, label in comparison.too_weak
            ],
            "claims": [
                {
                    "id": one.key,
                    "text": f"{OWN}: {one.text}",
                    "verdict": str(one.verdict),
                    "measured": _round(one.measured),
                    "bound": _round(one.bound),
                    "bound_is": "most" if one.most else "least",
                }
                for one in comparison.claims
            ],
            "worst": {
                "policy": comparison.told,
                "over_oracle": [
                    _bad(one)
                    for one in worst.furthest_from_oracle(comparison.cards, comparison.told)
                ],
                "over_floor": [
                    _bad(one) for one in worst.lowest_floors(comparison.cards, comparison.told)
                ],
            },
            "scenarios": {card.name: _details(card) for card in comparison.cards},
        },
    }


def _without_unweighted(comparison: Comparison) -> dict[str, Summary]:
    """Each policy, where fewer vCPUs cost share left out; nothing where there is no other scenario."""
    cards = [card for card in comparison.cards if UNWEIGHTED not in card.tags]
    return {label: summary(cards, label) for label in comparison.policies if cards}


def _score(one: Score) -> dict[str, float | None]:
    return {
        "over_oracle": _figure(one.over_oracle),
        "over_unmanaged": _round(one.over_unmanaged.value),
        "worst_domain_over_floor": _round(one.worst_domain_over_floor),
        "changes": _round(one.changes),
        "harmed": _round(one.harmed),
    }


def _summary(one: Summary) -> dict[str, Any]:
    return {
        "oracle_geomean": _round(one.oracle_geomean),
        "oracle_min": _round(one.oracle_min),
        "worst_domain_over_floor": _round(one.worst_domain_over_floor),
        "by_class": {kind: _round(value) for kind, value in one.by_class.items()},
        "oracle_p5": _round(one.oracle_p5),
        "worst_domain_over_floor_p1": _round(one.floor_p1),
        "worst_domain_over_floor_p1_at_first": _round(one.floor_p1_at_first),
        "changes": _round(one.changes),
        "harmed": _round(one.harmed),
    }


def _details(card: Card) -> dict[str, Any]:
    return {
        "oracle": card.oracle,
        "oracle_exhaustive": card.exhaustive,
        "policies": {
            label: {
                **_raw(one.raw_over_oracle),
                "over_unmanaged_interval": _ends(one.over_unmanaged),
                "worst_domain": one.worst_domain,
                "worst_domain_over_floor_at_first": _round(one.over_floor_at_first),
                "worst_domain_over_floor_interval": _ends(one.floor_interval),
                "changes_of_a_domain_in_ten_minutes": one.changes_in_ten_minutes,
                "decisions_examined": one.examined,
                "domains": {
                    name: {
                        "over_oracle": _figure(domain.over_oracle),
                        "over_unmanaged": _round(domain.over_unmanaged),
                        "over_floor": _figure(domain.over_floor),
                        "changes_in_ten_minutes": domain.changes,
                        "final_vcpus": domain.final_vcpus,
                    }
                    for name, domain in one.by_domain.items()
                },
            }
            for label, one in card.policies.items()
        },
        "constant_load": card.constant,
        "responses_s": {who: _seconds(found) for who, found in card.responses_ns.items()},
    }


def _raw(share: Interval | None) -> dict[str, Any]:
    return {
        "raw_over_oracle": None if share is None else _round(share.value),
        "raw_over_oracle_interval": None if share is None else _ends(share),
    }


def _seconds(responses: Responses) -> dict[str, dict[str, float]]:
    return {
        name: {str(percent): _round(at_ns / NS_PER_S) for percent, at_ns in times.items()}
        for name, times in responses.items()
    }


def _bad(one: worst.Bad) -> dict[str, Any]:
    return {
        "share": _round(one.share),
        "scenario": one.scenario,
        "domain": one.domain,
        "cause": one.cause,
    }


def _ends(interval: Interval) -> list[float | None]:
    return [None if end is None else _round(end) for end in interval.pair()]


def _figure(value: float | None) -> float | None:
    return None if value is None else _round(value)


def _round(value: float) -> float:
    return float(f"{value:.5g}")


# ------------------------------------------------------------------------------- for people


def text(comparison: Comparison) -> str:
    """For a terminal."""
    lines = [
        (
            "Share of the oracle's progress (1 is as good as knowing the future), and of the floor of the "
            "domain that comes off worst."
        ),
        "",
        *columns(_scenario_rows(comparison)),
        "",
        *columns(_summary_rows(comparison)),
        "",
        *_response_lines(comparison.cards),
        f"Where {comparison.told} is furthest from the oracle:",
        *worst.lines(
            worst.furthest_from_oracle(comparison.cards, comparison.told), comparison.cards
        ),
        f"Where {comparison.told} leaves somebody nearest to the floor, or below:",
        *worst.lines(worst.lowest_floors(comparison.cards, comparison.told), comparison.cards),
        "",
        *(
            f"{one.verdict.shown}  {OWN}: {one.text}: {one.measured:.3f}, "
            f"at {'most' if one.most else 'least'} {one.bound:.3f}"
            for one in comparison.claims
        ),
    ]
    if comparison.spared:
        lines.append(
            f"{comparison.spared} decisions were not taken out again; the harm of the others "
            "stands for theirs."
        )
    lines += [
        f"ORACLE TOO WEAK: {printable(card.name)}: {label} reached {raw.value:.3f} of it"
        for card, label in comparison.too_weak
        if (raw := card.policies[label].raw_over_oracle)
    ]
    return "\n".join(lines)


def _scenario_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("SCENARIO", "CLASS", "SCHEDULER", *comparison.policies)]
    for card in comparison.cards:
        name = printable(card.name.removeprefix("compare_"), 40)
        marks = "".join(f" [{printable(tag)}]" for tag in card.tags if tag != "quick")
        cells = [_cell(card.policies[label]) for label in comparison.policies]
        rows.append((f"{name}{marks}", card.kind, card.scheduler, *cells))
    return rows


def _cell(one: Score) -> str:
    """Share of the oracle, half the width of its interval, and the worst domain's share."""
    floor = f"{one.worst_domain_over_floor:.2f}"
    if one.raw_over_oracle is None:
        return f"-/{floor}"
    low, high = one.raw_over_oracle.low, one.raw_over_oracle.high
    error = f"±{(high - low) / 2:.2f}" if math.isfinite(high - low) and high < 99 else ""  # noqa: PLR2004
    return f"{one.over_oracle:.2f}{error}/{floor}"


def _summary_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    totals = {label: summary(comparison.cards, label) for label in comparison.policies}
    kinds = dict.fromkeys(card.kind for card in comparison.cards)
    rows: list[tuple[str, ...]] = [("SUMMARY", *comparison.policies)]
    figures: list[tuple[str, list[float]]] = [
        ("oracle, geometric mean", [one.oracle_geomean for one in totals.values()]),
        ("oracle, least", [one.oracle_min for one in totals.values()]),
        ("oracle, 5th percentile", [one.oracle_p5 for one in totals.values()]),
        *_unweighted_figures(comparison),
        ("worst domain over floor", [one.worst_domain_over_floor for one in totals.values()]),
        *((kind, [one.by_class.get(kind, math.nan) for one in totals.values()]) for kind in kinds),
        ("changes a run", [one.changes for one in totals.values()]),
        ("of them harmed", [one.harmed for one in totals.values()]),
    ]
    rows += [
        (name, *("-" if math.isnan(value) else f"{value:.3f}" for value in values))
        for name, values in figures
    ]
    return rows


def _unweighted_figures(comparison: Comparison) -> list[tuple[str, list[float]]]:
    """The figures of the oracle once more, where that makes a difference."""
    others = _without_unweighted(comparison).values()
    if not others or not any(UNWEIGHTED in card.tags for card in comparison.cards):
        return []
    return [
        ("  unweighted ones left out: mean", [one.oracle_geomean for one in others]),
        ("  least", [one.oracle_min for one in others]),
        ("  5th percentile", [one.oracle_p5 for one in others]),
    ]


def _response_lines(cards: Sequence[Card]) -> list[str]:
    """Who is waited for how long, where requests come whether they are answered or not."""
    answering = [card for card in cards if any(card.responses_ns.values())]
    rows = [
        (
            f"{printable(card.name.removeprefix('compare_'), 40)}: {printable(name, 40)}",
            *(_ms(found.get(name, {}).get(_TAIL)) for found in card.responses_ns.values()),
        )
        for card in answering
        for name in dict.fromkeys(name for found in card.responses_ns.values() for name in found)
    ]
    if not rows:
        return []
    return [*columns([(f"{_TAIL} % ANSWERED WITHIN", *answering[0].responses_ns), *rows]), ""]


def _ms(at_ns: float | None) -> str:
    return "-" if at_ns is None else f"{at_ns / NS_PER_MS:.3g} ms"
