"""What a report says: figures turned into tables, pictures and words, nothing but plain data.

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
from vcpud.units import NS_PER_MS, NS_PER_S, duration_text
from vcpud_simulator.entities import RunState
from vcpud_simulator.laboratory.report.chart import Chart, Line, Span, Tick, chart
from vcpud_simulator.laboratory.report.gantt import Gantt, Vcpu, gantt

if TYPE_CHECKING:
    from vcpud_simulator.laboratory.report.journal import Block, Decision, Journal
    from vcpud_simulator.laboratory.report.window import Window
    from vcpud_simulator.runner import DomainResult, Point, RunResult
    from vcpud_simulator.scenario import Scenario

COLOURS = 8
"""Lines in one picture, and colours that can be told apart."""
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
class Moment:
    """An instant worth a thick line in every picture."""

    title: str
    at_ns: int


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A vertical line in the pictures over time."""

    at_ratio: float
    colour: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """A window and its words."""

    title: str
    words: str
    picture: Gantt
    x_ticks: tuple[Tick, ...]
    co_stops: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Everything the template shows; see there."""

    title: str
    lead: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    summary: Table
    phases: Table | None
    legend: tuple[tuple[str, int], ...]
    legend_note: str
    charts: tuple[Chart, ...]
    x_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]
    bands: tuple[Mark, ...]
    gantts: tuple[Who, ...]
    decisions: Table
    blocks: Table
    no_decisions: str
    errors: tuple[str, ...]
    figures: Mapping[str, Any]
    trace_hash: str
    version: str
    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a page is made of.

    Attributes:
        scenario: What was simulated.
        result: What came out.
        windows: Stretches of the trace to draw.
        journal: What was decided, or None for a run without vcpud.
        baseline: The same scenario and seed without vcpud, to compare with.
        phases: Parts to be summed up by themselves.
        moments: Instants to be marked.
        version: Of vcpud.
        commit: Of its sources.
    """

    scenario: Scenario
    result: RunResult
    windows: Sequence[Window] = ()
    journal: Journal | None = None
    baseline: RunResult | None = None
    phases: Sequence[Phase] = ()
    moments: Sequence[Moment] = ()
    version: str = ""
    commit: str = ""


def page(material: Material) -> Page:
    """Put a page together."""
    scenario, result, journal = material.scenario, material.result, material.journal
    colours = {name: place % COLOURS for place, name in enumerate(result.domains)}
    span = Span(from_ns=0, until_ns=result.window_ns[1])
    shown = _worth_drawing(result)
    decisions = [] if journal is None else journal.decisions
    return Page(
        title=printable(scenario.title or scenario.name, 300),
        lead=tuple(
            printable(text, 2_000) for text in (scenario.stands_for, scenario.expectation) if text
        ),
        facts=_facts(material),
        summary=_summary(result, material.baseline, colours),
        phases=_phases(result, material.phases, colours) if material.phases else None,
        legend=tuple((printable(name), colours[name]) for name in shown),
        legend_note=(
            ""
            if len(shown) == len(result.domains)
            else f"{len(shown)} of {len(result.domains)} domains are drawn: those that changed "
            "most. All are in the table above."
        ),
        charts=tuple(_charts(result, journal, shown, colours, span)),
        x_ticks=span.ticks(),
        marks=tuple(
            Mark(at_ratio=span.ratio(decision.at_ns), colour=colours.get(course.name, 0))
            for decision in decisions
            for course in decision.courses.values()
        ),
        bands=tuple(
            Mark(at_ratio=span.ratio(moment.at_ns), text=printable(moment.title))
            for moment in material.moments
        ),
        gantts=tuple(_who(window, material, colours) for window in material.windows),
        decisions=_decisions(decisions, colours),
        blocks=_blocks([] if journal is None else list(journal.blocks.values())),
        no_decisions=_no_decisions(material),
        errors=tuple(
            f"The policy failed in {count} cycles: {printable(error, 300)}"
            for error, count in ({} if journal is None else journal.policy_errors).items()
        ),
        figures=_figures(result, shown, span),
        trace_hash=result.trace_hash,
        version=material.version,
        commit=material.commit,
    )


# -------------------------------------------------------------------------------- tables


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


def _facts(material: Material) -> tuple[tuple[str, str], ...]:
    scenario, result = material.scenario, material.result
    vcpus = sum(plan.vcpus for plan in scenario.each())
    begin_ns, end_ns = result.window_ns
    facts = [
        ("Scheduler", scenario.scheduler),
        ("Host", f"{result.pcpus} pCPUs"),
        ("Domains", f"{len(result.domains)} with {vcpus} vCPUs"),
        ("vCPUs per pCPU", f"{vcpus / result.pcpus:.3g}"),
        ("Platform", scenario.platform),
        ("Policy", result.policy),
        ("Seed", str(result.seed)),
        ("Measured", f"{duration_text(end_ns - begin_ns)} after {duration_text(begin_ns)}"),
    ]
    if material.journal is not None:
        facts.append(("Decisions", str(len(material.journal.decisions))))
    return tuple((name, printable(value, 200)) for name, value in facts)


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


