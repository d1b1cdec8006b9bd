"""The control loop on a fake host: from collapse to recovery, and back to what was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.host import FakeDomain, FakeHost
from fakes.ports import ListInbox, ListRecorder, MemoryLedger, SimulatedClock
from vcpud.control import ControlLoop
from vcpud.demand import HostDemand
from vcpud.errors import LedgerError
from vcpud.events import EventKind
from vcpud.limits import Limits
from vcpud.model import (
    Method,
    Mode,
    Original,
    Reason,
    SetOnline,
    SetWeight,
    ShareUnit,
    Terms,
)
from vcpud.plan import Move, Outcome, Plan, Resize, Verdict
from vcpud.record import Phase, Purpose
from vcpud.requests import Asked, Hold, LoopSettings, Pause, Release, Resume
from vcpud.units import NS_PER_MS, NS_PER_S
from vcpud_policies.spin_feedback import SpinFeedback
from vcpud_policies.static import Static

ENFORCE = Terms(mode=Mode.ENFORCE)
ASKED = Asked(uid=0, at_ns=0)


class Rig:
    """A fake host with a loop on it."""

    def __init__(
        self, *domains: FakeDomain, pcpus: int = 2, ledger: MemoryLedger | None = None
    ) -> None:
        self.clock = SimulatedClock()
        self.host = FakeHost(*domains, clock=self.clock, pcpus=pcpus)
        self.ledger = ledger or MemoryLedger()
        self.inbox = ListInbox()
        self.recorder = ListRecorder()
        self.settings = LoopSettings(
            period_ns=NS_PER_S,
            policy=SpinFeedback(),
            policy_name="spin_feedback",
            limits=Limits(),
        )
        self.loop = self.new_loop()

    def new_loop(self) -> ControlLoop:
        return ControlLoop(
            clock=self.clock,
            hypervisor=self.host,
            ledger=self.ledger,
            inbox=self.inbox,
            recorder=self.recorder,
            settings=self.settings,
        )

    def cycles(self, count: int) -> None:
        """So many cycles at the loop's period, without a stop at the end."""
        for _ in range(count):
            deadline_ns = self.clock.now_ns() + NS_PER_S
            while self.clock.now_ns() < deadline_ns:
                self.clock.wait_until(deadline_ns)
            self.loop.cycle()

    def phase(self, domain: FakeDomain) -> Phase:
        return next(s.phase for s in self.recorder.last.domains if s.uuid == domain.uuid)


def lock_pair(**more: object) -> tuple[FakeDomain, FakeDomain]:
    first = FakeDomain(name="a", vcpus=4, lock_bound=True, terms=ENFORCE)
    second = FakeDomain(name="b", vcpus=4, lock_bound=True, terms=ENFORCE)
    for key, value in more.items():
        setattr(first, key, value)
        setattr(second, key, value)
    return first, second


def test_a_collapsed_pair_is_shrunk_to_its_entitlement_and_the_move_is_kept() -> None:
    pair = lock_pair()
    rig = Rig(*pair)
    rig.cycles(30)
    assert [len(domain.online) for domain in pair] == [1, 1]
    outcomes = [v.outcome for record in rig.recorder.records for v in record.verdicts]
    assert outcomes == [Outcome.HELPED, Outcome.HELPED]


def test_independent_work_is_never_touched() -> None:
    pair = (
        FakeDomain(name="a", vcpus=4, terms=ENFORCE),
        FakeDomain(name="b", vcpus=4, terms=ENFORCE),
    )
    rig = Rig(*pair)
    rig.cycles(60)
    assert rig.host.begun == []


def test_a_lock_bound_domain_on_an_uncontended_host_is_never_touched() -> None:
    domain = FakeDomain(name="a", vcpus=2, lock_bound=True, terms=ENFORCE)
    rig = Rig(domain, pcpus=4)
    rig.cycles(30)
    assert rig.host.begun == []


def test_observed_domains_are_never_touched_and_the_guard_says_why() -> None:
    pair = lock_pair(terms=Terms(mode=Mode.OBSERVE, guest_signals=True))
    rig = Rig(*pair)
    rig.cycles(30)
    assert rig.host.begun == []
    assert "mode" in {b.guard for record in rig.recorder.records for b in record.blocked}


