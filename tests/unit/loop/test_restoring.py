"""What a vcpud before this one took is given back, whatever is known at the first look."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.host import BOOT_ID, FakeDomain
from fakes.ports import MemoryLedger
from unit.loop.test_control import ENFORCE, Rig, lock_pair
from vcpud.model import HostSample, Original, Uuid
from vcpud.units import NS_PER_S


def parked() -> tuple[FakeDomain, Original]:
    """A domain left with one CPU, and what it is owed."""
    domain = FakeDomain(name="a", vcpus=4, terms=ENFORCE, online=frozenset({0}))
    original = Original(
        boot_id=BOOT_ID,
        uuid=domain.uuid,
        name="a",
        incarnation=domain.incarnation,
        online=frozenset(range(4)),
        live_vcpus=4,
    )
    return domain, original


class Shy:
    """Hides a domain that is there from the loop until it is told otherwise."""

    def __init__(self, rig: Rig, hidden: FakeDomain, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hides = True
        self._hidden = hidden.uuid
        self._sample = rig.host.sample
        monkeypatch.setattr(rig.host, "sample", self.sample)

    def sample(self) -> HostSample:
        sample = self._sample()
        if not self.hides:
            return sample
        rest = tuple(domain for domain in sample.domains if domain.uuid != self._hidden)
        there = {domain.uuid for domain in sample.domains} & {self._hidden}
        return replace(sample, domains=rest, undescribed=frozenset(there))


def test_a_domain_described_later_than_the_first_look_still_gets_everything_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    domain, original = parked()
    rig = Rig(domain, ledger=MemoryLedger(original))
    shy = Shy(rig, domain, monkeypatch)
    rig.cycles(3)
    assert rig.ledger.outstanding() == (original,)
    shy.hides = False
    rig.cycles(3)
    assert len(domain.online) == 4
    assert rig.ledger.outstanding() == ()


def test_a_stop_does_not_report_success_for_a_domain_that_was_never_described(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    domain, original = parked()
    rig = Rig(domain, ledger=MemoryLedger(original))
    Shy(rig, domain, monkeypatch)
    assert rig.loop.restore(rig.clock.now_ns() + 1) == (original,)


def test_a_domain_that_ends_before_it_is_described_is_owed_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    domain, original = parked()
    rig = Rig(domain, ledger=MemoryLedger(original))
    Shy(rig, domain, monkeypatch)
    rig.cycles(2)
    rig.host.destroy(domain)
    rig.cycles(1)
    assert rig.recorder.last.lost_originals == (original,)
    assert rig.ledger.outstanding() == ()


def test_what_is_taken_over_under_a_hold_leaves_out_who_has_ended_meanwhile() -> None:
    domain, original = parked()
    rig = Rig(ledger=MemoryLedger(original))
    rig.loop.run(adopt=True, cycles=2)
    assert rig.recorder.records[0].lost_originals == (original,)
    assert domain.uuid not in {one.uuid for one in rig.ledger.outstanding()}


def test_who_could_not_read_the_process_before_or_cannot_now_loses_no_original() -> None:
    for written, seen in (("7:?", "7:123"), ("7:123", "7:?")):
        domain, original = parked()
        domain.incarnation = seen
        rig = Rig(domain, ledger=MemoryLedger(replace(original, incarnation=written)))
        rig.cycles(3)
        assert len(domain.online) == 4
        assert rig.ledger.outstanding() == ()
        assert not any(record.lost_originals for record in rig.recorder.records)


class Counted(MemoryLedger):
    """Counts how often the disk would have been waited for."""

    def __init__(self, *originals: Original) -> None:
        super().__init__(*originals)
        self.forgotten: list[int] = []

    def forget(self, *uuids: Uuid) -> None:
        self.forgotten.append(len(uuids))
        super().forget(*uuids)


def crowd(count: int) -> tuple[tuple[FakeDomain, ...], Counted]:
    domain, original = parked()
    made = [(replace(domain, uuid=f"{n}"), replace(original, uuid=f"{n}")) for n in range(count)]
    return tuple(one for one, _ in made), Counted(*(original for _, original in made))


def test_many_that_have_everything_back_are_forgotten_at_one_stroke() -> None:
    domains, ledger = crowd(30)
    rig = Rig(*domains, ledger=ledger)
    rig.cycles(5)
    assert (ledger.outstanding(), len(ledger.forgotten)) == ((), 1)


def test_many_that_are_of_another_boot_or_end_together_are_forgotten_at_one_stroke() -> None:
    domains, ledger = crowd(30)
    for original in ledger.outstanding()[:20]:
        ledger.amend(replace(original, boot_id="of yesterday"))
    rig = Rig(*domains, ledger=ledger)
    for domain in domains:
        domain.hung = True
    rig.cycles(2)
    for domain in domains:
        rig.host.destroy(domain)
    rig.cycles(2)
    assert (ledger.outstanding(), len(ledger.forgotten)) == ((), 2)


@pytest.mark.parametrize(("restore_s", "whole"), [(10, False), (40, True)])
def test_a_stop_in_mid_change_has_the_time_that_changes_take_on_its_host(
    restore_s: int, *, whole: bool
) -> None:
    pair = lock_pair(latency_ns=15 * NS_PER_S)
    rig = Rig(*pair)
    rig.host.restore_ns = restore_s * NS_PER_S
    while not all(domain.in_flight for domain in pair):
        rig.cycles(1)
    left = rig.loop.run(cycles=0)
    assert (left == ()) is whole
    rig.clock.wait_until(rig.clock.now_ns() + 60 * NS_PER_S)  # what was begun ends all the same
    assert all(len(domain.online) == 4 for domain in pair) is whole
    assert (rig.ledger.outstanding() == ()) is whole
