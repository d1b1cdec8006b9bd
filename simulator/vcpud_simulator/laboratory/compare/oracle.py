"""The best constant joint assignment: what a policy could have done had it known everything.

Problem: the number of assignments is a product over domains; each costs a simulation.

Approach: exhaustive while there are few, else coordinate ascent from many starts, each coordinate
over its whole range. Domains that are alike are interchangeable, so only assignments that differ
up to swapping them count. What is maximised is the weighted sum of log progress; an assignment that
leaves some domain below its floor is not allowed, and among those that do the least bad is better,
so that an ascent that begins outside finds its way in. All are looked at for a moment; those that
come out near the top of that are looked at for longer.
    Where whole vCPUs do not divide evenly, domains that are alike can take turns, and each then
has the mean of what all of them make: the best assignment for that is told beside.

The search asks for evaluations in batches and is given them: it knows nothing of how they are made,
and the batches of many searches can be run side by side. Pure.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Final

MOST_EXHAUSTIVE: Final = 2_000
"""Assignments up to which all are tried."""
STARTS: Final = 8
"""Least number of starts of an ascent."""
SLACK: Final = 0.97
"""A domain at this share of its floor counts as at it: what chance alone can do."""
GLANCE_SLACK: Final = 0.90
"""The same after a short look, in which chance does more."""
SHORTLIST: Final = 16
"""Fewest assignments that are looked at for longer; where there are no more, no short look is needed."""
SHORTLIST_RATIO: Final = 0.05
"""The same as a share of all that were tried."""
WORTH_TURNS: Final = 0.01
"""Log progress that taking turns must promise: a mean of several is a little more by chance, too."""

Assignment = tuple[int, ...]
"""Active vCPUs by domain, in the problem's order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A domain as the search sees it.

    Attributes:
        name: Which.
        vcpus: Most it can have active.
        least: Fewest.
        weight: How much its progress counts.
        alike: Equal for domains that are interchangeable.
        entitled_pcpus: What its weight guarantees it, a hint where to begin.
    """

    name: str
    vcpus: int
    least: int
    weight: float
    alike: str
    entitled_pcpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is to be assigned.

    Attributes:
        contenders: The domains.
        starts: Assignments to begin with, those of other policies among them.
    """

    contenders: tuple[Contender, ...]
    starts: tuple[Assignment, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the domains, in the order of an assignment."""
        return tuple(one.name for one in self.contenders)

    @property
    def everything(self) -> Assignment:
        """The unmanaged one."""
        return tuple(one.vcpus for one in self.contenders)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search came to.

    Attributes:
        ranked: Assignments tried, best first.
        shortlist: Those among them that may be the best, if all were looked at for a moment only.
        exhaustive: Whether all there are were tried.
        turns: What domains that are alike had best take turns on; None where the best of all is
            better than that.
    """

    ranked: tuple[Assignment, ...]
    shortlist: tuple[Assignment, ...]
    exhaustive: bool
    turns: Assignment | None = None


Evaluations = Mapping[Assignment, Mapping[str, float]]
"""Progress of each domain by assignment."""
Search = Generator[list[Assignment], Evaluations, Found]


def search(problem: Problem, floors: Mapping[str, float]) -> Search:
    """Look for the best assignments, by short looks.

    Args:
        problem: What is to be assigned.
        floors: Least progress by domain.

    Yields:
        Assignments to evaluate, none twice.

    Returns:
        All that were tried, best first; all there are where these are so few that it asked for nothing.
    """
    total = count(problem)
    if total <= SHORTLIST:
        few = tuple(assignments(problem))
        return Found(ranked=few, shortlist=few, exhaustive=True)
    known: dict[Assignment, Mapping[str, float]] = {}

    def ask(wanted: Iterable[Assignment]) -> Generator[list[Assignment], Evaluations, None]:
        missing = [one for one in dict.fromkeys(wanted) if one not in known]
        if missing:
            known.update((yield missing))

    def rank(assignment: Assignment) -> tuple[float, float]:
        return merit(problem, known[assignment], floors, slack=GLANCE_SLACK)

    if total <= MOST_EXHAUSTIVE:
        yield from ask(assignments(problem))
    else:
        climbs = [climb(problem, start, rank) for start in starts(problem)]
        while steps := [batch for one in climbs if (batch := next(one, None)) is not None]:
            yield from ask(itertools.chain.from_iterable(steps))
    return ranking(problem, known, floors, exhaustive=total <= MOST_EXHAUSTIVE, slack=GLANCE_SLACK)


def ranking(
    problem: Problem,
    known: Evaluations,
    floors: Mapping[str, float],
    *,
    exhaustive: bool,
    slack: float = SLACK,
) -> Found:
    """What evaluations come to."""

    def rank(assignment: Assignment) -> tuple[float, float]:
        return merit(problem, known[assignment], floors, slack=slack)

    def in_turn(assignment: Assignment) -> tuple[float, float]:
        return merit(problem, taking_turns(problem, known[assignment]), floors, slack=slack)

    ranked = tuple(sorted(known, key=rank, reverse=True))
    # Whose twins have the same has no turns to take: there the mean of them is nothing but chance.
    turning = sorted((one for one in known if uneven(problem, one)), key=in_turn, reverse=True)
    turns = None
    if turning:
        allowed, gain = in_turn(turning[0])
        if (allowed, gain - WORTH_TURNS) > rank(ranked[0]):
            turns = turning[0]
    most = max(SHORTLIST, math.ceil(SHORTLIST_RATIO * len(ranked)))
    return Found(
        ranked=ranked,
        shortlist=tuple(dict.fromkeys((*ranked[:most], *turning[:most]))),
        exhaustive=exhaustive,
        turns=turns,
    )


def taking_turns(problem: Problem, progress: Mapping[str, float]) -> dict[str, float]:
    """Progress where domains that are alike change places all the time."""
    found = {}
    for _, group in _groups(problem):
        mean = fmean(progress[one.name] for one in group)
        found.update({one.name: mean for one in group})
    return found


def uneven(problem: Problem, assignment: Assignment) -> list[tuple[str, ...]]:
    """Domains that are alike and do not have the same, together."""
    counts = {one.name: count for one, count in zip(problem.contenders, assignment, strict=True)}
    names = [tuple(one.name for one in group) for _, group in _groups(problem)]
    return [group for group in names if len({counts[name] for name in group}) > 1]


def merit(
    problem: Problem,
    progress: Mapping[str, float],
    floors: Mapping[str, float],
    *,
    slack: float = SLACK,
) -> tuple[float, float]:
    """How good: first by how little the worst domain misses its floor, then by log progress."""
    shares = [
        progress[one.name] / floors[one.name]
        for one in problem.contenders
        if floors.get(one.name, 0.0) > 0
    ]
    missing = min(0.0, math.log(max(min(shares, default=1.0), 1e-12) / slack))
    total = sum(one.weight * math.log(progress[one.name]) for one in problem.contenders)
    return missing, total / sum(one.weight for one in problem.contenders)


def count(problem: Problem) -> int:
    """How many assignments there are, up to swapping domains that are alike."""
    total = 1
    for _, group in _groups(problem):
        options = group[0].vcpus - group[0].least + 1
        total *= math.comb(options + len(group) - 1, len(group))
    return total


def assignments(problem: Problem) -> Iterable[Assignment]:
    """All of them, up to swapping domains that are alike."""
    choices = [
        list(itertools.combinations_with_replacement(_options(group[0]), len(group)))
        for _, group in _groups(problem)
    ]
    names = [one.name for _, group in _groups(problem) for one in group]
    for choice in itertools.product(*choices):
        counts = dict(zip(names, itertools.chain.from_iterable(choice), strict=True))
        yield tuple(counts[one.name] for one in problem.contenders)


def starts(problem: Problem) -> list[Assignment]:
    """Where an ascent begins: given ones, unmanaged, around the entitlement, and spread between."""
    contenders = problem.contenders
    wanted = [*problem.starts, problem.everything]
    wanted += [
        tuple(rounded(one.entitled_pcpus) for one in contenders)
        for rounded in (math.floor, math.ceil)
    ]
    # Where a policy was left may be out of bounds: who is not to be moved may steer itself.
    found = [
        tuple(
            min(one.vcpus, max(one.least, number))
            for one, number in zip(contenders, start, strict=True)
        )
        for start in wanted
    ]
    step = 0
    while len(dict.fromkeys(found)) < STARTS and step < STARTS * STARTS:
        found.append(
            tuple(
                one.least + (step + place * step) % (one.vcpus - one.least + 1)
                for place, one in enumerate(contenders)
            )
        )
        step += 1
    return list(dict.fromkeys(found))


def climb(
    problem: Problem, start: Assignment, rank: Callable[[Assignment], tuple[float, float]]
) -> Iterator[list[Assignment]]:
    """One domain after the other to the best of its numbers, until that changes nothing.

    Args:
        problem: What is to be assigned.
        start: Where to begin.
        rank: How good an assignment is that was asked for.

    Yields:
        Assignments that must be known before it goes on.
    """
    here, before = start, None
    yield [here]
    while here != before:
        before = here
        tried: set[tuple[str, int]] = set()
        for place, one in enumerate(problem.contenders):
            if (one.alike, here[place]) in tried:
                continue  # what its twin did not gain by it will not, either
            around = [(*here[:place], vcpus, *here[place + 1 :]) for vcpus in _options(one)]
            yield around
            best = max(around, key=rank)
            if rank(best) > rank(here):
                here = best
            else:
                tried.add((one.alike, here[place]))


def _options(one: Contender) -> range:
    """Most first: of equals the one that takes least away is tried first."""
    return range(one.vcpus, one.least - 1, -1)


def _groups(problem: Problem) -> list[tuple[str, list[Contender]]]:
    """Domains that are alike, together."""
    groups: dict[str, list[Contender]] = {}
    for one in problem.contenders:
        groups.setdefault(one.alike, []).append(one)
    return list(groups.items())
