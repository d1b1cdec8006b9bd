"""Where the ledger is lost, a domain's own note says what it is owed, as far as that can be true."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.host import BOOT_ID, FakeDomain
from fakes.ports import MemoryLedger
from unit.loop.test_control import ENFORCE, Rig
from unit.loop.test_restoring import Shy
from vcpud.errors import LedgerError
from vcpud.model import Method, Mode, Original, SetLive, Terms
from vcpud.units import NS_PER_S

ALL = frozenset(range(4))


def noted(domain: FakeDomain, **more: object) -> FakeDomain:
    """A domain with the note that a vcpud of this host left with it."""
    note = Original(
        boot_id=BOOT_ID,
        uuid=domain.uuid,
        name=domain.name,
        incarnation=domain.incarnation,
        online=ALL,
        live_vcpus=4,
    )
    domain.own_note = replace(note, **more)  # type: ignore[arg-type]
    return domain


def shrunk(**more: object) -> FakeDomain:
    words = {"name": "a", "vcpus": 4, "terms": ENFORCE, "online": frozenset({0})}
    return FakeDomain(**(words | more))  # type: ignore[arg-type]


def without_ledger(*domains: FakeDomain) -> Rig:
    ledger = MemoryLedger()
    ledger.lost = True
    return Rig(*domains, ledger=ledger)


@pytest.mark.parametrize("mode", [Mode.ENFORCE, Mode.OBSERVE])
def test_a_start_without_the_ledger_gives_back_what_the_note_says(mode: Mode) -> None:
    domain = noted(shrunk(terms=Terms(mode=mode)))
    rig = without_ledger(domain)
    rig.cycles(4)
    assert domain.online == ALL
    assert rig.ledger.outstanding() == ()
    (recovered,) = [one for record in rig.recorder.records for one in record.recovered]
    assert (recovered.uuid, recovered.online) == (domain.uuid, ALL)


def test_so_does_a_restore_without_a_daemon() -> None:
    domain = noted(shrunk())
    rig = without_ledger(domain)
    rig.host.connected = False
    rig.clock.after(2 * NS_PER_S, lambda: setattr(rig.host, "connected", True))
    assert rig.loop.restore(rig.clock.now_ns() + 30 * NS_PER_S, settle=True) == ()
    assert domain.online == ALL


def test_devices_come_back_too() -> None:
    domain = noted(shrunk(method=Method.HOTPLUG), online=None)
    rig = without_ledger(domain)
    assert rig.loop.restore(rig.clock.now_ns() + 30 * NS_PER_S) == ()
    assert [one.count for one in rig.host.begun if isinstance(one, SetLive)] == [2, 3, 4]


def test_under_a_hold_it_is_taken_over_and_given_back_at_the_stop() -> None:
    domain = noted(shrunk())
    rig = without_ledger(domain)
    online: list[int] = []
    rig.clock.after(5 * NS_PER_S, lambda: online.append(len(domain.online)))
    rig.clock.stop_at(rig.clock.now_ns() + 6 * NS_PER_S)
    assert rig.loop.run(adopt=True) == ()
    assert online == [1]
    assert domain.online == ALL


def test_with_a_ledger_that_says_nothing_is_owed_the_note_is_not_believed() -> None:
    domain = noted(shrunk())
    rig = Rig(domain)
    rig.cycles(4)
    assert rig.host.begun == []


def test_what_the_note_says_counts_at_the_first_look_only() -> None:
    domain = shrunk(online=ALL)
    rig = without_ledger(domain)
    rig.cycles(2)
    noted(domain).online = frozenset({0})
    rig.cycles(4)
    assert domain.online == {0}, "somebody has taken them since"


def test_a_domain_that_is_described_later_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    domain = noted(shrunk())
    rig = without_ledger(domain)
    shy = Shy(rig, domain, monkeypatch)
    rig.cycles(3)
    assert domain.online == {0}
    shy.hides = False
    rig.cycles(4)
    assert domain.online == ALL


@pytest.mark.parametrize(
    "words",
    [
        {"online": frozenset({0})},
        {"online": None, "live_vcpus": 3},
        {"online": None, "live_vcpus": 1},
        {"online": None, "live_vcpus": 5},
        {"live_vcpus": 64},
    ],
)
def test_a_note_that_asks_for_no_more_than_there_is_or_for_too_much_is_none(
    words: dict[str, object],
) -> None:
    method = Method.HOTPLUG if "online" in words and words["online"] is None else Method.AGENT
    there = frozenset({0, 1, 2}) if method is Method.HOTPLUG else frozenset({0})
    domain = noted(shrunk(method=method, online=there), **words)
    rig = without_ledger(domain)
    rig.cycles(4)
    assert rig.host.begun == []
    assert rig.ledger.outstanding() == ()
    assert not any(record.recovered for record in rig.recorder.records)


def test_a_note_asks_for_no_cpu_beyond_the_domains_own() -> None:
    domain = noted(shrunk(), online=frozenset(range(64)))
    rig = without_ledger(domain)
    rig.cycles(4)
    assert domain.online == ALL


def test_what_cannot_be_written_down_is_tried_again() -> None:
    domain = noted(shrunk())
    rig = without_ledger(domain)
    rig.ledger.error = LedgerError("no space left on device")
    rig.cycles(3)
    assert rig.host.begun == []
    rig.ledger.error = None
    rig.cycles(4)
    assert domain.online == ALL


def test_a_stop_waits_for_no_hypervisor_that_has_never_answered() -> None:
    rig = without_ledger()
    rig.host.connected = False
    rig.clock.stop_at(rig.clock.now_ns() + 3 * NS_PER_S)
    assert rig.loop.run() == ()
    assert rig.clock.now_ns() - rig.clock.start_ns == 3 * NS_PER_S


def test_where_most_likely_nobody_is_owed_anything_no_hypervisor_is_waited_for() -> None:
    rig = without_ledger()
    rig.host.connected = False
    began_ns = rig.clock.now_ns()
    assert rig.loop.restore(began_ns + 30 * NS_PER_S) == ()
    assert rig.clock.now_ns() - began_ns < 10 * NS_PER_S
