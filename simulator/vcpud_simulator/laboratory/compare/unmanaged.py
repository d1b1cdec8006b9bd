"""A host that nobody manages, with constant numbers of vCPUs, as a task of a comparison asks for it.

Nothing here imports the control loop or a policy, so that what was found of such hosts, the oracle's
search above all, is kept when those change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vcpud_simulator.catalogue import SCHEDULERS
from vcpud_simulator.laboratory.compare import states, suite
from vcpud_simulator.laboratory.compare.tasks import Counts, Outcome, Task
from vcpud_simulator.meter import DomainResult, Meter, Point
from vcpud_simulator.platform import PLATFORMS
from vcpud_simulator.scenario import Scenario
from vcpud_simulator.world import World


def observe(task: Task) -> Outcome:
    """Run a task without a policy."""
    scenario = asked(task)
    assignment = None if task.counts is None else dict(task.counts)
    world = World(scenario, seed=task.seed, trace=None, assignment=assignment)
    window_ns = (scenario.warmup_ns, scenario.warmup_ns + task.duration_ns)
    meter = Meter(world, *window_ns, None, None)
    world.engine.run_until(window_ns[1])
    return measured(scenario, window_ns, meter.results(), meter.timeline)


def asked(task: Task) -> Scenario:
    """The scenario that a task means."""
    scenario = suite.load(task.key)
    if task.state is not None:
        scenario = states.frozen(scenario, task.state)
    if task.cycle_ns is not None:
        scenario = states.hurried(scenario, task.cycle_ns)
    if task.warmup_ns is not None:
        scenario = replace(scenario, warmup_ns=task.warmup_ns)
    if task.counts is not None:
        scenario = compensated(scenario, dict(task.counts))
    return scenario


def compensated(scenario: Scenario, counts: Mapping[str, int]) -> Scenario:
    """Weights such that fewer vCPUs are no smaller share, where a weight counts per vCPU.

    Where nobody can set one nothing makes up for what a domain loses of its share.
    """
    scheduler = SCHEDULERS[scenario.scheduler](**scenario.scheduler_options)
    if scheduler.weight_per_domain or not PLATFORMS[scenario.platform].sets_weights:
        return scenario
    domains = tuple(
        replace(
            plan,
            weight=max(1, round(plan.weight * home / counts.get(plan.name, home))),
        )
        for plan in scenario.each()
        for home in [plan.home_vcpus]
    )
    return replace(scenario, domains=domains)


def measured(
    scenario: Scenario,
    window_ns: tuple[int, int],
    domains: Mapping[str, DomainResult],
    timeline: Mapping[str, Sequence[Point]],
) -> Outcome:
    """What came of a run, but for what was decided in it."""
    work = {}
    for plan in scenario.each():
        before_ns, rows = plan.arrives_ns, []
        for point in timeline.get(plan.name, ()):
            rows.append((before_ns, point.t_ns, point.rate * (point.t_ns - before_ns) / 1e9))
            before_ns = point.t_ns
        work[plan.name] = tuple(rows)
    return Outcome(
        window_ns=window_ns,
        work=work,
        run_pcpus={name: one.run_pcpus for name, one in domains.items()},
        entitled_pcpus={name: one.entitled_pcpus for name, one in domains.items()},
        answering_pcpus={
            name: one.answering_pcpus for name, one in domains.items() if one.answering_pcpus
        },
        responses_ns={
            name: dict(one.responses_ns) for name, one in domains.items() if one.responses_ns
        },
        finals=_finals(scenario, window_ns, timeline),
    )


def _finals(
    scenario: Scenario, window_ns: tuple[int, int], timeline: Mapping[str, Sequence[Point]]
) -> tuple[tuple[states.State, Counts], ...]:
    """Where each state was left last."""
    begin_ns, end_ns = window_ns
    found: dict[states.State, Counts] = {}
    for stretch in states.stretches(replace(scenario, duration_ns=end_ns - begin_ns)):
        found.pop(stretch.state, None)
        found[stretch.state] = tuple(
            (plan.name, there[-1].active_vcpus)
            for plan, number in zip(scenario.each(), stretch.state, strict=True)
            if number is not None
            and (
                there := [
                    point
                    for point in timeline.get(plan.name, ())
                    if stretch.from_ns < point.t_ns <= stretch.until_ns
                ]
            )
        )
    return tuple(found.items())
