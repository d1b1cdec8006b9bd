"""What a claim is, and when it holds.

Problem: a claim is about many cells at once, and each cell has an error. Approach: a claim is a
conjunction of parts; a part is a bound on one figure in many cells. A part holds when in every
cell the whole interval meets the bound, fails when in one the whole interval misses it, and is
not attributable otherwise: what is seen may be chance. The claim shows the part that decides, and
of that the cell that is furthest on the wrong side. A part without cells is not attributable: a
check that had nothing to check must not pass.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from vcpud_simulator.laboratory.statistics import Interval, Side, side
from vcpud_simulator.laboratory.study.cells import Cell


class Verdict(StrEnum):
    """What may be said of a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    NOT_ATTRIBUTABLE = "not attributable"


GRAVITY: Final = {Verdict.FAILS: 2, Verdict.NOT_ATTRIBUTABLE: 1, Verdict.HOLDS: 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One figure of one cell.

    Attributes:
        cell: Which.
        figure: Estimate and interval.
    """

    cell: Cell
    figure: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A bound on one figure in many cells.

    Attributes:
        text: What must hold in each.
        checks: The cells.
        at_least: Lower bound, or None.
        at_most: Upper bound, or None.
        pooled: Whether the one figure is of many cells together; its cell is then an example.
    """

    text: str
    checks: tuple[Check, ...]
    at_least: float | None = None
    at_most: float | None = None
    pooled: bool = False

    @property
    def bound(self) -> float | list[float]:
        """As results hold it."""
        if self.at_least is not None and self.at_most is not None:
            return [self.at_least, self.at_most]
        found = self.at_most if self.at_least is None else self.at_least
        if found is None:
            raise ValueError(f"{self.text}: no bound")
        return found

    def side(self, check: Check) -> Side:
        """Where a cell lies."""
        return side(check.figure, at_least=self.at_least, at_most=self.at_most)

    def count(self, where: Side) -> int:
        """How many cells lie there."""
        return sum(self.side(check) is where for check in self.checks)

    @property
    def verdict(self) -> Verdict:
        """Of all cells together."""
        if self.count(Side.BEYOND):
            return Verdict.FAILS
        if self.count(Side.ACROSS) or not self.checks:
            return Verdict.NOT_ATTRIBUTABLE
        return Verdict.HOLDS

    @property
    def straddling(self) -> tuple[Cell, ...]:
        """Cells of which more seeds would say more."""
        if self.pooled:
            return ()
        return tuple(check.cell for check in self.checks if self.side(check) is Side.ACROSS)

    @property
    def worst(self) -> Check | None:
        """The cell furthest on the wrong side, or nearest to it."""
        return max(self.checks, key=self._badness, default=None)

    def _badness(self, check: Check) -> tuple[int, float]:
        order = {Side.WITHIN: 0, Side.ACROSS: 1, Side.BEYOND: 2}[self.side(check)]
        value = check.figure.value
        short = -math.inf if self.at_least is None else self.at_least - value
        over = -math.inf if self.at_most is None else value - self.at_most
        return order, max(short, over)

    def describe(self) -> str:
        """One sentence for people."""
        if not self.checks:
            return f"{self.text}: no such cell in this study"
        met = self.count(Side.WITHIN)
        missed = self.count(Side.BEYOND)
        found = f"{self.text}: met in {met} of {len(self.checks)} cells, missed in {missed}"
        worst = self.worst
        if worst is None:
            return found
        if self.pooled:
            return f"{self.text}: {worst.figure.value:.4g}, lowest in {worst.cell}"
        return f"{found}; worst {worst.figure.value:.3g} ({worst.cell})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim, judged.

    Attributes:
        id: S1 to S5.
        title: What is claimed.
        parts: What it means.
        notes: Further figures, for people.
    """

    id: str
    title: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()

    @property
    def deciding(self) -> Part:
        """The part with the gravest verdict, the first of several."""
        return max(self.parts, key=lambda part: GRAVITY[part.verdict])

    @property
    def verdict(self) -> Verdict:
        """Of all parts together."""
        return self.deciding.verdict

    @property
    def text(self) -> str:
        """What is claimed, and what each part has found."""
        return ". ".join([self.title, *(part.describe() for part in self.parts), *self.notes])

    def document(self) -> dict[str, Any]:
        """As results hold it."""
        worst = self.deciding.worst
        return {
            "id": self.id,
            "text": self.text,
            "verdict": str(self.verdict),
            "measured": None if worst is None else worst.figure.value,
            "interval": [None, None] if worst is None else worst.figure.pair(),
            "bound": self.deciding.bound,
        }


def straddling(found: Sequence[Claim]) -> tuple[Cell, ...]:
    """Cells of which more seeds could change a verdict."""
    return tuple(
        dict.fromkeys(cell for claim in found for part in claim.parts for cell in part.straddling)
    )
