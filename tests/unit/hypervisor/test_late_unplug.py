"""The loop that ships over the KVM backend, where a guest lets a vCPU go long after libvirt has given it up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.ports import ListInbox, ListRecorder, MemoryLedger
from unit.hypervisor.stand_in import Guest, Rig
from unit.hypervisor.test_runs import qemu
from unit.loop.scripted import Wants
from vcpud.control import ControlLoop
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.limits import Limits
from vcpud.ports import Wake
from vcpud.requests import LoopSettings
from vcpud.units import NS_PER_S

Make = Callable[..., Rig]
TIMED_OUT = CallFailed(Meaning.UNPLUG_PENDING, "vcpu unplug request timed out")


class Daemon:
    """A loop over a backend over a libvirt that misbehaves, and the clock of all three."""

    def __init__(self, rig: Rig, ledger: MemoryLedger, wanted: dict[str, int]) -> None:
        self.rig = rig
        self.ledger = ledger
        self.recorder = ListRecorder()
        self.policy = Wants(wanted)
        self.loop = ControlLoop(
            clock=self,
            hypervisor=rig.hypervisor,
            ledger=ledger,
            inbox=ListInbox(),
            recorder=self.recorder,
            settings=LoopSettings(
                period_ns=NS_PER_S, policy=self.policy, policy_name="wants", limits=Limits()
            ),
        )

    def now_ns(self) -> int:
        return self.rig.clock.at_ns

    def wait_until(self, deadline_ns: int) -> Wake:
        """Time passes, and whoever works in the background gets on with it."""
        self.rig.clock.at_ns = max(self.rig.clock.at_ns, deadline_ns)
        if any(book.in_flight for book in self.rig.hypervisor._books.values()):
            self.rig.woken.wait(5)
        self.rig.woken.clear()
        return Wake.TIMER

    def cycles(self, count: int) -> None:
        for _ in range(count):
            self.wait_until(self.now_ns() + NS_PER_S)
            self.loop.cycle()

    @property
    def unplug_from(self) -> list[int | None]:
        return [original.unplug_from for original in self.ledger.outstanding()]


@pytest.fixture
def stubborn(tmp_path: Path) -> Guest:
    """Its vCPUs are devices, it lets none of them go in time, and it keeps its share without them."""
    (qemu(tmp_path, 123) / "cgroup").write_text("2:cpu,cpuacct:/qemu-1-a.libvirt-qemu/emulator\n")
    return Guest("a", agent="", unplug_error=TIMED_OUT)


def test_a_vcpu_that_goes_late_is_plugged_back_by_the_vcpud_that_asked(
    rig: Make, stubborn: Guest
) -> None:
    daemon = Daemon(rig(stubborn), MemoryLedger(), {"a": 3})
    daemon.cycles(30)
    assert (stubborn.live, daemon.unplug_from) == (4, [4])
    daemon.policy.wanted = {}
    stubborn.live = 3
    daemon.cycles(8)
    assert (stubborn.live, daemon.unplug_from) == (4, [])


def test_a_stop_does_not_wait_for_it_and_the_next_vcpud_plugs_it_back(
    rig: Make, stubborn: Guest
) -> None:
    ledger = MemoryLedger()
    daemon = Daemon(rig(stubborn), ledger, {"a": 3})
    daemon.cycles(30)
    began_ns = daemon.now_ns()
    assert daemon.loop.restore(began_ns + 10 * NS_PER_S) == ()
    assert daemon.now_ns() - began_ns < 10 * NS_PER_S
    assert daemon.unplug_from == [4]
    stubborn.live = 3
    successor = Daemon(rig(stubborn), ledger, {})
    successor.cycles(8)
    assert (stubborn.live, successor.unplug_from) == (4, [])


def test_one_that_never_goes_is_forgotten_by_the_next_vcpud_after_a_while(
    rig: Make, stubborn: Guest
) -> None:
    ledger = MemoryLedger()
    Daemon(rig(stubborn), ledger, {"a": 3}).cycles(30)
    successor = Daemon(rig(stubborn), ledger, {})
    successor.cycles(590)
    assert successor.unplug_from == [4]
    successor.cycles(30)
    assert (stubborn.live, successor.unplug_from) == (4, [])
