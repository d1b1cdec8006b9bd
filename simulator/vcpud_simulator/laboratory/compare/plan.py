"""What is compared: which scenarios, which policies, and how long each is looked at. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory.compare import states
from vcpud_simulator.laboratory.compare.claims import Extent
from vcpud_simulator.scenario import Scenario
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.phased import Phased
from vcpud_simulator.workloads.web import WebServer

LASTING_NS: Final = 600 * NS_PER_S
"""Over how long no domain may fall below its floor."""
IDLE: Final = "static"
"""The policy that does nothing: its run is that of the host that nobody manages."""


class Look(Enum):
    """How the oracle's search looks at an assignment."""

    GLANCE = "short look"
    CLOSE = "long look"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A policy as it enters.

    Attributes:
        label: Its name in results.
        policy: Its entry point.
        options: Its options.
    """

    label: str
    policy: str
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is compared.

    Attributes:
        keys: Scenarios.
        contestants: Policies.
        extent: How much of what there is that comes to: it decides what can be claimed.
        seeds: Runs of each.
        duration_ns: What is measured of each run; None for the scenario's own.
        changing_ns: The same where the load changes by itself: all of it must be seen.
        lasting_ns: How long the unmanaged host and vcpud's own policy are run at least: whether
            some domain falls below its floor shows late, too.
        glance_ns: How long the oracle's search looks at an assignment.
        probe_ns: How long it looks at those that may be the best.
        settle_ns: How long a host runs at most before the oracle's search looks at it: nothing changes
            there, so that nobody has to have been at work for long.
        finalists: Assignments of a search that are run as long as the policies are.
        doubts: Further seeds where vcpud's own policy seems to leave a domain below its floor.
        examined: Most decisions of a run whose counterfactual is run; 0 for none.
    """

    keys: tuple[str, ...]
    contestants: tuple[Contestant, ...]
    extent: Extent = Extent.WHOLE
    seeds: int = 2
    duration_ns: int | None = None
    changing_ns: int | None = None
    lasting_ns: int = LASTING_NS
    glance_ns: int = 2 * NS_PER_S
    probe_ns: int = 8 * NS_PER_S
    settle_ns: int = 3 * NS_PER_S
    finalists: int = 2
    doubts: int = 0
    examined: int = 2

    def look_ns(self, look: Look, cycle_ns: int) -> int:
        """How long a look takes at a host whose load repeats itself after a while (0: it is steady)."""
        if look is Look.GLANCE:
            return max(self.glance_ns, cycle_ns)
        return max(self.probe_ns, 2 * cycle_ns)


def lasting(scenario: Scenario, plan: Plan) -> Scenario:
    """As long as it is measured in a plan.

    Requests that come whether they are answered or not are told by how long they wait, which is
    counted over whole runs: then all of these must last as long.
    """
    divided = states.divided(scenario)
    wanted_ns = (plan.changing_ns if divided else None) or plan.duration_ns
    if wanted_ns is not None:
        return replace(scenario, duration_ns=wanted_ns)
    if any(open_loop(one.workload) for one in scenario.domains):
        return replace(scenario, duration_ns=max(scenario.duration_ns, plan.lasting_ns))
    return scenario


def open_loop(workload: Workload) -> bool:
    """Whether requests come whether or not those before them have been answered."""
    if isinstance(workload, Phased):
        return any(open_loop(phase.workload) for phase in workload.phases)
    return isinstance(workload, WebServer)
