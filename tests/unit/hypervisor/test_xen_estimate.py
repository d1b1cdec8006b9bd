"""The estimate of waiting time on Xen: against processes whose every state is known."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpud.units import NS_PER_MS, NS_PER_S
from vcpud.waiting import (
    READY_SAMPLES,
    STALE_NS,
    Wait,
    counted,
    sampled,
    told_at,
)

RUN, WAIT, BLOCKED = range(3)


def chance(seed: int) -> Random:
    """The same chance every time."""
    return Random(seed)  # noqa: S311  no secret


@dataclass(frozen=True, slots=True)
class Path:
    """What a vCPU did: from `starts_ns[i]` on it was in `states[i]`."""

    starts_ns: list[int]
    states: list[int]
    spent_ns: list[tuple[int, int, int]]
    """Time in each state before `starts_ns[i]`."""

    def at(self, at_ns: int) -> int:
        return self.states[bisect_right(self.starts_ns, at_ns) - 1]

    def until(self, at_ns: int) -> tuple[int, int, int]:
        place = bisect_right(self.starts_ns, at_ns) - 1
        spent = list(self.spent_ns[place])
        spent[self.states[place]] += at_ns - self.starts_ns[place]
        return spent[0], spent[1], spent[2]


def walk(random: Random, means_ms: tuple[float, float, float], duration_ns: int) -> Path:
    """A vCPU that wakes, waits, runs and blocks, each for an exponential time of its own mean."""
    at_ns, state = 0, BLOCKED
    starts, states, spent = [], [], []
    sums = [0, 0, 0]
    following = {BLOCKED: WAIT, WAIT: RUN, RUN: BLOCKED}
    while at_ns < duration_ns:
        starts.append(at_ns)
        states.append(state)
        spent.append((sums[0], sums[1], sums[2]))
        mean_ms = means_ms[state]
        length_ns = round(random.expovariate(1 / mean_ms) * NS_PER_MS) if mean_ms else 0
        sums[state] += length_ns
        at_ns += length_ns
        state = following[state]
    return Path(starts, states, spent)


def followed(path: Path, random: Random, slot_ns: int, duration_ns: int) -> list[tuple[int, Wait]]:
    """What is known at every second, with one look in each slot."""
    looks = [
        start_ns + round(random.random() * slot_ns)
        for start_ns in range(0, duration_ns - slot_ns, slot_ns)
    ]
    readings = range(0, duration_ns, NS_PER_S)
    wait = Wait()
    found = []
    for at_ns, looking in sorted(
        [(one, True) for one in looks] + [(one, False) for one in readings]
    ):
        if looking:
            wait = sampled(wait, blocked=path.at(at_ns) == BLOCKED, at_ns=at_ns)
        else:
            wait = counted(wait, run_ns=path.until(at_ns)[RUN], at_ns=at_ns, online=True)
            found.append((at_ns, wait))
    return found


MIXES = [
    (10.0, 20.0, 30.0),  # runs, waits and blocks about alike
    (30.0, 90.0, 3.0),  # a guest that computes on a full host
    (1.0, 1.0, 50.0),  # mostly idle
    (20.0, 2.0, 20.0),  # half idle on a host with room
]


@pytest.mark.parametrize("means_ms", MIXES)
def test_the_truth_lies_within_the_stated_error(means_ms: tuple[float, float, float]) -> None:
    duration_ns, slot_ns, from_ns = 90 * NS_PER_S, 500 * NS_PER_MS, 25 * NS_PER_S
    strays, errors = [], []
    for seed in range(60):
        random = chance(seed)
        path = walk(random, means_ms, duration_ns)
        found = dict(followed(path, random, slot_ns, duration_ns))
        end_ns = max(found)
        truth_ns = path.until(end_ns)[WAIT] - path.until(from_ns)[WAIT]
        first, last = found[from_ns], found[end_ns]
        error_ns = math.sqrt(last.variance_ns2 - first.variance_ns2)
        strays.append((last.delay_ns - first.delay_ns - truth_ns) / error_ns)
        errors.append(error_ns / (end_ns - from_ns))
    assert sum(abs(one) <= 2 for one in strays) >= 54, "95 of 100 are promised"
    assert sum(abs(one) <= 3 for one in strays) >= 59
    assert max(errors) < 0.06, "and the promise is worth something"


def test_a_vcpu_that_never_blocks_is_told_exactly_but_never_said_to_be_so() -> None:
    duration_ns = 60 * NS_PER_S
    path = walk(chance(1), (30.0, 30.0, 0.0), duration_ns)
    found = dict(followed(path, chance(2), 500 * NS_PER_MS, duration_ns))
    first, last = found[10 * NS_PER_S], found[50 * NS_PER_S]
    waited_ns = path.until(50 * NS_PER_S)[WAIT] - path.until(10 * NS_PER_S)[WAIT]
    assert last.delay_ns - first.delay_ns == pytest.approx(waited_ns, abs=2)
    assert last.error_ns > first.error_ns > 0


@pytest.mark.parametrize("slot_ms", [50, 100, 500])
def test_an_idle_vcpu_waits_for_nothing(slot_ms: int) -> None:
    """However many looks come between two readings of its run time."""
    duration_ns = 60 * NS_PER_S
    path = Path([0], [BLOCKED], [(0, 0, 0)])
    found = dict(followed(path, chance(2), slot_ms * NS_PER_MS, duration_ns))
    first, last = found[20 * NS_PER_S], found[50 * NS_PER_S]
    error_ns = math.sqrt(last.variance_ns2 - first.variance_ns2)
    assert last.delay_ns - first.delay_ns < min(2 * error_ns, 1.5 * NS_PER_S)


def test_looks_that_are_dense_at_first_and_rare_later_mislead_nobody() -> None:
    strays = []
    for seed in range(40):
        random = chance(seed)
        path = walk(random, MIXES[0], 80 * NS_PER_S)
        looks = [number * 100 * NS_PER_MS for number in range(1, 10)]
        looks += [
            at_ns + round(random.random() * 3 * NS_PER_S)
            for at_ns in range(NS_PER_S, 76 * NS_PER_S, 3 * NS_PER_S)
        ]
        events = [(at_ns, True) for at_ns in looks]
        events += [(second * NS_PER_S, False) for second in range(80)]
        wait, found = Wait(), {}
        for at_ns, looking in sorted(events):
            if looking:
                wait = sampled(wait, blocked=path.at(at_ns) == BLOCKED, at_ns=at_ns)
            else:
                run_ns = path.until(at_ns)[RUN]
                wait = found[at_ns] = counted(wait, run_ns=run_ns, at_ns=at_ns, online=True)
        first, last = found[10 * NS_PER_S], found[75 * NS_PER_S]
        truth_ns = path.until(75 * NS_PER_S)[WAIT] - path.until(10 * NS_PER_S)[WAIT]
        error_ns = math.sqrt(last.variance_ns2 - first.variance_ns2)
        strays.append((last.delay_ns - first.delay_ns - truth_ns) / error_ns)
    assert sum(abs(one) <= 3 for one in strays) >= 38
    assert abs(sum(strays) / len(strays)) < 0.5


def test_fewer_looks_mean_a_larger_error_and_no_other_answer() -> None:
    duration_ns = 120 * NS_PER_S
    path = walk(chance(7), MIXES[0], duration_ns)
    errors, delays = [], []
    for slot_ms in (100, 400, 1600):
        found = dict(followed(path, chance(3), slot_ms * NS_PER_MS, duration_ns))
        first, last = found[30 * NS_PER_S], found[110 * NS_PER_S]
        errors.append(math.sqrt(last.variance_ns2 - first.variance_ns2))
        delays.append(last.delay_ns - first.delay_ns)
    assert errors[0] < errors[1] < errors[2]
    truth_ns = path.until(110 * NS_PER_S)[WAIT] - path.until(30 * NS_PER_S)[WAIT]
    for delay_ns, error_ns in zip(delays, errors, strict=True):
        assert abs(delay_ns - truth_ns) < 3 * error_ns


@st.composite
def happenings(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """Looks, readings and interruptions in any order, with clocks that may stand or jump."""
    return draw(
        st.lists(
            st.tuples(
                st.sampled_from(["blocked", "busy", "count", "offline"]),
                st.integers(min_value=0, max_value=100 * NS_PER_S),
                st.integers(min_value=0, max_value=20 * NS_PER_S),
            ),
            max_size=60,
        )
    )


@given(happenings())
def test_a_delay_never_falls_and_never_exceeds_the_time_not_run(
    seen: list[tuple[str, int, int]],
) -> None:
    wait = Wait()
    at_ns = run_ns = 0
    spare_ns = 0
    for what, later_ns, ran_ns in seen:
        before = wait
        if what in ("blocked", "busy"):
            at_ns += later_ns
            wait = sampled(wait, blocked=what == "blocked", at_ns=at_ns)
        else:
            online = what == "count"
            before_ns = before.at_ns
            at_ns += later_ns
            run_ns += ran_ns
            wait = counted(wait, run_ns=run_ns, at_ns=at_ns, online=online)
            if before_ns is not None:
                spare_ns += max(at_ns - before_ns, 0)
        assert wait.delay_ns >= before.delay_ns
        assert wait.variance_ns2 >= before.variance_ns2
        assert wait.reservoir_ns >= 0
        assert wait.delay_ns <= spare_ns


def test_nothing_is_told_before_a_few_looks_and_long_after_the_last() -> None:
    wait = counted(Wait(), run_ns=0, at_ns=NS_PER_S, online=True)
    assert told_at(wait, NS_PER_S) is None
    for number in range(1, READY_SAMPLES + 1):
        wait = sampled(wait, blocked=False, at_ns=(number + 1) * NS_PER_S)
    at_ns = (READY_SAMPLES + 1) * NS_PER_S
    assert told_at(wait, at_ns) is not None
    assert told_at(wait, at_ns + STALE_NS + 1) is None


def test_a_vcpu_that_is_offline_stands_still_and_comes_back_knowing_what_it_knew() -> None:
    path = walk(chance(5), MIXES[0], 60 * NS_PER_S)
    found = followed(path, chance(5), 500 * NS_PER_MS, 60 * NS_PER_S)
    at_ns, wait = found[-1]
    away = counted(wait, run_ns=wait.run_ns, at_ns=at_ns + NS_PER_S, online=False)
    assert told_at(away, at_ns + 1000 * NS_PER_S) == (wait.delay_ns, wait.error_ns)
    looked = sampled(away, blocked=True, at_ns=at_ns + 2 * NS_PER_S)
    assert looked == away, "what it does offline says nothing"
    back = counted(away, run_ns=wait.run_ns, at_ns=at_ns + 100 * NS_PER_S, online=True)
    assert back.delay_ns == wait.delay_ns
    assert told_at(back, at_ns + 100 * NS_PER_S) is not None


@pytest.mark.parametrize("run_ns", [-5, 10**12])
def test_a_counter_that_steps_tells_nothing_of_that_window(run_ns: int) -> None:
    path = walk(chance(5), MIXES[0], 60 * NS_PER_S)
    at_ns, wait = followed(path, chance(5), 500 * NS_PER_MS, 60 * NS_PER_S)[-1]
    stepped = counted(wait, run_ns=wait.run_ns + run_ns, at_ns=at_ns + NS_PER_S, online=True)
    assert stepped.delay_ns == wait.delay_ns
    assert stepped.run_ns == wait.run_ns + run_ns


def test_readings_a_little_out_of_step_with_the_clock_add_no_waiting() -> None:
    wait = counted(Wait(), run_ns=0, at_ns=0, online=True)
    for number in range(1, 9):
        wait = sampled(wait, blocked=False, at_ns=number * 250 * NS_PER_MS)
    random = chance(3)
    run_ns = 2 * NS_PER_S
    wait = counted(wait, run_ns=run_ns, at_ns=2 * NS_PER_S, online=True)
    for second in range(3, 100):
        wait = sampled(wait, blocked=False, at_ns=second * NS_PER_S)
        jitter_ns = round(random.uniform(-5, 5) * NS_PER_MS)
        run_ns = second * NS_PER_S + jitter_ns
        wait = counted(wait, run_ns=run_ns, at_ns=second * NS_PER_S, online=True)
    assert wait.delay_ns < 50 * NS_PER_MS
