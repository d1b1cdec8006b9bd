"""The whole backend over a libvirt that misbehaves on request."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from unit.hypervisor.stand_in import Guest, Rig, StandInLink
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.link import Happening, RawEvent
from vcpud.model import (
    Accepted,
    Change,
    DomainSample,
    EventKind,
    HostEvent,
    HostSample,
    Method,
    Mode,
    Original,
    Reason,
    Refused,
    SetLive,
    SetOnline,
    SetWeight,
    Terms,
    Trouble,
)
from vcpud.terms import NAMESPACE, TermsBook

Make = Callable[..., Rig]
PATIENCE_S = 20.0


def only(sample: HostSample) -> DomainSample:
    (found,) = sample.domains
    return found


def kinds(rig: Rig) -> list[EventKind]:
    return [event.kind for event in rig.hypervisor.events()]


def until(rig: Rig, condition: Callable[[HostSample], bool], *, step_s: float = 0.0) -> HostSample:
    """Sample until the workers, which are real threads, have got so far.

    Args:
        rig: Whose.
        condition: What is waited for.
        step_s: How far the rig's clock moves between two samples.
    """
    sample = rig.hypervisor.sample()
    for _ in range(400):
        if condition(sample):
            return sample
        rig.woken.wait(0.02)
        rig.clock.pass_s(step_s)
        rig.hypervisor.supervise()
        sample = rig.hypervisor.sample()
    raise AssertionError(f"never so: {sample}")


def carry_out(rig: Rig, change: Change) -> HostEvent:
    """Begin a change and wait for its end."""
    rig.woken.clear()
    effect = rig.hypervisor.begin(change)
    assert effect == Accepted(), effect
    for _ in range(400):
        rig.woken.wait(PATIENCE_S)
        rig.woken.clear()
        for event in rig.hypervisor.events():
            if event.kind in {EventKind.CHANGE_DONE, EventKind.CHANGE_FAILED}:
                return event
    raise AssertionError("the change never ended")


def refused(rig: Rig, change: Change) -> Reason:
    effect = rig.hypervisor.begin(change)
    assert isinstance(effect, Refused), effect
    return effect.reason


# ------------------------------------------------------------------------------- sampling


def test_a_sample_has_every_running_domain_in_a_fixed_order(rig: Make) -> None:
    sample = rig(Guest("b"), Guest("a")).hypervisor.sample()
    assert [domain.uuid for domain in sample.domains] == ["a", "b"]
    assert sample.connected
    assert sample.boot_id == "boot"
    assert sample.busy_ns == 36 * 10_000_000
    assert [(pool.name, pool.pcpus) for pool in sample.pools] == [("host", 2)]


def test_a_paused_domain_that_has_not_moved_is_the_same_object_again(rig: Make) -> None:
    one = rig(Guest("a", state=3), writable=False)
    first = only(one.hypervisor.sample())
    one.clock.pass_s(1)
    second = only(one.hypervisor.sample())
    assert second is first
    assert Trouble.PAUSED in second.troubles


def test_a_running_domain_that_has_not_moved_has_a_new_timestamp(rig: Make) -> None:
    one = rig(Guest("a"), writable=False)
    first = only(one.hypervisor.sample())
    one.clock.pass_s(1)
    assert only(one.hypervisor.sample()).taken_at_ns > first.taken_at_ns


def test_read_only_nothing_is_asked_of_a_guest_and_nothing_changed(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest, writable=False)
    for _ in range(3):
        one.hypervisor.sample()
        one.clock.pass_s(6)
    assert guest.commands == []
    assert only(one.hypervisor.sample()).method is Method.AGENT
    assert refused(one, SetOnline(uuid="a", online=frozenset({0}))) is Reason.DENIED


def test_the_agent_of_an_observed_domain_is_left_alone(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest, terms=TermsBook())
    for _ in range(3):
        one.hypervisor.sample()
    assert guest.commands == []


def test_an_enforced_domains_agent_tells_what_is_online_first(rig: Make) -> None:
    guest = Guest("a", online={0, 2})
    one = rig(guest)
    sample = until(one, lambda s: only(s).online is not None)
    assert only(sample).online == frozenset({0, 2})
    assert guest.commands[0] == "guest-get-cpustats"


def test_no_handle_stays_open_after_a_reading(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest)
    until(one, lambda s: Trouble.LOCK_SIGNAL_MISSING in only(s).troubles)
    until(one, lambda _: not guest.handles)


def test_the_terms_may_change_between_samples(rig: Make) -> None:
    one = rig(Guest("a"), terms=TermsBook())
    assert only(one.hypervisor.sample()).terms.mode is Mode.OBSERVE
    one.hypervisor.adopt(TermsBook(default=Terms(mode=Mode.OFF)))
    assert only(one.hypervisor.sample()).terms.mode is Mode.OFF


def test_metadata_that_cannot_be_followed_turns_the_domain_off_and_says_why(rig: Make) -> None:
    bad = f"<p:policy xmlns:p='{NAMESPACE}' mode='all'/>"
    sample = rig(Guest("a", metadata=bad)).hypervisor.sample()
    assert only(sample).terms.mode is Mode.OFF
    assert Trouble.METADATA_INVALID in only(sample).troubles
    assert any("mode='all'" in note for note in sample.notes)


def test_changed_metadata_holds_from_the_next_sample(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest, terms=TermsBook())
    one.hypervisor.sample()
    guest.metadata = f"<p:policy xmlns:p='{NAMESPACE}' mode='enforce' min='2'/>"
    one.library.tell(RawEvent(Happening.METADATA, "a", "n-a"))
    assert one.woken.is_set()
    terms = only(one.hypervisor.sample()).terms
    assert (terms.mode, terms.min_vcpus) == (Mode.ENFORCE, 2)
    assert EventKind.METADATA in kinds(one)


def test_on_old_qemu_counters_are_read_rarely_and_it_says_so(rig: Make) -> None:
    one = rig(Guest("a"), Guest("b", kvm=False), writable=False)
    one.library.version = 7_002_022
    one.hypervisor.sample()
    for guest in one.library.guests.values():
        guest.run_ns += 1_000_000_000
    one.clock.pass_s(1)
    sample = one.hypervisor.sample()
    kvm, emulated = sample.domains
    assert one.library.polls == [True, False]
    assert kvm.vcpus[0].run_ns == 1_000_000_000
    assert emulated.vcpus[0].run_ns == 2_000_000_000
    assert Trouble.SLOW_COUNTERS in kvm.troubles
    assert Trouble.SLOW_COUNTERS not in emulated.troubles
    assert any("8.1" in note for note in sample.notes)
    one.clock.pass_s(5)
    assert one.hypervisor.sample().domains[0].vcpus[0].run_ns == 2_000_000_000


# ------------------------------------------------------------------------------- reconnecting


def test_a_lost_libvirt_is_told_and_tried_again_with_growing_pauses(rig: Make) -> None:
    one = rig(Guest("a"), writable=False)
    before = one.hypervisor.sample()
    kinds(one)
    one.library.down = True
    sample = one.hypervisor.sample()
    assert not sample.connected
    assert sample.domains == before.domains
    assert kinds(one) == [EventKind.DISCONNECTED]
    opened = one.library.opened
    one.hypervisor.sample()
    assert one.library.opened == opened
    one.library.down = False
    one.clock.pass_s(0.6)
    assert one.hypervisor.sample().connected
    assert kinds(one) == [EventKind.CONNECTED]


def test_a_libvirt_that_never_was_there_is_no_error(rig: Make) -> None:
    one = rig()
    one.library.down = True
    sample = one.hypervisor.sample()
    assert not sample.connected
    assert sample.domains == ()
    assert any("Failed to connect" in note for note in sample.notes)


# ------------------------------------------------------------------------------- changing


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


# ------------------------------------------------------------------------------- hanging


def test_one_hung_qemu_costs_the_others_no_more_than_the_deadline(rig: Make) -> None:
    one = rig(Guest("a"), Guest("b"), writable=False, period_ms=200)
    until(one, lambda s: len(s.domains) == 2)
    one.library.stopped.add("b")
    stale = one.hypervisor.sample()
    assert stale.lost_threads == 0
    sample = until(one, lambda s: s.taken_at_ns > stale.taken_at_ns, step_s=0.5)
    first, second = sample.domains
    assert sample.lost_threads == 1
    assert Trouble.HUNG not in first.troubles
    assert Trouble.HUNG in second.troubles
    assert any("n-b" in note for note in sample.notes)


def test_a_verdict_that_comes_too_late_for_one_sample_holds_for_the_next(rig: Make) -> None:
    one = rig(Guest("a"), Guest("b"), writable=False, period_ms=1)
    until(one, lambda s: len(s.domains) == 2)
    one.library.stopped.add("b")
    until(one, lambda s: any(Trouble.HUNG in d.troubles for d in s.domains), step_s=0.5)


def test_counters_that_no_longer_come_hold_the_domain_though_libvirt_is_there(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig(Guest("a"), Guest("b", state=3), writable=False)
    one.hypervisor.sample()
    monkeypatch.setattr(one.hypervisor._poller, "ask", lambda: None)  # every thread is lost
    one.clock.pass_s(29)
    assert not any(Trouble.STALE in d.troubles for d in one.hypervisor.sample().domains)
    one.clock.pass_s(2)
    running, paused = one.hypervisor.sample().domains
    assert Trouble.STALE in running.troubles
    assert Trouble.STALE not in paused.troubles


def test_a_hung_domain_is_refused_at_once_and_recovers_by_itself(rig: Make) -> None:
    one = rig(Guest("a"), period_ms=200)
    until(one, lambda s: len(s.domains) == 1)
    one.library.stopped.add("a")
    until(one, lambda s: Trouble.HUNG in only(s).troubles, step_s=0.5)
    assert refused(one, SetOnline(uuid="a", online=frozenset({0}))) is Reason.HUNG
    one.library.stopped.clear()
    one.library.release.set()
    until(one, lambda s: Trouble.HUNG not in only(s).troubles and s.lost_threads == 0)


def test_a_change_whose_call_hangs_fails_at_its_deadline(rig: Make) -> None:
    one = rig(Guest("a"), terms=TermsBook())
    one.hypervisor.sample()
    one.library.job_of_lost_call.clear()
    one.library.stopped.add("a")
    one.woken.clear()
    assert one.hypervisor.begin(SetOnline(uuid="a", online=frozenset({0}))) == Accepted()
    for _ in range(1000):
        if "a" in one.library.job_of_lost_call:
            break
        one.woken.wait(0.01)
    one.clock.pass_s(30)
    one.hypervisor.supervise()
    (event,) = one.hypervisor.events()[-1:]
    assert event.kind is EventKind.CHANGE_FAILED
    assert event.reason is Reason.HUNG


def test_a_silent_agent_is_trouble_of_its_own_domain_only(rig: Make) -> None:
    one = rig(Guest("a", silent=True), Guest("b"))
    sample = until(
        one,
        lambda s: (
            Trouble.AGENT_SILENT in s.domains[0].troubles and s.domains[1].online is not None
        ),
    )
    assert Trouble.AGENT_SILENT not in sample.domains[1].troubles


def test_who_is_listed_but_not_yet_described_is_named(rig: Make) -> None:
    one = rig(*(Guest(f"{n:03}", agent="") for n in range(66)))
    first = one.hypervisor.sample()
    assert len(first.domains) == 64
    assert first.undescribed == {"064", "065"}
    second = one.hypervisor.sample()
    assert len(second.domains) == 66
    assert second.undescribed == frozenset()


def test_nothing_is_kept_of_domains_that_have_departed(rig: Make) -> None:
    one = rig(*(Guest(f"{n:03}", agent="") for n in range(70)))
    known = one.hypervisor._poller._describer
    for _ in range(2):
        one.hypervisor.sample()
    assert len(known._texts) == 70
    for uuid in tuple(one.library.guests):
        one.library.tell(RawEvent(Happening.STATE, uuid))
        del one.library.guests[uuid]
    one.hypervisor.sample()
    kept = (known._texts, known._kvm, known._described, known._editions)
    assert kept == ({}, {}, {}, {})
