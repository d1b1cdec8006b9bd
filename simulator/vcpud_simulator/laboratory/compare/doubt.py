"""Whether a domain that came out below its floor was left there, or merely had bad luck.

Problem: on an overcommitted host of many domains one run differs from the next by more than the
floor allows, though nobody changes anything: what a vCPU gets depends for long on where it was put
first. One run of the unmanaged host beside one of a managed host tells nothing of the policy then.

Approach: where a domain comes out below its floor, more seeds are run, and each run of the policy is
held against one of the same seed in which the guests are asked as well and nothing is changed. Until
the policy changes something the two are the same run, so that only what follows from its changes
differs. What is told is the geometric mean over the seeds, less what answers took from a guest's own
work. Who is idle answers besides its work, who gets all that it can does so instead: the unmanaged
runs of the same seeds tell how much came on top. Where the bound is within two standard errors of that,
the seeds say nothing of which side it is on, and more are run. Where nothing was changed at all, no further
seed is needed: the two are the same run to the end. Pure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Final

from vcpud_simulator.laboratory.compare import scores
from vcpud_simulator.laboratory.compare.entry import Entry
from vcpud_simulator.laboratory.compare.plan import IDLE, Contestant
from vcpud_simulator.laboratory.compare.scores import FLOOR
from vcpud_simulator.laboratory.compare.tasks import Outcome, Task

_CERTAIN: Final = 2.0
"""Standard errors within which a mean decides nothing: those of a 95 % interval."""
_FEWEST: Final = 2
"""Figures that a deviation is known of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trio:
    """Runs of one seed.

    Attributes:
        alone: The unmanaged host.
        asked: The host whose guests are asked, and that is left as it is.
        managed: The managed one.
    """

    alone: Task
    asked: Task
    managed: Task

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All of them."""
        return self.alone, self.asked, self.managed


def first_sight(entry: Entry, one: Contestant) -> float:
    """The worst domain over its floor, in the worst of the runs there are."""
    runs = entry.managed_runs[one.label]
    return min(
        (
            share
            for seed in entry.seeds
            for share in entry.seeded_floors(seed, runs[seed]).values()
        ),
        default=1.0,
    )


def untouched(entry: Entry, one: Contestant) -> bool:
    """Whether nothing was changed in any of the runs there are, so that nothing in them is its doing."""
    return not any(run.changes for run in entry.managed_runs[one.label].values())


def trios(entry: Entry, one: Contestant, more_seeds: int) -> list[Trio]:
    """The runs that tell."""
    return [
        Trio(
            alone=entry.unmanaged_task(seed),
            asked=replace(entry.unmanaged_task(seed), policy=IDLE),
            managed=entry.managed(seed, one),
        )
        for seed in range(entry.seeds[0], entry.seeds[-1] + 1 + more_seeds)
    ]


def cleared(
    entry: Entry, runs: Collection[Trio], done: Mapping[Task, Outcome]
) -> dict[str, tuple[float, ...]]:
    """What each domain has of its floor under each of the seeds, luck that both runs have aside."""
    shares: defaultdict[str, list[float]] = defaultdict(list)
    for trio in runs:
        asked, managed = done[trio.asked], done[trio.managed]
        floors = scores.floors(
            entry.progress(asked, asked.window_ns), asked.run_pcpus, asked.entitled_pcpus
        )
        for name, made in entry.progress(managed, managed.window_ns).items():
            if floors.get(name):
                shares[name].append(made / floors[name])
    left = {name: _left(name, runs, done) for name in shares}
    return {name: tuple(left[name] * one for one in found) for name, found in shares.items()}


def over_seeds(shares: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """What is told of each domain."""
    return {name: scores.geometric(found) for name, found in shares.items()}


def open_still(shares: Mapping[str, Sequence[float]]) -> bool:
    """Whether the domain that comes off worst may as well be on the other side of the bound."""
    told = over_seeds(shares)
    if not told:
        return False
    worst = shares[min(told, key=lambda name: told[name])]
    if len(worst) < _FEWEST:
        return True
    logs = [math.log(share / FLOOR) for share in worst]
    return abs(fmean(logs)) < _CERTAIN * stdev(logs) / math.sqrt(len(logs))


def _left(name: str, runs: Collection[Trio], done: Mapping[Task, Outcome]) -> float:
    """What a guest's answers leave of the processor time that its own work would have had."""
    alone = fmean(done[trio.alone].run_pcpus[name] for trio in runs)
    asked = fmean(done[trio.asked].run_pcpus[name] for trio in runs)
    answering = fmean(done[trio.asked].answering_pcpus.get(name, 0.0) for trio in runs)
    instead = min(max(alone + answering - asked, 0.0), answering)
    own = max(asked - answering, 0.0)
    return own / (own + instead) if instead else 1.0
