"""A scenario brought to life: its host, who lives there at an instant, arrivals and departures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vcpud_simulator.catalogue import SCHEDULERS
from vcpud_simulator.experiment import Inhabitant, Laboratory
from vcpud_simulator.guest.costs import GuestConfig
from vcpud_simulator.guest.hotplug import HotplugCosts
from vcpud_simulator.guest.steering import StealGovernor
from vcpud_simulator.host import HostCosts
from vcpud_simulator.pause import EMULATED, PauseLoop
from vcpud_simulator.platform import PLATFORMS, Platform
from vcpud_simulator.scenario import DomainPlan, Pause, Scenario, faults
from vcpud_simulator.workloads.noise import Noise

if TYPE_CHECKING:
    from vcpud_simulator.engine import Engine
    from vcpud_simulator.trace import Sink

NOISE = "host noise"
"""The domain that stands for dom0 or the host itself; no scenario can name one so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A domain that has arrived.

    Attributes:
        plan: What it is.
        inhabitant: What became of that.
        number: The how-many-eth to arrive: libvirt's domain id.
        governor: What keeps its work on fewer CPUs, where it does so itself.
    """

    plan: DomainPlan
    inhabitant: Inhabitant
    number: int
    governor: StealGovernor | None = None


class World:
    """A host as a scenario has it.

    Attributes:
        scenario: Which one.
        platform: What it stands for.
        lab: The host.
        hotplug: What taking CPUs offline and online costs.
        residents: Domains that are there, by name, in order of arrival.
        departed: Domains that were there.
        arrived: Called with each domain that arrives from now on.
        left: Called with each domain that departs, before it is gone.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        seed: int | None = None,
        trace: Sink | None = None,
        assignment: Mapping[str, int] | None = None,
    ) -> None:
        """Build it.

        Args:
            scenario: What to build.
            seed: Instead of the scenario's own.
            trace: Where events go.
            assignment: How many CPUs a domain has in use from the start, instead of all.

        Raises:
            ValueError: The scenario or the assignment is impossible; everything is named.
        """
        wrong = [f"{'.'.join(key)}: {what}" for key, what in faults(scenario)]
        plans = {plan.name: plan for plan in scenario.each()} if not wrong else {}
        wrong += [
            f"assignment: {name}: {count} of {plans[name].vcpus if name in plans else 0} vCPUs"
            for name, count in (assignment or {}).items()
            if not wrong and (name not in plans or not 1 <= count <= plans[name].vcpus)
        ]
        if wrong:
            raise ValueError("\n".join(wrong))
        self.scenario = scenario
        self.platform: Platform = PLATFORMS[scenario.platform]
        self._assignment = assignment or {}
        self.hotplug = HotplugCosts(**_those_of(HotplugCosts, scenario.costs))
        self.lab = Laboratory(
            pcpus=scenario.pcpus,
            scheduler=SCHEDULERS[scenario.scheduler](**scenario.scheduler_options),
            seed=scenario.seed if seed is None else seed,
            costs=HostCosts(**_those_of(HostCosts, scenario.costs)),
            trace=trace,
            pause=_pause_loop(scenario.pause, self.platform),
        )
        self.residents: dict[str, Resident] = {}
        self.departed: dict[str, Resident] = {}
        self.arrived: Callable[[Resident], None] = _unheard
        self.left: Callable[[Resident], None] = _unheard
        self._numbers = 0
        self.unmanaged: Inhabitant | None = None
        if scenario.noise.vcpus:
            noise = scenario.noise
            self.unmanaged = self.lab.add(
                NOISE,
                Noise(burst_ns=noise.burst_ns, sleep_ns=noise.sleep_ns),
                vcpus=noise.vcpus,
                weight=noise.weight,
            )
        for plan in scenario.each():
            if plan.arrives_ns:
                self.engine.at(plan.arrives_ns, lambda plan=plan: self._arrive(plan))  # type: ignore[misc]
            else:
                self._arrive(plan)

    @property
    def engine(self) -> Engine:
        """Its time."""
        return self.lab.engine

    def everybody(self) -> Iterator[Resident]:
        """Those who are there and those who were."""
        yield from self.departed.values()
        yield from self.residents.values()

    def _arrive(self, plan: DomainPlan) -> None:
        self._numbers += 1
        inhabitant = self.lab.add(
            plan.name,
            plan.workload,
            vcpus=plan.vcpus,
            online=self._assignment.get(plan.name, plan.online),
            weight=plan.weight,
            cap_pcpus=plan.cap_pcpus,
            config=GuestConfig(**{**self.platform.guest, **plan.guest}),
            costs=self.hotplug,
        )
        resident = Resident(
            plan=plan,
            inhabitant=inhabitant,
            number=self._numbers,
            governor=StealGovernor(inhabitant.kernel) if plan.steers else None,
        )
        self.residents[plan.name] = resident
        if plan.departs_ns is not None:
            self.engine.at(plan.departs_ns, lambda: self._depart(resident))
        self.arrived(resident)

    def _depart(self, resident: Resident) -> None:
        self.left(resident)
        if resident.governor is not None:
            resident.governor.stopped = True
        name = resident.plan.name
        self.departed[name] = self.residents.pop(name)
        self.lab.remove(name)


def _those_of(kind: type[Any], costs: Mapping[str, Any]) -> dict[str, Any]:
    """Of all costs those that are fields of that kind."""
    fields = {item.name for item in dataclasses.fields(kind)}
    return {word: value for word, value in costs.items() if word in fields}


def _pause_loop(pause: Pause, platform: Platform) -> PauseLoop | None:
    if pause is Pause.OFF:
        return None
    if "exit_lock_ns" in platform.guest:
        return dataclasses.replace(EMULATED, user_mode=pause is Pause.ANY)
    if platform.directed_yield:
        return PauseLoop(user_mode=pause is Pause.ANY)
    return PauseLoop(user_mode=pause is Pause.ANY, directed=False, grow=1)


def _unheard(resident: Resident) -> None:
    """Nobody wants to know."""
