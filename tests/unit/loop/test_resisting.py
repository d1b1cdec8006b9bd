"""A guest that does not take back what it had: no more is taken, and it stays owed and asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.host import FakeDomain
from unit.loop.scripted import Wants
from unit.loop.test_control import ASKED, ENFORCE, Rig
from vcpud.explain import document, text
from vcpud.metrics import Metrics
from vcpud.model import Method, Reason, SetLive, SetOnline, SetWeight, ShareUnit
from vcpud.record import DomainStatus, Phase, Purpose, Why
from vcpud.requests import Pause, Release, Request, Restore, Resume
from vcpud.units import NS_PER_S

WAY = pytest.mark.parametrize("method", [Method.AGENT, Method.XENSTORE])


class Stubborn:
    """A domain of four that has lost one, and takes nothing back."""

    def __init__(self, method: Method = Method.XENSTORE) -> None:
        self.domain = FakeDomain(name="a", vcpus=4, terms=ENFORCE, method=method)
        self.policy = Wants({self.domain.uuid: 3})
        self.rig = Rig(self.domain)
        self.rig.settings = replace(self.rig.settings, policy=self.policy, policy_name="wants")
        self.rig.loop = self.rig.new_loop()
        self.rig.cycles(5)
        assert self.active == 3
        self.domain.fail, self.domain.fail_gifts_only = Reason.FAILED, True

    @property
    def active(self) -> int:
        return len(self.domain.online)

    @property
    def status(self) -> DomainStatus:
        return self.rig.recorder.last.domains[0]

    @property
    def owed(self) -> bool:
        return bool(self.rig.ledger.outstanding())

    def want(self, vcpus: int, cycles: int) -> None:
        self.policy.wanted = {self.domain.uuid: vcpus}
        self.rig.cycles(cycles)

    def ask(self, *requests: Request, cycles: int) -> None:
        self.rig.inbox.pending += requests
        self.rig.cycles(cycles)

    def quarantined(self) -> bool:
        return (self.status.phase, self.status.why) == (Phase.QUARANTINED, Why.FAILED)


@WAY
def test_who_does_not_grow_as_decided_is_not_shrunk_any_further_and_stays_owed(
    method: Method,
) -> None:
    one = Stubborn(method)
    one.want(4, cycles=20)
    one.want(1, cycles=200)
    assert one.quarantined()
    assert one.status.detail.startswith("failed")
    assert one.status.until_ns is None, "it ends when the domain has back what it had"
    assert (one.active, one.owed, one.status.original_vcpus) == (3, True, 4)
    blocked = {b.guard for r in one.rig.recorder.records[-100:] for b in r.blocked}
    assert blocked <= {"barred"}


@pytest.mark.parametrize(
    "request_",
    [
        Restore(asked=ASKED, uuid=None),
        Pause(asked=ASKED, uuid=None, until_ns=None, restore=True),
    ],
)
def test_who_is_not_whole_after_a_restore_is_quarantined_and_asked_on_and_on(
    request_: Request,
) -> None:
    one = Stubborn()
    one.ask(request_, cycles=30)
    assert one.quarantined()
    one.rig.host.begun.clear()
    one.rig.cycles(120)
    assert len(one.rig.host.begun) >= 3
    assert all(isinstance(change, SetLive | SetOnline) for change in one.rig.host.begun)
    assert one.quarantined()


def test_the_quarantine_begins_to_end_when_the_domain_is_whole_and_is_longer_the_next_time() -> (
    None
):
    one = Stubborn()
    spells = []
    for _ in range(2):
        one.domain.fail = Reason.FAILED
        one.want(4, cycles=150)
        assert one.quarantined()
        one.want(3, cycles=0)
        one.domain.fail = None
        while one.owed:
            one.rig.cycles(1)
        assert one.active == 4
        whole_at_ns = one.rig.clock.now_ns()
        while one.quarantined():
            one.rig.cycles(1)
        spells.append((one.rig.clock.now_ns() - whole_at_ns) // NS_PER_S)
        one.rig.cycles(60)
        assert one.active == 3, "managed again"
    first, second = spells
    assert 58 <= first <= 62
    assert 118 <= second <= 122, "that it could be shrunk proved nothing"


def test_a_grow_that_is_carried_out_ends_the_doubling() -> None:
    one = Stubborn()
    one.want(4, cycles=60)
    one.domain.fail = None
    one.rig.cycles(120)
    one.want(3, cycles=40)
    one.want(4, cycles=40)
    assert one.active == 4
    assert not one.rig.loop._agenda.bars.quarantines


def test_a_restart_asks_again_and_quarantines_again() -> None:
    one = Stubborn()
    one.want(4, cycles=60)
    one.policy.wanted = {one.domain.uuid: 1}
    one.rig.loop = one.rig.new_loop()
    one.rig.cycles(60)
    assert one.quarantined()
    assert (one.active, one.owed) == (3, True)


def test_a_stop_names_it_and_keeps_it_in_the_ledger() -> None:
    one = Stubborn()
    one.want(4, cycles=60)
    left = one.rig.loop.restore(one.rig.clock.now_ns() + 10 * NS_PER_S)
    assert [original.name for original in left] == ["a"]
    assert one.owed


@pytest.mark.parametrize(
    "request_",
    [
        Pause(asked=ASKED, uuid="", until_ns=None, restore=True),
        Release(asked=ASKED, uuid="", until_ns=None),
    ],
)
def test_an_operators_own_word_stands_and_the_quarantine_comes_after_it(
    request_: Pause | Release,
) -> None:
    one = Stubborn()
    one.ask(replace(request_, uuid=one.domain.uuid), cycles=60)
    assert one.status.phase is Phase.RESTORING
    one.ask(Resume(asked=ASKED, uuid=one.domain.uuid), cycles=30)
    assert one.quarantined()
    assert not any(
        change.purpose is Purpose.DECIDE
        for record in one.rig.recorder.records[-80:]
        for change in record.changes
    )


def test_who_is_resumed_is_asked_at_once() -> None:
    one = Stubborn()
    one.ask(Restore(asked=ASKED, uuid=None), cycles=120)
    one.domain.fail = None
    one.want(4, cycles=0)
    one.ask(Resume(asked=ASKED, uuid=one.domain.uuid), cycles=3)
    assert (one.active, one.owed) == (4, False)
    assert one.status.phase is Phase.IDLE


@pytest.mark.parametrize(
    "request_",
    [
        Restore(asked=ASKED, uuid=""),
        Pause(asked=ASKED, uuid="", until_ns=None, restore=True),
        Release(asked=ASKED, uuid="", until_ns=None),
    ],
)
def test_who_is_being_given_back_is_asked_at_once_when_somebody_waits_for_it(
    request_: Restore | Pause | Release,
) -> None:
    one = Stubborn()
    one.ask(Restore(asked=ASKED, uuid=None), cycles=120)
    one.domain.fail = None
    one.ask(replace(request_, uuid=one.domain.uuid), cycles=3)
    assert (one.active, one.owed) == (4, False)


def test_a_stop_asks_at_once_too() -> None:
    one = Stubborn()
    one.want(4, cycles=120)
    one.domain.fail = None
    assert one.rig.loop.restore(one.rig.clock.now_ns() + 3 * NS_PER_S) == ()
    assert (one.active, one.owed) == (4, False)


def test_what_an_operator_reads_of_it_names_the_reason_and_what_is_owed() -> None:
    one = Stubborn()
    one.ask(Restore(asked=ASKED, uuid=None), cycles=30)
    record = one.rig.recorder.last
    said = document(record, {}, (), one.domain.uuid, one.rig.clock.now_ns())
    assert said is not None
    answer = text(said)
    assert "quarantined, failed" in answer
    assert "asks it again to take back the 4 it had" in answer
    assert "`vcpud resume a` makes vcpud ask it at once" in answer
    metrics = Metrics("")
    metrics.record(record)
    assert 'vcpud_domain_quarantined{domain="a",reason="failed"} 1' in metrics.render().decode()


@pytest.mark.parametrize(
    "reason", [Reason.AGENT_SILENT, Reason.HUNG, Reason.IN_FLIGHT, Reason.JOB]
)
def test_what_merely_has_to_wait_is_no_failure_of_the_domains(reason: Reason) -> None:
    one = Stubborn()
    one.domain.fail = None
    one.domain.refuse = reason
    one.want(2, cycles=20)
    assert not one.rig.loop._agenda.bars.quarantines
    one.ask(Restore(asked=ASKED, uuid=None), cycles=60)
    assert one.status.phase is Phase.RESTORING
    one.want(4, cycles=0)
    one.domain.refuse = None
    one.rig.cycles(6)
    assert (one.active, one.status.phase) == (4, Phase.IDLE), "asked soon after it can be"


def test_a_job_that_comes_between_is_no_failure_of_the_domains_either() -> None:
    one = Stubborn()
    one.domain.fail, one.domain.fail_gifts_only = Reason.JOB, False
    one.want(2, cycles=20)
    assert not one.rig.loop._agenda.bars.quarantines


def test_who_refuses_for_good_is_quarantined_as_one_that_fails() -> None:
    one = Stubborn()
    one.domain.fail = None
    one.domain.refuse = Reason.UNSUPPORTED
    one.want(2, cycles=20)
    one.domain.refuse = None
    one.rig.cycles(2)
    assert one.quarantined()


def test_who_does_not_take_back_its_vcpus_keeps_its_share() -> None:
    """Its weight goes back first, lest what comes online takes from others; nothing came, so it returns."""
    more = {"share_unit": ShareUnit.VCPU, "weight_adjustable": True, "weight": 256}
    domain = FakeDomain(name="a", vcpus=4, terms=ENFORCE, method=Method.XENSTORE, **more)  # type: ignore[arg-type]
    rig = Rig(domain)
    rig.settings = replace(rig.settings, policy=Wants({domain.uuid: 2}), policy_name="wants")
    rig.loop = rig.new_loop()
    rig.cycles(5)
    assert (len(domain.online), domain.weight) == (2, 512)
    domain.fail, domain.fail_gifts_only = Reason.FAILED, True
    rig.host.begun.clear()
    rig.inbox.pending.append(Pause(asked=ASKED, uuid=None, until_ns=None, restore=True))
    rig.cycles(60)
    weights = [one.weight for one in rig.host.begun if isinstance(one, SetWeight)]
    assert weights == [256, 512], "lowered once, raised once, and not for every attempt"
    assert sum(isinstance(one, SetLive) for one in rig.host.begun) >= 4
    domain.fail = None
    rig.cycles(60)
    assert (len(domain.online), domain.weight) == (4, 256)
    assert rig.ledger.outstanding() == ()
