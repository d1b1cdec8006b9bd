"""A run is divided where something long enough changes, and progress is counted by what is done."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpud_simulator.laboratory.compare import states
from vcpud_simulator.laboratory.compare.progress import progress
from vcpud_simulator.scenario import DomainPlan, Scenario
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.bursty import Bursty
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.noise import Noise
from vcpud_simulator.workloads.phased import Phase, Phased

S = 1_000_000_000


def scenario(*plans: DomainPlan, seconds: int = 297) -> Scenario:
    return Scenario(name="x", domains=plans, pcpus=2, warmup_ns=3 * S, duration_ns=seconds * S)


def plan(name: str, workload: Workload | None = None, **more: int) -> DomainPlan:
    times = {f"{word}_ns": seconds * S for word, seconds in more.items()}
    return DomainPlan(name=name, vcpus=2, workload=workload or GobmkLike(), **times)  # type: ignore[arg-type]


def phased(seconds: int) -> Phased:
    return Phased(
        phases=(
            Phase(workload=Descriptors(), duration_ns=seconds * S),
            Phase(workload=GobmkLike(), duration_ns=seconds * S),
        )
    )


def test_a_host_on_which_nothing_changes_has_one_state_and_is_frozen_as_it_is() -> None:
    still = scenario(plan("a"), plan("b"))
    assert not states.divided(still)
    assert [one.state for one in states.stretches(still)] == [(0, 0)]
    assert states.frozen(still, (0, 0)) is still


def test_phases_divide_it_and_come_back() -> None:
    made = scenario(plan("a", phased(60)), plan("b"))
    assert [one.state for one in states.stretches(made)] == [(0, 0), (1, 0)] * 2 + [(0, 0)]
    first, second = (states.frozen(made, state) for state in ((0, 0), (1, 0)))
    assert isinstance(first.domains[0].workload, Descriptors)
    assert isinstance(second.domains[0].workload, GobmkLike)


def test_what_is_too_fast_to_follow_does_not() -> None:
    made = scenario(plan("a", phased(20)), plan("b", Bursty(period_ns=40 * S)))
    assert not states.divided(made)
    assert states.cycle_ns(made) == 40 * S


def test_what_is_too_fast_to_follow_can_be_gone_through_in_less_time() -> None:
    slow = plan("c", phased(60))
    made = scenario(plan("a", phased(20)), plan("b", Bursty(period_ns=10 * S, offset_ns=S)), slow)
    first, second, third = states.hurried(made, 2 * S).domains
    assert isinstance(first.workload, Phased)
    assert [phase.duration_ns for phase in first.workload.phases] == [S, S]
    assert isinstance(second.workload, Bursty)
    assert (second.workload.period_ns, second.workload.offset_ns) == (S // 2, S // 20)
    assert third is slow
    assert states.hurried(made, 40 * S) is made


def test_arrivals_and_departures_divide_it_and_only_who_is_there_is_frozen() -> None:
    made = scenario(plan("a"), plan("b", arrives=60, departs=120))
    assert [one.state for one in states.stretches(made)] == [(0, None), (0, 0), (0, None)]
    assert [one.name for one in states.frozen(made, (0, None)).domains] == ["a"]
    assert [one.arrives_ns for one in states.frozen(made, (0, 0)).domains] == [0, 0]


def test_slow_bursts_are_busy_or_idle() -> None:
    made = scenario(plan("a", Bursty(period_ns=120 * S)))
    assert [one.state for one in states.stretches(made)] == [(0,), (1,)] * 2 + [(0,)]
    busy, idle = (states.frozen(made, state).domains[0].workload for state in ((0,), (1,)))
    assert isinstance(busy, GobmkLike)
    assert isinstance(idle, Noise)


@given(
    st.integers(0, 200), st.integers(1, 150), st.integers(1, 150), st.none() | st.integers(1, 400)
)
def test_turns_follow_each_other_without_gaps_while_the_domain_is_there(
    arrives: int, first: int, second: int, stays: int | None
) -> None:
    workload = Phased(
        phases=(
            Phase(workload=GobmkLike(), duration_ns=first * S),
            Phase(workload=Descriptors(), duration_ns=second * S),
        )
    )
    leaves = {} if stays is None else {"departs": arrives + stays}
    rows = list(states.turns(plan("a", workload, arrives=arrives, **leaves), 300 * S))
    assert rows[0][0] == arrives * S
    assert rows[-1][1] == min(300, arrives + (stays or 300)) * S
    assert all(a[1] == b[0] and a[2] != b[2] for a, b in itertools.pairwise(rows))
    assert rows[0][2] == 0


def seconds(rates: list[float]) -> list[tuple[int, int, float]]:
    return [(at * S, (at + 1) * S, rate) for at, rate in enumerate(rates)]


def test_steady_work_is_units_a_second() -> None:
    made = scenario(plan("a"), seconds=7)
    found = progress(made, {"a": seconds([5.0] * 10)}, from_ns=3 * S, until_ns=10 * S)
    assert found == {"a": pytest.approx(5.0)}


def test_different_work_is_not_added_up_but_multiplied_by_time() -> None:
    made = scenario(plan("a", phased(100)), seconds=397)
    rates = [1.0] * 100 + [1_000.0] * 100 + [1.0] * 100 + [1_000.0] * 100
    found = progress(made, {"a": seconds(rates)}, from_ns=0, until_ns=400 * S)
    assert found["a"] == pytest.approx(math.sqrt(1_000.0))


def test_a_burst_counts_over_its_whole_period() -> None:
    made = scenario(plan("a", Bursty(period_ns=4 * S)), seconds=37)
    found = progress(made, {"a": seconds([10.0, 10.0, 0.0, 0.0] * 10)}, from_ns=0, until_ns=40 * S)
    assert found["a"] == pytest.approx(5.0)


def test_nothing_done_still_has_a_logarithm_and_nobody_there_has_no_progress() -> None:
    made = scenario(plan("a"), plan("b", arrives=60, departs=120))
    work = {"a": seconds([0.0] * 50)}
    assert progress(made, work, from_ns=0, until_ns=50 * S) == {"a": pytest.approx(0.01)}
