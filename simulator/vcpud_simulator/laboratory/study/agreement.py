"""Whether simulated guests do as the lab's real ones do, and that in words.

Two things are judged: the order of cells of one workload whose real intervals are disjoint, and
each cell's ratio to the best of its workload, which must agree within a factor of 2 where the real
ratio is 0.1 or more and of 5 below, both beyond the real interval.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from vcpud_simulator.laboratory.statistics import Interval, disjoint, mean
from vcpud_simulator.laboratory.study.reality import Lab, Task

NEAR: Final = 2.0
FAR: Final = 5.0
SMALL_RATIO: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One cell, real and simulated.

    Attributes:
        name: The workload.
        active: Active vCPUs.
        real: Ratio to the best cell of the workload, with its interval.
        simulated: Ratio to the best simulated one.
        rate: Real iterations per second.
        simulated_rate: Simulated ones.
    """

    name: str
    active: int
    real: Interval
    simulated: float
    rate: float
    simulated_rate: float

    @property
    def factor(self) -> float:
        """By how much the ratios may differ."""
        return NEAR if self.real.value >= SMALL_RATIO else FAR

    @property
    def agrees(self) -> bool:
        """Whether they do, the real interval allowed for."""
        measured = self.real.low > 0.0
        low = self.real.low if measured else self.real.value
        high = self.real.high if measured else self.real.value
        return low / self.factor <= self.simulated <= high * self.factor


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The comparison.

    Attributes:
        cells: One by one.
        ordered: Pairs of cells whose order is the real one, of those judged.
        disordered: Pairs whose order differs: workload and both counts.
    """

    cells: tuple[Compared, ...]
    ordered: int
    disordered: tuple[tuple[str, int, int], ...]

    @property
    def agrees(self) -> bool:
        """Whether everything that could be judged agrees."""
        return bool(self.cells) and not self.disordered and all(c.agrees for c in self.cells)


def judge(lab: Lab, simulated: Mapping[Task, float]) -> Agreement:
    """Compare real cells with simulated ones."""
    cells: list[Compared] = []
    ordered, disordered = 0, []
    for name, row in lab.cells.items():
        rates = {active: mean(_rates(simulated, name, active)).value for active in row}
        best = max(cell.value for cell in row.values())
        best_simulated = max(rates.values())
        cells += [
            Compared(
                name=name,
                active=active,
                real=Interval(value=cell.value / best, low=cell.low / best, high=cell.high / best),
                simulated=rates[active] / best_simulated if best_simulated else 0.0,
                rate=cell.value,
                simulated_rate=rates[active],
            )
            for active, cell in sorted(row.items())
        ]
        for (one, first), (two, second) in combinations(sorted(row.items()), 2):
            if disjoint(first, second):
                if (first.value - second.value) * (rates[one] - rates[two]) > 0:
                    ordered += 1
                else:
                    disordered.append((name, one, two))
    return Agreement(cells=tuple(cells), ordered=ordered, disordered=tuple(disordered))


def _rates(simulated: Mapping[Task, float], name: str, active: int) -> Sequence[float]:
    return [rate for task, rate in simulated.items() if (task.name, task.active) == (name, active)]


# ---------------------------------------------------------------------- for people and machines


def document(lab: Lab, found: Agreement) -> dict[str, Any]:
    """The comparison for machines."""
    return {
        "lab_commit": lab.commit,
        "host_kernel": lab.kernel,
        "scheduler": lab.bench.scheduler,
        "grain_ns": lab.bench.costs.grain_ns,
        "section_ns": lab.bench.costs.section_ns,
        "agrees": found.agrees,
        "order_judged": found.ordered + len(found.disordered),
        "order_differs": [list(pair) for pair in found.disordered],
        "cells": [
            {
                "scenario": cell.name,
                "active": cell.active,
                "real_rate": cell.rate,
                "real_ratio": cell.real.value,
                "real_ratio_ci": cell.real.pair(),
                "simulated_rate": cell.simulated_rate,
                "simulated_ratio": cell.simulated,
                "factor": cell.factor,
                "agrees": cell.agrees,
            }
            for cell in found.cells
        ],
    }


def text(lab: Lab, found: Agreement) -> str:
    """The comparison for people."""
    return "\n".join(_lines(lab, found))


def _lines(lab: Lab, found: Agreement) -> Iterator[str]:
    costs = lab.bench.costs
    yield (
        f"Real guests (Linux {lab.kernel}, lab {lab.commit[:12]}) beside simulated ones "
        f"({lab.bench.scheduler}, grain {costs.grain_ns} ns, section {costs.section_ns} ns):"
    )
    yield (
        f"{'workload':<24}{'active':>7}{'real /s':>12}{'simulated':>12}"
        f"{'ratio':>8}{'simulated':>11}  agrees"
    )
    for cell in found.cells:
        yield (
            f"{cell.name:<24}{cell.active:>7}{cell.rate:>12,.1f}{cell.simulated_rate:>12,.1f}"
            f"{cell.real.value:>8.3f}{cell.simulated:>11.3f}  "
            f"{'yes' if cell.agrees else 'no'} (factor {cell.factor:g})"
        )
    agree = sum(cell.agrees for cell in found.cells)
    yield (
        f"{agree} of {len(found.cells)} ratios agree; of "
        f"{found.ordered + len(found.disordered)} pairs with disjoint intervals "
        f"{found.ordered} are in the real order"
    )
    for name, one, two in found.disordered:
        yield f"  order differs: {name} at {one} and {two} active"
