"""What adaptive does where a figure that it would decide by is not told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vcpud.demand import DomainDemand, Progress
from vcpud.units import NS_PER_S
from vcpud_policies.adaptive import Adaptive

from .conftest import MakeDomain, MakeHost


def first_numbers(host: MakeHost, pcpus: int, *domains: DomainDemand) -> dict[str, int]:
    """What these are brought to first, told the same every five seconds."""
    policy = Adaptive()
    state = policy.initial()
    for reading in range(8):
        now_ns = (100 + 5 * reading) * NS_PER_S
        there = []
        for one in domains:
            window = one.progress
            assert window is not None
            window = replace(window, began_at_ns=now_ns - 5 * NS_PER_S, ended_at_ns=now_ns)
            there.append(replace(one, progress=window, lock_wait_at_ns=now_ns))
        state, plan = policy.decide(state, host(*there, pcpus=pcpus), (), now_ns)
        if plan.moves:
            return {r.uuid: r.to_vcpus for move in plan.moves for r in move.resizes}
    return {}


@pytest.mark.parametrize(("wait", "vcpus"), [(0.7, 3), (0.0, 2), (None, 3)])
def test_that_threads_go_in_step_is_not_assumed_where_nobody_asked_for_their_lock_waits(
    domain: MakeDomain, host: MakeHost, wait: float | None, vcpus: int
) -> None:
    """Four vCPUs entitled to three pCPUs: two are as good as three only for threads in step."""
    made = Progress(began_at_ns=0, ended_at_ns=0, rate_pcpus=0.3, active_vcpus=4, worth_ratio=0.1)
    team = domain(
        uuid="a",
        weight=3,
        active_vcpus=4,
        max_vcpus=4,
        used_pcpus=3.0,
        run_delay_pcpus=0.5,
        entitled_pcpus=3.0,
        lock_wait_ratio=wait,
        system_ratio=0.8,
        progress=made,
    )
    single = replace(
        team,
        uuid="b",
        weight=1,
        active_vcpus=1,
        max_vcpus=1,
        used_pcpus=1.0,
        run_delay_pcpus=0.0,
        entitled_pcpus=1.0,
        progress=replace(made, rate_pcpus=1.0, active_vcpus=1, worth_ratio=1.0),
    )
    assert first_numbers(host, 4, team, single) == {"a": vcpus}


@pytest.mark.parametrize(
    ("system", "moves"), [(0.0, {"a": 2, "b": 2}), (0.35, {"a": 2, "b": 2}), (0.9, {}), (None, {})]
)
def test_use_that_is_worth_less_may_be_a_guests_own_work_where_nobody_says_how_much_is(
    domain: MakeDomain, host: MakeHost, system: float | None, moves: dict[str, int]
) -> None:
    pair = [
        domain(
            uuid=uuid,
            active_vcpus=4,
            max_vcpus=4,
            used_pcpus=2.0,
            run_delay_pcpus=1.2,
            entitled_pcpus=2.0,
            lock_wait_ratio=0.0,
            system_ratio=system,
            progress=Progress(
                began_at_ns=0, ended_at_ns=0, rate_pcpus=1.3, active_vcpus=4, worth_ratio=0.65
            ),
        )
        for uuid in "ab"
    ]
    assert first_numbers(host, 4, *pair) == moves


def test_who_was_shrunk_and_does_not_tell_its_queue_gets_more_where_all_of_it_has_room(
    domain: MakeDomain, host: MakeHost
) -> None:
    """It may fill what it is given; with pCPUs to spare that is in nobody's way."""
    shrunk = domain(
        uuid="a",
        active_vcpus=2,
        max_vcpus=4,
        home_vcpus=4,
        used_pcpus=2.0,
        progress=Progress(
            began_at_ns=0, ended_at_ns=0, rate_pcpus=2.0, active_vcpus=2, worth_ratio=1.0
        ),
    )
    beside = replace(shrunk, uuid="b", active_vcpus=4, home_vcpus=None, used_pcpus=4.0)
    assert first_numbers(host, 8, shrunk, beside) == {"a": 4}
    assert first_numbers(host, 7, shrunk, beside) == {"a": 3}
    assert first_numbers(host, 6, shrunk, beside) == {}


@pytest.mark.parametrize(("queued", "moves"), [(0.0, True), (2.0, False), (None, False)])
def test_nobody_is_given_more_beside_one_that_needs_room_for_want_of_knowing_what_it_would_fill(
    domain: MakeDomain, host: MakeHost, queued: float | None, *, moves: bool
) -> None:
    """Three of 3.67 pCPUs are in use; what has no more to do may have more vCPUs, for all they would do."""
    first = domain(
        uuid="a",
        active_vcpus=1,
        max_vcpus=3,
        home_vcpus=3,
        used_pcpus=1.0,
        queued_tasks=queued,
        progress=Progress(
            began_at_ns=0, ended_at_ns=0, rate_pcpus=1.0, active_vcpus=1, worth_ratio=1.0
        ),
    )
    second = replace(
        first,
        uuid="b",
        active_vcpus=2,
        max_vcpus=8,
        home_vcpus=8,
        used_pcpus=2.0,
        queued_tasks=None,
    )
    crowd = host(first, second, pcpus=4)
    less = replace(crowd.pools[0], available_pcpus=3.67)
    found = first_numbers(
        lambda *there, **_: replace(host(*there), pools=(less,)), 4, first, second
    )
    assert ("a" in found) is moves
