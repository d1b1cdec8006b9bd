"""How steady a policy is: changes under constant load, turns taken, time to settle after a step.

Problem: a policy can come near the oracle and still be a nuisance: each change is work of the
guest, and what keeps changing cannot be reasoned about.

Approach: scenarios of their own (`stability_*`), run whole with the daemon's loop; what it began is
counted, not what it wished. An *exchange*, one domain giving another what it gets, is a rotation
and counts apart. After a step (somebody arrives, leaves, begins or ends to work) a domain has
*settled* when no five seconds after that make less than 0.9 of the new steady state: the median
of the last third of that stretch, or of an earlier one in the same state, whichever is more. A step
is a *first encounter* for a domain of which nothing was changed before, the start of the run among
them, else it is *learned*.

The figures say how a policy moves, not how far it gets; a policy that does nothing is steady.

Pure but for `observe`, which runs a simulation.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any, Final

from vcpud import policy as policies
from vcpud.model import Accepted, Uuid
from vcpud.record import CycleRecord, Purpose
from vcpud.units import NS_PER_S
from vcpud_simulator import runner
from vcpud_simulator.laboratory.compare import states, suite
from vcpud_simulator.laboratory.compare.runs import digest
from vcpud_simulator.laboratory.reading import scenario_names
from vcpud_simulator.meter import Point

PREFIX: Final = "stability_"
STEP_TAG: Final = "steps"
"""Scenarios with this tag are about steps, the others about constant load."""

TEN_MINUTES_NS: Final = 600 * NS_PER_S
MOST_CHANGES: Final = 2.0
LEAST_APART_S: Final = 120.0
LEAST_MISSING_RATIO: Final = 0.10
LEARNED_S: Final = 10.0
ENCOUNTER_S: Final = 120.0
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
class Change:
    """A change of one domain that was begun.

    Attributes:
        at_ns: When.
        domain: Of whom.
        decision_id: What it belongs to.
        from_vcpus: Active vCPUs before.
        to_vcpus: Active vCPUs wanted.
        entitled_pcpus: Of that domain, then.
        undoes: It takes something back.
    """

    at_ns: int
    domain: str
    decision_id: str
    from_vcpus: int
    to_vcpus: int
    entitled_pcpus: float | None
    undoes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """How long one domain took after one step.

    Attributes:
        at_ns: When the step was.
        domain: Whose progress.
        took_s: How long until it stayed near the new steady state.
        learned: Whether something had been changed of it before.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of stability, the worst of all runs.

    Attributes:
        key: Short.
        text: What is promised.
        measured: The worst; None where nothing of the kind happened.
        bound: What it may be.
        holds: Whether it keeps to that.
        where: Of which run and domain it is.
    """

    key: str
    text: str
    measured: float | None
    bound: float
    holds: bool
    where: str


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


# ------------------------------------------------------------------------------------ one run


class _Changes:
    """A `Recorder` of what was begun."""

    def __init__(self) -> None:
        self.found: list[Change] = []

    def record(self, record: CycleRecord) -> None:
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
            )
            for change in record.changes
            if isinstance(change.effect, Accepted) and change.from_vcpus != change.to_vcpus
        )


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
            notes.found,
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
    changes: Iterable[Change],
) -> list[Settling]:
    """How long each domain took after each step, those left out that make nothing then.

    Args:
        stretches: From when until when the host is in which state.
        timeline: Points of a second, by domain.
        changes: What was begun.
    """
    touched: dict[str, int] = {}
    for change in changes:
        touched.setdefault(change.domain, change.at_ns)
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
                        learned=touched.get(domain, until_ns) < from_ns,
                    )
                )
    return found


def _settled_s(rates: Sequence[float], least: float) -> float:
    """Seconds after which every span makes at least so much."""
    spans = [fmean(rates[at : at + SPAN]) for at in range(len(rates) - SPAN + 1)]
    late = [at for at, rate in enumerate(spans) if rate < least]
    return float(late[-1] + 1) if late else 0.0


# ----------------------------------------------------------------------------------- all runs


def figures(runs: Sequence[Observed]) -> list[Figure]:
    """The figures of one policy, over all its runs."""
    return [
        _most_changes([run for run in runs if not run.settlings]),
        _least(
            "rotation-apart",
            "seconds between two rotations of a domain, at least",
            LEAST_APART_S,
            [
                ((later - earlier) / NS_PER_S, f"{run.key}: {domain}")
                for run in runs
                for domain, at_ns in _rotations(run).items()
                for earlier, later in pairwise(at_ns)
            ],
        ),
        _least(
            "rotation-missing",
            "share of its entitlement that who is given a vCPU in a rotation went short of, more than",
            LEAST_MISSING_RATIO,
            [
                (
                    1 - change.from_vcpus / change.entitled_pcpus,
                    f"{run.key}: {change.domain} at {change.at_ns // NS_PER_S} s",
                )
                for run in runs
                for change in _exchanged(run)
                if not change.undoes
                and change.to_vcpus > change.from_vcpus
                and change.entitled_pcpus
            ],
        ),
        _settling(runs, learned=True),
        _settling(runs, learned=False),
    ]


def _exchanged(run: Observed) -> list[Change]:
    """Changes of decisions in which one is given what another gives."""
    balance: Counter[str] = Counter()
    for change in run.changes:
        if not change.undoes:
            balance[change.decision_id] += change.to_vcpus - change.from_vcpus
    several = Counter(change.decision_id for change in run.changes if not change.undoes)
    return [
        change
        for change in run.changes
        if several[change.decision_id] > 1 and balance[change.decision_id] == 0
    ]


def _rotations(run: Observed) -> dict[str, list[int]]:
    """When each domain took part in one."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for change in _exchanged(run):
        if not change.undoes:
            found[change.domain].append(change.at_ns)
    return found


