"""The whole Xen backend over a made-up host: what it refuses, does, and finds done."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fakes.xen import XenGuest
from fakes.xen_libvirt import XenRig
from unit.hypervisor.xen_host import carry_out, only, refused
from vcpud.events import EventKind
from vcpud.model import (
    Change,
    Method,
    Reason,
    SetLive,
    SetOnline,
    SetWeight,
)

Make = Callable[..., XenRig]


# ------------------------------------------------------------------------------- refusing


def test_more_vcpus_than_pcpus_are_never_taken_because_libvirt_would_not_give_them_back(
    xen_rig: Make,
) -> None:
    guest = XenGuest("a")
    one = xen_rig(guest, pcpus=2)
    assert only(one).method is Method.NONE
    refusal = refused(one, SetLive(uuid="a", count=2))
    assert refusal.reason is Reason.UNSUPPORTED
    assert "ignore_host" in refusal.detail
    assert any("never shrinks" in note for note in one.notes())
    assert guest.requests == []


def test_the_way_past_it_must_have_been_tried_out(xen_rig: Make) -> None:
    guest = XenGuest("a")
    world_without = xen_rig(guest, pcpus=2, ignore_host=True, xl_knows_option=False)
    assert refused(world_without, SetLive(uuid="a", count=2)).reason is Reason.UNSUPPORTED
    assert any("cannot use xl" in note for note in world_without.notes())
    one = xen_rig(guest, pcpus=2, ignore_host=True)
    assert only(one).method is Method.XENSTORE


def test_both_ways_go_by_xl_so_that_libvirts_count_stays_right(xen_rig: Make) -> None:
    guest = XenGuest("a")
    one = xen_rig(guest, pcpus=2, ignore_host=True)
    assert carry_out(one, SetLive(uuid="a", count=2)).reason is None
    assert (guest.online, guest.count) == ({0, 1}, 4)
    assert only(one).live_vcpus == 2
    assert carry_out(one, SetLive(uuid="a", count=4)).reason is None
    assert guest.requests == [("xl", 2), ("xl", 4)]
    assert only(one).live_vcpus == 4


def test_an_hvm_guest_can_grow_but_not_shrink(xen_rig: Make) -> None:
    guest = XenGuest("a", os_type="hvm", count=2)
    one = xen_rig(guest)
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
def test_what_cannot_end_well_is_not_begun(xen_rig: Make, change: Change, reason: Reason) -> None:
    assert refused(xen_rig(XenGuest("a")), change).reason is reason


def test_opened_for_looking_it_changes_nothing(xen_rig: Make) -> None:
    one = xen_rig(XenGuest("a"), writable=False)
    assert refused(one, SetLive(uuid="a", count=2)).reason is Reason.DENIED


# ------------------------------------------------------------------------------- changing


@pytest.mark.parametrize("os_type", ["linux", "xenpvh"])
def test_a_change_is_done_when_xen_says_so(xen_rig: Make, os_type: str) -> None:
    guest = XenGuest("a", os_type=os_type)
    one = xen_rig(guest)
    event = carry_out(one, SetLive(uuid="a", count=2))
    assert (event.kind, event.reason) == (EventKind.CHANGE_DONE, None)
    assert guest.online == {0, 1}
    domain = only(one)
    assert domain.live_vcpus == 2
    assert domain.in_flight is None
    assert carry_out(one, SetLive(uuid="a", count=4)).reason is None
    assert guest.requests == [("libvirt", 2), ("libvirt", 4)]


def test_a_guest_that_ignores_the_request_is_found_out_and_the_request_is_taken_back(
    xen_rig: Make,
) -> None:
    guest = XenGuest("a", follows=False)
    one = xen_rig(guest)
    event = carry_out(one, SetLive(uuid="a", count=2))
    assert event.reason is Reason.FAILED
    assert "does not follow xenstore" in event.detail
    assert guest.asked == 4, "so that it does not follow it when nobody expects it"
    assert only(one).live_vcpus == 4


def test_a_guest_that_was_too_busy_is_asked_again(xen_rig: Make) -> None:
    guest = XenGuest("a", deaf_to=1)
    one = xen_rig(guest)
    assert carry_out(one, SetLive(uuid="a", count=2)).reason is None
    assert guest.requests == [("libvirt", 2), ("libvirt", 2)]


def test_a_vcpu_that_a_busy_guest_could_not_bring_online_is_announced_anew(xen_rig: Make) -> None:
    guest = XenGuest("a", count=2, stuck={2})
    one = xen_rig(guest)
    assert carry_out(one, SetLive(uuid="a", count=4)).reason is None
    assert guest.online == {0, 1, 2, 3}
    assert guest.requests == [("libvirt", 4)] * 3, "a guest that is merely slow is given time"


def test_a_guest_without_the_udev_rule_is_named_as_one(xen_rig: Make) -> None:
    guest = XenGuest("a", count=2, udev=False)
    one = xen_rig(guest)
    event = carry_out(one, SetLive(uuid="a", count=4))
    assert event.reason is Reason.FAILED
    assert "udev rule" in event.detail
    assert only(one).live_vcpus == 2


def test_a_weight_is_read_back(xen_rig: Make) -> None:
    guest = XenGuest("a")
    one = xen_rig(guest)
    event = carry_out(one, SetWeight(uuid="a", weight=512))
    assert event.reason is None
    assert guest.weight == 512
    assert only(one).weight == 512


def test_a_migration_is_not_raced(xen_rig: Make) -> None:
    guest = XenGuest("a", job=1)
    one = xen_rig(guest)
    assert carry_out(one, SetLive(uuid="a", count=2)).reason is Reason.JOB
    assert guest.requests == []


def test_a_domain_that_ends_in_mid_change_is_gone_and_the_daemon_lives(xen_rig: Make) -> None:
    guest = XenGuest("a", follows=False)
    one = xen_rig(guest, XenGuest("b", number=2))
    one.world.when_asked = lambda: one.world.guests.pop("a", None)
    assert carry_out(one, SetLive(uuid="a", count=2)).reason is Reason.GONE
    assert [domain.uuid for domain in one.domains()] == ["b"]


def test_where_xen_cannot_be_asked_run_times_that_stand_still_are_the_witness(
    xen_rig: Make,
) -> None:
    guest = XenGuest("a")
    one = xen_rig(guest)
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


def test_what_was_taken_is_given_back_though_pcpus_have_gone_meanwhile(xen_rig: Make) -> None:
    guest = XenGuest("a")
    one = xen_rig(guest)
    assert carry_out(one, SetLive(uuid="a", count=2)).reason is None
    one.world.pcpus = 2  # taken offline; libvirt goes by how many there could be
    assert carry_out(one, SetLive(uuid="a", count=4)).reason is None
    assert guest.requests == [("libvirt", 2), ("libvirt", 4)]


def test_a_guest_that_has_taken_a_cpu_offline_itself_loses_no_other(xen_rig: Make) -> None:
    guest = XenGuest("a")
    one = xen_rig(guest)
    assert carry_out(one, SetLive(uuid="a", count=3)).reason is None
    guest.own_offline = frozenset({1})
    guest.online = {0, 2}
    assert carry_out(one, SetLive(uuid="a", count=4)).reason is Reason.FAILED
    assert guest.online == {0, 2, 3}, "what the guest took back is not asked for again"
    assert "offline itself" in refused(one, SetLive(uuid="a", count=2)).detail
