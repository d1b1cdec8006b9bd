"""What somebody else changes in the middle of a course of several steps stands, and ends it."""

from __future__ import annotations

import pytest

from fakes.host import FakeDomain
from unit.loop.scripted import Scripted, scripted
from unit.loop.test_control import ENFORCE, Rig
from unit.loop.test_neighbours import foreign, owed
from vcpud.model import Method, Reason
from vcpud.record import Phase, Purpose
from vcpud.units import NS_PER_MS, NS_PER_S

ALL = frozenset(range(8))


def on_its_way(
    *, to_vcpus: int = 1, cycles: int, **more: object
) -> tuple[Rig, FakeDomain, Scripted]:
    """A domain of eight on its way down, three at a time, a second and a half each."""
    words = {"name": "a", "vcpus": 8, "terms": ENFORCE, "latency_ns": 1500 * NS_PER_MS}
    domain = FakeDomain(**(words | more))  # type: ignore[arg-type]
    rig, policy = scripted(domain)
    policy.to_vcpus = to_vcpus
    rig.cycles(cycles)
    return rig, domain, policy


def test_nothing_is_foreign_about_a_course_that_nobody_disturbs() -> None:
    rig, domain, _ = on_its_way(cycles=7)
    assert len(domain.online) == 1
    rig.cycles(5)
    assert domain.online == ALL, "it did not help, and was undone"
    assert foreign(rig) == []


def test_who_brings_vcpus_back_between_two_steps_sets_the_size() -> None:
    rig, domain, _ = on_its_way(cycles=3)
    assert domain.online == frozenset(range(5)), "after the first step"
    assert domain.in_flight is not None, "the second is on its way"
    domain.in_flight = None  # the guest has lost it: what is there is his alone
    domain.online = ALL
    rig.cycles(10)
    (change,) = foreign(rig)
    assert change.brought == {5, 6, 7}
    assert change.reversal
    assert domain.online == ALL
    assert owed(rig, domain) is None
    assert rig.phase(domain) is Phase.QUARANTINED


def test_who_takes_vcpus_away_between_two_steps_takes_those_alone() -> None:
    rig, domain, _ = on_its_way(cycles=3, to_vcpus=2)
    domain.in_flight = None
    domain.online = frozenset({0, 2, 3, 4})
    rig.cycles(3)
    (change,) = foreign(rig)
    assert change.taken == {1}
    assert domain.online == frozenset({0, 2, 3, 4}), "the course has ended"
    rig.loop.restore(rig.clock.now_ns() + 10 * NS_PER_S)
    assert domain.online == ALL - {1}


def test_a_step_done_in_part_is_nobody_elses() -> None:
    rig, domain, _ = on_its_way(cycles=3)
    domain.in_flight = None
    domain.online = frozenset({0, 1, 2})
    rig.cycles(40)
    assert foreign(rig) == []


def test_after_a_failure_nobody_can_tell_whose_it_was() -> None:
    rig, domain, _ = on_its_way(cycles=3)
    domain.fail = Reason.TIMEOUT
    rig.cycles(2)
    domain.online = ALL
    rig.cycles(3)
    assert foreign(rig) == []


def test_what_is_carried_out_after_it_was_given_up_is_nobody_elses() -> None:
    rig, domain, _ = on_its_way(cycles=3)
    domain.fail = Reason.TIMEOUT
    rig.cycles(15)
    domain.fail = None
    domain.online = frozenset({0})
    rig.cycles(20)
    assert foreign(rig) == []


def test_a_restore_goes_on_whatever_is_taken_meanwhile() -> None:
    rig, domain, _ = on_its_way(cycles=20, method=Method.HOTPLUG)
    assert len(domain.online) < 8
    rig.clock.after(2 * NS_PER_S, lambda: setattr(domain, "online", frozenset({0})))
    assert rig.loop.restore(rig.clock.now_ns() + 60 * NS_PER_S) == ()
    assert domain.online == ALL


@pytest.mark.parametrize("plugged", [True, False])
def test_devices_are_watched_too_but_an_unplug_may_be_our_own(plugged: bool) -> None:
    rig, domain, _ = on_its_way(cycles=6, method=Method.HOTPLUG)
    there = len(domain.online)
    assert 1 < there < 8
    domain.in_flight = None
    domain.online = frozenset(range(8 if plugged else there - 2))
    rig.cycles(1)
    assert [change.brought for change in foreign(rig)] == (
        [frozenset(range(there, 8))] if plugged else []
    )
    rig.cycles(20)
    courses = [one for record in rig.recorder.records for one in record.completed]
    assert any(one.purpose is Purpose.DECIDE for one in courses) is not plugged
