"""One QEMU or agent that does not answer, seen from the whole backend."""

from __future__ import annotations

import pytest

from unit.hypervisor.stand_in import Guest
from unit.hypervisor.watching import Make, carry_out, only, refused, until
from vcpud.events import EventKind
from vcpud.hypervisor.link import Control, ControlState
from vcpud.model import (
    Accepted,
    Reason,
    SetOnline,
    Trouble,
)
from vcpud.terms import TermsBook


def test_one_hung_qemu_costs_the_others_no_more_than_the_deadline(rig: Make) -> None:
    one = rig(Guest("a"), Guest("b"), writable=False, period_ms=200)
    until(one, lambda s: len(s.domains) == 2)
    one.library.stopped.add("b")
    stale = one.hypervisor.sample()
    assert stale.lost_threads == 0
    sample = until(one, lambda s: s.taken_at_ns > stale.taken_at_ns, step_s=0.5)
    first, second = sample.domains
    assert sample.lost_threads == 1
    assert Trouble.HUNG not in first.troubles
    assert Trouble.HUNG in second.troubles
    assert any("n-b" in note for note in sample.notes)


def test_a_verdict_that_comes_too_late_for_one_sample_holds_for_the_next(rig: Make) -> None:
    one = rig(Guest("a"), Guest("b"), writable=False, period_ms=1)
    until(one, lambda s: len(s.domains) == 2)
    one.library.stopped.add("b")
    until(one, lambda s: any(Trouble.HUNG in d.troubles for d in s.domains), step_s=0.5)


def test_counters_that_no_longer_come_hold_the_domain_though_libvirt_is_there(
    rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig(Guest("a"), Guest("b", state=3), writable=False)
    one.hypervisor.sample()
    monkeypatch.setattr(one.hypervisor._poller, "ask", lambda: None)  # every thread is lost
    one.clock.pass_s(29)
    assert not any(Trouble.STALE in d.troubles for d in one.hypervisor.sample().domains)
    one.clock.pass_s(2)
    one.hypervisor.adopt(TermsBook())  # all samples are made anew
    running, paused = one.hypervisor.sample().domains
    assert Trouble.STALE in running.troubles
    assert Trouble.STALE not in paused.troubles


def test_a_hung_domain_is_refused_at_once_and_recovers_by_itself(rig: Make) -> None:
    one = rig(Guest("a"), period_ms=200)
    until(one, lambda s: len(s.domains) == 1)
    one.library.stopped.add("a")
    until(one, lambda s: Trouble.HUNG in only(s).troubles, step_s=0.5)
    assert refused(one, SetOnline(uuid="a", online=frozenset({0}))) is Reason.HUNG
    one.library.stopped.clear()
    one.library.release.set()
    until(one, lambda s: Trouble.HUNG not in only(s).troubles and s.lost_threads == 0)


def test_a_qemu_that_has_not_answered_libvirt_for_long_is_left_alone_at_once(rig: Make) -> None:
    guest = Guest("a")
    one = rig(guest)
    until(one, lambda s: only(s).online is not None)
    guest.control = ControlState(Control.OCCUPIED, 60_000)
    event = carry_out(one, SetOnline(uuid="a", online=frozenset({0})))
    assert event.reason is Reason.HUNG
    assert guest.online == {0, 1, 2, 3}
    assert Trouble.HUNG in only(one.hypervisor.sample()).troubles
    guest.control = ControlState(Control.FREE, 0)
    until(one, lambda s: Trouble.HUNG not in only(s).troubles, step_s=1.0)


def test_a_change_whose_call_hangs_fails_at_its_deadline(rig: Make) -> None:
    one = rig(Guest("a"), terms=TermsBook())
    one.hypervisor.sample()
    one.library.job_of_lost_call.clear()
    one.library.stopped.add("a")
    one.woken.clear()
    assert one.hypervisor.begin(SetOnline(uuid="a", online=frozenset({0}))) == Accepted()
    for _ in range(1000):
        if "a" in one.library.job_of_lost_call:
            break
        one.woken.wait(0.01)
    one.clock.pass_s(30)
    one.hypervisor.supervise()
    (event,) = one.hypervisor.events()[-1:]
    assert event.kind is EventKind.CHANGE_FAILED
    assert event.reason is Reason.HUNG


def test_a_silent_agent_is_trouble_of_its_own_domain_only(rig: Make) -> None:
    one = rig(Guest("a", silent=True), Guest("b"))
    sample = until(
        one,
        lambda s: (
            Trouble.AGENT_SILENT in s.domains[0].troubles and s.domains[1].online is not None
        ),
    )
    assert Trouble.AGENT_SILENT not in sample.domains[1].troubles
