"""What a scenario's host is like over time: stretches in which nothing changes by itself.

Phases, bursts, arrivals and departures divide a run into stretches; those alike are one *state*.
An allocation that is right for a state is found on the scenario frozen in it. Stretches shorter
than half a minute cannot be followed by anything that takes seconds to act: they stay undivided.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from vcpud.units import NS_PER_S
from vcpud_simulator.scenario import DomainPlan, Scenario
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.bursty import Bursty
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.noise import Noise
from vcpud_simulator.workloads.phased import Phased

SHORTEST_NS: Final = 30 * NS_PER_S
"""A stretch is told apart only from this length on."""
_BUSY = 0

State = tuple[int | None, ...]
"""For each domain the number of what it does, None while it is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """From one change to the next."""

    from_ns: int
    until_ns: int
    state: State

    @property
    def length_ns(self) -> int:
        return self.until_ns - self.from_ns


def turns(plan: DomainPlan, end_ns: int) -> Iterator[tuple[int, int, int]]:
    """What a domain does from when to when, by number, while it is there."""
    leaves_ns = end_ns if plan.departs_ns is None else min(end_ns, plan.departs_ns)
    parts = _parts(plan.workload)
    offset_ns = plan.workload.offset_ns if isinstance(plan.workload, Bursty) else plan.arrives_ns
    cycle_ns = sum(parts)
    at_ns, number = plan.arrives_ns, 0
    if cycle_ns and at_ns != offset_ns:
        into_ns = (at_ns - offset_ns) % cycle_ns
        begun_ns = at_ns - into_ns
        while begun_ns + parts[number] <= at_ns:
            begun_ns += parts[number]
            number += 1
        at_ns = begun_ns
    while at_ns < leaves_ns:
        until_ns = min(leaves_ns, at_ns + parts[number]) if parts else leaves_ns
        yield max(at_ns, plan.arrives_ns), until_ns, number
        at_ns, number = until_ns, (number + 1) % max(1, len(parts))


def _parts(workload: Workload) -> tuple[int, ...]:
    """How long each of its turns lasts; empty where it has none."""
    if isinstance(workload, Phased):
        return tuple(phase.duration_ns for phase in workload.phases)
    if isinstance(workload, Bursty):
        busy_ns = round(workload.period_ns * workload.busy_ratio)
        parts = (busy_ns, workload.period_ns - busy_ns)
        return parts if all(parts) else ()
    return ()


def stretches(scenario: Scenario) -> tuple[Stretch, ...]:
    """The run from its beginning to its end, divided where something long enough changes."""
    end_ns = scenario.warmup_ns + scenario.duration_ns
    rows = [
        list(turns(plan, end_ns))
        if _followed(plan.workload)
        else [(plan.arrives_ns, end_ns if plan.departs_ns is None else plan.departs_ns, 0)]
        for plan in scenario.each()
    ]
    edges = {0, end_ns}
    for row in rows:
        for from_ns, until_ns, _ in row:
            edges |= {min(from_ns, end_ns), min(until_ns, end_ns)}
    found: list[Stretch] = []
    for from_ns, until_ns in pairwise(sorted(edges)):
        state = tuple(
            next((number for begin_ns, end, number in row if begin_ns <= from_ns < end), None)
            for row in rows
        )
        found.append(Stretch(from_ns=from_ns, until_ns=until_ns, state=state))
    return tuple(found)


def divided(scenario: Scenario) -> bool:
    """Whether there is more than one state."""
    return len({stretch.state for stretch in stretches(scenario)}) > 1


def frozen(scenario: Scenario, state: State) -> Scenario:
    """The scenario as if it were always in that state, with whoever is there then."""
    if not divided(scenario):
        return scenario
    domains = tuple(
        replace(plan, workload=_turn(plan, number), arrives_ns=0, departs_ns=None)
        for plan, number in zip(scenario.each(), state, strict=True)
        if number is not None
    )
    return replace(scenario, domains=domains)


def _turn(plan: DomainPlan, number: int) -> Workload:
    workload = plan.workload
    if not _followed(workload):
        return workload
    if isinstance(workload, Phased):
        return workload.phases[number].workload
    if isinstance(workload, Bursty) and number == _BUSY:
        return GobmkLike(copies=workload.threads, unit_ns=workload.unit_ns)
    return Noise(burst_ns=0)


def _followed(workload: Workload) -> bool:
    """Whether each of its turns lasts long enough to be told apart."""
    return min(_parts(workload), default=0) >= SHORTEST_NS


def cycle_ns(scenario: Scenario) -> int:
    """The longest cycle of what changes too fast to be told apart, 0 without any."""
    return max(
        (sum(_parts(plan.workload)) for plan in scenario.domains if not _followed(plan.workload)),
        default=0,
    )


def hurried(scenario: Scenario, most_ns: int) -> Scenario:
    """The same load, but what changes too fast to be told apart repeats itself after so long at most.

    Everybody's changes become faster by the same factor, so that who is busy beside whom stays.
    """
    factor = most_ns / max(most_ns, cycle_ns(scenario))
    if factor == 1:
        return scenario
    domains = tuple(
        plan
        if _followed(plan.workload)
        else replace(plan, workload=_faster(plan.workload, factor))
        for plan in scenario.domains
    )
    return replace(scenario, domains=domains)


def _faster(workload: Workload, factor: float) -> Workload:
    if isinstance(workload, Phased):
        phases = tuple(
            replace(phase, duration_ns=round(phase.duration_ns * factor))
            for phase in workload.phases
        )
        return replace(workload, phases=phases)
    if isinstance(workload, Bursty):
        return replace(
            workload,
            period_ns=round(workload.period_ns * factor),
            offset_ns=round(workload.offset_ns * factor),
        )
    return workload
