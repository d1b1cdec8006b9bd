"""Runs that are watched for how a policy moves: what was begun, and how long guests took to settle.

Scenarios of their own (`stability_*`) are run whole with the daemon's loop; what it began is
counted, not what it wished. After a step (somebody arrives, leaves, begins or ends to work) a domain
has *settled* when no five seconds after that make less than 0.9 of the new steady state: the median
of the last third of that stretch, or of an earlier one in the same state, whichever is more. A step
is a *first encounter* for a domain of which no change has turned out to help, the start of the run
among them, else it is *learned*: a change in vain has taught nobody what is right for it.

Pure but for `observe`, which runs a simulation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Final

from vcpud import policy as policies
from vcpud.model import Accepted, Uuid
from vcpud.record import CycleRecord, Purpose
from vcpud_simulator import runner
from vcpud_simulator.laboratory.compare import states, suite
from vcpud_simulator.laboratory.compare.changes import Change
from vcpud_simulator.laboratory.compare.heard import Heard
from vcpud_simulator.laboratory.compare.runs import module_of
from vcpud_simulator.laboratory.compare.tasks import digest
from vcpud_simulator.laboratory.reading import scenario_names
from vcpud_simulator.meter import Point

PREFIX: Final = "stability_"
STEP_TAG: Final = "steps"
"""Scenarios with this tag are about steps, the others about constant load."""
NEAR_RATIO: Final = 0.90
SPAN: Final = 5
"""Seconds that are looked at together: single ones vary by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A run that is watched.

    Attributes:
        key: The scenario.
        digest: Of the scenario.
        seed: Of all chance.
        duration_ns: What is measured, None for the scenario's own.
        policy: Who manages the host.
        options: Of the policy.
    """

    key: str
    digest: str
    seed: int
    duration_ns: int | None
    policy: str
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """How long one domain took after one step.

    Attributes:
        at_ns: When the step was.
        domain: Whose progress.
        took_s: How long until it stayed near the new steady state.
        learned: Whether a change of it had turned out to help before.
    """

    at_ns: int
    domain: str
    took_s: float
    learned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What one run showed.

    Attributes:
        key: The scenario.
        seed: Of all chance.
        length_ns: Of the run.
        changes: Those begun, in order.
        settlings: After each step; none under constant load.
    """

    key: str
    seed: int
    length_ns: int
    changes: tuple[Change, ...]
    settlings: tuple[Settling, ...]


def scenarios() -> tuple[str, ...]:
    """The scenarios that stability is judged by."""
    return tuple(name for name in scenario_names() if name.startswith(PREFIX))


def watches(
    policy: str, options: tuple[tuple[str, Any], ...], *, seeds: int, duration_ns: int | None
) -> list[Watch]:
    """Every run of one policy."""
    return [
        Watch(
            key=key,
            digest=digest(scenario),
            seed=scenario.seed + number,
            duration_ns=duration_ns,
            policy=policy,
            options=options,
        )
        for key in scenarios()
        for scenario in [suite.load(key)]
        for number in range(seeds)
    ]


class _Changes:
    """A `Recorder` of what was begun, and of what was heard of it."""

    def __init__(self) -> None:
        self.found: list[Change] = []
        self.heard = Heard()

    def record(self, record: CycleRecord) -> None:
        self.heard.record(record)
        entitled: Mapping[Uuid, float | None] = {}
        if record.changes:
            entitled = {one.uuid: one.entitled_pcpus for one in record.demand.domains}
        self.found += (
            Change(
                at_ns=record.began_ns,
                domain=change.name,
                decision_id=change.decision_id,
                from_vcpus=change.from_vcpus,
                to_vcpus=change.to_vcpus,
                entitled_pcpus=entitled.get(change.uuid),
                undoes=change.purpose is not Purpose.DECIDE,
                turns=change.decision_id in self.heard.turns,
            )
            for change in record.changes
            if isinstance(change.effect, Accepted) and change.from_vcpus != change.to_vcpus
        )


def modules(watch: Watch) -> tuple[str, ...]:
    """Which modules make the result of a run."""
    return (__name__, module_of(watch.policy))


def observe(watch: Watch) -> Observed:
    """Run it, in whatever process this is."""
    scenario = suite.load(watch.key)
    notes = _Changes()
    result = runner.run(
        scenario,
        policy=policies.load(watch.policy, dict(watch.options)),
        policy_name=watch.policy,
        seed=watch.seed,
        duration_ns=watch.duration_ns,
        recorder=notes,
    )
    end_ns = result.window_ns[1]
    found = []
    if STEP_TAG in scenario.tags:
        found = settlings(
            [
                (one.from_ns, min(one.until_ns, end_ns), one.state)
                for one in states.stretches(scenario)
                if one.from_ns < end_ns
            ],
            result.timeline,
            notes.heard.helped_at_ns,
        )
    return Observed(
        key=watch.key,
        seed=watch.seed,
        length_ns=end_ns,
        changes=tuple(notes.found),
        settlings=tuple(found),
    )


def settlings(
    stretches: Sequence[tuple[int, int, states.State]],
    timeline: Mapping[str, Sequence[Point]],
    helped_at_ns: Mapping[str, int],
) -> list[Settling]:
    """How long each domain took after each step, those left out that make nothing then.

    Args:
        stretches: From when until when the host is in which state.
        timeline: Points of a second, by domain.
        helped_at_ns: When a change was first found to have helped, by domain.
    """
    found = []
    for domain, points in timeline.items():
        best: dict[states.State, float] = {}
        for from_ns, until_ns, state in stretches:
            rates = [point.rate for point in points if from_ns < point.t_ns <= until_ns]
            if len(rates) < 3 * SPAN:
                continue
            best[state] = max(best.get(state, 0.0), median(rates[-len(rates) // 3 :]))
            if best[state] > 0:
                found.append(
                    Settling(
                        at_ns=from_ns,
                        domain=domain,
                        took_s=_settled_s(rates, NEAR_RATIO * best[state]),
                        learned=helped_at_ns.get(domain, until_ns) < from_ns,
                    )
                )
    return found


def _settled_s(rates: Sequence[float], least: float) -> float:
    """Seconds after which every span makes at least so much."""
    spans = [fmean(rates[at : at + SPAN]) for at in range(len(rates) - SPAN + 1)]
    late = [at for at, rate in enumerate(spans) if rate < least]
    return float(late[-1] + 1) if late else 0.0
