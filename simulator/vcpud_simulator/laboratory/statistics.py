"""Means and ratios with 95 % intervals, and what may be concluded from them.

Problem: a handful of seeds gives an estimate with an error that is itself an estimate. Approach:
Student's t over independent seeds; ratios as differences of logarithms, paired by seed, so that
what both sides have in common (arrivals, grains, phases) cancels. A bound is met, or missed, only
by a whole interval.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, stdev
from typing import Final

_T: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom."""
_T_MANY: Final = 2.042
"""For more: a little too wide rather than too narrow."""
_FLOOR: Final = 1e-9
"""Stands for a rate of zero, so that it still has a logarithm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and the 95 % interval around it; one without an error spans everything."""

    value: float
    low: float
    high: float

    def pair(self) -> list[float | None]:
        """The interval as results hold it; null where it has no end."""
        return [end if math.isfinite(end) else None for end in (self.low, self.high)]


class Side(StrEnum):
    """Where an interval lies with respect to a bound."""

    WITHIN = "within"
    BEYOND = "beyond"
    ACROSS = "across"


def t_quantile(degrees: int) -> float:
    """Two-sided 95 % quantile of Student's t."""
    return _T[degrees - 1] if degrees <= len(_T) else _T_MANY


def mean(values: Sequence[float]) -> Interval:
    """The mean of independent values."""
    middle = fmean(values)
    if len(values) < 2:  # noqa: PLR2004 - one value says nothing of its error
        return Interval(value=middle, low=-math.inf, high=math.inf)
    margin = t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Interval(value=middle, low=middle - margin, high=middle + margin)


def ratio(pairs: Sequence[tuple[float, float]]) -> Interval:
    """The geometric mean of numerator over denominator of pairs that belong together."""
    logs = mean([math.log(max(a, _FLOOR)) - math.log(max(b, _FLOOR)) for a, b in pairs])
    if not math.isfinite(logs.low):
        return Interval(value=math.exp(logs.value), low=0.0, high=math.inf)
    return Interval(
        value=math.exp(logs.value),
        low=math.exp(max(logs.low, logs.value - 30.0)),
        high=math.exp(min(logs.high, logs.value + 30.0)),
    )


def side(
    interval: Interval, *, at_least: float | None = None, at_most: float | None = None
) -> Side:
    """Whether a whole interval meets the bounds, a whole one misses one, or neither."""
    if (at_least is not None and interval.high < at_least) or (
        at_most is not None and interval.low > at_most
    ):
        return Side.BEYOND
    if (at_least is None or interval.low >= at_least) and (
        at_most is None or interval.high <= at_most
    ):
        return Side.WITHIN
    return Side.ACROSS


def disjoint(first: Interval, second: Interval) -> bool:
    """Whether two estimates differ beyond their errors."""
    return first.high < second.low or second.high < first.low
