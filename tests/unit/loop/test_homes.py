"""What a domain may come to have: the vCPUs it came with, whoever has taken or given any since."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.host import BOOT_ID, FakeDomain
from fakes.ports import MemoryLedger
from unit.loop.scripted import Wants
from unit.loop.test_control import ENFORCE, Rig
from vcpud.demand import DomainDemand
from vcpud.model import Original

ALL = frozenset(range(4))


def owed(domain: FakeDomain, **more: object) -> Original:
    made = Original(
        boot_id=BOOT_ID,
        uuid=domain.uuid,
        name=domain.name,
        incarnation=domain.incarnation,
        online=ALL,
        live_vcpus=8,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def bounds(rig: Rig, record: int = -1) -> tuple[int, int | None]:
    """Of the only domain: the most it may have, and what it had."""
    domain: DomainDemand = rig.recorder.records[record].demand.domains[0]
    return domain.max_vcpus, domain.home_vcpus


def wanting(rig: Rig, domain: FakeDomain, vcpus: int) -> None:
    """From now on a policy wants that many."""
    policy = Wants({domain.uuid: vcpus})
    rig.settings = replace(rig.settings, policy=policy, policy_name="wants")
    rig.loop = rig.new_loop()


def test_a_domain_is_grown_to_what_it_came_with_and_no_further() -> None:
    domain = FakeDomain(name="a", vcpus=8, terms=ENFORCE, online=ALL)
    rig = Rig(domain, pcpus=8)
    wanting(rig, domain, 1)
    rig.cycles(3)
    assert domain.online == {0}
    assert bounds(rig) == (4, 4)
    assert rig.recorder.last.demand.domains[0].entitled_pcpus == 4.0
    wanting(rig, domain, 8)
    rig.loop.run(adopt=True, cycles=8)
    assert domain.online == ALL
    assert bounds(rig) == (4, None)


def test_an_owner_who_brings_vcpus_up_by_hand_raises_what_it_may_have() -> None:
    domain = FakeDomain(name="a", vcpus=8, terms=ENFORCE, online=frozenset({0}))
    rig = Rig(domain, pcpus=8)
    rig.cycles(2)
    assert bounds(rig) == (1, None)
    domain.online = frozenset({0, 1, 2})
    rig.cycles(2)
    assert bounds(rig) == (3, None)
    assert rig.host.begun == []


@pytest.mark.parametrize(
    ("left", "found"),
    [({0, 1, 2}, (3, None)), ({0, 1, 5}, (3, None)), ({0, 5}, (5, 5))],
)
def test_what_an_owner_leaves_of_a_shrunk_domain_counts_in_the_cycle_that_sees_it(
    left: set[int], found: tuple[int, int | None]
) -> None:
    domain = FakeDomain(name="a", vcpus=8, terms=ENFORCE, online=ALL)
    rig = Rig(domain)
    wanting(rig, domain, 1)
    rig.cycles(10)
    domain.online = frozenset(left)
    rig.cycles(2)
    first = next(n for n, record in enumerate(rig.recorder.records) if record.foreign)
    assert bounds(rig, first) == found


@pytest.mark.parametrize("how", ["adopted", "given back", "note", "handed over"])
def test_what_an_earlier_vcpud_parked_counts_from_the_first_cycle(how: str) -> None:
    domain = FakeDomain(name="a", vcpus=8, terms=ENFORCE, online=frozenset({0}))
    ledger = MemoryLedger()
    if how == "note":
        ledger.lost, domain.own_note = True, owed(domain)
    elif how == "handed over":
        domain.handed_over = owed(domain, boot_id="another-host", incarnation="7:1")
    else:
        ledger = MemoryLedger(owed(domain))
    rig = Rig(domain, ledger=ledger)
    rig.loop.run(adopt=how == "adopted", cycles=1)
    assert bounds(rig, 0) == (4, 4)
