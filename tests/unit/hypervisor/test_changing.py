"""Changes through the whole backend: carried out, refused, and failed."""

from __future__ import annotations

import pytest

from unit.hypervisor.stand_in import Guest, StandInLink
from unit.hypervisor.watching import PATIENCE_S, Make, carry_out, kinds, only, refused, until
from vcpud.events import EventKind
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.link import Control, ControlState, Happening, RawEvent
from vcpud.model import (
    Accepted,
    Method,
    Original,
    Reason,
    SetLive,
    SetOnline,
    SetWeight,
    Trouble,
)
from vcpud.terms import TermsBook


def test_cpus_go_offline_in_the_guest_and_the_sample_shows_it(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest)
    until(one, lambda s: only(s).online is not None)
    event = carry_out(one, SetOnline(uuid="a", online=frozenset({0, 1})))
    assert event.kind is EventKind.CHANGE_DONE
    assert guest.online == frozenset({0, 1})
    sample = only(one.hypervisor.sample())
    assert sample.online == frozenset({0, 1})
    assert sample.in_flight is None


def test_a_guest_that_refuses_a_cpu_fails_the_change_with_what_was_seen(rig: Make) -> None:
    one = rig(Guest("a", refuses=frozenset({2})))
    until(one, lambda s: only(s).online is not None)
    event = carry_out(one, SetOnline(uuid="a", online=frozenset({0})))
    assert event.reason is Reason.FAILED
    assert "[0, 1, 2]" in event.detail
    assert only(one.hypervisor.sample()).online == frozenset({0, 1, 2})


def test_what_is_online_need_not_be_known_to_give_everything_back(rig: Make) -> None:
    guest = Guest("a", online={0})
    one = rig(guest, terms=TermsBook())
    one.hypervisor.sample()
    event = carry_out(one, SetOnline(uuid="a", online=frozenset({0, 1, 2, 3})))
    assert event.kind is EventKind.CHANGE_DONE
    assert guest.commands.count("guest-set-vcpus") == 1
    assert guest.online == frozenset({0, 1, 2, 3})


def test_what_was_asked_for_blindly_takes_nothing_offline(rig: Make) -> None:
    guest = Guest("a", online={0, 1, 3})
    one = rig(guest, terms=TermsBook())
    one.hypervisor.sample()
    event = carry_out(one, SetOnline(uuid="a", online=frozenset({0, 2})))
    assert event.kind is EventKind.CHANGE_DONE
    assert guest.online == {0, 1, 2, 3}


@pytest.mark.parametrize("online", [{1}, {0, 4}, {0, -1}, set()])
def test_cpu_0_and_the_maximum_are_inviolable(rig: Make, online: set[int]) -> None:
    one = rig(Guest("a"))
    one.hypervisor.sample()
    change = SetOnline(uuid="a", online=frozenset(online))
    assert refused(one, change) is Reason.OUT_OF_BOUNDS


def test_nothing_is_changed_while_a_job_runs(rig: Make) -> None:
    guest = Guest("a", job="migration_out")
    one = rig(guest, terms=TermsBook())
    one.hypervisor.sample()
    event = carry_out(one, SetOnline(uuid="a", online=frozenset({0})))
    assert event.reason is Reason.JOB
    assert guest.online == frozenset({0, 1, 2, 3})


def test_another_clients_change_is_waited_for_even_to_give_back(rig: Make) -> None:
    guest = Guest("a", online={0})
    one = rig(guest)
    until(one, lambda s: only(s).online == frozenset({0}))
    guest.control = ControlState(Control.ERROR, 0)
    event = carry_out(one, SetOnline(uuid="a", online=frozenset({0, 1, 2, 3})))
    assert event.reason is Reason.JOB
    assert guest.online == {0}


def test_a_paused_domain_is_asked_for_nothing(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest)
    until(one, lambda s: only(s).online is not None)
    guest.state = 3
    until(one, lambda s: Trouble.PAUSED in only(s).troubles)
    assert refused(one, SetOnline(uuid="a", online=frozenset({0}))) is Reason.AGENT_SILENT


