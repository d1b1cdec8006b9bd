"""The whole Xen backend over a made-up host: what it sees, refuses, does, and finds done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.xen import XenGuest, XenRig, XenWorld
from vcpud.backend import BackendOptions
from vcpud.hypervisor import xen
from vcpud.model import (
    Accepted,
    Change,
    DomainSample,
    EventKind,
    HostEvent,
    Method,
    Mode,
    Reason,
    Refused,
    SetLive,
    SetOnline,
    SetWeight,
    ShareUnit,
    Terms,
    Trouble,
)
from vcpud.terms import TermsBook
from vcpud.units import NS_PER_S

Make = Callable[..., XenRig]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Make]:
    made: list[XenRig] = []

    def make(*guests: XenGuest, pcpus: int = 4, scheduler: str = "credit", **more: Any) -> XenRig:
        world = XenWorld(*guests, pcpus=pcpus, scheduler=scheduler)
        made.append(XenRig(world, tmp_path, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def only(one: XenRig) -> DomainSample:
    (found,) = one.hypervisor.sample().domains
    return found


def refused(one: XenRig, change: Change) -> Refused:
    one.hypervisor.sample()
    effect = one.hypervisor.begin(change)
    assert isinstance(effect, Refused), effect
    return effect


def carry_out(one: XenRig, change: Change) -> HostEvent:
    one.hypervisor.sample()
    one.woken.clear()
    assert one.hypervisor.begin(change) == Accepted()
    for _ in range(100):
        one.woken.wait(5)
        one.woken.clear()
        for event in one.hypervisor.events():
            if event.kind in {EventKind.CHANGE_DONE, EventKind.CHANGE_FAILED}:
                one.world.pass_s(1)
                return event
    raise AssertionError("the change never ended")


# ------------------------------------------------------------------------------- sampling


def test_a_sample_has_every_domain_but_dom0_with_what_only_xen_knows(rig: Make) -> None:
    one = rig(XenGuest("a", number=3, weight=300, cap=150), scheduler="credit2")
    sample = one.hypervisor.sample()
    (domain,) = sample.domains
    assert (domain.uuid, domain.name, domain.incarnation) == ("a", "n-a", "3")
    assert (domain.live_vcpus, domain.max_vcpus, domain.online) == (4, 4, None)
    assert (domain.weight, domain.share_unit, domain.weight_adjustable) == (
        300,
        ShareUnit.VCPU,
        True,
    )
    assert domain.cap_pcpus == 1.5
    assert domain.method is Method.XENSTORE
    assert [(pool.name, pool.pcpus) for pool in sample.pools] == [("host", 4)]
    assert sample.busy_ns == sum(one.world.guests["a"].run_ns) + one.world.dom0_ns


def test_waiting_is_what_is_left_of_the_time_and_comes_with_its_error(rig: Make) -> None:
    one = rig(XenGuest("a", number=1), XenGuest("b", number=2), pcpus=4)
    one.until(lambda: all(v.run_delay_ns for d in one.domains() for v in d.vcpus))
    before = one.domains()
    one.seconds(20)
    for was, now in zip(before, one.domains(), strict=True):
        for old, new in zip(was.vcpus, now.vcpus, strict=True):
            waited_ns = (new.run_delay_ns or 0) - (old.run_delay_ns or 0)
            window_ns = now.taken_at_ns - was.taken_at_ns
            assert waited_ns == pytest.approx(window_ns / 2, rel=0.02)
            assert (new.run_delay_error_ns or 0) > (old.run_delay_error_ns or 0) > 0


def test_an_idle_guest_that_blocks_does_not_wait(rig: Make) -> None:
    one = rig(XenGuest("a", busy=False))
    one.until(lambda: all(v.run_delay_ns is not None for d in one.domains() for v in d.vcpus))
    before = only(one)
    one.seconds(30)
    after = only(one)
    for old, new in zip(before.vcpus, after.vcpus, strict=True):
        waited_ns = (new.run_delay_ns or 0) - (old.run_delay_ns or 0)
        assert waited_ns < (after.taken_at_ns - before.taken_at_ns) / 10


def test_offline_vcpus_wait_for_nothing_though_libvirt_has_one_word_for_both(rig: Make) -> None:
    one = rig(XenGuest("a", number=1, count=2), XenGuest("b", number=2), pcpus=2)
    one.until(lambda: all(v.run_delay_ns for v in tuple(one.domains()[0].vcpus)[:2]))
    before = one.domains()[0]
    one.seconds(10)
    after = one.domains()[0]
    assert after.live_vcpus == 2
    waits = [
        (new.run_delay_ns or 0) - (old.run_delay_ns or 0)
        for old, new in zip(before.vcpus, after.vcpus, strict=True)
    ]
    assert waits[0] > NS_PER_S
    assert waits[2:] == [0, 0]


def test_the_count_is_xens_and_not_libvirts(rig: Make) -> None:
    guest = XenGuest("a")
    guest.online = {0, 1}  # somebody has used xl before vcpud came
    one = rig(guest)
    assert only(one).live_vcpus == 2


def test_an_unfinished_request_of_an_earlier_vcpud_counts_as_carried_out(rig: Make) -> None:
    guest = XenGuest("a")
    guest.asked = 2  # and the guest has not followed yet
    one = rig(guest)
    assert only(one).live_vcpus == 2, "so what is owed is asked for again"


def test_without_xl_libvirts_count_and_the_run_times_have_to_do(rig: Make) -> None:
    guest = XenGuest("a", count=2)
    one = rig(guest)
    one.world.xl = False
    assert only(one).live_vcpus == 2
    guest.ask("xl by hand", 3)
    one.seconds(3)
    assert only(one).live_vcpus == 3, "what runs is online"
    assert one.world.xl_calls <= 2, "and xl is not tried again and again"


def test_a_paused_domain_waits_for_nothing(rig: Make) -> None:
    one = rig(XenGuest("a", state=3))
    one.seconds(5)
    domain = only(one)
    assert Trouble.PAUSED in domain.troubles
    assert {vcpu.run_delay_ns for vcpu in domain.vcpus} <= {0, None}
    assert refused(one, SetLive(uuid="a", count=2)).detail == "it is paused"


def test_a_guest_that_reports_is_listened_to_and_one_that_does_not_is_named(rig: Make) -> None:
    guest = XenGuest("a")
    one = rig(guest)
    one.until(lambda: any("reports nothing" in note for note in one.notes()))
    assert Trouble.AGENT_MISSING in only(one).troubles
    guest.report = b"vcpud1 up=100 hz=100 run=3 lock=17,42 c0=100,20,5000,7,900 end"
    one.until(lambda: only(one).guest is not None)
    domain = only(one)
    assert domain.guest is not None
    assert domain.guest.locks is not None
    assert Trouble.AGENT_MISSING not in domain.troubles


def test_a_guest_that_publishes_nonsense_holds_itself_and_nobody_else(rig: Make) -> None:
    liar = XenGuest("a", number=1, report=b"vcpud1 up=1 hz=100 run=-1")
    one = rig(liar, XenGuest("b", number=2))
    one.until(lambda: Trouble.AGENT_ABSURD in one.domains()[0].troubles)
    assert Trouble.AGENT_ABSURD not in one.domains()[1].troubles
    assert one.domains()[0].guest is None
    assert any("guest reporter" in note for note in one.notes())


def test_an_observed_guest_is_not_read(rig: Make) -> None:
    guest = XenGuest("a", report=b"vcpud1 up=1 hz=100 run=- lock=- c0=1,1,1,1,1 end")
    one = rig(guest, terms=TermsBook(default=Terms(mode=Mode.OBSERVE)))
    one.seconds(10)
    assert only(one).guest is None


def test_a_domain_that_starts_is_left_to_boot_and_a_new_run_of_it_is_another(rig: Make) -> None:
    one = rig(XenGuest("a", number=1))
    one.hypervisor.sample()
    one.hypervisor.events()
    one.world.guests["b"] = XenGuest("b", number=2)
    one.seconds(1)
    assert Trouble.BOOTING in one.domains()[1].troubles
    assert Trouble.BOOTING not in one.domains()[0].troubles
    one.world.guests["a"] = XenGuest("a", number=9)
    one.seconds(1)
    assert one.domains()[0].incarnation == "9"
    assert one.domains()[0].weight_adjustable, "and weighed anew under its new id"
    kinds = [event.kind for event in one.hypervisor.events()]
    assert kinds == [EventKind.STARTED, EventKind.GONE, EventKind.STARTED]


def test_a_libvirtd_that_comes_and_goes_loses_nothing(rig: Make) -> None:
    one = rig(XenGuest("a"))
    one.hypervisor.sample()
    one.world.down = True
    one.seconds(2)
    assert not one.hypervisor.sample().connected
    one.world.down = False
    one.until(lambda: one.hypervisor.sample().connected)
    assert len(one.domains()) == 1


def test_schedulers_without_weights_are_named_and_nothing_is_shrunk_there(rig: Make) -> None:
    one = rig(XenGuest("a"), scheduler="null")
    domain = only(one)
    assert domain.share_unit is ShareUnit.UNKNOWN
    assert not domain.weight_adjustable
    assert any("never shrunk" in note for note in one.notes())


def test_a_domain_that_is_being_torn_down_blinds_nobody(rig: Make) -> None:
    dying = XenGuest("a", number=1)
    one = rig(dying, XenGuest("b", number=2))
    one.seconds(2)
    busy_ns = one.hypervisor.sample().busy_ns
    dying.lost = True
    before = one.domains()[1].taken_at_ns
    one.seconds(2)
    sample = one.hypervisor.sample()
    assert sample.connected
    held, other = sample.domains
    assert (held.uuid, held.live_vcpus, tuple(held.vcpus)) == ("a", 4, ())
    assert other.taken_at_ns > before
    dying.lost = False
    one.seconds(1)
    window_ns = 8 * 4 * NS_PER_S
    assert busy_ns is not None
    assert busy_ns < (one.hypervisor.sample().busy_ns or 0) < busy_ns + window_ns
    kinds = {event.kind for event in one.hypervisor.events()}
    assert EventKind.GONE not in kinds, "nor is what it is owed forgotten"


def test_a_domain_that_is_locked_within_libvirt_costs_two_threads_and_blinds_nobody(
    rig: Make,
) -> None:
    stuck = XenGuest("a", number=1)
    one = rig(stuck, XenGuest("b", number=2), period_ns=NS_PER_S // 10)
    one.seconds(2)
    stuck.locked = threading.Event()
    try:
        one.until(lambda: any("keeps it locked" in note for note in one.notes()))
        seen_ns = one.domains()[1].taken_at_ns
        one.seconds(60)
        sample = one.hypervisor.sample()
        assert sample.connected
        held, other = sample.domains
        assert other.taken_at_ns > seen_ns + 50 * NS_PER_S, "the other is seen all the time"
        assert Trouble.HUNG in held.troubles
        assert one.world.waiting <= 3, "the list, the domain, and a look at its vCPUs"
        assert refused(one, SetLive(uuid="a", count=2)).reason is Reason.HUNG
    finally:
        stuck.locked.set()
    stuck.locked = None
    one.until(lambda: Trouble.HUNG not in one.domains()[0].troubles)
    one.world.guests["c"] = XenGuest("c", number=3)
    one.until(lambda: len(one.domains()) == 3)
    one.until(lambda: one.hypervisor.sample().lost_threads == 0)


def test_a_lock_that_was_there_before_vcpud_costs_one_thread_and_is_told(rig: Make) -> None:
    stuck = XenGuest("a", number=1, locked=threading.Event())
    one = rig(stuck, period_ns=NS_PER_S // 10)
    try:
        one.until(lambda: any("does not list its domains" in note for note in one.notes()))
        one.seconds(60)
        assert one.world.waiting == 1
    finally:
        assert stuck.locked is not None
        stuck.locked.set()
    stuck.locked = None
    one.until(lambda: len(one.domains()) == 1)


def test_a_domain_with_more_vcpus_than_libvirt_python_can_read_is_read_past_it(rig: Make) -> None:
    one = rig(XenGuest("a", vcpus=200), pcpus=256)
    before = only(one)
    assert len(before.vcpus) == 200
    assert (before.live_vcpus, before.max_vcpus) == (200, 200)
    one.seconds(4)
    grown = [
        (now.run_ns or 0) - (was.run_ns or 0)
        for was, now in zip(before.vcpus, only(one).vcpus, strict=True)
    ]
    assert min(grown) > 2 * NS_PER_S


def test_tools_that_do_not_come_back_are_not_waited_for_by_whoever_polls_next(rig: Make) -> None:
    one = rig(XenGuest("a"))
    one.seconds(1)
    one.roll.silent_until_ns = one.world.at_ns + 60 * NS_PER_S  # as a poll leaves it that hangs
    one.roll.doubt(1)
    asked = one.world.xl_calls
    one.seconds(2)
    assert one.hypervisor.sample().connected
    assert one.world.xl_calls == asked
    one.seconds(60)
    assert one.world.xl_calls > asked, "but tried again in the end"


def test_a_domain_in_a_cpu_pool_whose_scheduler_has_no_weights_is_never_shrunk(rig: Make) -> None:
    one = rig(XenGuest("a", weight=2**32 - 1), scheduler="credit2")
    domain = only(one)
    assert domain.share_unit is ShareUnit.UNKNOWN
    assert not domain.weight_adjustable
    assert domain.weight < 2**16


def test_domains_that_libvirt_does_not_list_are_named(rig: Make) -> None:
    one = rig(XenGuest("a"))
    one.world.strangers = frozenset({7, 5})
    assert any(note.endswith("by id: 5, 7") for note in one.notes())


# ------------------------------------------------------------------------------- refusing


def test_more_vcpus_than_pcpus_are_never_taken_because_libvirt_would_not_give_them_back(
    rig: Make,
) -> None:
    guest = XenGuest("a")
    one = rig(guest, pcpus=2)
    assert only(one).method is Method.NONE
    refusal = refused(one, SetLive(uuid="a", count=2))
    assert refusal.reason is Reason.UNSUPPORTED
    assert "ignore_host" in refusal.detail
    assert any("never shrunk" in note for note in one.notes())
    assert guest.requests == []


def test_the_way_past_it_must_have_been_tried_out(rig: Make) -> None:
    guest = XenGuest("a")
    world_without = rig(guest, pcpus=2, ignore_host=True, xl_knows_option=False)
    assert refused(world_without, SetLive(uuid="a", count=2)).reason is Reason.UNSUPPORTED
    assert any("xl cannot be used" in note for note in world_without.notes())
    one = rig(guest, pcpus=2, ignore_host=True)
    assert only(one).method is Method.XENSTORE


def test_both_ways_go_by_xl_so_that_libvirts_count_stays_right(rig: Make) -> None:
    guest = XenGuest("a")
    one = rig(guest, pcpus=2, ignore_host=True)
    assert carry_out(one, SetLive(uuid="a", count=2)).reason is None
    assert (guest.online, guest.count) == ({0, 1}, 4)
    assert only(one).live_vcpus == 2
    assert carry_out(one, SetLive(uuid="a", count=4)).reason is None
    assert guest.requests == [("xl", 2), ("xl", 4)]
    assert only(one).live_vcpus == 4


def test_an_hvm_guest_can_grow_but_not_shrink(rig: Make) -> None:
    guest = XenGuest("a", os_type="hvm", count=2)
    one = rig(guest)
    assert only(one).method is Method.GROW_ONLY
    refusal = refused(one, SetLive(uuid="a", count=1))
    assert refusal.reason is Reason.UNSUPPORTED
    assert "HVM" in refusal.detail
    assert carry_out(one, SetLive(uuid="a", count=4)).reason is None
    assert only(one).method is Method.NONE


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (SetLive(uuid="a", count=0), Reason.OUT_OF_BOUNDS),
        (SetLive(uuid="a", count=5), Reason.OUT_OF_BOUNDS),
        (SetLive(uuid="b", count=2), Reason.GONE),
        (SetOnline(uuid="a", online=frozenset({0})), Reason.NO_ACTUATOR),
        (SetWeight(uuid="a", weight=0), Reason.OUT_OF_BOUNDS),
        (SetWeight(uuid="a", weight=65_536), Reason.OUT_OF_BOUNDS),
    ],
)
def test_what_cannot_end_well_is_not_begun(rig: Make, change: Change, reason: Reason) -> None:
    assert refused(rig(XenGuest("a")), change).reason is reason


def test_opened_for_looking_it_changes_nothing(rig: Make) -> None:
    one = rig(XenGuest("a"), writable=False)
    assert refused(one, SetLive(uuid="a", count=2)).reason is Reason.DENIED


# ------------------------------------------------------------------------------- changing


@pytest.mark.parametrize("os_type", ["linux", "xenpvh"])
def test_a_change_is_done_when_xen_says_so(rig: Make, os_type: str) -> None:
    guest = XenGuest("a", os_type=os_type)
    one = rig(guest)
    event = carry_out(one, SetLive(uuid="a", count=2))
    assert (event.kind, event.reason) == (EventKind.CHANGE_DONE, None)
    assert guest.online == {0, 1}
    domain = only(one)
    assert domain.live_vcpus == 2
    assert domain.in_flight is None
    assert carry_out(one, SetLive(uuid="a", count=4)).reason is None
    assert guest.requests == [("libvirt", 2), ("libvirt", 4)]


def test_a_guest_that_ignores_the_request_is_found_out_and_the_request_is_taken_back(
    rig: Make,
) -> None:
    guest = XenGuest("a", follows=False)
    one = rig(guest)
    event = carry_out(one, SetLive(uuid="a", count=2))
    assert event.reason is Reason.FAILED
    assert "does not follow xenstore" in event.detail
    assert guest.asked == 4, "so that it does not follow it when nobody expects it"
    assert only(one).live_vcpus == 4


def test_a_guest_that_was_too_busy_is_asked_again(rig: Make) -> None:
    guest = XenGuest("a", deaf_to=1)
    one = rig(guest)
    assert carry_out(one, SetLive(uuid="a", count=2)).reason is None
    assert guest.requests == [("libvirt", 2), ("libvirt", 2)]


def test_a_vcpu_that_a_busy_guest_could_not_bring_online_is_announced_anew(rig: Make) -> None:
    guest = XenGuest("a", count=2, stuck={2})
    one = rig(guest)
    assert carry_out(one, SetLive(uuid="a", count=4)).reason is None
    assert guest.online == {0, 1, 2, 3}
    assert guest.requests == [("libvirt", 4)] * 3, "a guest that is merely slow is given time"


def test_a_guest_without_the_udev_rule_is_named_as_one(rig: Make) -> None:
    guest = XenGuest("a", count=2, udev=False)
    one = rig(guest)
    event = carry_out(one, SetLive(uuid="a", count=4))
    assert event.reason is Reason.FAILED
    assert "udev rule" in event.detail
    assert only(one).live_vcpus == 2


def test_a_weight_is_read_back(rig: Make) -> None:
    guest = XenGuest("a")
    one = rig(guest)
    event = carry_out(one, SetWeight(uuid="a", weight=512))
    assert event.reason is None
    assert guest.weight == 512
    assert only(one).weight == 512


def test_a_migration_is_not_raced(rig: Make) -> None:
    guest = XenGuest("a", job=1)
    one = rig(guest)
    assert carry_out(one, SetLive(uuid="a", count=2)).reason is Reason.JOB
    assert guest.requests == []


def test_a_domain_that_ends_in_mid_change_is_gone_and_the_daemon_lives(rig: Make) -> None:
    guest = XenGuest("a", follows=False)
    one = rig(guest, XenGuest("b", number=2))
    one.world.when_asked = lambda: one.world.guests.pop("a", None)
    assert carry_out(one, SetLive(uuid="a", count=2)).reason is Reason.GONE
    assert [domain.uuid for domain in one.domains()] == ["b"]


def test_where_xen_cannot_be_asked_run_times_that_stand_still_are_the_witness(rig: Make) -> None:
    guest = XenGuest("a")
    one = rig(guest)
    one.world.xl = False
    assert carry_out(one, SetLive(uuid="a", count=2)).reason is None
    assert only(one).live_vcpus == 2
    assert carry_out(one, SetLive(uuid="a", count=3)).reason is None
    stubborn = XenGuest("a", follows=False)
    one.world.guests["a"] = stubborn
    stubborn.number = 5
    one.seconds(1)
    event = carry_out(one, SetLive(uuid="a", count=2))
    assert event.reason is Reason.FAILED


def test_what_was_taken_is_given_back_though_pcpus_have_gone_meanwhile(rig: Make) -> None:
    guest = XenGuest("a")
    one = rig(guest)
    assert carry_out(one, SetLive(uuid="a", count=2)).reason is None
    one.world.pcpus = 2  # taken offline; libvirt goes by how many there could be
    assert carry_out(one, SetLive(uuid="a", count=4)).reason is None
    assert guest.requests == [("libvirt", 2), ("libvirt", 4)]


def test_a_guest_that_has_taken_a_cpu_offline_itself_loses_no_other(rig: Make) -> None:
    guest = XenGuest("a")
    one = rig(guest)
    assert carry_out(one, SetLive(uuid="a", count=3)).reason is None
    guest.own_offline = frozenset({1})
    guest.online = {0, 2}
    assert carry_out(one, SetLive(uuid="a", count=4)).reason is Reason.FAILED
    assert guest.online == {0, 2, 3}, "what the guest took back is not asked for again"
    assert "offline itself" in refused(one, SetLive(uuid="a", count=2)).detail


# ------------------------------------------------------------------------------- opening


@pytest.mark.libvirt
def test_the_backend_opens_without_a_libvirt_and_says_so() -> None:
    backend = xen.open_backend(
        BackendOptions(
            terms=TermsBook(),
            writable=False,
            now_ns=lambda: 0,
            wake=lambda: None,
            period_ns=NS_PER_S,
            argument="xen+unix:///system?socket=/nowhere",
        )
    )
    try:
        assert backend.clock is None
        sample = backend.hypervisor.sample()
        assert not sample.connected
        assert "not connected" in sample.notes[0]
    finally:
        backend.close()
