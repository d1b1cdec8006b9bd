"""What is owed, and when: floors raised since, readings from before, notes that came later."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.ports import MemoryLedger
from unit.loop.test_control import ENFORCE
from vcpud.agenda import Agenda
from vcpud.inheritance import Inheritance
from vcpud.model import DomainSample, HostSample, Original
from vcpud.originals import Originals

ALL = frozenset(range(4))
HAD = Original(boot_id="b", uuid="u", name="n", incarnation="1:2", online=ALL, live_vcpus=4)


def domain(online: frozenset[int] = ALL, *, read_at_ns: int = 200, **more: object) -> DomainSample:
    made = DomainSample(
        uuid="u",
        name="n",
        incarnation="1:2",
        taken_at_ns=200,
        terms=ENFORCE,
        live_vcpus=4,
        max_vcpus=4,
        online=online,
        online_taken_at_ns=read_at_ns,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def host(*domains: DomainSample, undescribed: frozenset[str] = frozenset()) -> HostSample:
    return HostSample(
        taken_at_ns=200, boot_id="b", pools=(), domains=domains, undescribed=undescribed
    )


def owing() -> tuple[Originals, Agenda, MemoryLedger]:
    ledger, agenda = MemoryLedger(), Agenda()
    originals = Originals(ledger, agenda)
    originals.remember(HAD)
    return originals, agenda, ledger


@pytest.mark.parametrize(("floor", "owed"), [(1, False), (2, False), (3, True), (64, True)])
def test_who_is_below_a_floor_that_was_raised_since_gets_back_what_it_had(
    floor: int, *, owed: bool
) -> None:
    originals, _, _ = owing()
    parked = domain(frozenset({0, 1}), terms=replace(ENFORCE, min_vcpus=floor))
    found = originals.to_give_back(host(parked), everything=False, met=frozenset())
    assert found == ([parked] if owed else [])


@pytest.mark.parametrize(("read_at_ns", "left"), [(90, 1), (100, 1), (101, 0)])
def test_what_was_read_before_the_last_change_began_does_not_settle_what_is_owed(
    read_at_ns: int, left: int
) -> None:
    originals, agenda, ledger = owing()
    agenda.touched_at_ns["u"] = 100
    originals.forget_restored(host(domain(read_at_ns=read_at_ns)), 0)
    assert len(ledger.outstanding()) == left


def test_a_note_that_was_not_there_at_the_first_look_is_this_vcpuds_own() -> None:
    ledger = MemoryLedger()
    ledger.lost = True
    inheritance = Inheritance(Originals(ledger, Agenda()))
    parked = domain(frozenset({0}))
    inheritance.unmet(host(parked, undescribed=frozenset({"late"})))
    assert inheritance.unread, "who is not described yet may still have a note"
    late = domain(frozenset({0}), uuid="late", own_note=replace(HAD, uuid="late"))
    inheritance.unmet(host(replace(parked, own_note=HAD), late))
    assert [one.uuid for one in ledger.outstanding()] == ["late"]
    assert not inheritance.unread
