"""What is compared: which scenarios, which policies, and how long each is looked at. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
CONSTANT_NS: Final = 300 * NS_PER_S
"""How long drawn scenarios are compared with the oracle in which nobody comes, goes or turns to something else: as
long as those of the suite."""
IDLE: Final = "static"
"""The policy that does nothing: its run is that of the host that nobody manages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How the oracle's search looks at an assignment.

    Attributes:
        settle_ns: How long a host runs before at most: nothing is changed there, so that nobody has to
            have been at work for long.
        least_ns: How long it is looked at, at least.
        hurried: Whether loads that change too fast to be told apart do so faster still, so that they go
            through all they do within the look. Else it lasts two of their cycles.
    """

    settle_ns: int
    least_ns: int
    hurried: bool = False

    def length_ns(self, cycle_ns: int) -> int:
        """How long it takes where the load repeats itself after a while (0: it is steady)."""
        return self.least_ns if self.hurried else max(self.least_ns, 2 * cycle_ns)


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
        glance: How the oracle's search looks at all that it tries.
        close: How it looks at those among them that may be the best.
        finalists: Assignments of a search that are run as long as the policies are.
        everywhere: Whether the oracle is looked for where nothing is claimed of it, too.
        doubts: Further seeds where vcpud's own policy seems to leave a domain below its floor; then, as
            long as these leave that open, the next number of them instead.
        examined: Most decisions of a run whose counterfactual is run; 0 for none.
    """

    keys: tuple[str, ...]
    contestants: tuple[Contestant, ...]
    extent: Extent = Extent.WHOLE
    seeds: int = 2
    duration_ns: int | None = None
    changing_ns: int | None = None
    lasting_ns: int = LASTING_NS
    glance: Look = Look(settle_ns=NS_PER_S, least_ns=2 * NS_PER_S, hurried=True)
    close: Look = Look(settle_ns=3 * NS_PER_S, least_ns=8 * NS_PER_S)
    finalists: int = 2
    everywhere: bool = True
    doubts: tuple[int, ...] = ()
    examined: int = 2


def lasting(scenario: Scenario, plan: Plan) -> Scenario:
    """As long as it is measured in a plan.

    Requests that come whether they are answered or not are told by how long they wait, which is
    counted over whole runs: then all of these must last as long.
    """
    wanted_ns = (plan.changing_ns if states.divided(scenario) else None) or plan.duration_ns
    if wanted_ns is not None:
        scenario = replace(scenario, duration_ns=wanted_ns)
    if any(open_loop(one.workload) for one in scenario.domains):
        return replace(scenario, duration_ns=max(scenario.duration_ns, plan.lasting_ns))
    return scenario


def open_loop(workload: Workload) -> bool:
    """Whether requests come whether or not those before them have been answered."""
    if isinstance(workload, Phased):
        return any(open_loop(phase.workload) for phase in workload.phases)
    return isinstance(workload, WebServer)
