"""How steady a policy is: changes under constant load, turns taken, time to settle after a step.

Problem: a policy can come near the oracle and still be a nuisance: each change is work of the
guest, and what keeps changing cannot be reasoned about.

Approach: figures over runs that were watched, each the worst of all, with what is promised. The
figures say how a policy moves, not how far it gets: one that does nothing is steady. Of vcpud's own
policy every figure must have been seen, though: its scenarios are made to call for each of them, and
a promise that nothing put to the test is not kept.

Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory.compare.changes import (
    MOST_CHANGES,
    most_in_ten_minutes,
    rotations,
)
from vcpud_simulator.laboratory.compare.verdict import Verdict
from vcpud_simulator.laboratory.compare.watched import Observed

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
        most: Whether the bound is the most that it may be, or the least.
        where: Of which run and domain it is.
    """

    key: str
    text: str
    measured: float | None
    bound: float
    most: bool
    where: str

    @property
    def verdict(self) -> Verdict:
        """Whether it keeps to its bound."""
        if self.measured is None:
            return Verdict.OPEN
        kept = self.measured <= self.bound if self.most else self.measured >= self.bound
        return Verdict.HOLDS if kept else Verdict.FAILS


def figures(runs: Sequence[Observed]) -> list[Figure]:
    """The figures of one policy, over all its runs."""
    return [
        _figure(
            "constant",
            "changes of a domain in ten minutes of constant load but for rotations, at most",
            MOST_CHANGES,
            [
                max(
                    ((float(count), f"{run.key}: {domain}") for domain, count in most.items()),
                    default=(0.0, ""),
                )
                for run in runs
                if not run.settlings
                for most in [most_in_ten_minutes(run.changes)]
            ],
            most=True,
        ),
        _figure(
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
        _figure(
            "rotation-missing",
            "share of its entitlement that who is given a vCPU in a rotation went short of, more than",
            LEAST_MISSING_RATIO,
            [
                (
                    1 - change.from_vcpus / change.entitled_pcpus,
                    f"{run.key}: {change.domain} at {change.at_ns // NS_PER_S} s",
                )
                for run in runs
                for change in rotations(run.changes)
                if change.to_vcpus > change.from_vcpus and change.entitled_pcpus
            ],
        ),
        _settling(runs, learned=True),
        _settling(runs, learned=False),
    ]


def _rotations(run: Observed) -> dict[str, list[int]]:
    """When each domain took part in one."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for change in sorted(rotations(run.changes), key=lambda change: change.at_ns):
        found[change.domain].append(change.at_ns)
    return found


def _settling(runs: Sequence[Observed], *, learned: bool) -> Figure:
    what = "that a change has helped before" if learned else "met for the first time"
    return _figure(
        "learned" if learned else "encounter",
        f"seconds until a domain {what} makes 0.9 of its new steady state, at most",
        LEARNED_S if learned else ENCOUNTER_S,
        [
            (one.took_s, f"{run.key}: {one.domain} at {one.at_ns // NS_PER_S} s")
            for run in runs
            for one in run.settlings
            if one.learned is learned
        ],
        most=True,
    )


def _figure(
    key: str, text: str, bound: float, found: Sequence[tuple[float, str]], *, most: bool = False
) -> Figure:
    """The worst of what was found."""
    measured, where = (max if most else min)(found, default=(None, ""))
    return Figure(key=key, text=text, measured=measured, bound=bound, most=most, where=where)


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
                    "verdict": str(one.verdict),
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
        f"{one.verdict.shown}  {label}: {one.text} {one.bound:g}: "
        + ("none seen" if one.measured is None else f"{one.measured:.3g}")
        + (f" ({one.where})" if one.where else "")
        for label, figures in found.items()
        for one in figures
    )
