"""How steady a policy is: changes under constant load, turns taken, time to settle after a step.

Problem: a policy can come near the oracle and still be a nuisance: each change is work of the
guest, and what keeps changing cannot be reasoned about.

Approach: figures over runs that were watched, each the worst of all, with what is promised. An
*exchange*, one domain giving another what it gets, is a rotation and counts apart. The figures say
how a policy moves, not how far it gets; a policy that does nothing is steady.

Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory.compare.watched import Change, Observed

TEN_MINUTES_NS: Final = 600 * NS_PER_S
MOST_CHANGES: Final = 2.0
LEAST_APART_S: Final = 120.0
LEAST_MISSING_RATIO: Final = 0.10
LEARNED_S: Final = 10.0
ENCOUNTER_S: Final = 120.0


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
