"""Ratios with 95 % intervals, and what may be concluded from them.

Problem: rates on a shared machine drift by more than the effects that are to be bounded.
Approach: the two sides of a ratio are measured in neighbouring blocks; the logarithms of the pairs' ratios are averaged
and Student's t gives the interval. A bound fails only when the whole interval lies on its wrong side.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_T_MANY = 2.2
_FLOOR = 1e-9
"""Stands for a rate of zero, so that a block without a single iteration still has a logarithm."""


class Verdict(StrEnum):
    """What an interval says of a bound."""

    PASS = "pass"  # noqa: S105  not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and the 95 % interval around it."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    def pair(self) -> list[float]:
        """The interval as it is written to results."""
        return [self.low, self.high]


def ratio(pairs: Sequence[tuple[float, float]]) -> Interval:
    """Return the geometric mean of numerator over denominator with its interval.

    Args:
        pairs: Numerator and denominator of neighbouring blocks. One pair has no interval: it is
            reported as from nothing to anything.
    """
    logs = [math.log(max(a, _FLOOR)) - math.log(max(b, _FLOOR)) for a, b in pairs]
    count = len(logs)
    mean = sum(logs) / count
    if count == 1:
        return Interval(value=math.exp(mean), low=0.0, high=math.inf)
    variance = sum((value - mean) ** 2 for value in logs) / (count - 1)
    quantile = _T[count - 2] if count - 2 < len(_T) else _T_MANY
    margin = min(quantile * math.sqrt(variance / count), 30.0)
    return Interval(
        value=math.exp(mean), low=math.exp(mean - margin), high=math.exp(mean + margin)
    )


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median with a distribution-free interval of at least 93 % coverage.

    It runs between order statistics (a sign test turned round); five values give their extremes,
    whose coverage is 1 - 2 / 2**5 = 0.94. Fewer have no interval: from nothing to anything.
    """
    ordered = sorted(values)
    count = len(ordered)
    middle = statistics.median(ordered)
    if count < 5:
        return Interval(value=middle, low=0.0, high=math.inf)
    outside = tail = 0
    while (tail := tail + math.comb(count, outside)) <= 0.035 * 2**count:
        outside += 1
    first = max(outside - 1, 0)
    return Interval(value=middle, low=ordered[first], high=ordered[count - 1 - first])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A limit on one figure of a scenario.

    Attributes:
        figure: Key of the figure in the scenario's results.
        limit: The limit.
        at_least: Whether the figure must be at least the limit, or at most.
        decisive: Whether a violation fails the run; otherwise the run is inconclusive.
    """

    figure: str
    limit: float
    at_least: bool = True
    decisive: bool = True

    def verdict(self, interval: Interval) -> Verdict:
        """Return what ``interval`` says of this bound."""
        low, high, limit = interval.low, interval.high, self.limit
        if not self.at_least:
            low, high, limit = -interval.high, -interval.low, -self.limit
        if low >= limit:
            return Verdict.PASS
        if high < limit and self.decisive:
            return Verdict.FAIL
        return Verdict.INCONCLUSIVE

    def __str__(self) -> str:
        return f"{self.figure} {'>=' if self.at_least else '<='} {self.limit:g}"