def test_a_stop_gives_everything_back_within_the_time_allowed() -> None:
    pair = lock_pair()
    rig = Rig(*pair)
    rig.clock.stop_at(rig.clock.now_ns() + 20 * NS_PER_S)
    left = rig.loop.run()
    assert left == ()
    assert [len(domain.online) for domain in pair] == [4, 4]
    assert rig.ledger.outstanding() == ()
    restores = [c for r in rig.recorder.records for c in r.changes if c.purpose is Purpose.RESTORE]
    assert len(restores) == 2, "one call with the full list for each domain"


@pytest.mark.parametrize("after_ms", range(0, 6000, 150))
def test_a_stop_at_any_moment_gives_everything_back(after_ms: int) -> None:
    pair = lock_pair(latency_ns=700 * NS_PER_MS)
    rig = Rig(*pair)
    rig.host.late_reading = True
    rig.clock.stop_at(rig.clock.now_ns() + after_ms * NS_PER_MS)
    left = rig.loop.run()
    rig.clock.wait_until(rig.clock.now_ns() + 5 * NS_PER_S)
    assert left == ()
    assert [len(domain.online) for domain in pair] == [4, 4]


def test_a_stop_under_hold_keeps_the_counts_and_the_next_loop_takes_them_over() -> None:
    pair = lock_pair()
    rig = Rig(*pair)
    rig.cycles(20)
    rig.inbox.pending.append(Hold(asked=ASKED, until_ns=rig.clock.now_ns() + 120 * NS_PER_S))
    rig.clock.stop_at(rig.clock.now_ns() + 3 * NS_PER_S)
    assert rig.loop.run() == ()
    assert [len(domain.online) for domain in pair] == [1, 1]
    assert len(rig.ledger.outstanding()) == 2
    successor = rig.new_loop()
    rig.clock.stop_at(rig.clock.now_ns() + 10 * NS_PER_S)
    assert successor.run(adopt=True) == ()
    assert [len(domain.online) for domain in pair] == [4, 4]


def test_after_a_crash_the_next_start_gives_back_what_the_last_one_took() -> None:
    pair = lock_pair()
    rig = Rig(*pair)
    rig.cycles(20)
    rig.settings = LoopSettings(
        period_ns=NS_PER_S, policy=Static(), policy_name="static", limits=Limits()
    )
    rig.loop = rig.new_loop()
    rig.cycles(5)
    assert [len(domain.online) for domain in pair] == [4, 4]
    assert rig.ledger.outstanding() == ()


def test_an_original_of_another_boot_or_incarnation_is_named_and_never_applied() -> None:
    domain = FakeDomain(name="a", vcpus=4, terms=ENFORCE, online=frozenset({0, 1}))
    old = {
        "uuid": domain.uuid,
        "name": "a",
        "online": frozenset({0, 1, 2, 3}),
        "live_vcpus": 4,
    }
    for boot_id, incarnation in (("another", "1@0"), ("same", "another")):
        from fakes.host import BOOT_ID  # noqa: PLC0415

        original = Original(
            boot_id=BOOT_ID if boot_id == "same" else boot_id,
            incarnation=incarnation,
            **old,  # type: ignore[arg-type]
        )
        rig = Rig(domain, ledger=MemoryLedger(original))
        rig.cycles(3)
        assert rig.host.begun == []
        assert rig.recorder.records[0].lost_originals == (original,)
        assert rig.ledger.outstanding() == ()


def test_a_failed_ledger_write_means_no_change() -> None:
    pair = lock_pair()
    ledger = MemoryLedger()
    ledger.error = LedgerError("no space left on device")
    rig = Rig(*pair, ledger=ledger)
    rig.cycles(30)
    assert rig.host.begun == []
    assert any(record.ledger_error for record in rig.recorder.records)


def test_a_pause_with_restore_gives_back_and_resume_decides_again() -> None:
    pair = lock_pair()
    rig = Rig(*pair)
    rig.cycles(20)
    rig.inbox.pending.append(Pause(asked=ASKED, restore=True))
    rig.cycles(5)
    assert [len(domain.online) for domain in pair] == [4, 4]
    rig.cycles(20)
    assert [len(domain.online) for domain in pair] == [4, 4]
    rig.inbox.pending.append(Resume(asked=ASKED))
    rig.cycles(20)
    assert [len(domain.online) for domain in pair] == [1, 1]


