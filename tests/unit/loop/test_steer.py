"""From target to single steps, each read back before the next."""

from __future__ import annotations

from dataclasses import replace

from vcpud.model import DomainSample, Method, SetLive, SetOnline, Terms
from vcpud.record import Purpose
from vcpud.steer import (
    ANSWER_NS,
    MAX_FAILURES,
    Course,
    Standing,
    checked,
    failed,
    issued,
    next_change,
    standing,
)
from vcpud.units import NS_PER_S

ALL = frozenset(range(4))


def sample(online: frozenset[int] | None = ALL, at_ns: int = 0, **more: object) -> DomainSample:
    made = DomainSample(
        uuid="u",
        name="n",
        incarnation="1@1",
        taken_at_ns=at_ns,
        terms=Terms(),
        live_vcpus=4,
        max_vcpus=4,
        online=online,
        online_taken_at_ns=at_ns,
        method=Method.AGENT,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def course(to_vcpus: int, step: int = 1, **more: object) -> Course:
    made = Course(
        uuid="u",
        decision_id="d",
        purpose=Purpose.DECIDE,
        reason="",
        begun_at_ns=0,
        home=ALL,
        home_live_vcpus=4,
        from_vcpus=4,
        to_vcpus=to_vcpus,
        step_vcpus=step,
        method=Method.AGENT,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def test_the_highest_numbered_vcpu_goes_first_and_one_at_a_time() -> None:
    assert next_change(course(1), sample(), 1) == SetOnline(uuid="u", online=frozenset({0, 1, 2}))


def test_a_larger_step_takes_several_at_once() -> None:
    assert next_change(course(1, 3), sample(), 1) == SetOnline(uuid="u", online=frozenset({0}))


def test_vcpu_0_never_goes() -> None:
    change = next_change(course(0, 9), sample(frozenset({0, 2})), 1)
    assert change == SetOnline(uuid="u", online=frozenset({0}))
    assert next_change(course(0, 9), sample(frozenset({0})), 1) is None


def test_growing_uses_only_what_the_domain_had() -> None:
    grow = course(4, 9, home=frozenset({0, 2}), from_vcpus=1)
    change = next_change(grow, sample(frozenset({0})), 1)
    assert change == SetOnline(uuid="u", online=frozenset({0, 2}))


def test_the_next_step_waits_for_the_read_back_of_the_last() -> None:
    under_way = issued(course(1), 100)
    assert next_change(under_way, sample(at_ns=50), 200) is None
    after = sample(frozenset({0, 1, 2}), at_ns=150)
    under_way = checked(under_way, after, 200)
    assert next_change(under_way, after, 200) == SetOnline(uuid="u", online=frozenset({0, 1}))


def test_a_course_is_reached_only_by_what_was_read_back_after_the_last_step() -> None:
    under_way = issued(course(1), 100)
    assert standing(under_way, sample(frozenset({0}), at_ns=50)) is Standing.ON_ITS_WAY
    assert standing(under_way, sample(frozenset({0}), at_ns=150)) is Standing.REACHED


def test_a_step_that_shows_no_result_fails_and_is_tried_later() -> None:
    under_way = issued(course(1), 0)
    late = ANSWER_NS + 1
    under_way = checked(under_way, sample(at_ns=-1), late)
    assert under_way.failures == 1
    assert next_change(under_way, sample(at_ns=late), late) is None
    assert next_change(under_way, sample(at_ns=late), late + 10 * NS_PER_S) is not None


def test_a_course_is_given_up_after_failures_in_a_row_but_a_restore_never() -> None:
    tired, restoring = course(1), course(4, purpose=Purpose.RESTORE)
    for _ in range(MAX_FAILURES):
        tired, restoring = failed(tired, 0, "no"), failed(restoring, 0, "no")
    assert standing(tired, sample()) is Standing.GIVEN_UP
    assert standing(restoring, sample(frozenset({0}))) is Standing.ON_ITS_WAY


def test_a_restore_is_one_call_with_the_full_list() -> None:
    restore = course(4, purpose=Purpose.RESTORE, from_vcpus=1)
    assert next_change(restore, sample(frozenset({0})), 1) == SetOnline(uuid="u", online=ALL)


def test_devices_go_one_by_one() -> None:
    unplug = course(1, 9, method=Method.HOTPLUG)
    assert next_change(unplug, sample(None), 1) == SetLive(uuid="u", count=3)
    plug = course(4, 9, method=Method.HOTPLUG, purpose=Purpose.RESTORE)
    assert next_change(plug, sample(None, live_vcpus=2), 1) == SetLive(uuid="u", count=3)


def test_xenstore_is_told_a_number_and_a_restore_asks_for_all_of_it() -> None:
    shrink = course(1, 2, method=Method.XENSTORE)
    assert next_change(shrink, sample(None), 1) == SetLive(uuid="u", count=2)
    restore = course(4, 4, method=Method.XENSTORE, purpose=Purpose.RESTORE)
    assert next_change(restore, sample(None, live_vcpus=1), 1) == SetLive(uuid="u", count=4)


def test_nothing_is_begun_while_a_change_is_in_flight() -> None:
    busy = sample(in_flight=SetOnline(uuid="u", online=ALL))
    assert next_change(course(1), busy, 1) is None


def test_a_course_that_replaces_another_in_mid_change_does_not_believe_what_was_read_before() -> (
    None
):
    restore = course(4, purpose=Purpose.RESTORE, from_vcpus=4, touched_at_ns=100)
    in_flight = SetOnline(uuid="u", online=frozenset({0}))
    assert standing(restore, sample(at_ns=50, in_flight=in_flight)) is Standing.ON_ITS_WAY
    assert standing(restore, sample(at_ns=50)) is Standing.ON_ITS_WAY
    assert standing(restore, sample(at_ns=150)) is Standing.REACHED
    shrunk = sample(frozenset({0}), at_ns=150)
    assert next_change(restore, shrunk, 200) == SetOnline(uuid="u", online=ALL)


def test_a_restore_asks_for_nothing_that_is_not_known_to_have_been_online() -> None:
    home = frozenset({0, 1})  # CPUs 2 and 3 an admin has had offline before
    restore = course(2, purpose=Purpose.RESTORE, home=home, from_vcpus=1)
    assert next_change(restore, sample(None), 1) == SetOnline(uuid="u", online=home)