def test_a_domain_that_stops_during_a_change_fails_it_as_gone(rig: Make) -> None:
    one = rig(Guest("a"), terms=TermsBook())
    one.hypervisor.sample()
    del one.library.guests["a"]
    event = carry_out(one, SetOnline(uuid="a", online=frozenset({0})))
    assert event.reason is Reason.GONE


@pytest.mark.parametrize("agent", ["connected", ""])
def test_a_change_that_outlasts_its_domain_is_not_made_to_the_next_one(
    rig: Make, agent: str
) -> None:
    one = rig(Guest("a", agent=agent))
    until(one, lambda s: not agent or only(s).online is not None)
    one.library.stopped.add("a")
    wanted = SetOnline(uuid="a", online=frozenset({0})) if agent else SetLive(uuid="a", count=1)
    one.woken.clear()
    assert one.hypervisor.begin(wanted) == Accepted()
    for _ in range(1000):
        if "a" in one.library.job_of_lost_call:
            break
        one.woken.wait(0.01)
    successor = one.library.guests["a"] = Guest("a", agent=agent, number=2)
    one.library.tell(RawEvent(Happening.STOPPED, "a"))
    one.hypervisor.events()
    one.library.stopped.clear()
    one.library.release.set()
    until(one, lambda s: only(s).incarnation.startswith("2:"))
    until(one, lambda _: not any(hand.errand for hand in one.hypervisor._crew._hands))
    assert (successor.online, successor.live) == ({0, 1, 2, 3}, 4)


def test_an_agent_that_is_not_connected_leaves_the_change_refused(rig: Make) -> None:
    one = rig(Guest("a"))
    until(one, lambda s: only(s).online is not None)
    one.library.tell(RawEvent(Happening.AGENT_DOWN, "a", "n-a"))
    assert Trouble.AGENT_MISSING in only(one.hypervisor.sample()).troubles
    assert refused(one, SetOnline(uuid="a", online=frozenset({0}))) is Reason.AGENT_SILENT


def test_without_an_agent_vcpus_go_one_by_one_as_devices(rig: Make) -> None:
    guest = Guest("a", agent="")
    one = rig(guest)
    assert only(one.hypervisor.sample()).method is Method.HOTPLUG
    assert carry_out(one, SetLive(uuid="a", count=2)).kind is EventKind.CHANGE_DONE
    assert guest.live == 2


def test_a_device_that_stays_though_nothing_failed_ends_the_change(rig: Make) -> None:
    one = rig(Guest("a", agent="", stuck=True))
    one.hypervisor.sample()
    event = carry_out(one, SetLive(uuid="a", count=2))
    assert event.reason is Reason.FAILED
    assert event.detail == "4 vCPUs present, wanted 2"


@pytest.mark.parametrize(("seen", "by_others"), [(4, 2), (2, 4)])
def test_a_device_goes_only_where_it_was_to_go_whatever_others_did_meanwhile(
    rig: Make, seen: int, by_others: int
) -> None:
    guest = Guest("a", agent="", live=seen)
    one = rig(guest)
    one.hypervisor.sample()
    guest.live = by_others
    assert carry_out(one, SetLive(uuid="a", count=3)).reason is Reason.FAILED
    assert guest.live == by_others


@pytest.mark.parametrize(("seen", "by_others"), [({0, 1, 2, 3}, {0}), ({0}, {0, 1, 2, 3})])
def test_a_cpu_goes_only_where_it_was_to_go_whatever_others_did_meanwhile(
    rig: Make, seen: set[int], by_others: set[int]
) -> None:
    guest = Guest("a", online=seen)
    one = rig(guest)
    until(one, lambda s: only(s).online == frozenset(seen))
    guest.online = set(by_others)
    carry_out(one, SetOnline(uuid="a", online=frozenset({0, 1})))
    assert guest.online == by_others


def test_a_cpu_that_others_brought_since_it_was_decided_is_not_taken(rig: Make) -> None:
    guest = Guest("a", online={0, 1, 2})
    one = rig(guest)
    until(one, lambda s: only(s).online == frozenset({0, 1, 2}))
    guest.online = {0, 1, 2, 3}
    carry_out(one, SetOnline(uuid="a", online=frozenset({0})))
    assert guest.online == {0, 3}
    assert only(one.hypervisor.sample()).online == frozenset({0, 3})