def test_a_released_domain_gets_everything_back_and_is_left_alone() -> None:
    first, second = lock_pair()
    rig = Rig(first, second)
    rig.cycles(20)
    rig.inbox.pending.append(Release(asked=ASKED, uuid=first.uuid))
    rig.cycles(40)
    assert len(first.online) == 4
    assert rig.phase(first) is Phase.RELEASED
    assert len(second.online) == 1


def test_a_domain_destroyed_between_decision_and_change_leaves_nothing_behind() -> None:
    first, second = lock_pair()
    rig = Rig(first, second)
    for _ in range(20):
        rig.cycles(1)
        if rig.recorder.last.changes:
            rig.host.destroy(first)
            break
    rig.cycles(20)
    assert first.uuid not in {original.uuid for original in rig.ledger.outstanding()}
    assert not rig.recorder.last.ledger_error


def test_a_guest_that_reboots_owes_nothing_and_is_looked_at_afresh() -> None:
    first, second = lock_pair()
    rig = Rig(first, second)
    rig.cycles(20)
    rig.host.reboot(first)
    rig.cycles(1)
    assert first.uuid not in {original.uuid for original in rig.ledger.outstanding()}
    rig.cycles(20)
    assert len(first.online) == 1, "it still spins, so it is shrunk again"


def test_a_domain_that_never_follows_is_quarantined_and_the_other_is_managed() -> None:
    first, second = lock_pair()
    first.fail = Reason.FAILED
    rig = Rig(first, second)
    rig.cycles(40)
    assert rig.phase(first) is Phase.QUARANTINED
    assert len(second.online) == 1
    first.fail = None
    assert len(first.online) == 4


def test_a_hung_domain_is_quarantined_at_once_and_recovers_by_itself() -> None:
    first, second = lock_pair()
    rig = Rig(first, second)
    rig.cycles(20)
    first.hung = True
    rig.cycles(3)
    assert rig.phase(first) is Phase.QUARANTINED
    first.hung = False
    rig.cycles(3)
    assert rig.phase(first) is not Phase.QUARANTINED


def test_somebody_elses_change_wins() -> None:
    first, second = lock_pair()
    rig = Rig(first, second)
    rig.cycles(20)
    first.online = frozenset({0, 1, 2})
    rig.host.begun.clear()
    rig.cycles(30)
    assert first.online == frozenset({0, 1, 2})
    assert rig.phase(first) is Phase.QUARANTINED


def test_a_job_blocks_changes() -> None:
    first, second = lock_pair(job="migration")
    rig = Rig(first, second)
    rig.cycles(30)
    assert rig.host.begun == []


def test_a_domain_whose_share_counts_per_vcpu_is_not_shrunk() -> None:
    pair = lock_pair(share_unit=ShareUnit.VCPU)
    rig = Rig(*pair)
    rig.cycles(30)
    assert rig.host.begun == []
    assert "share" in {b.guard for record in rig.recorder.records for b in record.blocked}


def test_a_domain_whose_share_counts_per_vcpu_keeps_it_by_a_raised_weight() -> None:
    pair = lock_pair(share_unit=ShareUnit.VCPU, weight_adjustable=True, weight=256)
    rig = Rig(*pair)
    rig.cycles(30)
    assert [len(domain.online) for domain in pair] == [1, 1]
    assert [domain.weight for domain in pair] == [1024, 1024]
    assert {original.weight for original in rig.ledger.outstanding()} == {256}
    outcomes = [v.outcome for record in rig.recorder.records for v in record.verdicts]
    assert outcomes == [Outcome.HELPED, Outcome.HELPED], "count and weight are one move"
    assert rig.loop.restore(rig.clock.now_ns() + 10 * NS_PER_S) == ()
    assert [len(domain.online) for domain in pair] == [4, 4]
    assert [domain.weight for domain in pair] == [256, 256]
    for domain in pair:
        steps = [type(one) for one in rig.host.begun if one.uuid == domain.uuid]
        assert steps == [SetOnline, SetWeight, SetWeight, SetOnline], "it never weighs more"


