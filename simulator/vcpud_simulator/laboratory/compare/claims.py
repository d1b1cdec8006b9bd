"""What vcpud claims of its own policy, held against a comparison. Pure.

Scenarios tagged blind or stuck count for the floors only, as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vcpud_simulator.laboratory.compare.scores import Card, summary
from vcpud_simulator.scenario import Kind

OWN: Final = "adaptive"
SENSITIVE: Final = (Kind.KERNEL_LOCK, Kind.USER_SYNC, Kind.DYNAMIC)
MEAN: Final = 0.95
LEAST: Final = 0.85
FLOOR: Final = 0.97
BEHIND: Final = 0.02
AHEAD: Final = 1.05
NEAR: Final = 0.97


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim and what was measured.

    Attributes:
        key: Short.
        text: What is claimed.
        holds: Whether it does.
        measured: The figure.
        bound: What it must reach.
    """

    key: str
    text: str
    holds: bool
    measured: float
    bound: float


def claims(cards: Sequence[Card], policies: Sequence[str], *, drawn: bool = False) -> list[Claim]:
    """Every claim that the comparison can decide; none where vcpud's own policy was not in it.

    Args:
        cards: The scenarios.
        policies: Labels in the comparison.
        drawn: Whether the scenarios were drawn at random: then percentiles count, not extremes.
    """
    if OWN not in policies:
        return []
    own = summary(cards, OWN)
    if drawn:
        return [
            _at_least("drawn", "5th percentile of its share of the oracle", own.oracle_p5, LEAST),
            _at_least(
                "drawn-floor", "1st percentile of the worst domain over its floor",
                own.floor_p1, FLOOR,
            ),
        ]  # fmt: skip
    found = [
        _at_least("mean", "its share of the oracle, geometric mean", own.oracle_geomean, MEAN),
        _at_least("least", "its least share of the oracle", own.oracle_min, LEAST),
        _at_least(
            "floor", "the worst domain over its floor, tagged scenarios too",
            own.worst_domain_over_floor, FLOOR,
        ),
    ]  # fmt: skip
    others = {label: summary(cards, label).by_class for label in policies if label != OWN}
    for kind, share in own.by_class.items() if others else ():
        rival = max(others, key=lambda label: others[label][kind])
        best = others[rival][kind]
        found.append(
            _at_least(
                f"behind-{kind}", f"{kind}: not behind the best other, {rival}",
                share, best - BEHIND,
            )
        )  # fmt: skip
        if kind in SENSITIVE:
            found.append(
                _at_least(
                    f"ahead-{kind}",
                    f"{kind}: ahead of the best other, {rival}, or near the oracle",
                    share,
                    min(AHEAD * best, NEAR),
                )
            )
    return found


def _at_least(key: str, text: str, measured: float, bound: float) -> Claim:
    return Claim(key=key, text=text, holds=measured >= bound, measured=measured, bound=bound)
