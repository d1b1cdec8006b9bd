"""What may be the oracle, run for as long and as often as the policies are.

First what the search came to: constant assignments, those who are alike in turn, the best of each
state. Then, of the constants that were run, two that share the time (`sharing`), where that is better
than either; it may take more than one try, since to change costs something, too. The oracle is the best
of all these and of the unmanaged host.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from vcpud_simulator.laboratory.compare import scores
from vcpud_simulator.laboratory.compare.entry import Entry
from vcpud_simulator.laboratory.compare.oracle import merit, uneven
from vcpud_simulator.laboratory.compare.scripted import in_turn
from vcpud_simulator.laboratory.compare.sharing import SHARES, mixed, worth_it
from vcpud_simulator.laboratory.compare.states import State
from vcpud_simulator.laboratory.compare.tasks import Counts, Outcome, Script

MOST_TRIES: Final = 3
"""Of time shared: what two of them promised and did not keep, a third hardly will."""

BySeed = Mapping[int, Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What may be the oracle: a constant assignment, or one after the other.

    Attributes:
        counts: Active vCPUs throughout; None for all, or where there is a script.
        script: Counts that change at given instants.
        text: For people.
    """

    counts: Counts | None = None
    script: Script = ()
    text: str = ""


AS_THEY_ARE: Final = Candidate(text="as they are")
"""The candidate that needs no run of its own: it is the unmanaged host."""


def candidates(entry: Entry, finalists: int) -> tuple[Candidate, ...]:
    """What a search came to.

    Args:
        entry: The scenario, searched.
        finalists: Constant assignments, most.
    """
    found: dict[Counts, None] = {}
    made = []
    if not entry.divided:
        [state] = entry.states
        best = entry.found[state].ranked[:finalists]
        for assignment in (*best, *filter(None, [entry.partner])):
            found[entry.counts_in(state, assignment)] = None
        made += _in_turn(entry, state)
    else:
        for state in entry.states:
            found[entry.counts_in(state, entry.found[state].ranked[0])] = None
    made += [
        Candidate(counts=counts, text=_text(counts))
        for counts in found
        if any(dict(counts)[plan.name] != plan.home_vcpus for plan in entry.plans)
    ]
    if entry.divided:
        script = tuple(
            (one.from_ns, entry.counts_in(one.state, entry.found[one.state].ranked[0]))
            for one in entry.stretches
            if one.state in entry.found
        )
        made.append(Candidate(script=script, text="by state"))
    return tuple(made)


def _in_turn(entry: Entry, state: State) -> list[Candidate]:
    """Those who are alike on different numbers of vCPUs, each on each for as long."""
    turns = entry.found[state].turns
    if turns is None:
        return []
    counts = entry.counts_in(state, turns)
    script = in_turn(dict(counts), uneven(entry.problems[state], turns), entry.window_ns[1])
    return [Candidate(script=script, text=f"{_text(counts)}, in turn")]


def sharing(entry: Entry, runs: Mapping[Candidate, BySeed]) -> Candidate | None:
    """Two constants that share the time, where that promises more than whatever was run.

    What was run and kept less than it promised is not proposed again, but the next best may be.

    Args:
        entry: The scenario.
        runs: What came of what was run.
    """
    if entry.divided:
        return None
    constants = [one for one in runs if not one.script]
    promised = {
        candidate: _merit(entry, _mixed(entry, runs[one], runs[other], share))
        for one, other in itertools.combinations(constants, 2)
        for share in SHARES
        if (candidate := _shared(entry, one, other, share)) not in runs
    }
    if not promised:
        return None
    best = max(promised, key=lambda one: promised[one])
    made = max(_merit(entry, _made(entry, run)) for run in runs.values())
    return best if worth_it(promised[best], made) else None


def _shared(entry: Entry, one: Candidate, other: Candidate, share: float) -> Candidate:
    """The first for a share of the window, then the second: to go back again would gain nothing."""
    begin_ns, end_ns = entry.window_ns
    return Candidate(
        script=(
            (0, _counts(entry, one)),
            (begin_ns + round(share * (end_ns - begin_ns)), _counts(entry, other)),
        ),
        text=f"{one.text}, for {share:.0%} of the time, else {other.text}",
    )


def choose(entry: Entry, runs: Mapping[Candidate, BySeed]) -> None:
    """Take the best of the finals: allowed first, then by log progress over all seeds."""
    best = max(runs, key=lambda one: _merit(entry, _made(entry, runs[one])))
    entry.oracle = dict(runs[best])
    entry.oracle_text = best.text


def _made(entry: Entry, runs: BySeed) -> list[Mapping[str, float]]:
    return [entry.progress(runs[seed]) for seed in entry.seeds]


def _mixed(entry: Entry, one: BySeed, other: BySeed, share: float) -> list[Mapping[str, float]]:
    both = zip(_made(entry, one), _made(entry, other), strict=True)
    return [mixed(first, second, share) for first, second in both]


def _merit(entry: Entry, made: Iterable[Mapping[str, float]]) -> tuple[float, float]:
    """Over all seeds: the chance of one is not another's."""
    floors = (entry.floors(seed, entry.window_ns) for seed in entry.seeds)
    return merit(entry.everyone(), _over_seeds(made), _over_seeds(floors))


def _over_seeds(figures: Iterable[Mapping[str, float]]) -> dict[str, float]:
    rows = list(figures)
    return {name: scores.geometric(row[name] for row in rows) for name in rows[0]}


def _counts(entry: Entry, one: Candidate) -> Counts:
    return one.counts or tuple((plan.name, plan.home_vcpus) for plan in entry.plans)


def _text(counts: Counts) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts)