def test_a_weight_that_was_left_raised_is_given_back_although_the_count_is() -> None:
    first, second = lock_pair(share_unit=ShareUnit.VCPU, weight_adjustable=True, weight=1024)
    ledger = MemoryLedger()
    rig = Rig(first, second, ledger=ledger)
    sample = next(one for one in rig.host.sample().domains if one.uuid == first.uuid)
    ledger.remember(
        Original(
            boot_id=rig.host.sample().boot_id,
            uuid=first.uuid,
            name=first.name,
            incarnation=sample.incarnation,
            online=sample.online,
            live_vcpus=4,
            weight=256,
        )
    )
    rig.cycles(6)
    assert first.weight == 256
    assert first.uuid not in {original.uuid for original in ledger.outstanding()}


def test_a_weight_beyond_what_schedulers_take_stands_in_the_way() -> None:
    pair = lock_pair(share_unit=ShareUnit.VCPU, weight_adjustable=True, weight=60_000)
    rig = Rig(*pair)
    rig.cycles(30)
    assert rig.host.begun == []
    details = {b.detail for record in rig.recorder.records for b in record.blocked}
    assert any("a weight of 240000" in detail for detail in details)


def test_a_domain_nobody_can_change_is_observed() -> None:
    pair = lock_pair(method=Method.NONE)
    rig = Rig(*pair)
    rig.cycles(30)
    assert rig.host.begun == []


def test_while_the_host_cannot_be_asked_nothing_is_changed_or_forgotten() -> None:
    pair = lock_pair()
    rig = Rig(*pair)
    rig.cycles(20)
    kept = rig.ledger.outstanding()
    rig.host.connected = False
    rig.host.tell(EventKind.DISCONNECTED)
    rig.host.begun.clear()
    rig.cycles(10)
    assert rig.host.begun == []
    assert rig.ledger.outstanding() == kept


class Raising(Static):
    def decide(
        self,
        state: None,  # noqa: ARG002
        demand: HostDemand,  # noqa: ARG002
        verdicts: tuple[Verdict, ...],  # noqa: ARG002
        now_ns: int,  # noqa: ARG002
    ) -> tuple[None, Plan]:
        raise RuntimeError("boom")


def test_a_policy_that_raises_changes_nothing_and_is_named() -> None:
    rig = Rig(*lock_pair())
    rig.settings = LoopSettings(
        period_ns=NS_PER_S, policy=Raising(), policy_name="raising", limits=Limits()
    )
    rig.loop = rig.new_loop()
    rig.cycles(3)
    error = rig.recorder.last.policy_error
    assert error is not None
    assert error.startswith("RuntimeError: boom (test_control.py:")
    assert rig.host.begun == []


class Untyped(Static):
    """Plans in a way that its type does not allow, once it has been told a verdict or not."""

    def decide(
        self,
        state: None,  # noqa: ARG002
        demand: HostDemand,
        verdicts: tuple[Verdict, ...],  # noqa: ARG002
        now_ns: int,
    ) -> tuple[None, Plan]:
        if now_ns // NS_PER_S % 2:
            return None, "shrink"  # type: ignore[return-value]
        resizes = tuple(
            Resize(uuid=one.uuid, from_vcpus=4, to_vcpus=1.5)  # type: ignore[arg-type]
            for one in demand.domains
        )
        return None, Plan(moves=(Move(resizes=resizes, reason=""),))


def test_a_policy_that_plans_nonsense_changes_nothing_and_is_named() -> None:
    rig = Rig(*lock_pair())
    rig.settings = LoopSettings(
        period_ns=NS_PER_S, policy=Untyped(), policy_name="untyped", limits=Limits()
    )
    rig.loop = rig.new_loop()
    rig.cycles(20)
    assert all(record.policy_error for record in rig.recorder.records)
    assert rig.host.begun == []


def test_a_policy_that_raises_is_told_each_verdict_once() -> None:
    rig = Rig(*lock_pair())
    rig.cycles(20)
    rig.loop._verdicts = tuple(v for record in rig.recorder.records for v in record.verdicts)
    assert rig.loop._verdicts
    rig.loop._settings = replace(rig.settings, policy=Raising())
    rig.cycles(1)
    assert rig.recorder.last.policy_error
    assert rig.loop._verdicts == ()
