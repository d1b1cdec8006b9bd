"""One simulation of a comparison: what is asked of a worker, and what it hands back.

A task is small, hashable, and says everything, so that results can be kept and looked up: the
scenario by its key and the hash of what that stood for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final, Protocol

from vcpud import policy as policies
from vcpud.errors import VcpudError
from vcpud.limits import Limits
from vcpud.record import Purpose
from vcpud.units import NS_PER_S
from vcpud_simulator import runner
from vcpud_simulator.catalogue import SCHEDULERS
from vcpud_simulator.laboratory.compare import states, suite
from vcpud_simulator.laboratory.compare.changes import Change
from vcpud_simulator.laboratory.compare.heard import Heard, Why
from vcpud_simulator.laboratory.compare.scripted import Counts, HeldBack, Script, Scripted
from vcpud_simulator.laboratory.pace import UNBOUND, limits_of
from vcpud_simulator.platform import PLATFORMS
from vcpud_simulator.scenario import Scenario

LEAD_NS: Final = 3 * NS_PER_S
"""How long before measuring the loop begins at most. That all guests have just begun, together, is nothing a real one
meets: it leaves guests alone that are booting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Domains that are left as they are for a while, against the policy's will."""

    names: tuple[str, ...]
    from_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A run.

    Attributes:
        key: The scenario, as `suite.load` knows it.
        digest: Of the scenario.
        seed: Of all chance.
        duration_ns: What is measured.
        warmup_ns: Before it; None for the scenario's own.
        cycle_ns: How soon what changes too fast to be told apart repeats itself; None for as it is.
        state: The state it is frozen in, or None for the scenario as it is.
        policy: Who manages the host; empty for nobody.
        options: Of the policy.
        counts: Constant active vCPUs, with weights compensated; None for all.
        script: Counts that change at given instants.
        hold: What the policy may not do.
    """

    key: str
    digest: str
    seed: int
    duration_ns: int
    warmup_ns: int | None = None
    cycle_ns: int | None = None
    state: states.State | None = None
    policy: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    counts: Counts | None = None
    script: Script = ()
    hold: Hold | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Domains resized together."""

    at_ns: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        window_ns: Beginning and end of what was measured.
        work: From when, until when, and units of work, second by second, by domain.
        run_pcpus: Processor time used, by domain.
        entitled_pcpus: What each was entitled to.
        answering_pcpus: Processor time that its answers needed, of who was asked.
        responses_ns: Response times by percentile, of domains that have any.
        decisions: What the policy decided and had begun.
        changes: Changes of vCPUs that were begun, for whatever reason.
        finals: For each state of the host the active vCPUs at the end of its last stretch, in order.
        why: Why each domain is as it is, where a policy was at work, by domain.
    """

    window_ns: tuple[int, int]
    work: Mapping[str, tuple[tuple[int, int, float], ...]]
    run_pcpus: Mapping[str, float]
    entitled_pcpus: Mapping[str, float]
    responses_ns: Mapping[str, Mapping[int, int]]
    decisions: tuple[Decision, ...]
    changes: tuple[Change, ...]
    finals: tuple[tuple[states.State, Counts], ...]
    answering_pcpus: Mapping[str, float] = field(default_factory=dict)
    why: Mapping[str, Why] = field(default_factory=dict)


def digest(scenario: Scenario) -> str:
    """What tells scenarios apart that have the same name."""
    return hashlib.sha256(repr(scenario).encode()).hexdigest()[:16]


class Managed(Protocol):
    """A run of a policy, or of none."""

    @property
    def policy(self) -> str:
        """Entry point; empty for none."""


def modules(run: Managed) -> tuple[str, ...]:
    """Which modules make a run beside the simulator's and the loop's: those of its policy.

    A change of a policy leaves runs of others, of the unmanaged host and of the oracle what they were.
    """
    return (_module(run.policy),) if run.policy else ()


@cache
def _module(policy: str) -> str:
    [entry] = entry_points(group=policies.GROUP, name=policy)
    return entry.module


def perform(task: Task) -> Outcome:
    """Run a task, in whatever process this is.

    Raises:
        VcpudError: The policy failed: whatever came of the run is not its doing.
    """
    scenario = suite.load(task.key)
    if task.state is not None:
        scenario = states.frozen(scenario, task.state)
    if task.cycle_ns is not None:
        scenario = states.hurried(scenario, task.cycle_ns)
    if task.warmup_ns is not None:
        scenario = replace(scenario, warmup_ns=task.warmup_ns)
    policy, limits = _policy(task)
    if task.counts is not None:
        scenario = compensated(scenario, dict(task.counts))
    heard = Heard()
    result = runner.run(
        scenario,
        policy=policy,
        policy_name=task.policy or ("script" if task.script else None),
        limits=limits,
        seed=task.seed,
        duration_ns=task.duration_ns,
        managed_from_ns=max(0, scenario.warmup_ns - LEAD_NS),
        assignment=None if task.counts is None else dict(task.counts),
        recorder=heard,
        hashed=False,
    )
    if result.policy_failed:
        raise VcpudError(f"{task.policy} on {scenario.name}: {result.policy_failed}")
    return _outcome(scenario, result, heard)


def _policy(task: Task) -> tuple[Any, Limits | None]:
    if task.script:
        return Scripted(script=task.script), UNBOUND
    if not task.policy:
        return None, None
    policy = policies.load(task.policy, dict(task.options))
    limits = limits_of(policy)
    if task.hold is not None:
        hold = task.hold
        policy = HeldBack(
            policy=policy,
            names=frozenset(hold.names),
            from_ns=hold.from_ns,
            until_ns=hold.until_ns,
        )
    return policy, limits


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


def _outcome(scenario: Scenario, result: runner.RunResult, heard: Heard) -> Outcome:
    work = {}
    for plan in scenario.each():
        before_ns, rows = plan.arrives_ns, []
        for point in result.timeline.get(plan.name, ()):
            rows.append((before_ns, point.t_ns, point.rate * (point.t_ns - before_ns) / 1e9))
            before_ns = point.t_ns
        work[plan.name] = tuple(rows)
    decided: dict[str, tuple[int, dict[str, None]]] = {}
    for change in result.changes:
        if change.accepted and change.record.purpose is Purpose.DECIDE:
            _, names = decided.setdefault(change.record.decision_id, (change.at_ns, {}))
            names[change.record.name] = None
    return Outcome(
        window_ns=result.window_ns,
        work=work,
        run_pcpus={name: one.run_pcpus for name, one in result.domains.items()},
        entitled_pcpus={name: one.entitled_pcpus for name, one in result.domains.items()},
        answering_pcpus={
            name: one.answering_pcpus
            for name, one in result.domains.items()
            if one.answering_pcpus
        },
        responses_ns={
            name: dict(one.responses_ns)
            for name, one in result.domains.items()
            if one.responses_ns
        },
        decisions=tuple(
            Decision(at_ns=at_ns, names=tuple(names)) for at_ns, names in decided.values()
        ),
        changes=tuple(
            Change(
                at_ns=change.at_ns,
                domain=change.record.name,
                decision_id=change.record.decision_id,
                from_vcpus=change.record.from_vcpus,
                to_vcpus=change.record.to_vcpus,
                undoes=change.record.purpose is not Purpose.DECIDE,
                turns=change.record.decision_id in heard.turns,
            )
            for change in result.changes
            if change.accepted and change.record.from_vcpus != change.record.to_vcpus
        ),
        finals=_finals(scenario, result),
        why=heard.why(),
    )


def _finals(
    scenario: Scenario, result: runner.RunResult
) -> tuple[tuple[states.State, Counts], ...]:
    """Where each state was left last."""
    begin_ns, end_ns = result.window_ns
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
                    for point in result.timeline.get(plan.name, ())
                    if stretch.from_ns < point.t_ns <= stretch.until_ns
                ]
            )
        )
    return tuple(found.items())
