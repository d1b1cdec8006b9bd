"""The scenarios of the literature, run seed by seed for the figures that `literature` has."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from vcpud import policy as policies
from vcpud_simulator import runner
from vcpud_simulator.laboratory.pace import limits_of
from vcpud_simulator.laboratory.study.literature import PREFIX, Case, Claim, Seen
from vcpud_simulator.reading import find_scenario, read_scenario
from vcpud_simulator.trace import Kind

GOVERNOR: Final = "steal_governor"
GOVERNOR_OPTIONS: Final = {"judged": False}
"""As published: its source has no judge of its steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run.

    Attributes:
        case: What.
        seed: Of all chance.
        definition: Hash of the scenario's file: a result of another text is not one of today's.
    """

    case: Case
    seed: int
    definition: str


class _Switches:
    """Counts context switches of the host."""

    def __init__(self) -> None:
        self.count = 0

    def record(self, when_ns: int, kind: int, vcpu: int, place: int) -> None:  # noqa: ARG002
        self.count += kind == Kind.DISPATCH


def tasks(claims: Sequence[Claim], seeds: int) -> list[Task]:
    """Everything to run, the longest first, so that no core works alone at the end."""
    cases = dict.fromkeys(case for claim in claims for case in claim.cases)
    definitions = {case: _definition(case) for case in cases}
    longest = sorted(cases, key=lambda case: -(case.window_ns or 0))
    return [
        Task(case=case, seed=seed, definition=definitions[case])
        for case in longest
        for seed in range(1, seeds + 1)
    ]


def _definition(case: Case) -> str:
    return hashlib.sha256(find_scenario(PREFIX + case.name).read_bytes()).hexdigest()[:16]


def simulate(task: Task) -> Seen:
    """Run one."""
    case = task.case
    scenario = read_scenario(find_scenario(PREFIX + case.name))
    if case.online is not None:
        domains = tuple(replace(one, online=case.online) for one in scenario.domains)
        scenario = replace(scenario, domains=domains)
    switches = _Switches() if case.switches else None
    policy = policies.load(GOVERNOR, GOVERNOR_OPTIONS) if case.governed else None
    result = runner.run(
        scenario,
        policy=policy,
        policy_name=GOVERNOR,
        limits=limits_of(policy),
        seed=task.seed,
        duration_ns=case.window_ns,
        trace=switches,
        hashed=False,
    )
    if result.policy_failed:
        raise RuntimeError(f"{case.name}: {result.policy_failed}")
    return Seen(
        rates={name: domain.rate for name, domain in result.domains.items()},
        run_pcpus={name: domain.run_pcpus for name, domain in result.domains.items()},
        responses_ns={name: dict(one.responses_ns) for name, one in result.domains.items()},
        switches=0 if switches is None else switches.count,
    )
