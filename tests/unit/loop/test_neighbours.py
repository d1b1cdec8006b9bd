"""Living with others: an operator's own changes, the kill switch, host limits."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from fakes.host import FakeDomain
from fakes.ports import MemoryLedger
from unit.loop.scripted import scripted
from unit.loop.test_control import ASKED, Rig, lock_pair
from vcpud.bars import Bars
from vcpud.errors import LedgerError
from vcpud.limits import Foreign, Limits
from vcpud.model import Method, Mode, Reason, ShareUnit, Terms
from vcpud.record import ForeignChange, Phase, Purpose
from vcpud.requests import Hold, KillSwitch, LoopSettings, Pause, Release, Reload, Resume
from vcpud.units import NS_PER_S
from vcpud_policies.spin_feedback import SpinFeedback

ALL = frozenset(range(4))


def shrunk_pair(foreign: Foreign = Foreign.ADOPT) -> tuple[Rig, FakeDomain, FakeDomain]:
    """Two domains that vcpud has brought from four vCPUs to one each."""
    first, second = lock_pair()
    rig = Rig(first, second)
    rig.settings = replace(rig.settings, foreign=foreign)
    rig.loop = rig.new_loop()
    rig.cycles(20)
    assert (first.online, second.online) == (frozenset({0}), frozenset({0}))
    return rig, first, second


def owed(rig: Rig, domain: FakeDomain) -> frozenset[int] | None:
    original = {one.uuid: one for one in rig.ledger.outstanding()}.get(domain.uuid)
    return None if original is None else original.online


def foreign(rig: Rig) -> list[ForeignChange]:
    return [change for record in rig.recorder.records for change in record.foreign]


# --------------------------------------------------------------- somebody else's own change


def test_who_brings_vcpus_back_sets_the_size_and_nothing_more_is_owed() -> None:
    rig, first, _ = shrunk_pair()
    first.online = frozenset({0, 1, 2})
    rig.cycles(2)
    (change,) = foreign(rig)
    assert (change.from_vcpus, change.to_vcpus, change.reversal) == (1, 3, True)
    assert change.brought == {1, 2}
    assert owed(rig, first) is None
    rig.loop.restore(rig.clock.now_ns() + 10 * NS_PER_S)
    assert first.online == {0, 1, 2}, "a stop gives back no more than the operator had set"


def test_who_adds_vcpus_that_were_never_there_does_not_take_the_parked_ones_away() -> None:
    rig, first, _ = shrunk_pair()
    first.vcpus = 6
    first.online = frozenset({0, 4, 5})
    for counter in (first.run_ns, first.delay_ns, first.user_ns, first.system_ns, first.idle_ns):
        counter.update({4: 0.0, 5: 0.0})
    first.queue_ns.update({4: 0.0, 5: 0.0})
    rig.cycles(2)
    assert owed(rig, first) == frozenset(range(6))
    rig.loop.restore(rig.clock.now_ns() + 10 * NS_PER_S)
    assert first.online == frozenset(range(6))


def test_who_unplugs_a_parked_vcpu_is_asked_for_no_more_than_is_left() -> None:
    rig, first, _ = shrunk_pair()
    first.vcpus = 3  # as `virsh setvcpus 3 --live` does: the parked CPU 3 is gone
    assert rig.loop.restore(rig.clock.now_ns() + 10 * NS_PER_S) == ()
    assert first.online == {0, 1, 2}


def test_who_takes_vcpus_away_takes_those_alone() -> None:
    first, second = lock_pair()
    for domain in (first, second):
        domain.vcpus, domain.online = 8, frozenset(range(8))
        domain.__post_init__()
    rig = Rig(first, second, pcpus=4)
    rig.cycles(40)
    assert first.online == {0, 1}
    first.online = frozenset({0})
    rig.cycles(2)
    (change,) = foreign(rig)
    assert change.taken == {1}
    assert owed(rig, first) == frozenset(range(8)) - {1}
    rig.loop.restore(rig.clock.now_ns() + 10 * NS_PER_S)
    assert first.online == frozenset(range(8)) - {1}, (
        "what vcpud parked comes back, his stays away"
    )


def test_what_is_changed_after_it_was_taken_over_under_a_hold_is_foreign_too() -> None:
    rig, first, _ = shrunk_pair()
    rig.loop = rig.new_loop()
    rig.loop._adopts = True
    rig.cycles(2)
    first.online = frozenset({0, 1, 2})
    rig.cycles(2)
    assert [change.brought for change in foreign(rig)] == [{1, 2}]
    rig.loop.restore(rig.clock.now_ns() + 10 * NS_PER_S)
    assert first.online == {0, 1, 2}


def test_a_step_that_was_refused_hides_nothing_that_others_do() -> None:
    domain = FakeDomain(name="a", vcpus=4, terms=Terms(mode=Mode.ENFORCE))
    rig, policy = scripted(domain)
    policy.to_vcpus = 2
    rig.cycles(3)
    rig.host.domains[domain.uuid].refuse = Reason.OUT_OF_BOUNDS
    rig.cycles(10)
    policy.to_vcpus = 1
    rig.cycles(2)
    assert domain.online == {0, 1}
    domain.online = frozenset({0})
    rig.cycles(2)
    assert [change.taken for change in foreign(rig)] == [{1}]


def test_after_a_while_vcpud_manages_on_from_what_it_was_left() -> None:
    rig, first, _ = shrunk_pair()
    first.online = frozenset({0, 1, 2})
    rig.cycles(330)
    assert first.online == {0}
    assert owed(rig, first) == frozenset({0, 1, 2})


def test_told_to_stand_down_it_leaves_the_domain_alone_until_resumed() -> None:
    rig, first, _ = shrunk_pair(Foreign.STAND_DOWN)
    first.online = ALL
    rig.cycles(330)
    assert first.online == ALL
    assert rig.phase(first) is Phase.QUARANTINED
    rig.inbox.pending.append(Resume(asked=ASKED, uuid=first.uuid))
    rig.cycles(20)
    assert first.online == {0}


@pytest.mark.parametrize("of_one", [True, False])
def test_who_resumes_a_domain_has_left_it_as_it_is_found(of_one: bool) -> None:
    rig, first, second = shrunk_pair()
    rig.inbox.pending.append(Pause(asked=ASKED, uuid=None, until_ns=None, restore=True))
    rig.cycles(10)
    assert (first.online, second.online) == (ALL, ALL)
    first.online = frozenset({0, 1})  # by hand, while vcpud is paused
    rig.cycles(10)
    assert rig.phase(first) is Phase.QUARANTINED
    first.online = ALL  # and back again: read only after the request below
    rig.inbox.pending.append(Resume(asked=ASKED, uuid=None))
    if of_one:
        rig.inbox.pending.append(Resume(asked=ASKED, uuid=first.uuid))
    rig.cycles(20)
    assert (first.online, second.online) == (frozenset({0}), frozenset({0}))
    assert not any(change.reversal for change in foreign(rig))


def test_what_is_changed_after_a_domain_was_read_again_is_foreign_as_ever() -> None:
    rig, first, _ = shrunk_pair()
    rig.inbox.pending.append(Resume(asked=ASKED, uuid=None))
    rig.cycles(8)
    first.online = ALL
    rig.cycles(8)
    assert rig.phase(first) is Phase.QUARANTINED
    assert foreign(rig)[-1].reversal


def test_two_reversals_are_a_fight_that_vcpud_does_not_take_up() -> None:
    rig, first, _ = shrunk_pair()
    for _ in range(2):
        first.online = ALL  # as a rule in the guest does that brings every CPU back
        rig.cycles(330)
    shrinks = sum(
        change.uuid == first.uuid and change.purpose is Purpose.DECIDE and change.to_vcpus < 4
        for record in rig.recorder.records
        for change in record.changes
    )
    assert first.online == ALL
    assert [change.reversal for change in foreign(rig)] == [True, True]
    assert rig.phase(first) is Phase.QUARANTINED
    detail = next(s.detail for s in rig.recorder.last.domains if s.uuid == first.uuid)
    assert "managed elsewhere" in detail
    rig.cycles(300)
    again = sum(
        change.uuid == first.uuid and change.purpose is Purpose.DECIDE and change.to_vcpus < 4
        for record in rig.recorder.records
        for change in record.changes
    )
    assert again == shrinks


def test_a_guest_reboot_is_not_somebody_elses_change() -> None:
    rig, first, _ = shrunk_pair()
    rig.host.reboot(first)
    rig.cycles(30)
    assert foreign(rig) == []
    assert first.online == {0}


def test_a_trial_that_somebody_else_disturbs_ends_without_a_verdict() -> None:
    first, second = lock_pair()
    rig = Rig(first, second)
    while not (len(first.online) == 1 and first.in_flight is None):
        rig.cycles(1)
    first.online = frozenset({0, 1})
    rig.cycles(60)
    judged = [v for record in rig.recorder.records for v in record.verdicts]
    assert not any(r.uuid == first.uuid for v in judged for r in v.move.resizes)


def test_a_change_carried_out_late_is_not_somebody_elses() -> None:
    first, second = lock_pair()
    rig = Rig(first, second)
    rig.host.domains[first.uuid].hung = True
    rig.cycles(60)
    first.online = frozenset({0})
    rig.host.recover(first)
    rig.cycles(5)
    assert foreign(rig) == []


def test_what_was_set_by_others_in_a_plugged_domain_stands_too() -> None:
    first, second = lock_pair(method=Method.HOTPLUG)
    rig = Rig(first, second)
    rig.cycles(60)
    assert len(first.online) == 1
    first.online = frozenset({0, 1, 2})
    rig.cycles(2)
    (change,) = foreign(rig)
    assert (change.from_vcpus, change.to_vcpus) == (1, 3)
    assert first.uuid not in {one.uuid for one in rig.ledger.outstanding()}


def test_a_release_is_not_cut_short_by_what_its_owner_does() -> None:
    rig, first, _ = shrunk_pair()
    rig.inbox.pending.append(Release(asked=ASKED, uuid=first.uuid))
    rig.cycles(3)
    first.online = frozenset({0, 1})
    rig.cycles(3)
    assert rig.phase(first) is Phase.RELEASED


# ------------------------------------------------------------------- kill switch and limits


def test_the_kill_switch_gives_everything_back_and_nothing_is_decided() -> None:
    rig, first, second = shrunk_pair()
    rig.inbox.pending.append(KillSwitch(asked=ASKED, thrown=True))
    rig.cycles(30)
    assert first.online == second.online == ALL
    assert rig.recorder.last.killed
    assert rig.phase(first) is Phase.PAUSED
    rig.inbox.pending.append(Resume(asked=ASKED))
    rig.cycles(30)
    assert first.online == ALL, "only taking the switch back ends it"
    rig.inbox.pending.append(KillSwitch(asked=ASKED, thrown=False))
    rig.cycles(30)
    assert first.online == second.online == {0}


def limited(limits: Limits) -> Rig:
    domains = [
        FakeDomain(name=f"d{n}", vcpus=4, lock_bound=True, terms=Terms(mode=Mode.ENFORCE))
        for n in range(6)
    ]
    rig = Rig(*domains, pcpus=6)
    rig.settings = LoopSettings(
        period_ns=NS_PER_S, policy=SpinFeedback(), policy_name="spin_feedback", limits=limits
    )
    rig.loop = rig.new_loop()
    return rig


def test_no_more_resizes_are_begun_in_a_minute_than_allowed() -> None:
    rig = limited(Limits(max_changes_per_minute=2))
    rig.cycles(300)
    begun = sorted(
        {
            (change.decision_id, record.began_ns)
            for record in rig.recorder.records
            for change in record.changes
            if change.purpose is Purpose.DECIDE
        },
        key=lambda one: one[1],
    )
    first_at = dict(reversed(begun))
    instants = sorted(first_at.values())
    assert len(instants) > 2
    for place, at_ns in enumerate(instants[2:]):
        assert at_ns - instants[place] >= 60 * NS_PER_S
    assert "pace" in {block.guard for r in rig.recorder.records for block in r.blocked}


def test_no_more_of_the_hosts_vcpus_are_parked_than_allowed() -> None:
    rig = limited(Limits(max_parked_ratio=0.25))
    most = 0
    for _ in range(300):
        rig.cycles(1)
        most = max(most, sum(4 - len(domain.online) for domain in rig.host.domains.values()))
    assert 0 < most <= 6
    assert "parked" in {block.guard for r in rig.recorder.records for block in r.blocked}


def test_a_ledger_that_fails_keeps_what_is_owed_when_somebody_else_acts() -> None:
    rig, first, _ = shrunk_pair()
    assert isinstance(rig.ledger, MemoryLedger)
    before = owed(rig, first)
    rig.ledger.error = LedgerError("disk full")
    first.online = frozenset({0, 1, 2})
    rig.cycles(1)
    assert rig.recorder.last.ledger_error == "disk full"
    rig.ledger.error = None
    assert owed(rig, first) == before
    rig.cycles(5)
    assert first.online == {0, 1, 2}


# ------------------------------------------------------------------ what others leave behind


def test_a_weight_raised_for_parked_vcpus_goes_when_somebody_brings_them_back() -> None:
    more = {"share_unit": ShareUnit.VCPU, "weight_adjustable": True, "weight": 256}
    first, _ = lock_pair(**more)
    rig, policy = scripted(first)
    policy.to_vcpus = 2
    rig.cycles(20)
    assert first.weight == 512
    first.online = frozenset({0, 1, 2})
    rig.cycles(4)
    assert first.online == {0, 1, 2}
    assert first.weight == 256
    assert rig.ledger.outstanding() == ()


@pytest.mark.parametrize("phase", [Phase.PAUSED, Phase.RELEASED])
def test_a_change_that_fails_does_not_end_what_an_operator_asked_for(phase: Phase) -> None:
    bars = Bars()
    if phase is Phase.PAUSED:
        bars.pause("u", None)
    else:
        bars.release("u", None)
    bars.quarantine("u", 0, "failed")
    assert bars.by_domain["u"].phase is phase


def test_each_quarantine_for_failures_is_longer_than_the_one_before() -> None:
    first, second = lock_pair()
    first.fail = Reason.FAILED
    rig = Rig(first, second)
    left_s: list[int] = []
    for _ in range(400):
        rig.cycles(1)
        bar = rig.loop._agenda.bars.by_domain.get(first.uuid)
        if bar is not None and rig.phase(first) is Phase.QUARANTINED:
            left_s.append((bar.until_ns - rig.clock.now_ns()) // NS_PER_S)
    begun = [now for before, now in pairwise([0, *left_s]) if now > before]
    assert begun == [60, 120, 240]


@pytest.mark.parametrize("kept", [True, False])
def test_a_stop_gives_back_whatever_else_was_asked_once_the_kill_switch_is_thrown(
    kept: bool,
) -> None:
    rig, first, second = shrunk_pair()
    rig.settings = replace(rig.settings, on_stop_keep=kept)
    hold = Hold(asked=ASKED, until_ns=rig.clock.now_ns() + 120 * NS_PER_S)
    switch = KillSwitch(asked=ASKED, thrown=True)
    rig.inbox.pending += [Reload(asked=ASKED, settings=rig.settings), switch]
    if not kept:
        rig.inbox.pending.append(hold)
    first.latency_ns = second.latency_ns = 3 * NS_PER_S
    rig.clock.stop_at(rig.clock.now_ns() + NS_PER_S)
    assert rig.loop.run() == ()
    assert first.online == second.online == ALL
