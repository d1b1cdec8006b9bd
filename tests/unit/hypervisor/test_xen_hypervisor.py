"""The whole Xen backend over a made-up host: what it sees of it, and how it opens."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from fakes.xen import XenGuest
from fakes.xen_libvirt import XenRig
from unit.hypervisor.xen_host import only, refused
from vcpud.backend import BackendOptions
from vcpud.events import EventKind
from vcpud.hypervisor import xen
from vcpud.model import (
    Method,
    Mode,
    Reason,
    SetLive,
    ShareUnit,
    Terms,
    Trouble,
)
from vcpud.terms import TermsBook
from vcpud.units import NS_PER_S

Make = Callable[..., XenRig]


def test_a_sample_has_every_domain_but_dom0_with_what_only_xen_knows(xen_rig: Make) -> None:
    one = xen_rig(XenGuest("a", number=3, weight=300, cap=150), scheduler="credit2")
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


def test_waiting_is_what_is_left_of_the_time_and_comes_with_its_error(xen_rig: Make) -> None:
    one = xen_rig(XenGuest("a", number=1), XenGuest("b", number=2), pcpus=4)
    one.until(lambda: all(v.run_delay_ns for d in one.domains() for v in d.vcpus))
    before = one.domains()
    one.seconds(20)
    for was, now in zip(before, one.domains(), strict=True):
        for old, new in zip(was.vcpus, now.vcpus, strict=True):
            waited_ns = (new.run_delay_ns or 0) - (old.run_delay_ns or 0)
            window_ns = now.taken_at_ns - was.taken_at_ns
            assert waited_ns == pytest.approx(window_ns / 2, rel=0.02)
            assert (new.run_delay_error_ns or 0) > (old.run_delay_error_ns or 0) > 0


def test_an_idle_guest_that_blocks_does_not_wait(xen_rig: Make) -> None:
    one = xen_rig(XenGuest("a", busy=False))
    one.until(lambda: all(v.run_delay_ns is not None for d in one.domains() for v in d.vcpus))
    before = only(one)
    one.seconds(30)
    after = only(one)
    for old, new in zip(before.vcpus, after.vcpus, strict=True):
        waited_ns = (new.run_delay_ns or 0) - (old.run_delay_ns or 0)
        assert waited_ns < (after.taken_at_ns - before.taken_at_ns) / 10


def test_offline_vcpus_wait_for_nothing_though_libvirt_has_one_word_for_both(
    xen_rig: Make,
) -> None:
    one = xen_rig(XenGuest("a", number=1, count=2), XenGuest("b", number=2), pcpus=2)
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


def test_the_count_is_xens_and_not_libvirts(xen_rig: Make) -> None:
    guest = XenGuest("a")
    guest.online = {0, 1}  # somebody has used xl before vcpud came
    one = xen_rig(guest)
    assert only(one).live_vcpus == 2


def test_an_unfinished_request_of_an_earlier_vcpud_counts_as_carried_out(xen_rig: Make) -> None:
    guest = XenGuest("a")
    guest.asked = 2  # and the guest has not followed yet
    one = xen_rig(guest)
    assert only(one).live_vcpus == 2, "so what is owed is asked for again"


def test_without_xl_libvirts_count_and_the_run_times_have_to_do(xen_rig: Make) -> None:
    guest = XenGuest("a", count=2)
    one = xen_rig(guest)
    one.world.xl = False
    assert only(one).live_vcpus == 2
    guest.ask("xl by hand", 3)
    one.seconds(3)
    assert only(one).live_vcpus == 3, "what runs is online"
    assert one.world.xl_calls <= 2, "and xl is not tried again and again"


def test_a_paused_domain_waits_for_nothing(xen_rig: Make) -> None:
    one = xen_rig(XenGuest("a", state=3))
    one.seconds(5)
    domain = only(one)
    assert Trouble.PAUSED in domain.troubles
    assert {vcpu.run_delay_ns for vcpu in domain.vcpus} <= {0, None}
    assert refused(one, SetLive(uuid="a", count=2)).detail == "it is paused"


def test_a_guest_that_reports_is_listened_to_and_one_that_does_not_is_named(xen_rig: Make) -> None:
    guest = XenGuest("a")
    one = xen_rig(guest)
    one.until(lambda: any("reports nothing" in note for note in one.notes()))
    assert Trouble.AGENT_MISSING in only(one).troubles
    guest.report = b"vcpud1 up=100 hz=100 run=3 lock=17,42 c0=100,20,5000,7,900 end"
    one.until(lambda: only(one).guest is not None)
    domain = only(one)
    assert domain.guest is not None
    assert domain.guest.locks is not None
    assert Trouble.AGENT_MISSING not in domain.troubles


def test_a_guest_that_publishes_nonsense_holds_itself_and_nobody_else(xen_rig: Make) -> None:
    liar = XenGuest("a", number=1, report=b"vcpud1 up=1 hz=100 run=-1")
    one = xen_rig(liar, XenGuest("b", number=2))
    one.until(lambda: Trouble.AGENT_ABSURD in one.domains()[0].troubles)
    assert Trouble.AGENT_ABSURD not in one.domains()[1].troubles
    assert one.domains()[0].guest is None
    assert any("guest reporter" in note for note in one.notes())


def test_an_observed_guest_is_not_read(xen_rig: Make) -> None:
    guest = XenGuest("a", report=b"vcpud1 up=1 hz=100 run=- lock=- c0=1,1,1,1,1 end")
    one = xen_rig(guest, terms=TermsBook(default=Terms(mode=Mode.OBSERVE)))
    one.seconds(10)
    assert only(one).guest is None


def test_a_domain_that_starts_is_left_to_boot_and_a_new_run_of_it_is_another(
    xen_rig: Make,
) -> None:
    one = xen_rig(XenGuest("a", number=1))
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


def test_a_libvirtd_that_comes_and_goes_loses_nothing(xen_rig: Make) -> None:
    one = xen_rig(XenGuest("a"))
    one.hypervisor.sample()
    one.world.down = True
    one.seconds(2)
    assert not one.hypervisor.sample().connected
    one.world.down = False
    one.until(lambda: one.hypervisor.sample().connected)
    assert len(one.domains()) == 1


def test_schedulers_without_weights_are_named_and_nothing_is_shrunk_there(xen_rig: Make) -> None:
    one = xen_rig(XenGuest("a"), scheduler="null")
    domain = only(one)
    assert domain.share_unit is ShareUnit.UNKNOWN
    assert not domain.weight_adjustable
    assert any("never shrinks" in note for note in one.notes())


def test_a_domain_that_is_being_torn_down_blinds_nobody(xen_rig: Make) -> None:
    dying = XenGuest("a", number=1)
    one = xen_rig(dying, XenGuest("b", number=2))
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
    xen_rig: Make,
) -> None:
    stuck = XenGuest("a", number=1)
    one = xen_rig(stuck, XenGuest("b", number=2), period_ns=NS_PER_S // 10)
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


def test_a_lock_that_was_there_before_vcpud_costs_one_thread_and_is_told(xen_rig: Make) -> None:
    stuck = XenGuest("a", number=1, locked=threading.Event())
    one = xen_rig(stuck, period_ns=NS_PER_S // 10)
    try:
        one.until(lambda: any("does not list its domains" in note for note in one.notes()))
        one.seconds(60)
        assert one.world.waiting == 1
    finally:
        assert stuck.locked is not None
        stuck.locked.set()
    stuck.locked = None
    one.until(lambda: len(one.domains()) == 1)


def test_a_domain_with_more_vcpus_than_libvirt_python_can_read_is_read_past_it(
    xen_rig: Make,
) -> None:
    one = xen_rig(XenGuest("a", vcpus=200), pcpus=256)
    before = only(one)
    assert len(before.vcpus) == 200
    assert (before.live_vcpus, before.max_vcpus) == (200, 200)
    one.seconds(4)
    grown = [
        (now.run_ns or 0) - (was.run_ns or 0)
        for was, now in zip(before.vcpus, only(one).vcpus, strict=True)
    ]
    assert min(grown) > 2 * NS_PER_S


def test_tools_that_do_not_come_back_are_not_waited_for_by_whoever_polls_next(
    xen_rig: Make,
) -> None:
    one = xen_rig(XenGuest("a"))
    one.seconds(1)
    one.roll.silent_until_ns = one.world.at_ns + 60 * NS_PER_S  # as a poll leaves it that hangs
    one.roll.doubt(1)
    asked = one.world.xl_calls
    one.seconds(2)
    assert one.hypervisor.sample().connected
    assert one.world.xl_calls == asked
    one.seconds(60)
    assert one.world.xl_calls > asked, "but tried again in the end"


def test_a_domain_in_a_cpu_pool_whose_scheduler_has_no_weights_is_never_shrunk(
    xen_rig: Make,
) -> None:
    one = xen_rig(XenGuest("a", weight=2**32 - 1), scheduler="credit2")
    domain = only(one)
    assert domain.share_unit is ShareUnit.UNKNOWN
    assert not domain.weight_adjustable
    assert domain.weight < 2**16


def test_domains_that_libvirt_does_not_list_are_named(xen_rig: Make) -> None:
    one = xen_rig(XenGuest("a"))
    one.world.strangers = frozenset({7, 5})
    assert any(note.endswith("their ids: 5, 7") for note in one.notes())


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
