"""The tables of a report, and how figures are written.

All words that come from outside (names, reasons, guests' texts) stay plain text here; the template
escapes everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from vcpud.record import Purpose
from vcpud.text import printable
from vcpud.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from vcpud_simulator.laboratory.report.journal import Block, Decision
    from vcpud_simulator.runner import DomainResult, RunResult

_MOST_DECISIONS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of a run to be summed up by itself: before, after.

    Attributes:
        title: Its name.
        from_ns: Its beginning, since the run began.
        until_ns: Its end.
    """

    title: str
    from_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A column.

    Attributes:
        text: Its name.
        meaning: What that means, where it needs to be said.
        figure: Whether it holds figures.
        short: Whether its words are not to be broken.
    """

    text: str
    meaning: str = ""
    figure: bool = False
    short: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row, and the colour of the domain it is about."""

    cells: tuple[str, ...]
    colour: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table."""

    heads: tuple[Head, ...]
    rows: tuple[Row, ...]
    note: str = ""


def figure(value: float | None) -> str:
    """Three figures, thousands separated; "-" for what is not known."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 100:  # noqa: PLR2004 - three figures
        return f"{value:,.0f}"
    places = 2 if size < 10 else 1  # noqa: PLR2004
    if 0 < size < 0.1:  # noqa: PLR2004
        return f"{value:.2g}"
    return f"{value:.{places}f}"


def times(after: float, before: float) -> str:
    """How many times as much: "x 1.04"."""
    return "-" if before <= 0 else f"×{figure(after / before)}"  # noqa: RUF001 - the sign


_COLUMNS: tuple[tuple[Head, Callable[[Any], float | None]], ...] = (
    (Head(text="Active vCPUs", meaning="mean over the time measured", figure=True),
     lambda one: one.mean_active_vcpus),
    (Head(text="Entitled", meaning="pCPUs its weight guarantees it", figure=True),
     lambda one: one.entitled_pcpus),
    (Head(text="Used", meaning="pCPUs it had", figure=True), lambda one: one.run_pcpus),
    (Head(text="Useful", meaning="pCPUs its tasks worked with, waiting on the processor and kernel "
          "overhead left out", figure=True), lambda one: one.useful_pcpus),
    (Head(text="Spinning", meaning="pCPUs burnt waiting on the processor", figure=True),
     lambda one: one.spin_pcpus),
    (Head(text="Run delay", meaning="vCPUs that waited for a pCPU, on average", figure=True),
     lambda one: one.run_delay_pcpus),
)  # fmt: skip


def summary(result: RunResult, baseline: RunResult | None, colours: Mapping[str, int]) -> Table:
    """Each domain over the time measured, beside the run without vcpud where there is one."""
    answers = any(one.responses_ns for one in result.domains.values())
    heads = [Head(text="Domain"), Head(text="Iterations/s", figure=True)]
    if baseline is not None:
        heads.append(Head(text="Unmanaged", meaning="iterations/s without vcpud", figure=True))
        heads.append(Head(text="Gain", meaning="managed over unmanaged", figure=True))
    heads += [head for head, _ in _COLUMNS]
    if answers:
        heads.append(
            Head(text="Response ms", meaning="median, 95th and 99th percentile", figure=True)
        )
    rows = []
    for name, one in result.domains.items():
        cells = [printable(name), figure(one.rate)]
        if baseline is not None:
            other = baseline.domains.get(name)
            cells += (
                ["-", "-"] if other is None else [figure(other.rate), times(one.rate, other.rate)]
            )
        cells += [figure(value_of(one)) for _, value_of in _COLUMNS]
        if answers:
            cells.append(_responses(one))
        rows.append(Row(cells=tuple(cells), colour=colours[name]))
    return Table(heads=tuple(heads), rows=tuple(rows))


def _responses(one: DomainResult) -> str:
    return (
        " / ".join(
            figure(one.responses_ns[percentile] / NS_PER_MS)
            for percentile in (50, 95, 99)
            if percentile in one.responses_ns
        )
        or "-"
    )


