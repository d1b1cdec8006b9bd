"""The claims of the seed study, put into bounds on cells.

References: the findings of G. Southern, "Symmetric Multiprocessing Virtualization", MSc thesis,
George Mason University, 2008 (abstract); docs/study.md lists them.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, Final

from vcpud_simulator.laboratory.statistics import Interval, mean
from vcpud_simulator.laboratory.study.cells import (
    GOBMK,
    KVM_PERF,
    REPORTER,
    Cell,
    Kind,
    System,
    Wait,
)
from vcpud_simulator.laboratory.study.judging import Check, Claim, Part
from vcpud_simulator.laboratory.study.table import Row, Table

MATERIAL: Final = 0.005
"""An overhead below half a per cent is not told from none, however small its error."""
WORTH_RECOVERING: Final = 1.05
"""A static assignment must beat all vCPUs by this factor to have recovered anything."""
SLOWED: Final = 1.1
"""From this slowdown on a cell is one that vcpud should do something about."""
NO_LOSS: Final = 0.98
GRAIN_MS: Final = 10
"""Up to this grain a host's slice of 30 ms is long against the work between two barriers."""


def _part(
    text: str,
    rows: Sequence[Row],
    figure: Callable[[Row], Interval],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Part:
    checks = tuple(Check(cell=row.cell, figure=figure(row)) for row in rows)
    return Part(text=text, checks=checks, at_least=at_least, at_most=at_most)


def _on(table: Table, system: System, kind: Kind, **facts: Any) -> list[Row]:
    found = table.chosen(system=system, noise=False, **facts)
    return [row for row in found if row.cell.job.kind is kind]


def s1(table: Table) -> Claim:
    """Independent work on Xen loses nothing."""
    return Claim(
        id="S1",
        title="gobmk-like on Xen has almost no overhead, at any width and overcommit",
        parts=(
            _part(
                "at least 0.97 of its fair share",
                _on(table, System.XEN, Kind.GOBMK),
                lambda row: row.share,
                at_least=0.97,
            ),
        ),
    )


def s2(table: Table) -> Claim:
    """ESX costs independent work more than Xen: judged over all cells, for each may differ."""
    relaxed = [
        row for row in _on(table, System.ESX_RELAXED, Kind.GOBMK) if not row.cell.extrapolated
    ]
    strict = _on(table, System.ESX_STRICT, Kind.GOBMK)
    part, note = (
        _pooled(table, [row for row in rows if row.cell.width > 1 and row.cell.overcommit > 1])
        for rows in (relaxed, strict)
    )
    return Claim(
        id="S2",
        title="ESX costs gobmk-like more than Xen does, the monitor's overhead being nothing",
        parts=(part,),
        notes=(f"strict co-scheduling, extrapolated to wide domains: {note.describe()}",),
    )


def _pooled(table: Table, rows: Sequence[Row]) -> Part:
    """Whether the mean ratio to Xen, over cells, is smaller than one by what can be told."""
    ratios = [table.over(row.cell, row.cell.on(System.XEN)).value for row in rows]
    text = "ESX over Xen, mean of overcommitted cells two and more wide"
    checks: tuple[Check, ...] = ()
    if ratios:
        pooled = mean(ratios)
        if abs(pooled.value - 1.0) < MATERIAL:
            # Neither more nor less: the interval is widened to what can be told from none.
            pooled = Interval(
                value=pooled.value,
                low=min(pooled.low, 1.0 - MATERIAL),
                high=max(pooled.high, 1.0 + MATERIAL),
            )
        lowest = min(rows, key=lambda row: row.share.value)
        checks = (Check(cell=lowest.cell, figure=pooled),)
    return Part(text=text, checks=checks, at_most=1.0, pooled=True)


def s3(table: Table) -> Claim:
    """ESX treats both kinds of work alike."""
    rows = [
        row
        for row in _on(table, System.ESX_RELAXED, Kind.AMMP)
        if not row.cell.extrapolated and row.cell.job.wait is not Wait.KERNEL
    ]
    return Claim(
        id="S3",
        title="on ESX relaxed 3.x ammp-like fares as gobmk-like does, domains up to 4 wide",
        parts=(
            _part(
                "ammp-like over gobmk-like, each of its fair share, within [0.9, 1.1]",
                rows,
                lambda row: table.over(row.cell, _gobmk(row.cell)),
                at_least=0.9,
                at_most=1.1,
            ),
        ),
    )


def _gobmk(cell: Cell) -> Cell:
    return replace(cell, job=GOBMK)


def s4(table: Table) -> Claim:
    """Xen collapses synchronising work as soon as it is overcommitted, and only then."""
    slow, fast = (
        [
            row
            for row in _on(table, System.XEN, Kind.AMMP, overcommit=overcommit)
            if row.cell.job.wait is Wait.ACTIVE
            and row.cell.job.grain_ms <= GRAIN_MS
            and row.cell.width > 1
        ]
        for overcommit in (2, 1)
    )
    return Claim(
        id="S4",
        title="on Xen ammp-like with active spin, grain up to 10 ms, collapses when overcommitted",
        parts=(
            _part("slowed at least 1.5 times at 2x", slow, lambda row: row.slowdown, at_least=1.5),
            _part("slowed at most 1.05 times at 1x", fast, lambda row: row.slowdown, at_most=1.05),
        ),
    )


def slowed(row: Row) -> bool:
    """Whether vcpud should do something about an unmanaged cell: only ammp-like needs it."""
    cell = row.cell
    return (
        cell.job.kind is Kind.AMMP
        and cell.width > 1
        and not cell.noise
        and row.slowdown.value >= SLOWED
    )


def visible(cell: Cell) -> bool:
    """Whether a managed cell's platform shows vcpud that its domains wait."""
    wait = cell.job.wait
    if cell.platform == REPORTER:
        return wait in {Wait.SPIN, Wait.PASSIVE, Wait.KERNEL}
    return cell.platform == KVM_PERF and wait is Wait.ACTIVE


def s5(table: Table) -> Claim:
    """Dynamic allocation recovers what can be recovered where it can see, and harms nobody."""
    managed = [row for row in table if row.cell.system.managed and not row.cell.noise]
    ammp = [row for row in managed if row.cell.job.kind is Kind.AMMP and row.cell.width > 1]
    shown = [row for row in ammp if visible(row.cell)]
    to_recover = [row for row in shown if _recoverable(table, row.cell)]
    idle = [row for row in shown if row not in to_recover]
    blind = [row for row in ammp if row not in shown]
    gobmk = [row for row in managed if row.cell.job.kind is Kind.GOBMK]

    def kept(row: Row) -> Interval:
        return table.managed_over_unmanaged(row.cell)

    return Claim(
        id="S5",
        title="vcpud recovers what can be recovered where it can see, and harms nobody",
        parts=(
            _part(
                "slowed 1.1 times or more, visibly: recovers 0.90 of what the best static joint "
                "assignment recovers",
                to_recover,
                lambda row: table.recovered(row.cell),
                at_least=0.90,
            ),
            _part("nothing to recover: 0.98 of unmanaged", idle, kept, at_least=NO_LOSS),
            _part(
                "blind (active spin on Xen; anything without a guest reporter): 0.98 of unmanaged",
                blind,
                kept,
                at_least=NO_LOSS,
            ),
            _part("gobmk-like: 0.98 of unmanaged", gobmk, kept, at_least=NO_LOSS),
        ),
        notes=(_recovery(table, to_recover),),
    )


def _recoverable(table: Table, cell: Cell) -> bool:
    """Whether a cell is slowed, and a static assignment does better."""
    before = table.unmanaged(cell)
    return (
        slowed(table.rows[before])
        and table.static_over_unmanaged(before).value >= WORTH_RECOVERING
    )


def _recovery(table: Table, rows: Sequence[Row]) -> str:
    if not rows:
        return "no cell had anything to recover"
    before = [table.rows[table.unmanaged(row.cell)].share.value for row in rows]
    best = [mean(table.statics[table.unmanaged(row.cell)].shares).value for row in rows]
    after = [row.share.value for row in rows]
    return (
        f"share of fair, mean of the {len(rows)} cells with something to recover: unmanaged "
        f"{fmean(before):.2f}, vcpud {fmean(after):.2f}, best static {fmean(best):.2f}"
    )


def claims(table: Table) -> tuple[Claim, ...]:
    """All five."""
    return tuple(judge(table) for judge in (s1, s2, s3, s4, s5))
