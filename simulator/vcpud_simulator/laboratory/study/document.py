"""A study as JSON and as text for people.

Pure.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vcpud_simulator.laboratory.statistics import Interval, mean
from vcpud_simulator.laboratory.study.cells import COMPARED, Cell, Job
from vcpud_simulator.laboratory.study.grid import Plan
from vcpud_simulator.laboratory.study.judging import Claim, Part
from vcpud_simulator.laboratory.study.table import Cost, Row, Table

_WIDTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A study that is done.

    Attributes:
        plan: What was simulated.
        policy: What vcpud decided by.
        table: What was measured.
        claims: What follows.
        wall_s: How long it took.
        cost: What simulating it took.
        resumed: Whether it goes on from an earlier one, whose time `wall_s` lacks.
    """

    plan: Plan
    policy: str
    table: Table
    claims: tuple[Claim, ...]
    wall_s: float
    cost: Cost = field(default_factory=Cost)
    resumed: bool = False


def document(outcome: Outcome) -> dict[str, Any]:
    """What a study has found, for machines."""
    return {
        "plan": outcome.plan.name,
        "policy": outcome.policy,
        "wall_s": round(outcome.wall_s, 1),
        "resumed": outcome.resumed,
        "runs": outcome.cost.runs,
        "simulated_s": round(outcome.cost.simulated_s, 1),
        "cpu_s": round(outcome.cost.cpu_s, 1),
        "claims": [claim.document() for claim in outcome.claims],
        "cells": [_cell(outcome.table, row) for row in outcome.table],
    }


def _cell(table: Table, row: Row) -> dict[str, Any]:
    cell = row.cell
    found: dict[str, Any] = {
        "workload": str(cell.job.kind),
        "grain_ms": cell.job.grain_ms or None,
        "wait": str(cell.job.wait),
        "system": str(cell.system),
        "width": cell.width,
        "overcommit": cell.overcommit,
        "domains": cell.domains,
        "vcpus": cell.vcpus,
        "host_noise": cell.noise,
        "platform": cell.platform or None,
        "extrapolated": cell.extrapolated,
        "seeds": len(row.shares),
        **_interval("share_of_fair", row.share),
        **_interval("slowdown", row.slowdown),
        "share_of_worst_domain": mean(row.worst_shares).value if row.worst_shares else None,
        "spin_pcpus": row.spin_pcpus,
        "run_delay_pcpus": row.run_delay_pcpus,
        "active_vcpus": row.active_vcpus,
        "changes": row.changes,
    }
    best = table.statics.get(cell)
    if best is not None:
        found["best_static"] = {
            "counts": list(best.counts),
            "tried": best.tried,
            **_interval("share_of_fair", mean(best.shares)),
        }
    return found


def _interval(name: str, interval: Interval) -> dict[str, Any]:
    return {name: interval.value, f"{name}_ci": interval.pair()}


# ---------------------------------------------------------------------- for people


def text(outcome: Outcome) -> str:
    """The whole study: both tables, what S5 is about, and the claims."""
    plan, table = outcome.plan, outcome.table
    return "\n".join(
        (
            f"{plan.name} study: progress as a share of the fair one; vcpud: {outcome.policy}",
            "* domains wider than the product allowed (ESX 2.x: 2 vCPUs, 3.x: 4)",
            "~ a 95 % interval wider than 0.1",
            *_tables(table, plan, noise=False),
            "",
            "With host noise (1 % of each pCPU in short bursts):",
            *_tables(table, plan, noise=True),
            "",
            *_recovery(table),
            "",
            *_claims(outcome.claims),
        )
    )


def _tables(table: Table, plan: Plan, *, noise: bool) -> Iterator[str]:
    rows = {row.cell: row for row in table}
    cells = plan.table(noise=noise)
    for job in dict.fromkeys(cell.job for cell in cells):
        yield ""
        yield from _block(rows, [cell for cell in cells if cell.job == job], job, plan)


def _block(rows: dict[Cell, Row], cells: list[Cell], job: Job, plan: Plan) -> Iterator[str]:
    span = 7 * len(plan.overcommits)
    yield str(job)
    yield "vCPUs  " + "  ".join(f"{system:<{span}}" for system in COMPARED).rstrip()
    heads = "".join(f"{overcommit:>5}x " for overcommit in plan.overcommits)
    yield "       " + "  ".join([heads] * len(COMPARED)).rstrip()
    for width in plan.widths:
        parts = []
        for system in COMPARED:
            chosen = [cell for cell in cells if (cell.width, cell.system) == (width, system)]
            parts.append("".join(_shown(rows[cell]) for cell in chosen))
        yield f"{width:>5}  " + "  ".join(parts).rstrip()


def _shown(row: Row) -> str:
    share = row.share
    wide = share.high - share.low > 0.1  # noqa: PLR2004 - as the head of the text says
    return f"{share.value:>6.2f}{'~' if wide else '*' if row.cell.extrapolated else ' '}"


def _recovery(table: Table) -> Iterator[str]:
    yield "What a static assignment and vcpud recover (share of fair):"
    yield f"{'unmanaged':>10}{'vcpud':>8}{'static':>8}  active vCPUs of each domain, cell"
    for row in table:
        if not row.cell.system.managed:
            continue
        before = table.unmanaged(row.cell)
        best = table.statics.get(before)
        if best is None:
            continue
        counts = ",".join(str(count) for count in dict.fromkeys(best.counts))
        yield (
            f"{table.rows[before].share.value:>10.2f}{row.share.value:>8.2f}"
            f"{mean(best.shares).value:>8.2f}  {row.active_vcpus / row.cell.domains:.1f} "
            f"(best {counts}); {row.cell}"
        )


def _claims(claims: Sequence[Claim]) -> Iterator[str]:
    for claim in claims:
        yield f"{claim.id}  {str(claim.verdict).upper()}: {claim.title}"
        for part in claim.parts:
            yield from _wrapped(f"{part.verdict}: {part.describe()}{_figure(part)}")
        for note in claim.notes:
            yield from _wrapped(note)


def _figure(part: Part) -> str:
    worst = part.worst
    if worst is None:
        return ""
    low, high = (f"{end:.3g}" for end in (worst.figure.low, worst.figure.high))
    return f" [{low}, {high}], bound {part.bound}"


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, _WIDTH, initial_indent="    - ", subsequent_indent="      ")
