"""How far a domain got, as one figure that can be compared between runs of the same scenario.

Units of work a second. A domain that does one thing after another does not count in one unit: its
figure is the geometric mean of the rates of each of them, by the time each was on. A rate of
nothing is taken for half a unit, so that it still has a logarithm.

Pure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory.compare.states import turns
from vcpud_simulator.scenario import DomainPlan, Scenario
from vcpud_simulator.workloads.bursty import Bursty

NOTHING = 0.5
"""Units of work that stand for none."""

Seconds = Sequence[tuple[int, int, float]]
"""From when, until when, and units of work in between."""


def progress(
    scenario: Scenario, work: Mapping[str, Seconds], *, from_ns: int, until_ns: int
) -> dict[str, float]:
    """Every domain's progress between two instants, those left out that were not there.

    Args:
        scenario: Says who does what when.
        work: Second by second, by domain.
        from_ns: Beginning.
        until_ns: End.
    """
    found = {}
    for plan in scenario.each():
        figure = _progress(plan, work.get(plan.name, ()), from_ns, until_ns)
        if figure is not None:
            found[plan.name] = figure
    return found


def _progress(plan: DomainPlan, work: Seconds, from_ns: int, until_ns: int) -> float | None:
    units: defaultdict[int, float] = defaultdict(float)
    spent_ns: defaultdict[int, int] = defaultdict(int)
    parts = list(turns(plan, until_ns))
    if isinstance(plan.workload, Bursty):
        parts = [(begin_ns, end_ns, 0) for begin_ns, end_ns, _ in parts]
    rows = [row for row in work if row[1] > from_ns and row[0] < until_ns]
    place = 0
    for begin_ns, end_ns, number in parts:
        spent_ns[number] += max(0, min(end_ns, until_ns) - max(begin_ns, from_ns))
        while place < len(rows) and rows[place][1] <= begin_ns:
            place += 1
        for row_from_ns, row_until_ns, done in rows[place:]:
            if row_from_ns >= end_ns:
                break
            overlap_ns = min(row_until_ns, end_ns, until_ns) - max(row_from_ns, begin_ns, from_ns)
            if overlap_ns > 0:
                units[number] += done * overlap_ns / (row_until_ns - row_from_ns)
    total_ns = sum(spent_ns.values())
    if total_ns <= 0:
        return None
    logs = sum(
        time_ns * math.log(max(units[number], NOTHING) * NS_PER_S / time_ns)
        for number, time_ns in spent_ns.items()
        if time_ns
    )
    return math.exp(logs / total_ns)
