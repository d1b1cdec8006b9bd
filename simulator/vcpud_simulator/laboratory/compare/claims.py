"""What vcpud claims of its own policy, held against a comparison. Pure.

Scenarios tagged blind or stuck count for floors and steadiness only, as everywhere. Those tagged
unweighted count for all: that the guard refuses is no actuation that fails or comes late.

A claim is judged only by what it is made of: those of every scenario by any that ran at their own
length, those of means and of rivals by the whole suite. The short form is too short to prove any of
them; it is the same runs again and again, though, so that its floors and its least share of the oracle
can only fall where code has changed: these two are judged there as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from vcpud_simulator.laboratory.compare.changes import MOST_CHANGES
from vcpud_simulator.laboratory.compare.scores import FLOOR, Card
from vcpud_simulator.laboratory.compare.summaries import summary
from vcpud_simulator.laboratory.compare.verdict import Verdict
from vcpud_simulator.scenario import Kind

OWN: Final = "adaptive"
SENSITIVE: Final = (Kind.KERNEL_LOCK, Kind.USER_SYNC, Kind.DYNAMIC)
MEAN: Final = 0.95
LEAST: Final = 0.85
BEHIND: Final = 0.02
AHEAD: Final = 1.05
NEAR: Final = 0.97
DRAWN: Final = 200
"""So many drawn scenarios are claimed something of; the percentiles of fewer are mere extremes."""


class Extent(StrEnum):
    """How much was compared."""

    WHOLE = "the whole suite"
    PART = "some scenarios, each at its length"
    QUICK = "the short form"
    CUT = "lengths of somebody's choosing"
    DRAWN = "scenarios drawn at random"


_JUDGED: Final = {
    Extent.PART: ("least", "floor", "steady"),
    Extent.QUICK: ("least", "floor"),
    Extent.CUT: (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim and what was measured.

    Attributes:
        key: Short.
        text: What is claimed.
        verdict: Whether it is so.
        measured: The figure.
        bound: What it must reach, or may not exceed.
        most: Whether the bound is the most that it may be, or the least.
    """

    key: str
    text: str
    verdict: Verdict
    measured: float
    bound: float
    most: bool = False


def claims(
    cards: Sequence[Card], policies: Sequence[str], extent: Extent = Extent.WHOLE
) -> list[Claim]:
    """Every claim that there are figures for; none where vcpud's own policy was not in it.

    Args:
        cards: The scenarios.
        policies: Labels in the comparison.
        extent: How much was compared.
    """
    if OWN not in policies:
        return []
    found = _drawn(cards) if extent is Extent.DRAWN else _suite(cards, policies)
    if extent is Extent.DRAWN and len(cards) < DRAWN:
        judged: tuple[str, ...] = ()
    else:
        judged = _JUDGED.get(extent, tuple(one.key for one in found))
    return [one if one.key in judged else replace(one, verdict=Verdict.OPEN) for one in found]


def _drawn(cards: Sequence[Card]) -> list[Claim]:
    own = summary(cards, OWN)
    share = _claim("drawn", "5th percentile of its share of the oracle", own.oracle_p5, LEAST)
    floor = _claim(
        "drawn-floor",
        "1st percentile of the worst domain over its floor, tagged scenarios too, chance told apart "
        f"(before: {own.floor_p1_at_first:.3f})",
        own.floor_p1, FLOOR,
    )  # fmt: skip
    return [share, floor] if any(card.plain for card in cards) else [floor]


def _suite(cards: Sequence[Card], policies: Sequence[str]) -> list[Claim]:
    own = summary(cards, OWN)
    apart = ""
    if own.floor_at_first != own.worst_domain_over_floor:
        apart = f", chance told apart (before: {own.floor_at_first:.3f})"
    found = [
        _claim(
            "floor", f"the worst domain over its floor, tagged scenarios too{apart}",
            own.worst_domain_over_floor, FLOOR,
        ),
    ]  # fmt: skip
    constant = [card.policies[OWN] for card in cards if card.constant]
    if constant:
        found.append(
            _claim(
                "steady", "changes of a domain in ten minutes of constant load, rotations apart",
                max(one.changes_in_ten_minutes for one in constant), MOST_CHANGES, most=True,
            )
        )  # fmt: skip
    if not any(card.plain for card in cards):
        return found
    found = [
        _claim("mean", "its share of the oracle, geometric mean", own.oracle_geomean, MEAN),
        _claim("least", "its least share of the oracle", own.oracle_min, LEAST),
        *found,
    ]
    others = {label: summary(cards, label).by_class for label in policies if label != OWN}
    for kind, share in own.by_class.items() if others else ():
        rival = max(others, key=lambda label: others[label][kind])
        best = others[rival][kind]
        found.append(
            _claim(
                f"behind-{kind}", f"{kind}: not behind the best other, {rival}",
                share, best - BEHIND,
            )
        )  # fmt: skip
        if kind in SENSITIVE:
            found.append(
                _claim(
                    f"ahead-{kind}",
                    f"{kind}: ahead of the best other, {rival}, or near the oracle",
                    share,
                    min(AHEAD * best, NEAR),
                )
            )
    return found


def _claim(key: str, text: str, measured: float, bound: float, *, most: bool = False) -> Claim:
    kept = measured <= bound if most else measured >= bound
    return Claim(
        key=key,
        text=text,
        verdict=Verdict.HOLDS if kept else Verdict.FAILS,
        measured=measured,
        bound=bound,
        most=most,
    )
