"""A comparison from its first run to its scores: which runs, in which order, and what of them.

Stages, each as wide as it can be so that all cores have work:
    runs        the unmanaged host and every policy, vcpud's own first, on every scenario and seed
    doubts      where a domain seems to be below its floor, whether that was chance
    search      the oracle's: for every state of every scenario, in batches side by side
    finals      the best that came of the searches, as long as the policies ran and as often;
                then, where that is better, two of them that share the time
    what if     every decision (or some, evenly chosen, where there are many) taken out again
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from vcpud_simulator.laboratory.compare import doubt, finals, scores
from vcpud_simulator.laboratory.compare.claims import OWN
from vcpud_simulator.laboratory.compare.doubt import Trio
from vcpud_simulator.laboratory.compare.entry import Entry
from vcpud_simulator.laboratory.compare.finals import Candidate
from vcpud_simulator.laboratory.compare.oracle import (
    Assignment,
    Evaluations,
    Found,
    ranking,
    search,
)
from vcpud_simulator.laboratory.compare.plan import Contestant, Look, Plan
from vcpud_simulator.laboratory.compare.scores import FLOOR, Card
from vcpud_simulator.laboratory.compare.sharing import partner
from vcpud_simulator.laboratory.compare.states import State
from vcpud_simulator.laboratory.compare.tasks import Decision, Outcome, Task

Execute = Callable[[Iterable[Task], str], Mapping[Task, Outcome]]
"""Runs tasks; the word is for the progress bar."""
Where = tuple[Entry, State]
"""What an oracle is looked for in."""


class Campaign:
    """One comparison.

    Attributes:
        plan: What is compared.
        spared: Decisions whose counterfactual was not run because there were too many.
    """

    def __init__(self, plan: Plan, execute: Execute) -> None:
        self.plan = plan
        self.spared = 0
        self._execute = execute
        self._cleared: dict[tuple[str, str], dict[str, float]] = {}
        self._as_they_were: dict[Task, Outcome] = {}
        self._entries = [Entry(key, plan) for key in plan.keys]
        self._searched = [entry for entry in self._entries if entry.searched]

    def run(self) -> list[Card]:
        """All of it."""
        entries, contestants = self._entries, self.plan.contestants
        in_turn = (None, *sorted(contestants, key=lambda one: one.policy != OWN))
        runs = self._execute(
            [
                entry.unmanaged_task(seed) if one is None else entry.managed(seed, one)
                for one in in_turn
                for entry in entries
                for seed in entry.seeds
            ],
            "policies and unmanaged",
        )
        for entry in entries:
            entry.unmanaged = {seed: runs[entry.unmanaged_task(seed)] for seed in entry.seeds}
            entry.managed_runs = {
                one.label: {seed: runs[entry.managed(seed, one)] for seed in entry.seeds}
                for one in contestants
            }
        self._doubts()
        self._search()
        self._finals()
        harmed = self._counterfactuals()
        return [self._card(entry, harmed) for entry in entries]

    def _doubts(self) -> None:
        doubted = [
            (entry, one)
            for one in self.plan.contestants
            if one.policy == OWN and self.plan.doubts
            for entry in self._entries
            if doubt.first_sight(entry, one) < FLOOR
        ]
        untouched = [where for where in doubted if doubt.untouched(*where)]
        doubted = [where for where in doubted if where not in untouched]
        self._tell_apart({where: doubt.trios(*where, 0) for where in untouched})
        for more_seeds in self.plan.doubts:
            found = self._tell_apart({where: doubt.trios(*where, more_seeds) for where in doubted})
            doubted = [where for where, shares in found.items() if doubt.open_still(shares)]

    def _tell_apart(
        self, runs: Mapping[tuple[Entry, Contestant], Sequence[Trio]]
    ) -> dict[tuple[Entry, Contestant], dict[str, tuple[float, ...]]]:
        """What each domain has of its floor under each seed, chance aside; the means are kept."""
        every = [task for trios in runs.values() for trio in trios for task in trio.tasks]
        done = self._execute(every, "whether it was chance") if every else {}
        found = {where: doubt.cleared(where[0], trios, done) for where, trios in runs.items()}
        for (entry, one), shares in found.items():
            self._cleared[entry.key, one.label] = doubt.over_seeds(shares)
        return found

    # -------------------------------------------------------------------------- the oracle

    def _search(self) -> None:
        everywhere = [(entry, state) for entry in self._searched for state in entry.states]
        floors, searches = {}, {}
        for (entry, state), outcome in self._as_they_are(everywhere).items():
            entry.problem(state, outcome)
            floors[entry, state] = entry.floors_of(state, outcome)
            searches[entry, state] = search(entry.problems[state], floors[entry, state])
        found: dict[Where, Found] = {}
        told: Mapping[Where, Evaluations | None] = dict.fromkeys(everywhere)
        rounds = 0
        while told:
            asked = {}
            for where, answers in told.items():
                one = searches[where]
                try:
                    asked[where] = next(one) if answers is None else one.send(answers)
                except StopIteration as end:
                    found[where] = end.value
            rounds += 1
            doing = f"oracle: search, round {rounds}"
            told = self._looked_at(self.plan.glance, asked, doing) if asked else {}
        shortlists = {where: one.shortlist for where, one in found.items()}
        known = self._looked_at(self.plan.close, shortlists, "oracle: the best, for longer")
        for entry, state in everywhere:
            entry.found[state] = ranking(
                entry.problems[state],
                known[entry, state],
                floors[entry, state],
                exhaustive=found[entry, state].exhaustive,
            )
            if not entry.divided:
                entry.partner = partner(
                    entry.problems[state],
                    known[entry, state],
                    entry.found[state].ranked[0],
                    floors[entry, state],
                )

    def _as_they_are(self, where: Sequence[Where]) -> dict[Where, Outcome]:
        """The unmanaged host, looked at for long: floors of a short look are mostly chance."""
        tasks = {
            (entry, state): entry.probe(self.plan.close, state, None) for entry, state in where
        }
        self._as_they_were |= self._execute(tasks.values(), "oracle: as they are")
        return {one: self._as_they_were[task] for one, task in tasks.items()}

    def _looked_at(
        self, look: Look, asked: Mapping[Where, Sequence[Assignment]], doing: str
    ) -> dict[Where, Evaluations]:
        """Progress with each of the assignments asked for."""
        tasks = {
            where: {one: where[0].probe(look, where[1], one) for one in batch}
            for where, batch in asked.items()
        }
        every = [task for batch in tasks.values() for task in batch.values()]
        new = [task for task in every if task not in self._as_they_were]
        done = {**self._as_they_were, **self._execute(new, doing)}
        return {
            (entry, state): {one: entry.probed(state, done[task]) for one, task in batch.items()}
            for (entry, state), batch in tasks.items()
        }

    def _finals(self) -> None:
        runs: dict[Entry, dict[Candidate, Mapping[int, Outcome]]] = {
            entry: {finals.AS_THEY_ARE: entry.unmanaged} for entry in self._searched
        }
        named = {entry: finals.candidates(entry, self.plan.finalists) for entry in self._searched}
        self._run(named, runs, "oracle: finals")
        for _ in range(finals.MOST_TRIES):
            shared = {entry: finals.sharing(entry, runs[entry]) for entry in self._searched}
            sharing = {entry: (one,) for entry, one in shared.items() if one is not None}
            if sharing:
                self._run(sharing, runs, "oracle: time shared")
        for entry in self._searched:
            finals.choose(entry, runs[entry])

    def _run(
        self,
        wanted: Mapping[Entry, Iterable[Candidate]],
        runs: Mapping[Entry, dict[Candidate, Mapping[int, Outcome]]],
        doing: str,
    ) -> None:
        """Add what comes of candidates, under every seed."""
        tasks = {
            (entry, one): {seed: entry.final(seed, one.counts, one.script) for seed in entry.seeds}
            for entry, every in wanted.items()
            for one in every
        }
        done = self._execute([task for some in tasks.values() for task in some.values()], doing)
        for (entry, one), by_seed in tasks.items():
            runs[entry][one] = {seed: done[task] for seed, task in by_seed.items()}

    # --------------------------------------------------------------------- counterfactuals

    def _counterfactuals(self) -> dict[tuple[str, str], tuple[float, int]]:
        """Decisions that harmed per run, and how many were looked at, by scenario and policy."""
        tasks: dict[tuple[Entry, Contestant, int, Decision], Task] = {}
        for entry in self._entries:
            for one in self.plan.contestants:
                for seed, outcome in entry.managed_runs[one.label].items():
                    decisions = entry.decisions(outcome)
                    chosen = spread(decisions, self.plan.examined)
                    self.spared += len(decisions) - len(chosen)
                    for decision in chosen:
                        tasks[entry, one, seed, decision] = entry.without(seed, one, decision)
        done = self._execute(tasks.values(), "what if not")
        harm: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
        for (entry, one, seed, decision), task in tasks.items():
            factual = entry.managed_runs[one.label][seed]
            harm[entry.key, one.label].append(entry.harmful(seed, decision, factual, done[task]))
        found = {}
        for entry in self._entries:
            for one in self.plan.contestants:
                looked = harm[entry.key, one.label]
                decided = sum(
                    len(entry.decisions(outcome))
                    for outcome in entry.managed_runs[one.label].values()
                ) / len(entry.seeds)
                share = sum(looked) / len(looked) if looked else 0.0
                found[entry.key, one.label] = (share * decided, len(looked))
        return found

    # ------------------------------------------------------------------------------ scores

    def _card(self, entry: Entry, harmed: Mapping[tuple[str, str], tuple[float, int]]) -> Card:
        policies = {}
        for one in self.plan.contestants:
            outcomes = entry.managed_runs[one.label]
            harm, examined = harmed[entry.key, one.label]
            seeds = [entry.seeded(seed, outcome) for seed, outcome in outcomes.items()]
            cleared = self._cleared.get((entry.key, one.label))
            policies[one.label] = scores.score(
                seeds=seeds,
                over_floor=cleared,
                weights=entry.weights,
                harmed=harm,
                examined=examined,
            )
        scenario = entry.scenario
        return Card(
            name=scenario.name,
            kind=str(scenario.kind),
            tags=scenario.tags,
            scheduler=scenario.scheduler,
            policies=policies,
            oracle=entry.oracle_text,
            exhaustive=all(found.exhaustive for found in entry.found.values()),
            constant=entry.constant,
            responses_ns=entry.responses_ns(policies),
        )


def spread(decisions: Sequence[Decision], most: int) -> tuple[Decision, ...]:
    """All, or so many of them evenly chosen."""
    if len(decisions) <= most:
        return tuple(decisions)
    return tuple(decisions[place * len(decisions) // most] for place in range(most))
