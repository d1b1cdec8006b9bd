"""One scenario on its way through a comparison: its runs as tasks, its search, its scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from vcpud.model import Method, Mode
from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory.compare import scores, states, suite
from vcpud_simulator.laboratory.compare.changes import most_in_ten_minutes
from vcpud_simulator.laboratory.compare.claims import OWN
from vcpud_simulator.laboratory.compare.oracle import (
    Assignment,
    Contender,
    Found,
    Problem,
)
from vcpud_simulator.laboratory.compare.plan import (
    IDLE,
    Contestant,
    Look,
    Plan,
    lasting,
    open_loop,
)
from vcpud_simulator.laboratory.compare.progress import progress
from vcpud_simulator.laboratory.compare.scores import Responses, Seeded
from vcpud_simulator.laboratory.compare.tasks import (
    Counts,
    Decision,
    Hold,
    Outcome,
    Script,
    Task,
    digest,
)
from vcpud_simulator.platform import PLATFORMS
from vcpud_simulator.scenario import DomainPlan, Scenario

HORIZON_NS: Final = 60 * NS_PER_S
"""How long after a decision its harm is looked for."""


class Entry:
    """One scenario on its way through the stages."""

    def __init__(self, key: str, plan: Plan) -> None:
        self.key = key
        scenario = lasting(suite.load(key), plan)
        self.scenario: Scenario = scenario
        self.plans: tuple[DomainPlan, ...] = tuple(scenario.each())
        self.seeds = tuple(scenario.seed + number for number in range(plan.seeds))
        self.weights = {one.name: float(one.weight) for one in self.plans}
        self.unmanaged: dict[int, Outcome] = {}
        self.managed_runs: dict[str, dict[int, Outcome]] = {}
        self.problems: dict[states.State, Problem] = {}
        self.found: dict[states.State, Found] = {}
        self.partner: Assignment | None = None
        self.oracle: dict[int, Outcome] = {}
        self.oracle_text = ""
        self.searched = plan.everywhere or scores.plain(scenario.tags)
        self._digest = digest(suite.load(key))
        self.stretches = states.stretches(scenario)
        self.divided = states.divided(scenario)
        self.states = tuple(
            dict.fromkeys(
                one.state
                for one in self.stretches
                if any(number is not None for number in one.state)
            )
        )
        self._lasting_ns = max(scenario.duration_ns, plan.lasting_ns)

    # ------------------------------------------------------------------------------- tasks

    def task(self, seed: int, **more: Any) -> Task:
        return Task(
            key=self.key,
            digest=self._digest,
            seed=seed,
            duration_ns=more.pop("duration_ns", self.scenario.duration_ns),
            **more,
        )

    def unmanaged_task(self, seed: int) -> Task:
        return self.task(seed, duration_ns=self._lasting_ns)

    def managed(self, seed: int, one: Contestant) -> Task:
        if one.policy == IDLE:
            return self.unmanaged_task(seed)
        span_ns = self._lasting_ns if one.policy == OWN else self.scenario.duration_ns
        return self.task(seed, policy=one.policy, options=one.options, duration_ns=span_ns)

    def final(self, seed: int, counts: Counts | None, script: Script) -> Task:
        return self.task(seed, counts=counts, script=script)

    def probe(self, look: Look, state: states.State, assignment: Assignment | None) -> Task:
        counts = None
        if assignment is not None and assignment != self.problems[state].everything:
            counts = tuple(zip(self.problems[state].names, assignment, strict=True))
        return self.task(
            self.seeds[0],
            duration_ns=look.length_ns(states.cycle_ns(self.scenario)),
            warmup_ns=min(self.scenario.warmup_ns, look.settle_ns),
            cycle_ns=look.least_ns if look.hurried else None,
            state=state if self.divided else None,
            counts=counts,
        )

    def without(self, seed: int, one: Contestant, decision: Decision) -> Task:
        until_ns = self._until_ns(decision)
        return self.task(
            seed,
            policy=one.policy,
            options=one.options,
            duration_ns=until_ns - self.scenario.warmup_ns,
            hold=Hold(names=decision.names, from_ns=decision.at_ns, until_ns=until_ns),
        )

    # ------------------------------------------------------------------------- the search

    def problem(self, state: states.State, unmanaged: Outcome) -> None:
        """Make the problem of a state, once its unmanaged host was looked at."""
        contenders = []
        for plan, number in zip(self.plans, state, strict=True):
            if number is None:
                continue
            most = plan.home_vcpus
            fixed = (
                plan.mode is not Mode.ENFORCE
                or plan.steers
                or self._method(plan) in (Method.NONE, Method.GROW_ONLY)
            )
            contenders.append(
                Contender(
                    name=plan.name,
                    vcpus=most,
                    least=most if fixed else min(most, max(1, plan.min_vcpus)),
                    weight=float(plan.weight),
                    alike=repr((replace(plan, name=""), number)),
                    entitled_pcpus=unmanaged.entitled_pcpus.get(plan.name, float(most)),
                )
            )
        names = [one.name for one in contenders]
        starts = []
        for outcomes in self.managed_runs.values():
            for outcome in outcomes.values():
                final = dict(dict(outcome.finals).get(state, ()))
                if all(name in final for name in names):
                    starts.append(tuple(final[name] for name in names))
        self.problems[state] = Problem(
            contenders=tuple(contenders), starts=tuple(dict.fromkeys(starts))
        )

    def _method(self, plan: DomainPlan) -> Method:
        return plan.method or PLATFORMS[self.scenario.platform].method

    def floors_of(self, state: states.State, unmanaged: Outcome) -> dict[str, float]:
        return scores.floors(
            self.probed(state, unmanaged), unmanaged.run_pcpus, unmanaged.entitled_pcpus
        )

    def probed(self, state: states.State, outcome: Outcome) -> dict[str, float]:
        """Progress in a state, in which nothing changes by itself."""
        frozen = states.frozen(self.scenario, state)
        begin_ns, end_ns = outcome.window_ns
        return progress(frozen, outcome.work, from_ns=begin_ns, until_ns=end_ns)

    def counts_in(self, state: states.State, assignment: Assignment) -> Counts:
        """An assignment of those who are there, the others as they are."""
        given = dict(zip(self.problems[state].names, assignment, strict=True))
        return tuple((plan.name, given.get(plan.name, plan.home_vcpus)) for plan in self.plans)

    def everyone(self) -> Problem:
        """Whoever was there in the window, whatever the state."""
        there = self.progress(self.unmanaged[self.seeds[0]])
        return Problem(
            contenders=tuple(
                Contender(
                    name=plan.name,
                    vcpus=plan.home_vcpus,
                    least=1,
                    weight=float(plan.weight),
                    alike=plan.name,
                    entitled_pcpus=0.0,
                )
                for plan in self.plans
                if plan.name in there
            )
        )

    # ------------------------------------------------------------------------- the scores

    @property
    def window_ns(self) -> tuple[int, int]:
        """In which everybody is compared, though some ran for longer."""
        begin_ns = self.scenario.warmup_ns
        return begin_ns, begin_ns + self.scenario.duration_ns

    def progress(
        self, outcome: Outcome, window_ns: tuple[int, int] | None = None
    ) -> dict[str, float]:
        begin_ns, end_ns = window_ns or self.window_ns
        return progress(self.scenario, outcome.work, from_ns=begin_ns, until_ns=end_ns)

    def floors(self, seed: int, window_ns: tuple[int, int]) -> dict[str, float]:
        unmanaged = self.unmanaged[seed]
        return scores.floors(
            self.progress(unmanaged, window_ns), unmanaged.run_pcpus, unmanaged.entitled_pcpus
        )

    def seeded_floors(self, seed: int, outcome: Outcome) -> dict[str, float]:
        """What each domain has of its floor, over the whole of a run."""
        floors = self.floors(seed, outcome.window_ns)
        whole = self.progress(outcome, outcome.window_ns)
        return {name: made / floors[name] for name, made in whole.items() if floors.get(name)}

    def seeded(self, seed: int, outcome: Outcome) -> Seeded:
        return Seeded(
            progress=self.progress(outcome),
            oracle=self.progress(self.oracle[seed]) if self.searched else None,
            unmanaged=self.progress(self.unmanaged[seed]),
            over_floor=self.seeded_floors(seed, outcome),
            changes=sum(change.at_ns < self.window_ns[1] for change in outcome.changes),
            busiest=most_in_ten_minutes(outcome.changes),
            final=dict(outcome.finals[-1][1]) if outcome.finals else {},
            why={name: one.text for name, one in outcome.why.items()},
        )

    def responses_ns(self, policies: Iterable[str]) -> dict[str, Responses]:
        """Response times of domains in an open loop, means over seeds, by who managed the host."""
        runs = {"unmanaged": self.unmanaged, "oracle": self.oracle}
        runs |= {label: self.managed_runs[label] for label in policies}
        names = [plan.name for plan in self.plans if open_loop(plan.workload)]
        return {
            who: {
                name: {
                    percent: scores.geometric(one.responses_ns[name][percent] for one in outcomes)
                    for percent in outcomes[0].responses_ns[name]
                }
                for name in names
                if outcomes and all(name in one.responses_ns for one in outcomes)
            }
            for who, by_seed in runs.items()
            for outcomes in [list(by_seed.values())]
        }

    @property
    def constant(self) -> bool:
        """Whether the load never changes by itself."""
        return not self.divided and not states.cycle_ns(self.scenario)

    def decisions(self, outcome: Outcome) -> tuple[Decision, ...]:
        return tuple(one for one in outcome.decisions if one.at_ns < self.window_ns[1])

    def harmful(self, seed: int, decision: Decision, factual: Outcome, without: Outcome) -> bool:
        """Whether a decision made the next minute worse."""
        from_ns, until_ns = decision.at_ns, self._until_ns(decision)
        both = [
            progress(self.scenario, outcome.work, from_ns=from_ns, until_ns=until_ns)
            for outcome in (factual, without)
        ]
        span_s = (until_ns - from_ns) / NS_PER_S
        names = [name for name in both[0] if name in both[1]]
        with_it, other = ({name: one[name] for name in names} for one in both)
        return bool(names) and scores.harms(
            with_it=with_it,
            without=other,
            floors=self.floors(seed, (from_ns, until_ns)),
            weights=self.weights,
            span_s=span_s,
        )

    def _until_ns(self, decision: Decision) -> int:
        begin_ns, end_ns = self.window_ns
        return max(begin_ns + NS_PER_S, min(end_ns, decision.at_ns + HORIZON_NS))


def _text(counts: Counts) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts)
