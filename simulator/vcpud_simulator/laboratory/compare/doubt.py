"""Whether a domain that came out below its floor was left there, or merely had bad luck.

Problem: on an overcommitted host of many domains one run differs from the next by more than the
floor allows, though nobody changes anything: what a vCPU gets depends for long on where it was put
first. One run of the unmanaged host beside one of a managed host tells nothing of the policy then.

Approach: where a domain comes out below its floor, more seeds are run, and each run of the policy is
held against one of the same seed in which the guests are asked as well and nothing is changed. Until
the policy changes something the two are the same run, so that only what follows from its changes
differs. What its answers took of a guest's processor time is taken off. What is told is the geometric
mean over the seeds. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vcpud_simulator.laboratory.compare import scores
from vcpud_simulator.laboratory.compare.entry import Entry
from vcpud_simulator.laboratory.compare.plan import IDLE, Contestant
from vcpud_simulator.laboratory.compare.tasks import Outcome, Task

Pair = tuple[Task, Task]
"""The host that is only watched, and the managed one."""


def first_sight(entry: Entry, one: Contestant) -> float:
    """The worst domain over its floor in the first run."""
    seed = entry.seeds[0]
    return min(
        entry.seeded_floors(seed, entry.managed_runs[one.label][seed]).values(), default=1.0
    )


def pairs(entry: Entry, one: Contestant, more_seeds: int) -> dict[int, Pair]:
    """The runs that tell, by seed."""
    seeds = range(entry.seeds[0], entry.seeds[0] + 1 + more_seeds)
    return {
        seed: (replace(entry.unmanaged_task(seed), policy=IDLE), entry.managed(seed, one))
        for seed in seeds
    }


def cleared(
    entry: Entry, runs: Mapping[int, Pair], done: Mapping[Task, Outcome]
) -> dict[str, float]:
    """What each domain has of its floor, chance aside."""
    found: dict[str, list[float]] = {}
    for watched, managed in runs.values():
        asked, changed = done[watched], done[managed]
        floors = scores.floors(
            entry.progress(asked, asked.window_ns), asked.run_pcpus, asked.entitled_pcpus
        )
        for name, made in entry.progress(changed, changed.window_ns).items():
            if floors.get(name):
                found.setdefault(name, []).append(_left(asked, name) * made / floors[name])
    return {name: scores.geometric(shares) for name, shares in found.items()}


def _left(asked: Outcome, name: str) -> float:
    """What is left of a guest's processor time by its answers."""
    answering, all_of_it = asked.answering_pcpus.get(name, 0.0), asked.run_pcpus[name]
    return 1 - answering / all_of_it if answering < all_of_it else 0.0
