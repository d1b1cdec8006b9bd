"""Figures over time as lines, for SVG that stretches: only lines inside, words and ticks outside.

Stretched text would be unreadable, so a picture holds none: its ticks are given as shares of its
width and height, for the page to place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vcpud.units import NS_PER_S

WIDTH = 1000
HEIGHT = 120
_LOG_FROM = 30.0
"""Largest over smallest value from which a logarithmic scale is used, where one is allowed."""
_TICKS = 4
_TINY = 1e-9
"""What is smaller is drawn as nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One domain's figures.

    Attributes:
        colour: Of its domain, 0 to 7.
        points: Instant in ns and value, in order; None where there is none.
        dashed: Whether to draw it dashed.
    """

    colour: int
    points: tuple[tuple[int, float | None], ...]
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A word beside a picture, at a share (0 to 1) from its left or its top."""

    at_ratio: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A line as SVG: its classes and its `d`."""

    css: str
    d: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture with its words.

    Attributes:
        key: Short, for the page's own use.
        title: What it shows.
        unit: In which unit.
        paths: Its lines.
        y_ticks: From the top.
        logarithmic: Whether it has such a scale.
        empty: Whether there is nothing in it.
    """

    key: str
    title: str
    unit: str
    paths: tuple[Path, ...]
    y_ticks: tuple[Tick, ...]
    logarithmic: bool
    empty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The time that a picture covers."""

    from_ns: int
    until_ns: int

    def ratio(self, when_ns: int) -> float:
        """Where an instant is, from 0 to 1."""
        return (when_ns - self.from_ns) / max(1, self.until_ns - self.from_ns)

    def ticks(self) -> tuple[Tick, ...]:
        """Seconds, at round figures."""
        seconds = [at_ns / NS_PER_S for at_ns in (self.from_ns, self.until_ns)]
        step = _round_step((seconds[1] - seconds[0]) / _TICKS)
        marks = range(math.ceil(seconds[0] / step), math.floor(seconds[1] / step) + 1)
        return tuple(
            Tick(at_ratio=self.ratio(round(mark * step * NS_PER_S)), text=f"{mark * step:g} s")
            for mark in marks
        )


def chart(  # noqa: PLR0913 - all by name
    *,
    key: str,
    title: str,
    unit: str,
    span: Span,
    lines: Sequence[Line],
    stepped: bool = False,
    may_be_logarithmic: bool = False,
) -> Chart:
    """Draw lines over a span.

    Args:
        key: Short, for the page's own use.
        title: What it shows.
        unit: In which unit.
        span: The time it covers.
        lines: What to draw.
        stepped: Whether a value holds until the next, rather than leading to it.
        may_be_logarithmic: Use a logarithmic scale where values differ by much.
    """
    values = [value for line in lines for _, value in line.points if value is not None]
    scale = _scale(values, may_be_logarithmic)
    paths = []
    for line in lines:
        d = _path(line.points, span, scale, stepped)
        if d:
            paths.append(Path(css=f"line d{line.colour}{' dashed' if line.dashed else ''}", d=d))
    return Chart(
        key=key,
        title=title,
        unit=unit,
        paths=tuple(paths),
        y_ticks=scale.ticks,
        logarithmic=scale.low > 0,
        empty=not values,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """Values to heights. `low` is above 0 on a logarithmic scale; below it all is at the foot."""

    low: float
    high: float
    ticks: tuple[Tick, ...]

    def y(self, value: float) -> float:
        return round(HEIGHT * _from_top(value, self.low, self.high), 1)


def _from_top(value: float, low: float, high: float) -> float:
    share = math.log(max(value, low) / low) / math.log(high / low) if low > 0 else value / high
    return 1 - min(1.0, max(0.0, share))


def _scale(values: Sequence[float], may_be_logarithmic: bool) -> _Scale:
    above_zero = [value for value in values if value > _TINY]
    top = max(above_zero, default=0.0)
    if may_be_logarithmic and above_zero and top / min(above_zero) >= _LOG_FROM:
        first = math.floor(math.log10(min(above_zero)))
        last = math.ceil(math.log10(top))
        # Zero has no place on this scale: it lies at the foot, a decade below all others.
        first -= len(above_zero) < len(values)
        step = max(1, math.ceil((last - first) / _TICKS))
        marks = [(10.0**power, f"{10.0**power:g}") for power in range(first, last + 1, step)]
        low, high = 10.0**first, 10.0**last
        if len(above_zero) < len(values):
            marks[0] = (low, "0")
    else:
        low = 0.0
        step_value = _round_step((top or 1.0) / _TICKS)
        count = max(1, math.ceil((top or 1.0) / step_value - 1e-9))
        high = count * step_value
        marks = [(mark * step_value, f"{mark * step_value:g}") for mark in range(count + 1)]
    ticks = (Tick(at_ratio=_from_top(value, low, high), text=text) for value, text in marks)
    return _Scale(low=low, high=high, ticks=tuple(ticks))


def _round_step(about: float) -> float:
    """The first of 1, 2, 5, 10, ... that is not below `about`."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(
        step for step in (power * factor for factor in (1, 2, 5, 10)) if step >= about * (1 - 1e-9)
    )


def _path(
    points: Iterable[tuple[int, float | None]], span: Span, scale: _Scale, stepped: bool
) -> str:
    placed = [
        (round(WIDTH * span.ratio(when_ns), 1), None if value is None else scale.y(value))
        for when_ns, value in points
    ]
    words: list[str] = []
    before: tuple[float, float | None] = (0.0, None)
    for here in placed:
        x, y = here
        if y is not None:
            if before[1] is None:
                words.append(f"M{x:g} {y:g}")
            elif stepped:
                words.append(f"H{x:g}V{y:g}")
            else:
                words.append(f"L{x:g} {y:g}")
        before = here
    if stepped and before[1] is not None:
        words.append(f"H{WIDTH}")
    # A lone point has no length; a hair's breadth lets round line ends show it.
    lone = len(placed) == 1 or not any(
        a[1] is not None and b[1] is not None for a, b in pairwise(placed)
    )
    return "".join(words) + ("h0.1" if words and lone and not stepped else "")
