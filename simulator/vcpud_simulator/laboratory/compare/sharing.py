"""Time shared between two constant assignments.

Problem: a floor may lie between what a domain makes of one count and what it makes of the next. No
constant is in between; a policy that goes to and fro is.

Approach: progress is counted over the whole of a run, so what comes of sharing is the mean of both,
weighted by time. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vcpud_simulator.laboratory.compare.oracle import (
    WORTH_TURNS,
    Assignment,
    Evaluations,
    Problem,
    merit,
)

SHARES: Final = tuple(tenths / 10 for tenths in range(1, 10))
"""Of the time, for the first of two. What finer ones gain is less than what chance does."""


def mixed(one: Mapping[str, float], other: Mapping[str, float], share: float) -> dict[str, float]:
    """Progress of each domain where the first has this share of the time."""
    return {name: share * rate + (1.0 - share) * other[name] for name, rate in one.items()}


def partner(
    problem: Problem, known: Evaluations, best: Assignment, floors: Mapping[str, float]
) -> Assignment | None:
    """With which assignment the best had best share the time.

    Args:
        problem: What is assigned.
        known: Progress of each domain by assignment.
        best: Which of them is the best.
        floors: Least progress by domain.

    Returns:
        None where the best gains too little by sharing with any.
    """
    gains = {
        other: max(merit(problem, mixed(known[best], rates, share), floors) for share in SHARES)
        for other, rates in known.items()
        if other != best
    }
    if not gains:
        return None
    other = max(gains, key=lambda one: gains[one])
    return other if worth_it(gains[other], merit(problem, known[best], floors)) else None


def worth_it(shared: tuple[float, float], alone: tuple[float, float]) -> bool:
    """Whether sharing is better by more than what a mean of several is by chance."""
    return (shared[0], shared[1] - WORTH_TURNS) > alone
