"""A whole Xen backend over a made-up host: alone, and under the loop that ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fakes.ports import ListInbox, ListRecorder, MemoryLedger, SimulatedClock
from fakes.xen import XenWorld
from fakes.xen_libvirt import XenRig
from unit.loop.scripted import Wants
from vcpud.control import ControlLoop
from vcpud.events import EventKind, HostEvent
from vcpud.limits import Limits
from vcpud.model import Accepted, Change, DomainSample, Refused
from vcpud.record import DomainStatus
from vcpud.requests import LoopSettings
from vcpud.units import NS_PER_S


class Host:
    """A loop over a Xen backend over a made-up host."""

    def __init__(self, root: Path, world: XenWorld, **options: Any) -> None:
        self.world = world
        self.rig = XenRig(world, root, **options)
        self.clock = SimulatedClock(start_ns=world.at_ns)
        self.policy = Wants({})
        self.ledger = MemoryLedger()
        self.inbox = ListInbox()
        self.recorder = ListRecorder()
        self.loop = self.new_loop()

    def new_loop(self) -> ControlLoop:
        """As after a start of vcpud."""
        return ControlLoop(
            clock=self,
            hypervisor=self.rig.hypervisor,
            ledger=self.ledger,
            inbox=self.inbox,
            recorder=self.recorder,
            settings=LoopSettings(
                period_ns=NS_PER_S, policy=self.policy, policy_name="wants", limits=Limits()
            ),
        )

    def now_ns(self) -> int:
        return self.world.at_ns

    def wait_until(self, deadline_ns: int) -> Any:
        """Time passes, and whoever works in the background gets on with it."""
        if deadline_ns > self.world.at_ns:
            self.world.pass_s((deadline_ns - self.world.at_ns) / NS_PER_S)
        self.rig.hypervisor.supervise()
        if any(book.in_flight for book in self.rig.hypervisor._books.values()):
            self.rig.woken.wait(5)
        self.rig.woken.clear()
        return self.clock.wait_until(self.clock.now_ns())

    def cycles(self, count: int) -> None:
        for _ in range(count):
            self.wait_until(self.world.at_ns + NS_PER_S)
            self.loop.cycle()

    def status(self, uuid: str) -> DomainStatus:
        return next(one for one in self.recorder.last.domains if one.uuid == uuid)

    def asked(self) -> list[Any]:
        """Every change that was begun."""
        return [
            change.change
            for record in self.recorder.records
            for change in record.changes
            if type(change.effect).__name__ == "Accepted"
        ]


def only(one: XenRig) -> DomainSample:
    (found,) = one.hypervisor.sample().domains
    return found


def refused(one: XenRig, change: Change) -> Refused:
    one.hypervisor.sample()
    effect = one.hypervisor.begin(change)
    assert isinstance(effect, Refused), effect
    return effect


def carry_out(one: XenRig, change: Change) -> HostEvent:
    one.hypervisor.sample()
    one.woken.clear()
    assert one.hypervisor.begin(change) == Accepted()
    for _ in range(100):
        one.woken.wait(5)
        one.woken.clear()
        for event in one.hypervisor.events():
            if event.kind in {EventKind.CHANGE_DONE, EventKind.CHANGE_FAILED}:
                one.world.pass_s(1)
                return event
    raise AssertionError("the change never ended")
