"""The thesis's feedback: two witnesses shrink, a queue grows, anything missing holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vcpud.demand import DomainDemand, HostDemand, PoolDemand
from vcpud.errors import ConfigError
from vcpud.model import Method, Mode, Trouble
from vcpud.plan import Plan
from vcpud.policy import load, names
from vcpud.units import NS_PER_S
from vcpud_policies.spin_feedback import Evidence, SpinFeedback, nearest_vcpus


def domain(**more: object) -> DomainDemand:
    """A domain of four vCPUs that spins half of its time on a contended host."""
    made = DomainDemand(
        uuid="u",
        name="n",
        mode=Mode.ENFORCE,
        pool="host",
        weight=1,
        active_vcpus=4,
        min_vcpus=1,
        max_vcpus=4,
        method=Method.AGENT,
        used_pcpus=1.0,
        run_delay_pcpus=3.0,
        entitled_pcpus=0.97,
        lock_wait_ratio=0.2,
        lock_wait_at_ns=0,
        queued_tasks=0.0,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def decide(policy: SpinFeedback, *readings: DomainDemand, overcommit: float = 4.0) -> Plan:
    """One decision per reading; the last plan."""
    state, plan = policy.initial(), Plan()
    pool = PoolDemand(
        name="host",
        pcpus=2,
        available_pcpus=1.95,
        active_vcpus=8,
        overcommit_ratio=overcommit,
        run_delay_ratio=0.7,
    )
    for count, reading in enumerate(readings):
        dated = replace(reading, lock_wait_at_ns=(reading.lock_wait_at_ns or 0) + count * NS_PER_S)
        demand = HostDemand(window_ns=NS_PER_S, pools=(pool,), domains=(dated,))
        state, plan = policy.decide(state, demand, (), count * NS_PER_S)
    return plan


def to(plan: Plan) -> int | None:
    return plan.moves[0].resizes[0].to_vcpus if plan.moves else None


def test_spinning_seen_twice_shrinks_by_one() -> None:
    assert to(decide(SpinFeedback(), domain())) is None
    assert to(decide(SpinFeedback(), domain(), domain())) == 3


def test_overwhelming_spinning_goes_to_the_entitlement_at_once() -> None:
    assert to(decide(SpinFeedback(), domain(lock_wait_ratio=0.8))) == 1


@pytest.mark.parametrize(
    "harmless",
    [
        {"run_delay_pcpus": 0.1},
        {"run_delay_pcpus": None},
        {"lock_wait_ratio": 0.05},
        {"lock_wait_ratio": None},
        {"entitled_pcpus": None},
        {"hold": Trouble.STALE},
        {"entitled_pcpus": 4.0},
    ],
)
def test_without_both_witnesses_nothing_shrinks(harmless: dict[str, object]) -> None:
    reading = domain(**{"lock_wait_ratio": 0.9, **harmless})
    assert to(decide(SpinFeedback(), reading, reading, reading)) is None


def test_a_host_that_is_not_overcommitted_shrinks_nothing() -> None:
    assert to(decide(SpinFeedback(), domain(), domain(), overcommit=1.0)) is None


def test_the_same_reading_twice_is_one_piece_of_evidence() -> None:
    policy = SpinFeedback()
    pool = PoolDemand(
        name="host",
        pcpus=2,
        available_pcpus=2,
        active_vcpus=8,
        overcommit_ratio=4,
        run_delay_ratio=0.7,
    )
    demand = HostDemand(window_ns=1, pools=(pool,), domains=(domain(),))
    state: Evidence = policy.initial()
    for now_ns in range(10):
        state, plan = policy.decide(state, demand, (), now_ns)
        assert plan.moves == ()


def test_tasks_that_queue_grow_by_one_up_to_the_entitlement() -> None:
    queueing = domain(
        active_vcpus=1,
        lock_wait_ratio=0.0,
        queued_tasks=3.0,
        entitled_pcpus=1.9,
        run_delay_pcpus=0.0,
    )
    assert to(decide(SpinFeedback(), queueing, queueing)) == 2
    at_its_share = replace(queueing, entitled_pcpus=1.2)
    assert to(decide(SpinFeedback(), at_its_share, at_its_share, at_its_share)) is None


def test_a_guest_that_spins_is_not_grown() -> None:
    spinning = domain(active_vcpus=3, lock_wait_ratio=0.05, queued_tasks=9.0, entitled_pcpus=4.0)
    assert to(decide(SpinFeedback(), spinning, spinning, spinning)) is None


@pytest.mark.parametrize(
    ("entitled", "vcpus"), [(0.3, 1), (1.0, 1), (1.7, 1), (1.8, 2), (1.95, 2), (7.9, 8)]
)
def test_an_entitlement_is_rounded_to_what_the_host_can_keep_running(
    entitled: float, vcpus: int
) -> None:
    assert nearest_vcpus(entitled) == vcpus


def test_policies_are_found_by_name_and_their_options_are_checked() -> None:
    assert {"static", "spin_feedback"} <= set(names())
    assert load("spin_feedback", {"spin_high": 0.2}) == SpinFeedback(spin_high=0.2)
    with pytest.raises(ConfigError, match="did you mean 'spin_feedback'"):
        load("spin_fedback", {})
    with pytest.raises(ConfigError, match="did you mean 'spin_high'"):
        load("spin_feedback", {"spin_hihg": 0.2})
    with pytest.raises(ConfigError, match="spin_low < spin_high"):
        load("spin_feedback", {"spin_high": 0.0})
