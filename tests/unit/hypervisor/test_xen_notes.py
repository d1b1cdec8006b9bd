"""Hand-over notes on Xen: left before vCPUs are taken, received after a restore or an arrival."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fakes.ports import MemoryLedger
from fakes.xen import XenGuest
from fakes.xen_libvirt import refusal
from unit.hypervisor.xen_host import Host, carry_out
from vcpud.events import EventKind
from vcpud.hypervisor.xml import format_note
from vcpud.model import DomainSample, Mode, Original, SetLive, SetWeight, Terms
from vcpud.terms import NOTE_NAMESPACE, TermsBook
from vcpud.units import NS_PER_S

DENIED = 84
HAD = Original(boot_id="elsewhere", uuid="a", name="n", incarnation="1", online=None, live_vcpus=4)
Make = Callable[..., Host]


def parked(host: Make, guest: XenGuest, **options: Any) -> Host:
    """A host on which two vCPUs of a guest are parked, and its weight makes up for them."""
    one = host(guest, **options)
    one.cycles(2)
    one.policy.wanted = {guest.uuid: 2}
    one.cycles(8)
    assert len(guest.online) == 2
    return one


def note(**words: Any) -> str:
    """What a vcpud elsewhere might have written, as libvirt gives it back."""
    return format_note(replace(HAD, **words)).replace(
        "<owed", f"<x:owed xmlns:x='{NOTE_NAMESPACE}'"
    )


def only(one: Host) -> DomainSample:
    (found,) = one.rig.domains()
    return found


def test_what_is_owed_is_written_down_before_it_is_taken(host: Make) -> None:
    guest = XenGuest("a")
    asked_with: list[list[str | None]] = []
    one = host(guest)
    one.world.when_asked = lambda: asked_with.append(list(guest.notes))
    one.cycles(2)
    one.policy.wanted = {"a": 2}
    one.cycles(8)
    assert len(asked_with[0]) == 1
    sample = only(one)
    assert sample.handed_over is None, "its own note is no hand-over"
    own = sample.own_note
    assert own is not None
    assert (own.live_vcpus, own.weight, own.online) == (4, 256, None)
    assert len(guest.notes) == 1, "and stays as long as anything is owed"


def test_a_restored_domain_gets_back_what_it_had_before_it_was_saved(host: Make) -> None:
    guest = XenGuest("a")
    one = parked(host, guest)
    one.policy.wanted = {}
    del one.world.guests["a"]
    one.cycles(3)
    assert one.ledger.outstanding() == (), "the ledger owes a run that is over nothing"
    arrived = one.world.guests["a"] = guest.arrive(number=9)
    assert len(arrived.online) == 2
    one.cycles(12)
    assert arrived.online == {0, 1, 2, 3}
    assert arrived.weight == 256
    assert (arrived.note, arrived.notes[-1]) == ("", None)
    assert one.ledger.outstanding() == ()
    (received,) = [found for record in one.recorder.records for found in record.received]
    assert (received.incarnation, received.live_vcpus) == ("9", 4)


def test_a_weight_that_came_along_is_lowered_before_the_vcpus_come(host: Make) -> None:
    source = XenGuest("a")
    parked(host, source)
    arrived = source.arrive(number=5)
    arrived.weight = 512
    one = host(arrived)
    one.cycles(12)
    assert one.asked() == [SetWeight(uuid="a", weight=256), SetLive(uuid="a", count=4)]
    assert (arrived.weight, len(arrived.online)) == (256, 4)


def test_a_domain_whose_weight_its_new_host_has_lowered_keeps_it(host: Make) -> None:
    source = XenGuest("a")
    parked(host, source)
    arrived = source.arrive(number=5)
    arrived.weight = 128
    one = host(arrived)
    one.cycles(12)
    assert (arrived.weight, len(arrived.online)) == (128, 4)
    assert arrived.note == ""


def test_a_domain_that_is_only_observed_where_it_arrives_is_named_and_left_alone(
    host: Make,
) -> None:
    source = XenGuest("a")
    parked(host, source)
    arrived = source.arrive(number=5)
    one = host(arrived, terms=TermsBook(default=Terms(mode=Mode.OBSERVE)))
    one.cycles(6)
    assert len(arrived.online) == 2
    assert any("a vcpud elsewhere has parked" in note for note in one.rig.notes())
    assert arrived.notes == []


@pytest.mark.parametrize(
    "words",
    [{"live_vcpus": 1}, {"live_vcpus": 2}, {"live_vcpus": 5}, {"live_vcpus": 2, "weight": 1}],
)
def test_a_note_asks_for_nothing_that_was_not_the_domains_own(
    host: Make, words: dict[str, Any]
) -> None:
    guest = XenGuest("a", number=5, count=2, note=note(**words))
    one = host(guest)
    one.cycles(6)
    assert one.asked() == []
    assert one.ledger.outstanding() == ()


def test_once_everything_is_back_the_note_is_removed_also_by_a_stop(host: Make) -> None:
    guest = XenGuest("a")
    one = parked(host, guest)
    assert one.loop.restore(one.world.at_ns + 30 * NS_PER_S) == ()
    assert (guest.note, guest.weight, len(guest.online)) == ("", 256, 4)


def test_a_weight_that_is_still_raised_keeps_the_note_until_it_is_back(host: Make) -> None:
    guest = XenGuest("a")
    one = parked(host, guest).rig
    assert guest.weight == 512
    owed = replace(HAD, weight=256)
    assert carry_out(one, SetLive(uuid="a", count=4, original=owed)).kind is EventKind.CHANGE_DONE
    one.seconds(3)
    assert len(guest.online) == 4
    assert guest.note
    carry_out(one, SetWeight(uuid="a", weight=256))
    one.until(lambda: not guest.note)


def test_what_was_counted_before_a_change_is_nobody_elses_bringing_back(host: Make) -> None:
    one = parked(host, XenGuest("a")).rig
    one.seconds(2)
    carry_out(one, SetLive(uuid="a", count=1, original=HAD))
    book = one.hypervisor._books["a"]
    assert (book.live_vcpus, book.left_live) == (2, 1)
    assert not book.note_is_settled


def test_somebody_who_brings_vcpus_back_makes_the_note_void(host: Make) -> None:
    guest = XenGuest("a")
    one = parked(host, guest)
    one.policy.wanted = {}
    guest.ask("xl", 3)
    one.rig.roll.doubt(1)
    one.cycles(10)
    assert guest.note == ""
    assert len(guest.online) == 3
    assert guest.weight == 256


def test_a_ledger_that_is_lost_is_made_up_for_by_the_note(host: Make) -> None:
    guest = XenGuest("a")
    one = parked(host, guest)
    assert guest.weight == 512
    one.policy.wanted = {}
    one.ledger = MemoryLedger()
    one.ledger.lost = True
    one.loop = one.new_loop()
    one.cycles(12)
    assert (guest.weight, len(guest.online)) == (256, 4)


def test_a_note_that_cannot_be_left_prevents_nothing_and_is_told(host: Make) -> None:
    guest = XenGuest("a", note_error=refusal(DENIED, "access denied"))
    one = parked(host, guest)
    assert "n-a: vcpud cannot leave a hand-over note: access denied" in one.rig.notes()


def test_where_notes_are_switched_off_none_is_left(host: Make) -> None:
    guest = XenGuest("a")
    parked(host, guest, handover_notes=False)
    assert guest.notes == []
