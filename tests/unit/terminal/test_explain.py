"""The first sentence of an explanation: whatever stands in the way first, and what would end it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fakes.host import FakeDomain
from unit.loop.test_control import ASKED, Raising, Rig, lock_pair
from vcpud.explain import document, text
from vcpud.history import REMEMBERED, History
from vcpud.limits import Limits
from vcpud.model import Method, Mode, ShareUnit, Terms, Trouble
from vcpud.plan import Outlook, Prospect
from vcpud.record import CycleRecord, Phase
from vcpud.requests import KillSwitch, LoopSettings, Pause
from vcpud.units import NS_PER_S


class Told:
    """A rig whose cycles are remembered."""

    def __init__(self, *domains: FakeDomain) -> None:
        self.rig = Rig(*domains)
        self.history = History()
        self.domain = domains[0]

    def cycles(self, count: int) -> None:
        for _ in range(count):
            self.rig.cycles(1)
            self.history.record(self.rig.recorder.last)

    def explained(self, record: CycleRecord | None = None) -> dict[str, Any]:
        uuid = self.domain.uuid
        last = record or self.rig.recorder.last
        told = document(last, {}, self.history.of(uuid), uuid, self.rig.clock.now_ns())
        assert told is not None
        assert text(told).splitlines()[1] == f"{told['answer']}."
        return told


def test_what_the_backend_says_of_a_domain_alone_is_part_of_it() -> None:
    told = Told(*lock_pair())
    told.cycles(1)
    last = told.rig.recorder.last
    notes = ("a: never shrunk: no way back", "ab: something else", "the host is slow")
    noted = replace(last, sample=replace(last.sample, notes=notes))
    explained = told.explained(noted)
    assert explained["notes"] == ["never shrunk: no way back"]
    assert "  note: never shrunk: no way back" in text(explained).splitlines()
    del explained["notes"]
    assert "note:" not in text(explained), "a daemon of before an upgrade has none"


def killed(told: Told) -> None:
    told.rig.inbox.pending.append(KillSwitch(asked=ASKED, thrown=True))


def paused(told: Told) -> None:
    told.rig.inbox.pending.append(Pause(asked=ASKED))


def alone(told: Told) -> None:
    told.rig.inbox.pending.append(Pause(asked=ASKED, uuid=told.domain.uuid))


def off(told: Told) -> None:
    told.domain.terms = Terms(mode=Mode.OFF, source="denied:a")


def observed(told: Told) -> None:
    told.domain.terms = Terms(mode=Mode.OBSERVE, guest_signals=True)


def stale(told: Told) -> None:
    told.domain.troubles = frozenset({Trouble.COUNTER_ABSURD})


def unshared(told: Told) -> None:
    told.domain.share_unit = ShareUnit.VCPU


def handless(told: Told) -> None:
    told.domain.method = Method.NONE


def lost(told: Told) -> None:
    told.rig.host.connected = False


def broken(told: Told) -> None:
    told.rig.settings = LoopSettings(
        period_ns=NS_PER_S, policy=Raising(), policy_name="raising", limits=Limits()
    )
    told.rig.loop = told.rig.new_loop()


@pytest.mark.parametrize(
    ("happens", "answer", "remedy"),
    [
        (killed, "the kill switch is thrown", "remove the file"),
        (paused, "the guard barred blocks that (vcpud is paused)", "vcpud resume a"),
        (alone, "paused: by an operator", "vcpud resume a"),
        (off, "its mode is off (denied:a)", "vcpud set a --mode enforce"),
        (observed, "mode is observe", "vcpud set a --mode enforce"),
        (stale, "vcpud cannot decide about it: counter_absurd", "vcpud doctor a"),
        (unshared, "the guard share blocks that", "a cgroup of its own"),
        (handless, "the guard actuator blocks that", "vcpud doctor a"),
        (lost, "the hypervisor does not answer", ""),
        (broken, "the policy failed: RuntimeError: boom", ""),
    ],
)
def test_what_stands_in_the_way_first_is_the_answer(
    happens: Callable[[Told], None], answer: str, remedy: str
) -> None:
    told = Told(*lock_pair())
    happens(told)
    told.cycles(8)
    explained = told.explained()
    assert answer in explained["answer"]
    assert remedy in " ".join(explained["would_change"])


def test_numbers_that_competed_are_shown_with_what_was_predicted() -> None:
    told = Told(*lock_pair())
    told.cycles(1)
    record = told.rig.recorder.last
    outlook = Outlook(
        uuid=told.domain.uuid,
        wanted_vcpus=4,
        inputs=(("lock_wait_ratio", None), ("entitled_pcpus", 1.0)),
        prospects=(
            Prospect(vcpus=1, gain_ratio=9.0, note="fits its entitlement"),
            Prospect(vcpus=4),
        ),
        why_not_fewer="its lock wait is not yet known",
        would_change="a lock signal",
    )
    record = replace(record, proposed=replace(record.proposed, outlooks=(outlook,)))
    lines = text(told.explained(record)).splitlines()
    assert "It stays at 4 active vCPUs: not fewer: its lock wait is not yet known." in lines
    assert any("1  10.00x" in line and "fits its entitlement" in line for line in lines)
    assert any(line.split()[:2] == ["lock_wait_ratio", "not"] for line in lines)
    assert any("a lock signal" in line for line in lines)


def test_what_a_policy_waits_for_is_part_of_the_answer() -> None:
    told = Told(*lock_pair())
    told.cycles(1)
    record = told.rig.recorder.last
    outlook = Outlook(
        uuid=told.domain.uuid,
        wanted_vcpus=1,
        why_not_more="it has all it came with",
        would_change="wait for entitlements to settle",
        waits_for="entitlements to settle",
    )
    record = replace(record, proposed=replace(record.proposed, outlooks=(outlook,)))
    explained = told.explained(record)
    assert (
        explained["answer"] == "It has 4, the policy wants 1 and waits for entitlements to settle"
    )
    assert explained["outlook"]["waits_for"] == "entitlements to settle"
    assert explained["would_change"] == ["wait for entitlements to settle"]


def test_who_backs_off_is_told_for_how_long() -> None:
    told = Told(*lock_pair())
    told.cycles(1)
    record = told.rig.recorder.last
    domains = tuple(
        replace(one, phase=Phase.BACKING_OFF, until_ns=record.ended_ns + 42 * NS_PER_S)
        for one in record.domains
    )
    answer = told.explained(replace(record, domains=domains))["answer"]
    assert "the last move did not help; vcpud tries nothing for another 4" in answer


def test_what_happened_is_bounded_and_a_guard_that_stands_is_told_once() -> None:
    told = Told(*lock_pair(share_unit=ShareUnit.VCPU))
    told.cycles(60)
    kinds = [one.kind for one in told.history.of(told.domain.uuid)]
    assert kinds.count("blocked") == 1
    for _ in range(REMEMBERED):
        told.rig.host.reboot(told.domain)
        told.cycles(2)
    assert len(told.history.of(told.domain.uuid)) == REMEMBERED
    told.rig.host.destroy(told.domain)
    told.cycles(1)
    assert told.history.of(told.domain.uuid) == ()


def test_a_domain_that_is_not_there_has_no_explanation() -> None:
    told = Told(*lock_pair())
    told.cycles(1)
    assert document(told.rig.recorder.last, {}, (), "nobody", 0) is None
