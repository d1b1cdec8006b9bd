"""What the whole backend samples, over a libvirt that misbehaves on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unit.hypervisor.stand_in import Guest
from unit.hypervisor.watching import Make, kinds, only, refused, until
from vcpud.events import EventKind
from vcpud.hypervisor.link import Happening, RawEvent
from vcpud.model import (
    Method,
    Mode,
    Reason,
    SetOnline,
    Terms,
    Trouble,
)
from vcpud.terms import NAMESPACE, TermsBook

if TYPE_CHECKING:
    from pathlib import Path


def test_a_sample_has_every_running_domain_in_a_fixed_order(rig: Make) -> None:
    sample = rig(Guest("b"), Guest("a")).hypervisor.sample()
    assert [domain.uuid for domain in sample.domains] == ["a", "b"]
    assert sample.connected
    assert sample.boot_id == "boot"
    assert sample.busy_ns == 36 * 10_000_000
    assert [(pool.name, pool.pcpus) for pool in sample.pools] == [("host", 2)]


def test_a_sample_has_the_ceilings_that_the_scheduler_holds_a_domain_to(rig: Make) -> None:
    free = only(rig(Guest("a")).hypervisor.sample())
    capped = only(rig(Guest("a", global_quota=150_000)).hypervisor.sample())
    assert (free.cap_pcpus, free.quota_pcpus_per_vcpu) == (None, None)
    assert (capped.cap_pcpus, capped.quota_pcpus_per_vcpu) == (1.5, None)


def test_a_real_time_domain_is_never_changed(rig: Make) -> None:
    tune = "<cputune><vcpusched vcpus='0' scheduler='fifo' priority='1'/></cputune>"
    found = only(rig(Guest("a", tune=tune)).hypervisor.sample())
    assert found.method is Method.NONE
    assert Trouble.REALTIME in found.troubles


def test_what_no_event_has_told_of_is_found_within_a_minute(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest)
    assert only(one.hypervisor.sample()).weight == 1024
    guest.weight = 512
    one.clock.pass_s(50)
    one.hypervisor.sample()
    assert only(one.hypervisor.sample()).weight == 1024
    one.clock.pass_s(11)
    until(one, lambda s: only(s).weight == 512)


def confine(root: Path) -> None:
    """Have a slice leave the four vCPUs of domain a nothing but pCPU 1."""
    group = root / "sys/fs/cgroup/machine.slice"
    group.mkdir(parents=True)
    (group / "cpuset.cpus.effective").write_text("1\n")
    for number in range(4):
        thread = root / f"proc/42/task/{100 + number}"
        thread.mkdir(parents=True)
        (thread / "comm").write_text(f"CPU {number}/KVM\n")
        (thread / "cgroup").write_text("0::/machine.slice/a.scope/libvirt/vcpu0\n")
    (root / "proc/42/cmdline").write_text("qemu\0-name\0guest=a\0-uuid\0a\0-S\0")


def test_whom_a_slice_confines_is_in_the_pool_that_it_leaves(rig: Make, tmp_path: Path) -> None:
    confine(tmp_path)
    sample = rig(Guest("a"), Guest("b")).hypervisor.sample()
    assert [domain.pool for domain in sample.domains] == ["1", "host"]


def test_work_on_pcpus_that_no_domain_may_use_is_nobody_s_burden(
    rig: Make, tmp_path: Path
) -> None:
    confine(tmp_path)
    one = rig(Guest("a"))
    before = one.hypervisor.sample()
    (tmp_path / "proc/stat").write_text("cpu 0\ncpu0 900 0 0 0 0 0 0 0\ncpu1 23 0 0 0 0 0 0 0\n")
    one.clock.pass_s(10)
    after = one.hypervisor.sample()
    assert [pool.name for pool in after.pools] == ["1"]
    assert before.busy_ns is not None
    assert after.busy_ns == before.busy_ns + 7 * 10_000_000


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
