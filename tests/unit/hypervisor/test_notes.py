"""Hand-over notes in a domain's metadata, and what is still done while a job is on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from unit.hypervisor.stand_in import Guest, Rig
from unit.hypervisor.watching import carry_out, only, refused, until
from vcpud.events import EventKind
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.link import Happening, RawEvent
from vcpud.hypervisor.xml import Note, format_note, parse_description
from vcpud.model import Mode, Original, Reason, SetLive, SetOnline, SetWeight, Terms
from vcpud.terms import NOTE_NAMESPACE, TermsBook
from vcpud.units import NS_PER_S

Make = Callable[..., Rig]
ALL = frozenset(range(4))


def original(**more: object) -> Original:
    words = {
        "boot_id": "boot",
        "uuid": "a",
        "name": "n-a",
        "incarnation": "1:?",
        "online": ALL,
        "live_vcpus": 4,
    }
    return Original(**(words | more))  # type: ignore[arg-type]


def noted(one: Original) -> str:
    """As libvirt gives it back: under the prefix it was stored with."""
    return format_note(one).replace("<owed", f"<x:owed xmlns:x='{NOTE_NAMESPACE}'")


def shrink(online: frozenset[int]) -> SetOnline:
    return SetOnline(uuid="a", online=online, original=original())


def test_a_note_is_read_back_as_it_was_written() -> None:
    guest = Guest("a", metadata=noted(original(online=frozenset({0, 2, 3}))))
    assert parse_description(guest.xml()).note == Note(
        boot_id="boot", incarnation="1:?", online=frozenset({0, 2, 3}), live_vcpus=4
    )


@pytest.mark.parametrize(
    "content",
    ["", "live='x'", "live='0'", "live='4' online='3-'", "live='4' online='99999999'"],
)
def test_a_note_without_sense_is_none(content: str) -> None:
    guest = Guest("a", metadata=f"<x:owed xmlns:x='{NOTE_NAMESPACE}' {content}/>")
    assert parse_description(guest.xml()).note is None


def test_before_anything_is_taken_away_it_is_written_down_what_is_owed(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest)
    until(one, lambda sample: only(sample).online == ALL)
    assert carry_out(one, shrink(frozenset({0, 1}))).kind is EventKind.CHANGE_DONE
    assert guest.notes == [format_note(original())]
    carry_out(one, shrink(frozenset({0})))
    assert len(guest.notes) == 1, "once for all steps"
    sample = until(one, lambda sample: only(sample).online == frozenset({0}))
    assert only(sample).handed_over is None, "its own note is no hand-over"


def test_a_change_that_failed_half_way_leaves_the_note_of_what_is_owed(rig: Make) -> None:
    guest = Guest("a", refuses=frozenset({2}))
    one = rig(guest)
    until(one, lambda sample: only(sample).online == ALL)
    assert carry_out(one, shrink(frozenset({0}))).kind is EventKind.CHANGE_FAILED
    taken_at_ns = one.clock.at_ns
    until(
        one, lambda s: (only(s).online_taken_at_ns or 0) > taken_at_ns + 20 * NS_PER_S, step_s=1.0
    )
    assert guest.notes == [format_note(original())]


def test_its_own_note_is_read_by_a_vcpud_that_has_lost_its_ledger(rig: Make) -> None:
    one = rig(Guest("a", online={0}, metadata=noted(original())))
    assert only(one.hypervisor.sample()).own_note == original()


def test_once_everything_is_back_the_note_is_removed(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest)
    until(one, lambda sample: only(sample).online == ALL)
    carry_out(one, shrink(frozenset({0})))
    carry_out(one, shrink(ALL))
    until(one, lambda _: guest.notes[-1] is None, step_s=1.0)
    assert guest.note == ""


def test_a_daemon_that_gives_everything_back_and_stops_leaves_no_note_behind(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest)
    until(one, lambda sample: only(sample).online == ALL)
    carry_out(one, shrink(frozenset({0})))
    carry_out(one, shrink(ALL))
    one.hypervisor.close()
    assert guest.note == ""


def test_nor_does_one_that_gives_back_what_an_earlier_one_took(rig: Make) -> None:
    guest = Guest("a", agent="", note=noted(original(online=None)), live=3)
    one = rig(guest)
    one.hypervisor.sample()
    owed = original(online=None)
    assert carry_out(one, SetLive(uuid="a", count=4, original=owed)).kind is EventKind.CHANGE_DONE
    one.hypervisor.close()
    assert guest.notes == [None]


def test_a_weight_that_makes_up_for_parked_vcpus_leaves_the_note(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest)
    until(one, lambda sample: only(sample).online == ALL)
    carry_out(one, shrink(frozenset({0})))
    carry_out(one, SetWeight(uuid="a", weight=4096))
    one.hypervisor.close()
    assert guest.notes == [format_note(original())]


def test_somebody_who_brings_vcpus_back_makes_the_note_void(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest)
    until(one, lambda sample: only(sample).online == ALL)
    carry_out(one, shrink(frozenset({0})))
    guest.online.add(1)
    until(one, lambda _: guest.notes[-1] is None, step_s=1.0)
    assert guest.online == {0, 1}


@pytest.mark.parametrize("live", [3, 4])
def test_somebody_who_plugs_devices_makes_the_note_of_them_void(rig: Make, live: int) -> None:
    guest = Guest("a", agent="")
    one = rig(guest)
    one.hypervisor.sample()
    owed = original(online=None)
    carry_out(one, SetLive(uuid="a", count=2, original=owed))
    until(one, lambda sample: only(sample).own_note == owed, step_s=1.0)
    for _ in range(3):
        until(one, lambda _: True, step_s=1.0)
    assert guest.notes == [format_note(owed)]
    guest.live = live
    until(one, lambda _: guest.notes[-1] is None, step_s=1.0)


def test_somebody_who_adds_vcpus_leaves_the_note_of_the_parked_ones(rig: Make) -> None:
    guest = Guest("a", vcpus=8)
    one = rig(guest)
    until(one, lambda sample: only(sample).online == ALL)
    carry_out(one, shrink(frozenset({0})))
    guest.online.add(5)
    until(one, lambda sample: only(sample).online == frozenset({0, 5}), step_s=1.0)
    for _ in range(3):
        one.hypervisor.sample()
    assert guest.notes == [format_note(original())]


def test_a_note_that_cannot_be_written_prevents_nothing_and_is_told(rig: Make) -> None:
    guest = Guest("a", note_error=CallFailed(Meaning.DENIED, "access denied"))
    one = rig(guest)
    until(one, lambda sample: only(sample).online == ALL)
    assert carry_out(one, shrink(frozenset({0}))).kind is EventKind.CHANGE_DONE
    sample = one.hypervisor.sample()
    assert "n-a: vcpud cannot leave a hand-over note: access denied" in sample.notes


def test_where_notes_are_switched_off_none_is_written(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest, handover_notes=False)
    until(one, lambda sample: only(sample).online == ALL)
    carry_out(one, shrink(frozenset({0})))
    assert guest.notes == []


def test_taking_devices_away_is_written_down_too(rig: Make) -> None:
    guest = Guest("a", agent="")
    one = rig(guest)
    one.hypervisor.sample()
    owed = original(online=None)
    carry_out(one, SetLive(uuid="a", count=3, original=owed))
    assert guest.notes == [format_note(owed)]


@pytest.mark.parametrize("words", [{"boot_id": "elsewhere"}, {"incarnation": "7:1"}])
def test_a_note_of_another_host_or_another_run_is_a_hand_over(
    rig: Make, words: dict[str, str]
) -> None:
    guest = Guest("a", online={0}, metadata=noted(original(**words)))
    sample = rig(guest).hypervisor.sample()
    handed_over = only(sample).handed_over
    assert handed_over is not None
    assert (handed_over.online, handed_over.live_vcpus) == (ALL, 4)


def test_a_hand_over_to_where_it_is_only_observed_is_told(rig: Make) -> None:
    guest = Guest("a", online={0}, metadata=noted(original(boot_id="elsewhere")))
    one = rig(guest, terms=TermsBook(default=Terms(mode=Mode.OBSERVE)))
    sample = one.hypervisor.sample()
    assert any("a vcpud elsewhere has parked" in note for note in sample.notes)
    assert guest.notes == []


def test_what_has_already_come_back_elsewhere_leaves_no_note_behind(rig: Make) -> None:
    guest = Guest("a", note=noted(original(boot_id="elsewhere")))
    one = rig(guest)
    until(one, lambda _: guest.notes == [None], step_s=1.0)


# ------------------------------------------------------------------------------------ jobs


def test_under_a_job_cpus_come_back_online_but_none_is_taken(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest)
    until(one, lambda sample: only(sample).online == ALL)
    carry_out(one, shrink(frozenset({0})))
    guest.job = "migration_out"
    until(one, lambda sample: only(sample).job == "migration_out", step_s=1.0)
    assert refused(one, SetOnline(uuid="a", online=frozenset())) is Reason.JOB
    assert refused(one, SetLive(uuid="a", count=3)) is Reason.JOB
    assert carry_out(one, shrink(ALL)).kind is EventKind.CHANGE_DONE
    assert guest.online == set(ALL)
    assert len(guest.notes) == 1, "metadata cannot be changed under a job"


def test_a_migration_is_noticed_as_soon_as_libvirt_tells_of_it(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest)
    until(one, lambda sample: only(sample).online == ALL)
    guest.job = "migration_out"
    one.library.tell(RawEvent(Happening.JOB_PROGRESS, "a"))
    until(one, lambda sample: only(sample).job == "migration_out")
    guest.job = None
    one.library.tell(RawEvent(Happening.JOB_COMPLETED, "a"))
    until(one, lambda sample: only(sample).job is None)


def test_a_job_is_told_when_it_begins_and_when_it_ends(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest)
    until(one, lambda sample: only(sample).online == ALL)
    one.hypervisor.events()
    seen: list[EventKind] = []

    def told(kind: EventKind) -> bool:
        seen.extend(event.kind for event in one.hypervisor.events())
        return kind in seen

    guest.job = "save"
    until(one, lambda _: told(EventKind.JOB_BEGUN), step_s=1.0)
    guest.job = None
    until(one, lambda _: told(EventKind.JOB_ENDED), step_s=1.0)
    assert [kind for kind in seen if "job" in kind] == [EventKind.JOB_BEGUN, EventKind.JOB_ENDED]


def test_other_terms_hold_from_the_next_sample_on(rig: Make) -> None:
    one = rig(Guest("a"))
    one.hypervisor.sample()
    one.hypervisor.adopt(TermsBook(default=Terms(mode=Mode.OFF)))
    assert only(one.hypervisor.sample()).terms.mode is Mode.OFF
