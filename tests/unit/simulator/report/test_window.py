"""A window of the trace says who was where from its first instant on."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcpud_simulator.entities import RunState
from vcpud_simulator.experiment import Laboratory
from vcpud_simulator.laboratory.report.window import Window
from vcpud_simulator.schedulers.cfs import Cfs
from vcpud_simulator.trace import Kind
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike

MS = 1_000_000


def test_a_vcpu_that_ran_before_the_window_opened_runs_in_it() -> None:
    window = Window(100, 200)
    window.record(10, Kind.WAKE, 0, 1)
    window.record(20, Kind.DISPATCH, 0, 1)
    [[stay]] = window.stays(1)
    assert (stay.begin_ns, stay.end_ns, stay.state, stay.pcpu) == (100, 200, RunState.RUNNING, 1)


def test_a_vcpu_nothing_was_heard_of_is_blocked() -> None:
    [[stay]] = Window(100, 200).stays(1)
    assert stay.state is RunState.BLOCKED
    assert stay.pcpu is None


def test_what_happens_outside_the_window_is_not_in_it() -> None:
    window = Window(100, 200)
    window.record(200, Kind.WAKE, 0, 0)
    window.record(250, Kind.DISPATCH, 0, 0)
    [[stay]] = window.stays(1)
    assert stay.state is RunState.BLOCKED


def test_kernel_spinning_is_kept_only_while_the_vcpu_runs() -> None:
    window = Window(0, 100)
    for event in (
        (0, Kind.WAKE, 0, 0),
        (10, Kind.DISPATCH, 0, 0),
        (20, Kind.SPIN_BEGIN, 0, 1),
        (40, Kind.PREEMPT, 0, 0),
        (60, Kind.DISPATCH, 0, 1),
        (70, Kind.SPIN_END, 0, 1),
    ):
        window.record(*event)
    [lane] = window.stays(1)
    runs = [stay for stay in lane if stay.state is RunState.RUNNING]
    assert [stay.spins for stay in runs] == [((20, 40),), ((60, 70),)]
    assert [stay.pcpu for stay in runs] == [0, 1]


def test_spinning_that_began_before_the_window_goes_on_in_it() -> None:
    window = Window(100, 200)
    window.record(10, Kind.DISPATCH, 0, 0)
    window.record(20, Kind.SPIN_BEGIN, 0, 1)
    window.record(150, Kind.SPIN_END, 0, 1)
    [[stay]] = window.stays(1)
    assert stay.spins == ((100, 150),)
    assert stay.spin_ns == 50


def test_spinning_in_user_mode_is_left_out() -> None:
    window = Window(0, 100)
    window.record(10, Kind.DISPATCH, 0, 0)
    window.record(20, Kind.SPIN_BEGIN, 0, 0)
    [lane] = window.stays(1)
    assert all(not stay.spins for stay in lane)


def test_a_window_that_is_full_ends_at_what_it_has_seen() -> None:
    window = Window(0, 1_000, limit=3)
    for when_ns in range(10, 100, 10):
        kind = Kind.DISPATCH if when_ns % 20 else Kind.PREEMPT
        window.record(when_ns, kind, 0, 0)
    assert window.full
    assert window.seen_until_ns == 30
    assert window.stays(1)[0][-1].end_ns == 30


def test_a_window_must_end_after_it_begins() -> None:
    with pytest.raises(ValueError, match="ends after it begins"):
        Window(10, 10)


@settings(max_examples=15, deadline=None)
@given(
    begin_ms=st.integers(0, 40),
    length_ms=st.integers(1, 30),
    pcpus=st.integers(1, 3),
    seed=st.integers(0, 1_000),
)
def test_stays_have_no_gaps_agree_with_the_host_and_never_share_a_pcpu(
    begin_ms: int, length_ms: int, pcpus: int, seed: int
) -> None:
    window = Window(begin_ms * MS, (begin_ms + length_ms) * MS)
    lab = Laboratory(pcpus=pcpus, scheduler=Cfs(), trace=window, seed=seed)
    lab.add("a", Descriptors(grain_ns=200_000), vcpus=2)
    lab.add("b", GobmkLike(), vcpus=2)
    lab.run_for(window.from_ns)

    def spent() -> list[list[int]]:
        now_ns = lab.engine.now_ns
        return [[v.in_state_ns(state, now_ns) for state in RunState] for v in lab.host.vcpus]

    before = spent()
    lab.run_for(window.until_ns - window.from_ns)
    lanes = window.stays(4)
    for lane, then, now in zip(lanes, before, spent(), strict=True):
        assert lane[0].begin_ns == window.from_ns
        assert lane[-1].end_ns == window.until_ns
        assert all(a.end_ns == b.begin_ns for a, b in itertools.pairwise(lane))
        for state in RunState:
            drawn_ns = sum(stay.length_ns for stay in lane if stay.state is state)
            assert drawn_ns == now[state] - then[state]
    for pcpu in range(pcpus):
        runs = sorted(
            (stay.begin_ns, stay.end_ns) for lane in lanes for stay in lane if stay.pcpu == pcpu
        )
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(runs))