def test_no_device_is_taken_while_one_has_come_since_it_was_decided(rig: Make) -> None:
    guest = Guest("a", agent="", live=3)
    one = rig(guest)
    one.hypervisor.sample()
    guest.live = 4
    event = carry_out(one, SetLive(uuid="a", count=1))
    assert event.reason is Reason.FAILED
    assert event.detail == "4 vCPUs present, 3 when it was decided"
    assert guest.live == 4


def test_an_unplug_that_timed_out_is_answered_by_a_plug_only_to_give_back(rig: Make) -> None:
    pending = CallFailed(Meaning.UNPLUG_PENDING, "vcpu unplug request timed out")
    owed = Original(
        boot_id="boot", uuid="a", name="n-a", incarnation="1:?", online=None, live_vcpus=5
    )
    guest = Guest("a", agent="", unplug_error=pending, vcpus=8)
    one = rig(guest)
    one.hypervisor.sample()
    assert carry_out(one, SetLive(uuid="a", count=3)).reason is Reason.TIMEOUT
    one.hypervisor.sample()
    assert refused(one, SetLive(uuid="a", count=5)) is Reason.TIMEOUT
    assert carry_out(one, SetLive(uuid="a", count=5, original=owed)).kind is EventKind.CHANGE_DONE
    guest.live = 4
    one.hypervisor.sample()
    guest.live = 3
    one.hypervisor.sample()
    assert carry_out(one, SetLive(uuid="a", count=4)).kind is EventKind.CHANGE_DONE


def test_that_an_unplug_may_still_come_is_told_whatever_else_fails(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig(Guest("a", agent="", unplug_error=CallFailed(Meaning.UNPLUG_PENDING, "timed out")))
    one.hypervisor.sample()
    answers = iter([4])

    def told_once(*_: object) -> int:
        if (count := next(answers, None)) is None:
            raise CallFailed(Meaning.FAILED, "an error occurred, but the cause is unknown")
        return count

    monkeypatch.setattr(StandInLink, "live_vcpus", told_once)
    assert carry_out(one, SetLive(uuid="a", count=3)).reason is Reason.TIMEOUT


def test_devices_of_an_emulated_domain_are_never_touched(rig: Make) -> None:
    one = rig(Guest("a", agent="", kvm=False))
    assert only(one.hypervisor.sample()).method is Method.NONE
    assert refused(one, SetLive(uuid="a", count=3)) is Reason.UNSUPPORTED


def test_an_agent_that_may_not_set_cpus_gives_way_to_devices(rig: Make) -> None:
    guest = Guest("a", blocked=frozenset({"guest-set-vcpus"}))
    one = rig(guest)
    until(one, lambda s: only(s).online is not None)
    assert carry_out(one, SetOnline(uuid="a", online=frozenset({0}))).reason is Reason.UNSUPPORTED
    sample = until(one, lambda s: only(s).method is Method.HOTPLUG)
    assert Trouble.AGENT_BLOCKED in only(sample).troubles


def test_a_weight_is_set_and_read_back(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest, terms=TermsBook())
    one.hypervisor.sample()
    assert carry_out(one, SetWeight(uuid="a", weight=512)).kind is EventKind.CHANGE_DONE
    assert only(one.hypervisor.sample()).weight == 512


@pytest.mark.parametrize("weight", [0, -1, 262_145])
def test_no_weight_is_set_that_no_cgroup_takes(rig: Make, weight: int) -> None:
    one = rig(Guest("a"))
    one.hypervisor.sample()
    assert refused(one, SetWeight(uuid="a", weight=weight)) is Reason.OUT_OF_BOUNDS


def test_ten_domains_are_given_back_side_by_side(rig: Make) -> None:
    guests = [Guest(f"g{n}", online={0}) for n in range(10)]
    one = rig(*guests, terms=TermsBook())
    one.hypervisor.sample()
    everything = frozenset(range(4))
    for guest in guests:
        change = SetOnline(uuid=guest.uuid, online=everything)
        assert one.hypervisor.begin(change) == Accepted()
    done = 0
    while done < len(guests):
        assert one.woken.wait(PATIENCE_S)
        one.woken.clear()
        done += kinds(one).count(EventKind.CHANGE_DONE)
    assert all(guest.online == everything for guest in guests)
