"""What every policy keeps to, whatever it is told."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.fluid import FluidHost, Guest, constant, manage
from vcpud.demand import DomainDemand, HostDemand, PoolDemand, Progress
from vcpud.model import Method, Mode, Trouble, Uuid
from vcpud.plan import Move, Outcome, Plan, Verdict
from vcpud.policy import Policy, load, names
from vcpud.units import NS_PER_S
from vcpud_policies.adaptive import Adaptive
from vcpud_policies.apportion import ROUNDING_PCPUS, Claim, allot
from vcpud_policies.expressions import RuleError, read
from vcpud_policies.rules import FIGURES

POLICIES: list[Policy[Any]] = [load(name, {}) for name in names()]
rates = st.none() | st.floats(0, 64)


@st.composite
def domains(draw: st.DrawFn, now_ns: int) -> DomainDemand:
    """A domain that reports anything, or nothing."""
    ceiling = draw(st.integers(1, 16))
    active = draw(st.integers(1, ceiling))
    return DomainDemand(
        uuid=draw(st.uuids().map(str)),
        name="n",
        mode=draw(st.sampled_from(Mode)),
        pool=draw(st.sampled_from(["host", "other", "unknown"])),
        weight=draw(st.integers(1, 10_000)),
        active_vcpus=active,
        min_vcpus=draw(st.integers(1, ceiling)),
        max_vcpus=ceiling,
        method=draw(st.sampled_from(Method)),
        used_pcpus=draw(rates),
        run_delay_pcpus=draw(rates),
        last_delay_pcpus=draw(rates),
        entitled_pcpus=draw(rates),
        lock_wait_ratio=draw(st.none() | st.floats(0, 1)),
        lock_wait_at_ns=draw(st.none() | st.integers(0, now_ns)),
        queued_tasks=draw(rates),
        runnable_tasks=draw(rates),
        system_ratio=draw(st.none() | st.floats(0, 1)),
        progress=draw(
            st.none()
            | st.builds(
                Progress,
                began_at_ns=st.just(now_ns - 5 * NS_PER_S),
                ended_at_ns=st.just(now_ns),
                rate_pcpus=st.floats(0, 64),
                active_vcpus=st.none() | st.just(active),
            )
        ),
        hold=draw(st.none() | st.sampled_from(Trouble)),
        engaged=draw(st.none() | st.just("on trial")),
    )


@dataclass(frozen=True)
class Turn:
    """One call of `decide`."""

    demand: HostDemand
    verdicts: tuple[Verdict, ...]
    now_ns: int


@st.composite
def histories(draw: st.DrawFn) -> list[Turn]:
    """A few seconds on a host: the same domains, whose figures jump about."""
    begin_ns = 1000 * NS_PER_S
    first = draw(st.lists(domains(begin_ns), min_size=1, max_size=3, unique_by=lambda d: d.uuid))
    turns = []
    for second in range(draw(st.integers(1, 5))):
        now_ns = begin_ns + second * NS_PER_S
        there = []
        for domain in first:
            fresh = draw(domains(now_ns))
            there.append(
                replace(
                    fresh,
                    uuid=domain.uuid,
                    pool=domain.pool,
                    max_vcpus=domain.max_vcpus,
                    min_vcpus=domain.min_vcpus,
                    active_vcpus=min(fresh.active_vcpus, domain.max_vcpus),
                )
            )
        pools = tuple(
            PoolDemand(
                name=name,
                pcpus=8,
                available_pcpus=draw(st.floats(0.8, 8)),
                active_vcpus=sum(d.active_vcpus for d in there if d.pool == name),
                overcommit_ratio=draw(st.floats(0, 8)),
                run_delay_ratio=None,
            )
            for name in ("host", "other")
        )
        turns.append(
            Turn(HostDemand(window_ns=NS_PER_S, pools=pools, domains=tuple(there)), (), now_ns)
        )
    return turns


def verdict_on(move: Move, outcome: Outcome, at_ns: int) -> Verdict:
    return Verdict(
        decision_id="d",
        move=move,
        outcome=outcome,
        gain_ratio=None,
        kept=outcome is Outcome.HELPED,
        at_ns=at_ns,
        detail="",
    )


def played(
    policy: Policy[Any], turns: list[Turn], outcomes: list[Outcome]
) -> list[tuple[Turn, Any, Plan]]:
    """Every turn with the state before it and the plan; moves are judged at the next turn."""
    judged: tuple[Verdict, ...] = ()
    state, seen = policy.initial(), []
    for turn in turns:
        judged_turn = replace(turn, verdicts=judged)
        before = state
        state, plan = policy.decide(before, turn.demand, judged, turn.now_ns)
        seen.append((judged_turn, before, plan))
        judged = tuple(
            verdict_on(move, outcomes[place % len(outcomes)], turn.now_ns)
            for place, move in enumerate(plan.moves)
        )
    return seen


some_outcomes = st.lists(st.sampled_from(Outcome), min_size=1, max_size=4)


@given(turns=histories(), outcomes=some_outcomes)
@settings(max_examples=20, deadline=None)
def test_nothing_leaves_its_bounds_or_follows_from_data_that_is_bad(
    turns: list[Turn], outcomes: list[Outcome]
) -> None:
    for policy in POLICIES:
        for turn, _, plan in played(policy, turns, outcomes):
            there = {domain.uuid: domain for domain in turn.demand.domains}
            moved = [resize for move in plan.moves for resize in move.resizes]
            assert len({resize.uuid for resize in moved}) == len(moved), "one move a domain"
            for resize in moved:
                domain = there[resize.uuid]
                assert domain.hold is None
                assert resize.from_vcpus == domain.active_vcpus != resize.to_vcpus
                if resize.to_vcpus < resize.from_vcpus:
                    assert resize.to_vcpus >= max(domain.min_vcpus, 1)
                else:
                    assert resize.to_vcpus <= max(domain.max_vcpus, domain.min_vcpus)
            assert {outlook.uuid for outlook in plan.outlooks} <= set(there)


@given(turns=histories(), outcomes=some_outcomes, data=st.data())
@settings(max_examples=20, deadline=None)
def test_a_decision_is_a_function_of_its_arguments_in_any_order_and_after_storage(
    turns: list[Turn], outcomes: list[Outcome], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(turns[0].demand.domains))))
    for policy in POLICIES:
        for turn, state, plan in played(policy, turns, outcomes):
            stored = pickle.loads(pickle.dumps(state))  # noqa: S301 - our own
            assert stored == state
            shuffled = tuple(turn.demand.domains[place] for place in order)
            demand = replace(turn.demand, domains=shuffled)
            _, again = policy.decide(stored, demand, turn.verdicts, turn.now_ns)
            assert targets(again) == targets(plan)


def targets(plan: Plan) -> dict[Uuid, int]:
    return {resize.uuid: resize.to_vcpus for move in plan.moves for resize in move.resizes}


@given(turns=histories())
@settings(max_examples=10, deadline=None)
def test_what_is_not_reported_moves_nothing(turns: list[Turn]) -> None:
    turn = turns[0]
    blank = tuple(
        DomainDemand(
            uuid=d.uuid,
            name=d.name,
            mode=Mode.ENFORCE,
            pool=d.pool,
            weight=d.weight,
            active_vcpus=d.active_vcpus,
            min_vcpus=d.min_vcpus,
            max_vcpus=d.max_vcpus,
            method=Method.AGENT,
        )
        for d in turn.demand.domains
    )
    demand = replace(turn.demand, domains=blank)
    for policy in POLICIES:
        state = policy.initial()
        for second in range(3):
            state, plan = policy.decide(state, demand, (), turn.now_ns + second * NS_PER_S)
            assert plan.moves == ()


# ---------------------------------------------------------------------------- apportionment


@st.composite
def claims(draw: st.DrawFn) -> list[Claim]:
    count = draw(st.integers(1, 6))
    found = []
    for number in range(count):
        home = draw(st.integers(1, 16))
        active = draw(st.integers(1, home))
        found.append(
            Claim(
                uuid=f"{number}",
                weight=float(draw(st.integers(1, 1000))),
                active=active,
                least=draw(st.integers(1, home)),
                home=home,
                entitled=draw(st.floats(0.01, 16)),
                want=draw(st.floats(0, 16)),
                cost=draw(st.sampled_from([0.0, 0.2, 1.0, 9.0])),
                contended=draw(st.booleans()),
                in_step=draw(st.booleans()),
                crowded=draw(st.sampled_from([1.0, 0.67])),
                movable=draw(st.booleans()),
                lends=draw(st.booleans()),
            )
        )
    return found


@given(st.floats(0.8, 32), claims())
def test_an_allotment_keeps_to_bounds_and_to_the_pool(capacity: float, asked: list[Claim]) -> None:
    found = allot(capacity, asked)
    for claim in asked:
        got = found.vcpus[claim.uuid]
        if not claim.movable:
            assert got == claim.active
        elif got != claim.active:
            assert max(1, min(claim.least, claim.home)) <= got <= claim.home
        if claim.cost == 0 and got < claim.active:
            assert claim.lends
            assert got >= min(0.97 * claim.entitled - 1e-6, claim.home)
    if found.fits and any(claim.sensitive for claim in asked):
        busy = sum(claim.occupies(found.vcpus[claim.uuid]) for claim in asked)
        assert busy <= capacity + 2 * ROUNDING_PCPUS + 1e-6


@given(st.floats(0.8, 32), claims())
def test_one_and_two_hundredths_is_not_two(capacity: float, asked: list[Claim]) -> None:
    for claim in asked:
        barely = replace(claim, entitled=1.02, least=1)
        assert barely.share == 1
        assert barely.kept in {1, claim.active}
        assert replace(barely, active=1).kept == 1
    allot(capacity, asked)


@given(st.integers(1, 3), st.integers(1, 8), st.integers(2, 4))
@settings(max_examples=5, deadline=None)
def test_more_weight_never_means_less_on_time_average(
    guests: int, weight: int, factor: int
) -> None:
    def progress(first_weight: int) -> float:
        crowd = [
            Guest(
                name=f"g{number}",
                vcpus=4,
                weight=first_weight if number == 0 else weight,
                cost=constant(9.0),
            )
            for number in range(guests + 1)
        ]
        manage(FluidHost(*crowd, pcpus=4), Adaptive(), 120)
        return crowd[0].useful_s

    assert progress(weight * factor) >= 0.97 * progress(weight)


# ------------------------------------------------------------------------------------ rules


@given(st.text(max_size=200) | st.text("()!-+*/<>=&| idle0123456789.\n", max_size=200))
def test_any_text_is_a_rule_or_says_where_it_is_none(text: str) -> None:
    wrong: RuleError | None = None
    try:
        assert set(read(text, FIGURES).names) <= set(FIGURES)
    except RuleError as error:
        wrong = error
    if wrong is not None:
        lines = text.split("\n")
        assert 1 <= wrong.line <= len(lines)
        assert 1 <= wrong.column <= len(lines[wrong.line - 1]) + 1