def _summary(result: RunResult, baseline: RunResult | None, colours: Mapping[str, int]) -> Table:
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


def _phases(result: RunResult, phases: Sequence[Phase], colours: Mapping[str, int]) -> Table:
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


def _decisions(decisions: Sequence[Decision], colours: Mapping[str, int]) -> Table:
    rows = []
    for decision in decisions[:_MOST_DECISIONS]:
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
    left = len(decisions) - _MOST_DECISIONS
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


def _blocks(blocks: Sequence[Block]) -> Table:
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
            for block in sorted(blocks, key=lambda one: -one.cycles)
        ),
    )


def _no_decisions(material: Material) -> str:
    if material.journal is None or not material.journal.cycles:
        return "Nobody decided anything: the host ran without vcpud."
    return f"{material.journal.cycles} cycles, and nothing was changed."


# ------------------------------------------------------------------------------- pictures


def _worth_drawing(result: RunResult) -> list[str]:
    """At most eight domains: those whose count or rate changed most, in the table's order."""

    def unrest(name: str) -> tuple[int, float, float]:
        points = result.timeline.get(name, ())
        rates = [point.rate for point in points]
        spread = max(rates, default=0.0) - min(rates, default=0.0)
        counts = len({point.active_vcpus for point in points})
        return counts, spread / max([*rates, 1e-9]), result.domains[name].run_pcpus

    chosen = sorted(result.domains, key=unrest, reverse=True)[:COLOURS]
    return [name for name in result.domains if name in chosen]


_CHARTS: tuple[tuple[str, str, str, Callable[[Any], float]], ...] = (
    ("rate", "Throughput", "iterations/s", lambda point: point.rate),
    ("active", "Active vCPUs", "dashed: entitled pCPUs", lambda point: point.active_vcpus),
    ("spin", "Spinning", "pCPUs burnt waiting on the processor", lambda point: point.spin_pcpus),
    ("delay", "Run delay", "vCPUs waiting for a pCPU", lambda point: point.run_delay_pcpus),
)


def _charts(
    result: RunResult,
    journal: Journal | None,
    shown: Sequence[str],
    colours: Mapping[str, int],
    span: Span,
) -> list[Chart]:
    charts = []
    for key, title, unit, value_of in _CHARTS:
        lines = [
            Line(
                colour=colours[name],
                points=tuple((point.t_ns, value_of(point)) for point in result.timeline[name]),
            )
            for name in shown
        ]
        entitled = {} if journal is None or key != "active" else journal.entitled
        lines += [
            Line(colour=colours[name], points=tuple(entitled[name]), dashed=True)
            for name in shown
            if name in entitled
        ]
        charts.append(
            chart(
                key=key,
                title=title,
                unit=unit if key != "active" or entitled else "count",
                span=span,
                lines=lines,
                stepped=key == "active",
                may_be_logarithmic=key == "rate",
            )
        )
    return charts


def _figures(result: RunResult, shown: Sequence[str], span: Span) -> Mapping[str, Any]:
    """The same figures for the script, by chart and domain, at common instants."""
    at: list[dict[int, Point]] = [
        {point.t_ns: point for point in result.timeline[name]} for name in shown
    ]
    instants = sorted({t_ns for points in at for t_ns in points})
    return {
        "from_s": span.from_ns / NS_PER_S,
        "until_s": span.until_ns / NS_PER_S,
        "names": [printable(name) for name in shown],
        "when_s": [round(t_ns / NS_PER_S, 3) for t_ns in instants],
        "values": {
            key: [
                [round(value_of(points[t]), 4) if t in points else None for t in instants]
                for points in at
            ]
            for key, _, _, value_of in _CHARTS
        },
    }


def _who(window: Window, material: Material, colours: Mapping[str, int]) -> Who:
    vcpus = [
        Vcpu(colour=colours.get(name.rpartition(".")[0], COLOURS - 1), name=printable(name))
        for name in material.result.vcpus
    ]
    picture = gantt(window, material.result.pcpus, vcpus)
    length_ns = picture.until_ns - picture.from_ns
    words = (
        f"{length_ns / NS_PER_MS:g} ms, from {picture.from_ns / NS_PER_S:.3f} s on; "
        "point at a bar to read it."
    )
    if picture.full:
        words += " More happened than can be kept, so the picture ends early."
    ticks = Span(from_ns=0, until_ns=length_ns * 1_000).ticks()
    return Who(
        title=printable(window.title or f"from {picture.from_ns / NS_PER_S:.1f} s on"),
        words=words,
        picture=picture,
        x_ticks=tuple(
            Tick(at_ratio=tick.at_ratio, text=tick.text.replace(" s", " ms")) for tick in ticks
        ),
        co_stops=any(
            stay.state is RunState.CO_STOPPED for lane in window.stays(len(vcpus)) for stay in lane
        ),
    )
