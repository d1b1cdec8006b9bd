"""A simulated world with its hypervisor and clock, and no loop."""

from __future__ import annotations

from vcpud.events import HostEvent
from vcpud.model import Change, DomainSample, SetOnline
from vcpud.ports import Wake
from vcpud.terms import TermsBook
from vcpud_simulator.hypervisor import SimulatedClock, SimulatedHypervisor
from vcpud_simulator.scenario import DomainPlan, Scenario
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.world import World

MS = 1_000_000
S = 1_000_000_000
LOCKED = Descriptors(rounds=40, grain_ns=80_000, gap_ns=2_500, hold_ns=600)


class Rig:
    """A world, its hypervisor and a clock, without a loop."""

    def __init__(self, *plans: DomainPlan, terms: TermsBook | None = None, **more: object) -> None:
        scenario = Scenario(name="rig", domains=plans, **{"pcpus": 2, **more})  # type: ignore[arg-type]
        self.world = World(scenario)
        self.hypervisor = SimulatedHypervisor(self.world, terms=terms)
        self.clock = SimulatedClock(self.hypervisor)
        self.events: list[HostEvent] = []

    def wait(self, duration_ns: int) -> None:
        deadline_ns = self.clock.now_ns() + duration_ns
        while self.clock.wait_until(deadline_ns) is Wake.EVENT:
            self.events += self.hypervisor.events()

    def look(self, name: str = "a") -> DomainSample:
        return next(one for one in self.hypervisor.sample().domains if one.name == name)

    def begin(self, change: Change) -> object:
        return self.hypervisor.begin(change)

    def online(self, *cpus: int) -> SetOnline:
        return SetOnline(uuid=self.look().uuid, online=frozenset(cpus))


def plan(workload: Workload, **more: object) -> DomainPlan:
    return DomainPlan(**{"name": "a", "vcpus": 4, "workload": workload, **more})  # type: ignore[arg-type]
