"""One run of a comparison, in whatever process that is: of a policy, of a script, or of neither."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final

from vcpud import policy as policies
from vcpud.errors import VcpudError
from vcpud.limits import Limits
from vcpud.record import Purpose
from vcpud.units import NS_PER_S
from vcpud_simulator import runner
from vcpud_simulator.laboratory.compare import unmanaged
from vcpud_simulator.laboratory.compare.changes import Change
from vcpud_simulator.laboratory.compare.heard import Heard
from vcpud_simulator.laboratory.compare.scripted import HeldBack, Scripted
from vcpud_simulator.laboratory.compare.tasks import Decision, Outcome, Task
from vcpud_simulator.laboratory.pace import UNBOUND, limits_of

LEAD_NS: Final = 3 * NS_PER_S
"""How long before measuring the loop begins at most. That all guests have just begun, together, is nothing a real one
meets: it leaves guests alone that are booting."""


def modules(task: Task) -> tuple[str, ...]:
    """Which modules make the result of a task.

    A change of a policy leaves runs of others what they were, and one of the control loop those of the
    unmanaged host and of the oracle, too.
    """
    if _alone(task):
        return (unmanaged.__name__,)
    return (__name__, module_of(task.policy)) if task.policy else (__name__,)


@cache
def module_of(policy: str) -> str:
    """The module that a policy is in."""
    [entry] = entry_points(group=policies.GROUP, name=policy)
    return entry.module


def _alone(task: Task) -> bool:
    """Whether nobody changes anything in it."""
    return not task.policy and not task.script


def perform(task: Task) -> Outcome:
    """Run a task, in whatever process this is.

    Raises:
        VcpudError: The policy failed: whatever came of the run is not its doing.
    """
    if _alone(task):
        return unmanaged.observe(task)
    scenario = unmanaged.asked(task)
    policy, limits = _policy(task)
    heard = Heard()
    result = runner.run(
        scenario,
        policy=policy,
        policy_name=task.policy or "script",
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
    outcome = unmanaged.measured(scenario, result.window_ns, result.domains, result.timeline)
    return _decided(outcome, result, heard)


def _policy(task: Task) -> tuple[Any, Limits]:
    if task.script:
        return Scripted(script=task.script), UNBOUND
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


def _decided(outcome: Outcome, result: runner.RunResult, heard: Heard) -> Outcome:
    """An outcome with what was decided, and why."""
    decided: dict[str, tuple[int, dict[str, None]]] = {}
    for change in result.changes:
        if change.accepted and change.record.purpose is Purpose.DECIDE:
            _, names = decided.setdefault(change.record.decision_id, (change.at_ns, {}))
            names[change.record.name] = None
    return replace(
        outcome,
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
        why=heard.why(),
    )
