"""What every policy keeps to, whatever it is told."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcpud.demand import DomainDemand, HostDemand, PoolDemand, Progress, water_filled
from vcpud.model import Method, Mode, Trouble, Uuid
from vcpud.plan import Move, Outcome, Plan, Verdict
from vcpud.policy import Policy, load, names
from vcpud.units import NS_PER_S
from vcpud_policies.adaptive import Adaptive
from vcpud_policies.apportion import ROUNDING_PCPUS
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
        last_used_pcpus=draw(rates),
        read_at_ns=draw(st.none() | st.just(now_ns)),
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


FIGURES_OF_A_DOMAIN = {
    "used_pcpus": (0.0, 1.0, 4.0),
    "run_delay_pcpus": (0.0, 1.0, 4.0),
    "last_delay_pcpus": (0.0, 1.0, 4.0),
    "last_used_pcpus": (0.0, 1.0, 4.0),
    "entitled_pcpus": (0.1, 1.0, 2.5, 4.0),
    "lock_wait_ratio": (0.0, 0.05, 0.9),
    "queued_tasks": (0.0, 1.0, 9.0),
    "runnable_tasks": (0.0, 2.0, 9.0),
    "system_ratio": (0.0, 0.5, 1.0),
}
"""Each figure a guest may not report, and what else it might have been."""
BASELINES = [name for name in names() if name not in {"static", "adaptive"}]
"""Those that act on what they are told at once. Adaptive acts on what stays the same for some time, and what
holds of its moves is in `test_adaptive_pools`."""


@pytest.mark.parametrize("name", BASELINES)
@given(turns=histories(), data=st.data())
@settings(max_examples=30, deadline=None)
def test_what_is_done_without_a_figure_would_be_done_whatever_it_were(
    name: str, turns: list[Turn], data: st.DataObject
) -> None:
    """Else that nothing is known would have been taken for something."""
    policy = load(name, {"update_ns": NS_PER_S} if name == "rules" else {})
    demand, now_ns = turns[0].demand, turns[0].now_ns
    figure = data.draw(st.sampled_from(sorted(FIGURES_OF_A_DOMAIN)))
    domain = replace(demand.domains[0], hold=None, lock_wait_at_ns=now_ns)
    others = demand.domains[1:]

    def direction(value: float | None) -> int:
        state, plan = policy.initial(), Plan()
        for second in range(3):
            at_ns = now_ns + second * NS_PER_S
            told = replace(domain, **{figure: value}, lock_wait_at_ns=at_ns, read_at_ns=at_ns)  # type: ignore[arg-type]
            state, plan = policy.decide(state, replace(demand, domains=(told, *others)), (), at_ns)
            wanted = targets(plan).get(domain.uuid, domain.active_vcpus)
            if wanted != domain.active_vcpus:
                return 1 if wanted > domain.active_vcpus else -1
        return 0

    blind = direction(None)
    if blind:
        assert {direction(value) for value in FIGURES_OF_A_DOMAIN[figure]} == {blind}


@pytest.mark.parametrize("hotplug", ["idle < 10", "idle / 0 < 1"])
def test_a_rule_for_fewer_waits_for_the_one_for_more_that_would_come_first(hotplug: str) -> None:
    rules = load("rules", {"hotplug": hotplug, "hotunplug": "onumcpus > 1"})
    demand = contended_pool([Member(vcpus=4, weight=1, hurt=False)] * 2, pcpus=4, second=0)
    blank, known = (
        replace(one, last_used_pcpus=1.0, last_delay_pcpus=delay)
        for one, delay in zip(demand.domains, (None, 0.0), strict=True)
    )
    state, plan = rules.initial(), Plan()
    for at_ns in (0, 5 * NS_PER_S):
        told = tuple(replace(one, read_at_ns=at_ns) for one in (blank, known))
        state, plan = rules.decide(state, replace(demand, domains=told), (), at_ns)
    moved = {move.resizes[0].uuid for move in plan.moves}
    assert moved == ({known.uuid} if hotplug == "idle < 10" else set())


# ------------------------------------------------------------------------- a pool that is full


@dataclass(frozen=True)
class Member:
    """A domain that wants all it has, and what contention does to it."""

    vcpus: int
    weight: int
    hurt: bool


def contended_pool(members: Sequence[Member], *, pcpus: float, second: int) -> HostDemand:
    """A pool all of whose domains want more than there is, as it looks at a second."""
    now_ns = (1000 + second) * NS_PER_S
    asked = [
        (f"{number}", float(one.weight), float(one.vcpus), float(one.vcpus))
        for number, one in enumerate(members)
    ]
    shares = water_filled(pcpus, asked)
    there = tuple(
        DomainDemand(
            uuid=f"{number}",
            name=f"{number}",
            mode=Mode.ENFORCE,
            pool="host",
            weight=one.weight,
            active_vcpus=one.vcpus,
            min_vcpus=1,
            max_vcpus=one.vcpus,
            method=Method.AGENT,
            used_pcpus=shares[f"{number}"],
            run_delay_pcpus=one.vcpus - shares[f"{number}"],
            entitled_pcpus=shares[f"{number}"],
            lock_wait_ratio=0.9 if one.hurt else 0.0,
            lock_wait_at_ns=now_ns,
            queued_tasks=0.0,
            progress=Progress(
                began_at_ns=now_ns - 5 * NS_PER_S,
                ended_at_ns=now_ns,
                rate_pcpus=shares[f"{number}"] * (0.1 if one.hurt else 0.98),
                active_vcpus=one.vcpus,
                worth_ratio=0.1 if one.hurt else 0.98,
            ),
        )
        for number, one in enumerate(members)
    )
    active = sum(one.vcpus for one in members)
    pool = PoolDemand(
        name="host",
        pcpus=math.ceil(pcpus),
        available_pcpus=pcpus,
        active_vcpus=active,
        overcommit_ratio=active / pcpus,
        run_delay_ratio=None,
    )
    return HostDemand(window_ns=NS_PER_S, pools=(pool,), domains=there)


members = st.lists(
    st.builds(
        Member, vcpus=st.integers(2, 8), weight=st.sampled_from([1, 2, 3, 5]), hurt=st.booleans()
    ),
    min_size=2,
    max_size=5,
)


@given(members, st.floats(2, 16))
@settings(max_examples=60, deadline=None)
def test_what_a_plan_grants_fits_the_host(there: list[Member], pcpus: float) -> None:
    """Added up from the plan itself: whole vCPUs, whatever the policy thought of them."""
    policy, state, plan = Adaptive(), Adaptive().initial(), Plan()
    demand = contended_pool(there, pcpus=pcpus, second=0)
    for second in range(6):
        demand = contended_pool(there, pcpus=pcpus, second=second)
        state, plan = policy.decide(state, demand, (), (1000 + second) * NS_PER_S)
        if plan.moves:
            break
    bound = math.floor(pcpus + ROUNDING_PCPUS) + ROUNDING_PCPUS
    granted = {d.uuid: d.active_vcpus for d in demand.domains} | targets(plan)
    hurt = {
        d.uuid
        for d, one in zip(demand.domains, there, strict=True)
        if one.hurt and (d.run_delay_pcpus or 0.0) > policy.delay_high * d.active_vcpus
    }
    fewest = sum(
        1 if d.uuid in hurt else math.ceil(0.97 * (d.entitled_pcpus or 0.0)) + 1
        for d in demand.domains
    )
    if not hurt or sum(one.vcpus for one in there) <= policy.overcommit_high * pcpus:
        assert plan.moves == ()
    elif fewest <= bound:
        assert sum(granted.values()) <= bound or {granted[uuid] for uuid in hurt} == {1}
    assert all(count >= 1 for count in granted.values())
    for domain in demand.domains:
        if domain.uuid not in hurt:
            assert granted[domain.uuid] >= 0.97 * (domain.entitled_pcpus or 0.0)


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
