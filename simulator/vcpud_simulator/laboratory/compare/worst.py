"""Where a policy did worst and, as far as the runs tell, why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vcpud.text import printable
from vcpud_simulator.laboratory.compare.scores import Card, Score

WORST: Final = 10
"""So many are told of each figure."""
TROUBLE: Final = {
    "blind": "nothing shows what matters there",
    "stuck": "changes fail or take long there",
    "unweighted": "fewer vCPUs cost share there, and no weight can make up for it",
    "liar": "a guest says what is not so",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """One of the worst results.

    Attributes:
        share: The figure.
        scenario: Where.
        domain: Who comes off worst in it; empty where nobody has a floor.
        cause: Why, as far as the runs tell.
    """

    share: float
    scenario: str
    domain: str
    cause: str


def furthest_from_oracle(cards: Sequence[Card], label: str) -> list[Bad]:
    """The least shares of the oracle, of scenarios that count for them."""
    found = []
    for card in cards:
        one = card.policies[label]
        if card.plain and one.over_oracle is not None:
            shares = {
                name: domain.over_oracle
                for name, domain in one.by_domain.items()
                if domain.over_oracle is not None
            }
            lost = min(shares, key=lambda name: shares[name], default="")
            found.append(_bad(one.over_oracle, card, one, lost))
    return sorted(found, key=lambda bad: bad.share)[:WORST]


def lowest_floors(cards: Sequence[Card], label: str) -> list[Bad]:
    """The least shares of a floor, of all scenarios."""
    found = []
    for card in cards:
        one = card.policies[label]
        found.append(_bad(one.worst_domain_over_floor, card, one, one.worst_domain))
    return sorted(found, key=lambda bad: bad.share)[:WORST]


def _bad(share: float, card: Card, score: Score, domain: str) -> Bad:
    reasons = [text for tag, text in TROUBLE.items() if tag in card.tags]
    if not score.changes_in_ten_minutes and not score.changes:
        reasons.append("nothing was changed")
    else:
        reasons.append(
            f"{score.changes:.0f} changes a run in all, {score.harmed:.1f} of the decisions harmed"
        )
        reasons.append(_ended(score, domain))
    if domain in score.by_domain:
        reasons.append(printable(score.by_domain[domain].why, 1_000))
    if card.oracle:
        reasons.append(f"the oracle has {printable(card.oracle, 200)}")
    return Bad(
        share=share, scenario=card.name, domain=domain, cause="; ".join(filter(None, reasons))
    )


def _ended(score: Score, domain: str) -> str:
    one = score.by_domain.get(domain)
    if one is None or one.final_vcpus is None:
        return ""
    text = f"{printable(domain)} ended on {one.final_vcpus} vCPUs"
    return text if one.changes else f"{text} and was never changed but in turns"


def lines(bad: Sequence[Bad], cards: Sequence[Card]) -> list[str]:
    """For a terminal."""
    schedulers = {card.name: card.scheduler for card in cards}
    return [
        f"  {one.share:.3f} {printable(one.scenario)} ({schedulers[one.scenario]})"
        f"{f', {printable(one.domain)}' if one.domain else ''}: {one.cause}"
        for one in bad
    ]
