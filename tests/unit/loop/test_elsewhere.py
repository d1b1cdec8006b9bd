"""A ledger of one hypervisor, and a loop that looks at another: nothing is forgotten, nor applied."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.host import BOOT_ID, FakeDomain
from fakes.ports import MemoryLedger
from unit.loop.test_control import ENFORCE, Rig
from vcpud import owed
from vcpud.model import Original
from vcpud.units import NS_PER_S

HERE, THERE = "qemu:///system", "qemu://other/system"


def taken_there(domain: FakeDomain) -> Original:
    return Original(
        boot_id=BOOT_ID,
        uuid=domain.uuid,
        name=domain.name,
        incarnation=domain.incarnation,
        online=frozenset(range(4)),
        live_vcpus=4,
        hypervisor=THERE,
    )


def shrunk() -> FakeDomain:
    return FakeDomain(name="a", vcpus=4, terms=ENFORCE, online=frozenset({0}))


def looking(*domains: FakeDomain, owed_to: Original, at: str = HERE) -> Rig:
    rig = Rig(*domains, ledger=MemoryLedger(owed_to))
    rig.host.called = at
    return rig


def test_a_domain_of_another_hypervisor_is_not_gone_because_this_one_has_it_not() -> None:
    original = taken_there(shrunk())
    rig = looking(owed_to=original)
    rig.cycles(3)
    assert rig.ledger.outstanding() == (original,)
    assert not any(record.lost_originals for record in rig.recorder.records)


def test_where_its_own_hypervisor_has_it_no_more_it_is_gone() -> None:
    original = taken_there(shrunk())
    rig = looking(owed_to=original, at=THERE)
    rig.cycles(1)
    assert rig.ledger.outstanding() == ()
    assert rig.recorder.last.lost_originals == (original,)


def test_nor_is_it_of_another_boot_because_that_hypervisor_is_on_another_host() -> None:
    original = replace(taken_there(shrunk()), boot_id="another")
    rig = looking(owed_to=original)
    rig.cycles(3)
    assert rig.ledger.outstanding() == (original,)


def test_the_same_run_of_it_gets_everything_back_by_whatever_name_it_is_reached() -> None:
    domain = shrunk()
    rig = looking(domain, owed_to=taken_there(domain))
    rig.cycles(4)
    assert len(domain.online) == 4
    assert rig.ledger.outstanding() == ()


def test_a_namesake_here_is_given_nothing_and_ends_without_a_trace() -> None:
    domain = shrunk()
    original = replace(taken_there(domain), incarnation="77@9")
    rig = looking(domain, owed_to=original)
    rig.cycles(3)
    rig.host.destroy(domain)
    rig.cycles(3)
    assert rig.host.begun == []
    assert rig.ledger.outstanding() == (original,)


def test_a_stop_does_not_wait_for_what_only_another_hypervisor_can_give_back() -> None:
    original = taken_there(shrunk())
    rig = looking(owed_to=original)
    began_ns = rig.clock.now_ns()
    assert rig.loop.restore(began_ns + 30 * NS_PER_S, settle=True) == (original,)
    assert rig.clock.now_ns() - began_ns < NS_PER_S


def test_before_the_hypervisor_has_answered_nobody_knows_whom_it_has() -> None:
    domain = shrunk()
    rig = looking(domain, owed_to=taken_there(domain))
    rig.host.connected = False
    rig.clock.after(2 * NS_PER_S, lambda: setattr(rig.host, "connected", True))
    assert rig.loop.restore(rig.clock.now_ns() + 30 * NS_PER_S) == ()
    assert len(domain.online) == 4


def test_what_is_changed_is_written_down_for_the_hypervisor_it_is_of() -> None:
    pair = [FakeDomain(name=name, vcpus=4, lock_bound=True, terms=ENFORCE) for name in "ab"]
    rig = Rig(*pair)
    rig.host.called = HERE
    rig.cycles(20)
    assert {one.hypervisor for one in rig.ledger.outstanding()} == {HERE}


@pytest.mark.parametrize("written", ["", HERE])
def test_an_operator_is_told_of_nothing_where_all_is_of_this_hypervisor(written: str) -> None:
    original = replace(taken_there(shrunk()), hypervisor=written)
    rig = looking(owed_to=original)
    rig.cycles(1)
    assert owed.reminder((original,), rig.recorder.last.sample) == ""


def test_an_operator_is_told_whose_it_is_and_what_gives_it_back() -> None:
    original = taken_there(shrunk())
    rig = looking(owed_to=original)
    rig.cycles(1)
    told = owed.reminder((original,), rig.recorder.last.sample)
    assert "a of qemu://other/system" in told
    assert "vcpud is now configured for qemu:///system" in told
    assert "`vcpud restore`" in told