def _most_changes(runs: Sequence[Observed]) -> Figure:
    """Changes of a domain in any ten minutes, of shorter runs all there are."""
    worst, where = 0.0, ""
    for run in runs:
        rotated = {id(change) for change in _exchanged(run)}
        by_domain: defaultdict[str, list[int]] = defaultdict(list)
        for change in run.changes:
            if id(change) not in rotated:
                by_domain[change.domain].append(change.at_ns)
        for domain, at_ns in by_domain.items():
            for begun_ns in at_ns:
                count = sum(begun_ns <= one < begun_ns + TEN_MINUTES_NS for one in at_ns)
                if count > worst:
                    worst, where = float(count), f"{run.key}: {domain}"
    return Figure(
        key="constant",
        text="changes of a domain in ten minutes of constant load but for rotations, at most",
        measured=worst if runs else None,
        bound=MOST_CHANGES,
        holds=worst <= MOST_CHANGES,
        where=where,
    )


def _settling(runs: Sequence[Observed], *, learned: bool) -> Figure:
    took = [
        (one.took_s, f"{run.key}: {one.domain} at {one.at_ns // NS_PER_S} s")
        for run in runs
        for one in run.settlings
        if one.learned is learned
    ]
    bound = LEARNED_S if learned else ENCOUNTER_S
    worst, where = max(took, default=(None, ""))
    what = "that was changed before" if learned else "met for the first time"
    return Figure(
        key="learned" if learned else "encounter",
        text=f"seconds until a domain {what} makes 0.9 of its new steady state, at most",
        measured=worst,
        bound=bound,
        holds=worst is None or worst <= bound,
        where=where,
    )


def _least(key: str, text: str, bound: float, found: Sequence[tuple[float, str]]) -> Figure:
    measured, where = min(found, default=(None, ""))
    return Figure(
        key=key,
        text=text,
        measured=measured,
        bound=bound,
        holds=measured is None or measured >= bound,
        where=where,
    )


# ---------------------------------------------------------------------------------- for people


def document(found: Mapping[str, Sequence[Figure]], commit: str) -> dict[str, Any]:
    """As JSON."""
    return {
        "commit": commit,
        "policies": {
            label: [
                {
                    "id": one.key,
                    "text": one.text,
                    "verdict": "holds" if one.holds else "fails",
                    "measured": None if one.measured is None else float(f"{one.measured:.5g}"),
                    "bound": one.bound,
                    "where": one.where,
                }
                for one in figures
            ]
            for label, figures in found.items()
        },
    }


def text(found: Mapping[str, Sequence[Figure]]) -> str:
    """For a terminal."""
    return "\n".join(
        f"{'holds' if one.holds else 'FAILS'}  {label}: {one.text} {one.bound:g}: "
        + ("none seen" if one.measured is None else f"{one.measured:.3g}")
        + (f" ({one.where})" if one.where else "")
        for label, figures in found.items()
        for one in figures
    )
