"""An unplug that was given up may still come: what a domain had stays owed until it is certain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.host import FakeDomain
from fakes.ports import MemoryLedger
from unit.loop.test_control import ASKED, ENFORCE, Rig
from vcpud import owed
from vcpud.agenda import Agenda
from vcpud.errors import LedgerError
from vcpud.model import DomainSample, Method, Original, Reason, SetLive, Trouble
from vcpud.originals import Originals
from vcpud.record import Phase, Purpose
from vcpud.requests import LoopSettings, Pause, Release
from vcpud.units import NS_PER_MS, NS_PER_S
from vcpud_policies.static import Static

OPEN_ENDED = (Reason.TIMEOUT, Reason.HUNG, Reason.NOT_CONNECTED)
UNPLUG_NS = 5 * NS_PER_S


def pair(*, fail: Reason | None = Reason.TIMEOUT) -> tuple[FakeDomain, FakeDomain]:
    """One whose vCPUs are devices and whose unplugs time out, and a neighbour to contend with."""
    slow = FakeDomain(
        name="slow",
        vcpus=4,
        lock_bound=True,
        terms=ENFORCE,
        method=Method.HOTPLUG,
        latency_ns=UNPLUG_NS,
        fail=fail,
        fail_unplugs_only=True,
    )
    return slow, FakeDomain(name="other", vcpus=4, lock_bound=True, terms=ENFORCE)


def entry(rig: Rig, domain: FakeDomain) -> Original | None:
    return next((one for one in rig.ledger.outstanding() if one.uuid == domain.uuid), None)


def given_up(rig: Rig, domain: FakeDomain) -> None:
    """Run until the unplug was given up and nothing is under way."""
    for _ in range(90):
        rig.cycles(1)
        if rig.phase(domain) is Phase.QUARANTINED:
            return
    raise AssertionError("never given up")


def successor(rig: Rig, policy: str = "static") -> Rig:
    """A vcpud that starts after the one before has ended, and decides nothing itself."""
    rig.settings = LoopSettings(
        period_ns=NS_PER_S, policy=Static(), policy_name=policy, limits=rig.settings.limits
    )
    rig.loop = rig.new_loop()
    return rig


def test_before_an_unplug_is_begun_it_is_written_down_that_it_may_come() -> None:
    slow, other = pair(fail=None)
    rig = Rig(slow, other)
    while not any(change.uuid == slow.uuid for change in rig.host.begun):
        rig.cycles(1)
    found = entry(rig, slow)
    assert found is not None
    assert (found.unplug_from, found.live_vcpus, len(slow.online)) == (4, 4, 4)


def test_an_unplug_that_is_seen_leaves_nothing_open() -> None:
    slow, other = pair(fail=None)
    rig = Rig(slow, other)
    rig.cycles(60)
    assert len(slow.online) == 1
    found = entry(rig, slow)
    assert found is not None
    assert (found.unplug_from, found.live_vcpus) == (None, 4)


@pytest.mark.parametrize("reason", OPEN_ENDED)
def test_an_unplug_that_timed_out_stays_owed_for_as_long_as_vcpud_runs(reason: Reason) -> None:
    slow, other = pair(fail=reason)
    rig = Rig(slow, other)
    given_up(rig, slow)
    rig.cycles(600)
    found = entry(rig, slow)
    assert found is not None
    assert (found.unplug_from, len(slow.online)) == (4, 4)
    assert len(other.online) < 4, "the other one is managed"


def test_an_unplug_that_was_refused_outright_leaves_nothing_open() -> None:
    slow, other = pair(fail=Reason.FAILED)
    rig = Rig(slow, other)
    given_up(rig, slow)
    rig.cycles(3)
    assert entry(rig, slow) is None


def test_an_unplug_that_was_not_even_begun_leaves_nothing_open() -> None:
    slow, other = pair()
    slow.refuse = Reason.UNSUPPORTED
    rig = Rig(slow, other)
    given_up(rig, slow)
    rig.cycles(3)
    assert entry(rig, slow) is None


def test_one_that_is_refused_after_one_that_timed_out_changes_nothing_about_that() -> None:
    slow, other = pair()
    rig = Rig(slow, other)
    while not rig.recorder.records or not any(
        event.reason is Reason.TIMEOUT for event in rig.recorder.last.events
    ):
        rig.cycles(1)
    slow.fail = Reason.FAILED
    given_up(rig, slow)
    found = entry(rig, slow)
    assert found is not None
    assert found.unplug_from == 4


def test_a_late_unplug_is_plugged_back_and_is_nobody_elses_doing() -> None:
    slow, other = pair()
    slow.late_ns = 200 * NS_PER_S
    rig = successor_of_given_up(slow, other)
    while len(slow.online) == 4:
        rig.cycles(1)
    rig.cycles(10)
    assert len(slow.online) == 4
    assert entry(rig, slow) is None, "it has come, and nothing is open any more"
    assert not any(record.foreign for record in rig.recorder.records)


def successor_of_given_up(*domains: FakeDomain) -> Rig:
    """The same vcpud that has given up, deciding nothing more."""
    rig = Rig(*domains)
    given_up(rig, domains[0])
    rig.inbox.pending.append(Pause(asked=ASKED, until_ns=None, restore=False))
    return rig


def test_a_reboot_ends_it() -> None:
    slow, other = pair()
    rig = successor_of_given_up(slow, other)
    rig.host.reboot(slow)
    rig.cycles(3)
    assert entry(rig, slow) is None


def test_the_end_of_the_domain_ends_it() -> None:
    slow, other = pair()
    rig = successor_of_given_up(slow, other)
    rig.host.destroy(slow)
    rig.cycles(3)
    assert entry(rig, slow) is None


@pytest.mark.parametrize("after_ms", range(0, 40_000, 1_700))
def test_a_stop_at_any_moment_is_clean_and_quick_and_loses_nothing(after_ms: int) -> None:
    slow, other = pair()
    slow.late_ns = 60 * NS_PER_S
    rig = Rig(slow, other)
    rig.clock.stop_at(rig.clock.now_ns() + after_ms * NS_PER_MS)
    assert rig.loop.run() == ()
    assert [len(domain.online) for domain in (slow, other)] == [4, 4]
    stops = [record for record in rig.recorder.records if record.stopping]
    assert stops[-1].ended_ns - stops[0].began_ns <= 10 * NS_PER_S
    asked = any(change.uuid == slow.uuid for change in rig.host.begun)
    assert (entry(rig, slow) is not None) is asked, "what may still come is written down"
    assert entry(rig, other) is None


def test_a_stop_does_not_pretend_to_give_back_what_is_there() -> None:
    slow, other = pair()
    rig = successor_of_given_up(slow, other)
    before = len(rig.recorder.records)
    assert rig.loop.restore(rig.clock.now_ns() + 10 * NS_PER_S) == ()
    done = [done for record in rig.recorder.records[before:] for done in record.completed]
    assert slow.uuid not in {one.uuid for one in done}
    assert entry(rig, slow) is not None


def stopped(late_ns: int | None) -> tuple[Rig, FakeDomain]:
    """vcpud has given an unplug up and stopped; it comes so long after the stop, or never."""
    slow, other = pair()
    rig = successor_of_given_up(slow, other)
    assert rig.loop.restore(rig.clock.now_ns() + 10 * NS_PER_S) == ()
    if late_ns is not None:
        rig.clock.after(late_ns, lambda: setattr(slow, "online", frozenset(range(3))))
    return rig, slow


def test_one_that_comes_between_a_stop_and_the_next_start_is_plugged_back_at_once() -> None:
    rig, slow = stopped(5 * NS_PER_S)
    rig.clock.wait_until(rig.clock.now_ns() + 60 * NS_PER_S)
    assert len(slow.online) == 3
    successor(rig).cycles(8)
    assert len(slow.online) == 4
    assert entry(rig, slow) is None


@pytest.mark.parametrize("adopt", [False, True])
def test_one_that_comes_soon_after_the_next_start_is_plugged_back_too(*, adopt: bool) -> None:
    rig, slow = stopped(8 * NS_PER_S)
    successor(rig).loop._adopts = adopt
    rig.cycles(16)
    assert len(slow.online) == 4
    assert Purpose.RESTORE in {c.purpose for r in rig.recorder.records[-20:] for c in r.changes}
    assert entry(rig, slow) is None


@pytest.mark.parametrize("late_s", [1, 4, 9, 20, 45, 90])
@pytest.mark.parametrize("killed_s", [2, 4, 6, 9, 13, 19, 30])
def test_a_crash_at_any_moment_and_an_unplug_at_any_time_later_lose_no_vcpu(
    killed_s: int, late_s: int
) -> None:
    slow, other = pair()
    slow.late_ns = late_s * NS_PER_S
    rig = Rig(slow, other)
    rig.cycles(killed_s)
    successor(rig)
    rig.cycles(110)
    assert len(slow.online) == 4


def test_one_that_never_comes_is_forgotten_once_the_guest_has_run_whole_for_a_while() -> None:
    rig, slow = stopped(None)
    successor(rig).cycles(590)
    assert entry(rig, slow) is not None
    rig.cycles(15)
    assert entry(rig, slow) is None


def test_a_guest_that_is_paused_carries_nothing_out_so_its_time_does_not_count() -> None:
    rig, slow = stopped(None)
    slow.troubles = frozenset({Trouble.PAUSED})
    successor(rig).cycles(610)
    assert entry(rig, slow) is not None
    slow.troubles = frozenset()
    rig.cycles(610)
    assert entry(rig, slow) is None


def test_vcpud_restore_waits_until_it_is_settled_or_its_time_is_up() -> None:
    rig, slow = stopped(None)
    successor(rig)
    began_ns = rig.clock.now_ns()
    assert rig.loop.restore(began_ns + 5 * NS_PER_S, settle=True) == ()
    assert entry(rig, slow) is not None, "not settled yet, and nothing is lacking"
    successor(rig)
    began_ns = rig.clock.now_ns()
    assert rig.loop.restore(began_ns + 60 * NS_PER_S, settle=True) == ()
    assert entry(rig, slow) is None
    assert rig.clock.now_ns() - began_ns <= owed.AWAITED_NS + NS_PER_S


def test_one_that_comes_after_another_vcpu_was_plugged_in_its_stead_is_missed_all_the_same() -> (
    None
):
    slow, other = pair(fail=None)
    rig = Rig(slow, other)
    while len(slow.online) > 3:
        rig.cycles(1)
    slow.fail = Reason.TIMEOUT  # the second of its steps
    given_up(rig, slow)
    rig.inbox.pending.append(Pause(asked=ASKED, until_ns=None, restore=True))
    rig.cycles(15)
    found = entry(rig, slow)
    assert found is not None
    assert (len(slow.online), found.unplug_from) == (4, 4)
    slow.online = frozenset({0, 1, 3})
    rig.cycles(10)
    assert len(slow.online) == 4
    assert entry(rig, slow) is None


def test_a_released_domain_is_whole_although_an_unplug_may_still_come() -> None:
    slow, other = pair()
    rig = successor_of_given_up(slow, other)
    rig.inbox.pending.append(Release(asked=ASKED, uuid=slow.uuid))
    rig.cycles(2)
    record = rig.recorder.last
    assert rig.phase(slow) is Phase.RELEASED
    assert slow.uuid not in {one.uuid for one in owed.lacking(record.outstanding, record.sample)}


def test_what_has_not_been_looked_at_is_not_whole() -> None:
    rig, slow = stopped(None)
    found = entry(rig, slow)
    assert found is not None
    sample = rig.host.sample()
    assert owed.lacking([found], sample) == ()
    assert owed.lacking([found], replace(sample, connected=False)) == (found,)
    assert owed.lacking([found], replace(sample, domains=())) == (found,)
    (domain,) = (one for one in sample.domains if one.uuid == found.uuid)
    changing = replace(domain, in_flight=SetLive(uuid=found.uuid, count=3))
    assert owed.lacking([found], replace(sample, domains=(changing,))) == (found,)


HAD = Original(boot_id="b", uuid="u", name="n", incarnation="1:2", online=None, live_vcpus=4)


def test_a_failure_without_a_reason_leaves_open_what_the_guest_will_do() -> None:
    unplugs = owed.Unplugs()
    asked = unplugs.ask(HAD, 4)
    assert unplugs.fail(asked, None).unplug_from == 4
    assert unplugs.fail(asked, Reason.UNSUPPORTED).unplug_from is None


@pytest.mark.parametrize("in_flight", [None, SetLive(uuid="u", count=3)])
def test_a_reboot_ends_no_unplug_that_is_being_asked_for_just_then(
    in_flight: SetLive | None,
) -> None:
    ledger = MemoryLedger()
    originals = Originals(ledger, Agenda())
    originals.remember(replace(HAD, unplug_from=4))
    domain = DomainSample(
        uuid="u",
        name="n",
        incarnation="1:2",
        taken_at_ns=1,
        terms=ENFORCE,
        live_vcpus=4,
        max_vcpus=4,
        in_flight=in_flight,
    )
    assert originals.rebooted(domain) is (in_flight is not None)
    assert [one.unplug_from for one in ledger.outstanding()] == ([4] if in_flight else [])


def test_a_full_disk_leaves_the_unplug_undone() -> None:
    slow, other = pair()
    rig = Rig(slow, other, ledger=MemoryLedger())
    rig.ledger.error = LedgerError("no space left on device")
    rig.cycles(30)
    assert rig.host.begun == []