def phases(result: RunResult, phases: Sequence[Phase], colours: Mapping[str, int]) -> Table:
    """Each domain in each phase; the last column compares the last phase with the first."""
    heads = [Head(text="Domain")]
    heads += [
        Head(text=f"{what}, {phase.title}", figure=True)
        for what in ("Iterations/s", "active vCPUs", "spinning")
        for phase in phases
    ]
    heads.append(Head(text="Gain", meaning="iterations/s, last over first", figure=True))
    rows = []
    for name, points in result.timeline.items():
        parts = [
            [p for p in points if phase.from_ns < p.t_ns <= phase.until_ns] for phase in phases
        ]
        rates = [average([p.rate for p in part]) for part in parts]
        cells = [printable(name), *map(figure, rates)]
        cells += [figure(average([p.active_vcpus for p in part])) for part in parts]
        cells += [figure(average([p.spin_pcpus for p in part])) for part in parts]
        cells.append(times(rates[-1] or 0.0, rates[0] or 0.0))
        rows.append(Row(cells=tuple(cells), colour=colours[name]))
    return Table(heads=tuple(heads), rows=tuple(rows))


def average(values: Sequence[float]) -> float | None:
    """The mean, None of nothing."""
    return fmean(values) if values else None


def decisions(made: Sequence[Decision], colours: Mapping[str, int]) -> Table:
    """What was decided, why, and how it ended."""
    rows = []
    for decision in made[:_MOST_DECISIONS]:
        for course in decision.courses.values():
            took = f", took {course.took_ns / NS_PER_S:.2f} s" if course.took_ns else ""
            change = f"{course.from_vcpus} → {course.to_vcpus} vCPUs{took}"
            if course.trouble:
                change += f"; {course.trouble}"
            rows.append(
                Row(
                    cells=(
                        printable(course.name),
                        f"{decision.at_ns / NS_PER_S:.1f} s",
                        printable(change, 200),
                        _why(decision),
                        _outcome(decision),
                    ),
                    colour=colours.get(course.name),
                )
            )
    left = len(made) - _MOST_DECISIONS
    return Table(
        heads=(
            Head(text="Domain"),
            Head(text="When", short=True),
            *map(_head, ("What", "Why", "How it ended")),
        ),
        rows=tuple(rows),
        note=f"{left} more are not shown." if left > 0 else "",
    )


def _head(text: str) -> Head:
    return Head(text=text)


def _why(decision: Decision) -> str:
    what = {Purpose.UNDO: "undone: ", Purpose.RESTORE: "given back: "}.get(decision.purpose, "")
    return printable(what + decision.reason, 400)


def _outcome(decision: Decision) -> str:
    verdict = decision.verdict
    if verdict is None:
        return "not judged" if decision.purpose is Purpose.DECIDE else ""
    gain = "" if verdict.gain_ratio is None else f" ({gain_text(verdict.gain_ratio)})"
    return printable(
        f"{verdict.outcome}{gain}, {'kept' if verdict.kept else 'taken back'}: {verdict.detail}",
        400,
    )


def gain_text(gain_ratio: float) -> str:
    """A gain as a share, or as a factor where it is large."""
    factor = 1 + gain_ratio
    if factor > 1_000:  # noqa: PLR2004 - what it began with was next to nothing
        return "more than ×1,000"  # noqa: RUF001 - the sign
    return f"×{factor:.3g}" if factor >= 3 else f"{gain_ratio:+.0%}"  # noqa: PLR2004, RUF001


def blocks(met: Sequence[Block]) -> Table:
    """Which guards stood in the way, the most frequent first."""
    return Table(
        heads=(
            *map(_head, ("Domain", "Guard", "What it said last")),
            Head(text="Cycles", figure=True),
        ),
        rows=tuple(
            Row(
                cells=(
                    printable(block.name),
                    printable(block.guard),
                    printable(block.detail, 300),
                    str(block.cycles),
                )
            )
            for block in sorted(met, key=lambda one: -one.cycles)
        ),
    )
