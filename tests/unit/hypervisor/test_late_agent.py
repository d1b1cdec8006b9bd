"""The loop that ships over the KVM backend, where an agent is late, frozen, or refuses one CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.ports import MemoryLedger
from unit.hypervisor.stand_in import Guest, Rig
from unit.hypervisor.test_late_unplug import Daemon
from unit.hypervisor.test_runs import qemu
from unit.hypervisor.watching import only, until
from vcpud.model import HostSample, Trouble
from vcpud.terms import TermsBook
from vcpud.units import NS_PER_S

Make = Callable[..., Rig]
ALL = {0, 1, 2, 3}


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    """It keeps its share with fewer vCPUs."""
    (qemu(tmp_path, 123) / "cgroup").write_text("2:cpu,cpuacct:/qemu-1-a.libvirt-qemu/emulator\n")
    return Guest("a")


def settled(rig: Make, guest: Guest) -> Daemon:
    daemon = Daemon(rig(guest), MemoryLedger(), {})
    until(daemon.rig, lambda sample: only(sample).online is not None)
    daemon.cycles(12)
    return daemon


def test_what_was_read_before_a_command_that_was_given_up_is_no_proof_that_all_is_back(
    rig: Make, guest: Guest
) -> None:
    daemon = settled(rig, guest)
    hypervisor = daemon.rig.hypervisor
    conversation = hypervisor._books["a"].conversation
    assert conversation is not None
    sample = hypervisor.sample

    def answered_while_the_loop_waited() -> HostSample:
        daemon.rig.clock.pass_s(0.3)
        conversation._saw(frozenset(guest.online), daemon.rig.clock.now_ns())
        return sample()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hypervisor, "sample", answered_while_the_loop_waited)
        guest.late = True
        daemon.policy.wanted = {"a": 2}
        daemon.loop.cycle()
    daemon.wait_until(daemon.now_ns())
    assert guest.owed, "the change was sent and given up"
    assert daemon.loop.restore(daemon.now_ns() + 3 * NS_PER_S) != ()
    assert daemon.ledger.outstanding() != ()
    guest.late = guest.silent = False
    assert daemon.loop.restore(daemon.now_ns() + 60 * NS_PER_S) == ()
    guest.catch_up()
    assert guest.online == ALL
    assert daemon.ledger.outstanding() == ()


def test_a_guest_whose_file_systems_were_frozen_gets_everything_back_when_they_are_thawed(
    rig: Make, guest: Guest
) -> None:
    daemon = settled(rig, guest)
    daemon.policy.wanted = {"a": 2}
    daemon.cycles(5)
    daemon.policy.wanted = {}
    assert guest.online == {0, 1}
    guest.frozen = True
    daemon.rig.hypervisor.adopt(TermsBook())  # no longer enforced: to be given back
    daemon.cycles(10)
    assert guest.online == {0, 1}
    guest.frozen = False
    daemon.cycles(30)
    assert guest.online == ALL
    assert Trouble.AGENT_BLOCKED not in only(daemon.rig.hypervisor.sample()).troubles


def test_a_cpu_that_cannot_come_back_keeps_none_of_the_others_away(
    rig: Make, guest: Guest
) -> None:
    daemon = settled(rig, guest)
    daemon.policy.wanted = {"a": 1}
    daemon.cycles(5)
    assert guest.online == {0}
    guest.refuses = frozenset({1})
    left = daemon.loop.restore(daemon.now_ns() + 10 * NS_PER_S)
    assert guest.online == {0, 2, 3}
    assert [one.uuid for one in left] == ["a"], "what cannot be given back stays in the ledger"
