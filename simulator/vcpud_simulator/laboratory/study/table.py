"""What was measured, cell by cell, normalised to fair share: all that claims are judged by.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from vcpud_simulator.laboratory.statistics import Interval, mean, ratio
from vcpud_simulator.laboratory.study.cells import UNMANAGED, Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell, over its seeds.

    Attributes:
        cell: Which.
        shares: Progress as a share of the fair one, by seed.
        worst_shares: The same of the domain that got least done.
        spin_pcpus: Burnt waiting, mean.
        run_delay_pcpus: Waited for pCPUs, mean.
        active_vcpus: Mean, all domains together.
        changes: Changes vcpud made, mean.
    """

    cell: Cell
    shares: tuple[float, ...]
    worst_shares: tuple[float, ...] = ()
    spin_pcpus: float = 0.0
    run_delay_pcpus: float = 0.0
    active_vcpus: float = 0.0
    changes: float = 0.0

    @property
    def share(self) -> Interval:
        """Progress as a share of the fair one."""
        return mean(self.shares)

    @property
    def slowdown(self) -> Interval:
        """How many times slower than the fair one."""
        return ratio([(1.0, share) for share in self.shares])


@dataclass(frozen=True, slots=True, kw_only=True)
class Static:
    """The best constant joint assignment of a cell's domains.

    Attributes:
        counts: Active vCPUs of each domain.
        shares: What it gets done, by seed; measured apart from the runs it was chosen by.
        tried: How many assignments it is the best of.
    """

    counts: tuple[int, ...]
    shares: tuple[float, ...]
    tried: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All rows.

    Attributes:
        rows: By cell.
        statics: Best static assignments, by unmanaged cell.
    """

    rows: Mapping[Cell, Row]
    statics: Mapping[Cell, Static] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows.values())

    def chosen(self, **facts: Any) -> list[Row]:
        """Rows whose cell has these facts, other systems' cells left out."""
        return [
            row
            for row in self
            if all(getattr(row.cell, name) == value for name, value in facts.items())
        ]

    def over(self, first: Cell, second: Cell) -> Interval:
        """Ratio of the progress in two cells, paired by seed."""
        return ratio(_pairs(self.rows[first].shares, self.rows[second].shares))

    def unmanaged(self, cell: Cell) -> Cell:
        """The same host without vcpud."""
        return cell.on(UNMANAGED[cell.system])

    def managed_over_unmanaged(self, cell: Cell) -> Interval:
        """What vcpud made of a managed cell."""
        return self.over(cell, self.unmanaged(cell))

    def static_over_unmanaged(self, cell: Cell) -> Interval:
        """What the best static assignment makes of an unmanaged cell."""
        return ratio(_pairs(self.statics[cell].shares, self.rows[cell].shares))

    def recovered(self, cell: Cell) -> Interval:
        """What a managed cell recovers, in units of what the best static assignment does.

        That unit is the mean over seeds: in a single one it may be next to nothing.
        """
        before = self.rows[self.unmanaged(cell)].shares
        best = self.statics[self.unmanaged(cell)].shares
        unit = fmean(most - without for most, without in _pairs(best, before))
        found = [now - without for now, without in _pairs(self.rows[cell].shares, before)]
        return mean([gain / unit for gain in found])


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a study took.

    Attributes:
        runs: Simulations.
        simulated_s: Their simulated time.
        cpu_s: Processor time, of all processes; that of runs of an interrupted study included.
    """

    runs: int = 0
    simulated_s: float = 0.0
    cpu_s: float = 0.0


def _pairs(first: Iterable[float], second: Iterable[float]) -> list[tuple[float, float]]:
    return list(zip(first, second, strict=False))


def average(values: Iterable[float]) -> float:
    """The mean, 0 of nothing."""
    found = list(values)
    return fmean(found) if found else 0.0
