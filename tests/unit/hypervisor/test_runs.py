"""Which run of a domain is which: started, rebooted, stopped, and what /proc tells of it or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from unit.hypervisor.stand_in import Guest, Rig
from unit.hypervisor.watching import kinds, only, until
from vcpud.events import EventKind
from vcpud.hypervisor.link import Happening, RawEvent
from vcpud.model import Trouble, same_run

Make = Callable[..., Rig]


def qemu(root: Path, start_ticks: int, pid: int = 4242) -> Path:
    """The process of domain "a", as /proc shows it."""
    process = root / "proc" / str(pid)
    process.mkdir()
    (process / "cmdline").write_bytes(b"qemu\0-name\0guest=n-a\0-uuid\0a\0")
    (process / "stat").write_text(f"{pid} (qemu) S {'0 ' * 18}{start_ticks} 0\n")
    return process


def described_anew(rig: Rig) -> None:
    rig.library.tell(RawEvent(Happening.METADATA, "a"))


def test_a_domain_started_again_is_another_incarnation(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest, writable=False)
    before = only(one.hypervisor.sample())
    kinds(one)
    guest.number = 2
    after = only(one.hypervisor.sample())
    assert after.incarnation != before.incarnation
    assert kinds(one) == [EventKind.GONE, EventKind.STARTED]


def test_what_the_hardware_counts_of_a_domain_is_in_its_sample(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest, writable=False)
    assert only(one.hypervisor.sample()).cycles is None
    guest.perf = {"perf.cpu_cycles": 2_500, "perf.instructions": 1_200}
    sample = only(one.hypervisor.sample())
    assert (sample.cycles, sample.instructions) == (2_500, 1_200)


def test_a_reset_is_one_reboot_however_many_events_it_causes(rig: Make) -> None:
    one = rig(Guest("a"))
    until(one, lambda s: only(s).online is not None)
    one.library.tell(RawEvent(Happening.REBOOT, "a", "n-a"))
    one.library.tell(RawEvent(Happening.REBOOT, "a", "n-a"))
    sample = only(one.hypervisor.sample())
    assert sample.boots == 1
    assert sample.booted_for_ns == 0
    assert Trouble.BOOTING in sample.troubles
    assert kinds(one).count(EventKind.REBOOTED) == 1


@pytest.mark.parametrize(
    ("online", "boots"), [(frozenset({0, 1, 2, 3}), 1), (frozenset({0, 1}), 0)]
)
def test_a_reboot_that_nobody_told_of_shows_in_what_a_guest_with_all_cpus_has_counted(
    rig: Make, online: frozenset[int], boots: int
) -> None:
    guest = Guest("a", used_ms=90_000, online={0, 1})
    one = rig(guest)
    until(one, lambda s: only(s).online == frozenset({0, 1}))
    guest.online, guest.used_ms = set(online), 3_000  # while libvirtd was away
    guest.commands.clear()
    until(one, lambda _: guest.commands.count("guest-get-cpustats") > 2, step_s=1.0)
    sample = until(one, lambda s: only(s).online == online, step_s=1.0)
    assert only(sample).boots == boots
    assert kinds(one).count(EventKind.REBOOTED) == boots


def test_a_stopped_domain_is_gone_once(rig: Make) -> None:
    one = rig(Guest("a"), writable=False)
    one.hypervisor.sample()
    kinds(one)
    del one.library.guests["a"]
    one.library.tell(RawEvent(Happening.STOPPED, "a", "n-a"))
    assert one.hypervisor.sample().domains == ()
    assert kinds(one) == [EventKind.GONE]


def test_when_a_domain_stopped_is_forgotten_after_the_next_poll(rig: Make) -> None:
    one = rig(Guest("a"), Guest("b"), writable=False)
    one.hypervisor.sample()
    del one.library.guests["a"]
    one.library.tell(RawEvent(Happening.STOPPED, "a"))
    one.clock.pass_s(1)
    one.hypervisor.sample()
    assert one.hypervisor._stopped_at_ns == {}


def test_word_of_an_earlier_run_that_comes_late_ends_no_later_one(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest, writable=False)
    one.hypervisor.sample()
    kinds(one)
    one.library.tell(RawEvent(Happening.STOPPED, "a"))
    one.clock.pass_s(1)
    guest.number = 2  # described in this very poll, before the loop has heard of the stop
    one.hypervisor._receive(0.0)
    one.hypervisor._poller.ask()
    one.hypervisor._receive(5.0)
    one.hypervisor._absorb()
    assert kinds(one) == [EventKind.GONE, EventKind.STARTED]


def test_who_is_said_to_have_stopped_and_is_listed_all_the_same_is_described_anew(
    rig: Make,
) -> None:
    one = rig(Guest("a"), writable=False)
    one.hypervisor.sample()
    one.library.tell(RawEvent(Happening.STOPPED, "a"))
    one.clock.pass_s(1)
    assert only(one.hypervisor.sample()).uuid == "a"


def test_a_successor_described_before_its_predecessors_end_was_heard_of_is_not_missed(
    rig: Make,
) -> None:
    guest = Guest("a")
    one = rig(guest, writable=False)
    one.hypervisor.sample()
    guest.number = 2
    one.hypervisor._poller.ask()
    one.hypervisor._poller.wait(5.0)  # described, and not taken in yet
    one.clock.pass_s(1)
    one.library.tell(RawEvent(Happening.STOPPED, "a"))
    one.hypervisor._absorb()
    one.hypervisor.sample()
    assert only(one.hypervisor.sample()).incarnation.startswith("2:")


def test_as_many_as_before_are_not_the_same_as_before(rig: Make) -> None:
    one = rig(Guest("a"), writable=False)
    one.hypervisor.sample()
    one.library.guests = {"b": Guest("b")}
    one.hypervisor._poller._describer._described["b"] = (1, 0)  # as where it cannot be described
    sample = one.hypervisor.sample()
    assert sample.domains == ()
    assert sample.undescribed == {"b"}


def test_a_process_that_is_not_found_once_makes_no_new_incarnation(
    rig: Make, tmp_path: Path
) -> None:
    one = rig(Guest("a"), writable=False)
    process = qemu(tmp_path, 123)
    before = only(one.hypervisor.sample())
    assert before.incarnation == "1:123"
    process.rename(tmp_path / "hidden")
    described_anew(one)
    after = only(one.hypervisor.sample())
    assert after is not before
    assert (after.incarnation, after.share_unit) == (before.incarnation, before.share_unit)


def test_a_process_that_can_be_read_only_later_makes_no_new_incarnation(
    rig: Make, tmp_path: Path
) -> None:
    one = rig(Guest("a"), writable=False)
    before = only(one.hypervisor.sample())
    assert before.booted_for_ns is None
    kinds(one)
    qemu(tmp_path, 123)
    described_anew(one)
    after = only(one.hypervisor.sample())
    assert after.incarnation == before.incarnation
    assert after.booted_for_ns is not None, "what is known of it now counts all the same"
    assert set(kinds(one)) == {EventKind.METADATA}


def test_an_id_that_libvirt_gives_anew_is_another_incarnation(rig: Make, tmp_path: Path) -> None:
    one = rig(Guest("a"), writable=False)
    process = qemu(tmp_path, 123)
    before = only(one.hypervisor.sample())
    kinds(one)
    process.rename(tmp_path / "ended")
    qemu(tmp_path, 456, pid=4243)
    described_anew(one)
    after = only(one.hypervisor.sample())
    assert (before.incarnation, after.incarnation) == ("1:123", "1:456")
    assert kinds(one)[-2:] == [EventKind.GONE, EventKind.STARTED]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1:123", "1:123", True),
        ("1:?", "1:123", True),
        ("1:123", "1:?", True),
        ("1:123", "1:124", False),
        ("1:?", "2:?", False),
        ("1:?", "2:123", False),
        ("1@0", "1@0", True),
        ("1@0", "1@1", False),
        ("?", "?", True),
        ("7", "8", False),
    ],
)
def test_what_is_not_known_of_a_run_says_nothing_against_its_being_the_same(
    one: str,
    other: str,
    same: bool,
) -> None:
    assert same_run(one, other) is same
    assert same_run(other, one) is same
