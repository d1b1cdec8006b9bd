"""What a report says: figures turned into pictures and words, nothing but plain data.

All words that come from outside (names, reasons, guests' texts) stay plain text here; the template
escapes everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vcpud.text import printable
from vcpud.units import NS_PER_MS, NS_PER_S, duration_text
from vcpud_simulator.entities import RunState
from vcpud_simulator.laboratory.report import tables
from vcpud_simulator.laboratory.report.chart import Chart, Line, Span, Tick, chart
from vcpud_simulator.laboratory.report.gantt import Gantt, Vcpu, gantt
from vcpud_simulator.laboratory.report.tables import Phase, Table

if TYPE_CHECKING:
    from vcpud_simulator.laboratory.report.journal import Journal
    from vcpud_simulator.laboratory.report.window import Window
    from vcpud_simulator.runner import Point, RunResult
    from vcpud_simulator.scenario import Scenario

COLOURS = 8
"""Lines in one picture, and colours that can be told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """An instant worth a thick line in every picture."""

    title: str
    at_ns: int


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
        summary=tables.summary(result, material.baseline, colours),
        phases=tables.phases(result, material.phases, colours) if material.phases else None,
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
        decisions=tables.decisions(decisions, colours),
        blocks=tables.blocks([] if journal is None else list(journal.blocks.values())),
        no_decisions=_no_decisions(material),
        errors=tuple(printable(line, 300) for line in result.policy_failed.splitlines()),
        figures=_figures(result, shown, span),
        trace_hash=result.trace_hash,
        version=material.version,
        commit=material.commit,
    )


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
