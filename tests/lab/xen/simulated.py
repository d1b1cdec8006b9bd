"""What the simulator makes of the set-up that ``overcommit`` measures, to be printed beside it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from vcpud.units import NS_PER_S
from vcpud_simulator.runner import run
from vcpud_simulator.scenario import DomainPlan, NoisePlan, Scenario
from vcpud_simulator.workloads.ammp import AmmpLike
from vcpud_simulator.workloads.gobmk import GobmkLike

if TYPE_CHECKING:
    from vcpud_simulator.workloads.base import Workload

DURATION_NS: Final = 20 * NS_PER_S
DOM0_WEIGHT: Final = 1280
"""As `dom0/lab-job` sets it."""


def slowdowns(scheduler: str, pcpus: int, grain_ns: int, dom0_pcpus: float) -> dict[str, float]:
    """Return how much slower than their fair share two domains run together, by kind of work.

    Args:
        scheduler: As Xen names it, which is what the simulator's catalogue calls it too.
        pcpus: Processors of the host, and vCPUs of each domain.
        grain_ns: CPU time of a thread between two barriers.
        dom0_pcpus: What dom0 was seen to use: without it equal domains would take turns in step.
    """
    dom0 = NoisePlan(vcpus=1, weight=DOM0_WEIGHT)
    burst_ns = round(dom0.sleep_ns * dom0_pcpus / (1 - dom0_pcpus))
    noise = dataclasses.replace(dom0, burst_ns=max(burst_ns, 1))
    team = AmmpLike(grain_ns=grain_ns, cv_ratio=0.0, criticals=0)
    return {
        "independent": _slowdown(scheduler, pcpus, noise, GobmkLike()),
        "synchronising": _slowdown(scheduler, pcpus, noise, team),
    }


def _slowdown(scheduler: str, pcpus: int, noise: NoisePlan, workload: Workload) -> float:
    alone, pair = (_rate(scheduler, pcpus, noise, workload, domains) for domains in (1, 2))
    return alone / 2 / pair


def _rate(scheduler: str, pcpus: int, noise: NoisePlan, workload: Workload, domains: int) -> float:
    """Return what the first of so many equal domains gets done."""
    plans = tuple(
        DomainPlan(name=f"x{number}", vcpus=pcpus, workload=workload)
        for number in range(1, domains + 1)
    )
    scenario = Scenario(
        name="overcommit",
        domains=plans,
        pcpus=pcpus,
        scheduler=scheduler,
        platform="xen",
        duration_ns=DURATION_NS,
        noise=noise,
    )
    return run(scenario, hashed=False).domains["x1"].rate
