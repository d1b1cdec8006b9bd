"""The order in which a study is simulated: what must be known first, and what depends on it.

1. Every cell, and the undisturbed team it is normalised by; seed by seed, so that an interrupted
   study has something to say of every cell; of a seed the longest first, so that cores end together.
2. Where a cell is slowed and vcpud is judged: every static joint assignment for a short window,
   then the best one over all seeds, in runs of its own.
3. More seeds where an interval straddles a bound, and static assignments for what they show slowed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory.parallel import Cache, run_all
from vcpud_simulator.laboratory.study.cells import (
    GOBMK,
    UNMANAGED,
    Cell,
    Kind,
    System,
    assignments,
)
from vcpud_simulator.laboratory.study.claims import claims, slowed, visible
from vcpud_simulator.laboratory.study.grid import Plan
from vcpud_simulator.laboratory.study.judging import Claim, straddling
from vcpud_simulator.laboratory.study.runs import (
    Reading,
    Run,
    effort,
    fair_rate,
    measure,
    run_of,
)
from vcpud_simulator.laboratory.study.table import Cost, Row, Static, Table, average

SCREENING_SEED: Final = 1_000
"""Static assignments are chosen by other runs than those they are measured in."""


@dataclass(slots=True, kw_only=True)
class Campaign:
    """A study under way.

    Attributes:
        plan: What is to be simulated.
        policy: What vcpud decides by.
        jobs: Processes at a time, None for one a core.
        cache: Where results are kept, or None.
        resume: Whether to take what is there.
        readings: What is known so far.
        seeds: Runs of cells that have more than the plan's.
        choices: Best static assignments, and of how many, by unmanaged cell.
    """

    plan: Plan
    policy: str
    jobs: int | None = None
    cache: Cache | None = None
    resume: bool = False
    readings: dict[Run, Reading] = field(default_factory=dict)
    seeds: dict[Cell, int] = field(default_factory=dict)
    choices: dict[Cell, tuple[tuple[int, ...], int]] = field(default_factory=dict)

    def run(self) -> tuple[Table, tuple[Claim, ...]]:
        """All of it."""
        cells = self.plan.cells()
        self._simulate(self._runs(cells), "cells")
        self._choose(self._table())
        table = self._table()
        unsure = straddling(claims(table))
        if unsure and self.plan.most_seeds > self.plan.seeds:
            # All at once: to stop as soon as a verdict pleases would bias it.
            partnered = {one for cell in unsure for one in partners(cell)}
            self.seeds = dict.fromkeys(partnered & table.rows.keys(), self.plan.most_seeds)
            self._simulate(self._runs(cells), "more seeds")
            # With them a cell may be slowed that did not seem to be.
            self._choose(self._table())
            table = self._table()
        return table, claims(table)

    @property
    def cost(self) -> Cost:
        """What simulating all of it took."""
        return Cost(
            runs=len(self.readings),
            simulated_s=sum(run.warmup_ns + run.window_ns for run in self.readings) / NS_PER_S,
            cpu_s=sum(reading.cpu_s for reading in self.readings.values()),
        )

    def _seeds(self, cell: Cell) -> int:
        return self.seeds.get(cell, self.plan.seeds)

    def _run_of(
        self, cell: Cell, seed: int, counts: tuple[int, ...] | None = None, *, short: bool = False
    ) -> Run:
        return run_of(
            cell, seed, self.plan.timing, policy=self.policy, counts=counts, screening=short
        )

    def _runs(self, cells: Iterable[Cell]) -> list[Run]:
        """Of all cells and of what they are compared with."""
        found: list[Run] = []
        for cell in cells:
            for seed in range(1, self._seeds(cell) + 1):
                found.append(self._run_of(cell, seed))
                if cell.job.kind is not Kind.GOBMK:
                    found.append(self._run_of(cell.bare, seed))
                if cell in self.choices:
                    counts, _ = self.choices[cell]
                    found.append(self._run_of(cell, seed, counts))
        return found

    def _simulate(self, runs: Iterable[Run], label: str) -> None:
        missing = [run for run in dict.fromkeys(runs) if run not in self.readings]
        missing.sort(key=lambda run: (run.seed, -effort(run)))
        self.readings |= run_all(
            measure,
            missing,
            jobs=self.jobs,
            cache=self.cache,
            resume=self.resume,
            label=f"{self.plan.name} study: {label}",
        )

    def _choose(self, table: Table) -> None:
        """Find the best static assignment of every slowed cell that vcpud is judged by."""
        judged = [
            before
            for row in table
            if row.cell.system.managed and visible(row.cell)
            for before in (table.unmanaged(row.cell),)
            if slowed(table.rows[before]) and before not in self.choices
        ]
        tries = {
            cell: [
                (counts, self._run_of(cell, SCREENING_SEED, counts, short=True))
                for counts in assignments(cell)
            ]
            for cell in judged
        }
        self._simulate((run for found in tries.values() for _, run in found), "static assignments")
        for cell, found in tries.items():
            best, _ = max(found, key=lambda item: self.readings[item[1]].rate)
            self.choices[cell] = (best, len(found))
        self._simulate(self._runs(judged), "best static")

    # ------------------------------------------------------------------ what is known

    def _table(self) -> Table:
        rows = {cell: self._row(cell) for cell in self.plan.cells()}
        statics = {
            cell: Static(
                counts=counts,
                tried=tried,
                shares=tuple(
                    self._share(cell, self._run_of(cell, seed, counts), seed)
                    for seed in range(1, self._seeds(cell) + 1)
                ),
            )
            for cell, (counts, tried) in self.choices.items()
        }
        return Table(rows=rows, statics=statics)

    def _row(self, cell: Cell) -> Row:
        seeds = range(1, self._seeds(cell) + 1)
        found = [self.readings[self._run_of(cell, seed)] for seed in seeds]
        return Row(
            cell=cell,
            shares=tuple(self._share(cell, self._run_of(cell, seed), seed) for seed in seeds),
            worst_shares=tuple(
                reading.worst_rate * cell.domains / self._fair_rate(cell, seed)
                for seed, reading in zip(seeds, found, strict=True)
            ),
            spin_pcpus=average(reading.spin_pcpus for reading in found),
            run_delay_pcpus=average(reading.run_delay_pcpus for reading in found),
            active_vcpus=average(reading.active_vcpus for reading in found),
            changes=average(reading.changes for reading in found),
        )

    def _share(self, cell: Cell, run: Run, seed: int) -> float:
        return self.readings[run].rate / self._fair_rate(cell, seed)

    def _fair_rate(self, cell: Cell, seed: int) -> float:
        independent = cell.job.kind is Kind.GOBMK
        bare = None if independent else self.readings[self._run_of(cell.bare, seed)]
        return fair_rate(cell, bare)


def partners(cell: Cell) -> list[Cell]:
    """Cells whose seeds a claim pairs with this one's, itself included."""
    found = [cell]
    if cell.system.managed:
        found.append(cell.on(UNMANAGED[cell.system]))
    if cell.system is System.ESX_RELAXED and cell.job.kind is Kind.AMMP:
        found.append(replace(cell, job=GOBMK))
    return found
