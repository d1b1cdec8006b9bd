"""What asking may cost a guest: a share of a pCPU, and of what the guest gets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.hypervisor.test_reader import Talk
from vcpud.hypervisor.budget import Budget
from vcpud.rates import KEPT_NS
from vcpud.thrift import RAREST_NS, SHARE, Supply, spacing_ns
from vcpud.tracks import GUEST_STALE_NS
from vcpud.units import NS_PER_MS, NS_PER_S, NS_PER_US


@pytest.mark.parametrize("command_ms", [1, 5, 18])
def test_over_an_hour_the_agent_costs_no_more_than_its_share(command_ms: int) -> None:
    ratio = 0.002
    talk = Talk(ratio=ratio)
    talk.agent.each_costs_ns = command_ms * NS_PER_MS
    while talk.now_ns < 3600 * NS_PER_S:
        talk.session()
    cost_ns = talk.agent.commands * talk.agent.each_costs_ns
    assert cost_ns <= 1.25 * ratio * talk.now_ns
    if command_ms == 1:
        assert talk.agent.commands > 3600 / 5 * 4


def lock_gaps_ns(talk: Talk, duration_ns: int) -> list[int]:
    """How far apart the readings of lock waits are."""
    taken: list[int] = []
    while talk.now_ns < duration_ns:
        if any("lock_spin" in one for one in talk.session()):
            taken.append(talk.now_ns)
    return [b - a for a, b in pairwise(taken)]


@pytest.mark.parametrize("command_us", [500, 1000, 2000])
def test_a_guest_with_little_is_asked_as_its_use_allows(command_us: int) -> None:
    talk = Talk(ratio=0.002)
    talk.pcpus = 0.05
    talk.agent.each_costs_ns = command_us * NS_PER_US
    gaps = lock_gaps_ns(talk, 3600 * NS_PER_S)
    cost_ns = talk.agent.commands * talk.agent.each_costs_ns
    assert cost_ns <= 1.25 * SHARE * talk.pcpus * talk.now_ns
    assert max(gaps) < GUEST_STALE_NS


@pytest.mark.parametrize("pcpus", [0.0, 0.002])
def test_who_uses_next_to_nothing_is_heard_before_its_last_word_is_too_old(pcpus: float) -> None:
    talk = Talk(ratio=0.002)
    talk.pcpus = pcpus
    talk.agent.each_costs_ns = 2 * NS_PER_MS
    gaps = lock_gaps_ns(talk, 3600 * NS_PER_S)
    assert RAREST_NS - NS_PER_S < max(gaps) < GUEST_STALE_NS
    assert 2 * GUEST_STALE_NS <= KEPT_NS, "the host's readings to match them with are kept"
    talk.reader.hurry()
    began_ns = talk.now_ns = talk.reader.due_ns(talk.now_ns)
    talk.session()
    assert talk.reader.due_ns(talk.now_ns) - began_ns == NS_PER_S, "a change is still seen at once"


def test_a_guest_with_plenty_is_asked_as_if_nobody_knew_what_it_uses() -> None:
    known, unknown = Talk(ratio=0.002), Talk(ratio=0.002)
    known.pcpus = 0.2
    for _ in range(200):
        assert known.session() == unknown.session()
        assert known.now_ns == unknown.now_ns


def test_who_collapses_in_debt_is_asked_at_once_as_soon_as_before() -> None:
    budget = Budget(ratio=0.002, now_ns=0)
    for _ in range(200):
        budget.spend_command(0)
    assert budget.tolerable(0)
    budget.gets(0.05, 0)
    assert budget.tolerable(0)
    assert not budget.solvent(100 * NS_PER_S)
    assert budget.solvent(200 * NS_PER_S), "as long as it would have taken"


def test_use_is_that_of_the_last_ten_seconds_or_more() -> None:
    supply = Supply()
    shown = []
    for at_s, waited_s in (
        (0, 5.0),
        (9, 9.0),
        (10, 20.0),
        (19, 20.0),
        (25, 38.0),
        (26, 1.0),
        (36, 31.0),
    ):
        supply.saw(round(waited_s * NS_PER_S), 2, at_s * NS_PER_S)
        shown.append(supply.pcpus)
    assert shown == [None, None, 0.5, 0.5, 0.8, 0.8, 0.0]
    assert spacing_ns(NS_PER_MS, None) == 0
    assert spacing_ns(NS_PER_MS, 0.05) == 2 * NS_PER_S
    assert spacing_ns(NS_PER_S, 1.0) == 5 * NS_PER_S, "dear as it is in a collapse"
    assert spacing_ns(NS_PER_MS, 0.0) == spacing_ns(0, 0.0) == RAREST_NS


@pytest.mark.parametrize("command_ms", [1, 3])
def test_the_first_half_minute_spends_no_more_than_what_is_held_for_it(command_ms: int) -> None:
    ratio = 0.002
    talk = Talk(ratio=ratio)
    talk.agent.each_costs_ns = command_ms * NS_PER_MS
    while talk.now_ns < 30 * NS_PER_S:
        talk.session()
    cost_ns = talk.agent.commands * talk.agent.each_costs_ns
    assert cost_ns <= 1.25 * ratio * (30 * NS_PER_S + talk.now_ns)


def test_even_a_dear_agent_is_asked_for_locks_now_and_then() -> None:
    talk = Talk(ratio=0.002)
    talk.agent.each_costs_ns = 18 * NS_PER_MS
    readings: list[int] = []
    while talk.now_ns < 600 * NS_PER_S:
        if any("lock_spin" in one for one in talk.session()):
            readings.append(talk.now_ns)
    assert max(b - a for a, b in pairwise(readings)) <= 110 * NS_PER_S


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10**10)), max_size=60))
def test_no_order_of_spending_and_waiting_breaks_the_budget(moves: list[tuple[bool, int]]) -> None:
    budget = Budget(ratio=0.002, now_ns=0)
    now_ns = 0
    for spend, amount in moves:
        now_ns += amount
        if spend:
            budget.spend_command(now_ns)
            budget.gets(amount / 10**10, now_ns)
        else:
            budget.measured(amount)
        assert budget.command_cost_ns >= 0
        assert budget.spacing_ns(1) >= 0
