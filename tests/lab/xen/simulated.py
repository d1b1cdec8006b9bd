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


def slowdowns(
    scheduler: str, pcpus: int, grain_ns: int, dom0_pcpus: float, ratelimit_ns: int
) -> dict[str, float]:
    """Return how much slower than their fair share two domains run together, by kind of work.

    Args:
        scheduler: As Xen names it, which is what the simulator's catalogue calls it too.
        pcpus: Processors of the host, and vCPUs of each domain.
        grain_ns: CPU time of a thread between two barriers.
        dom0_pcpus: What dom0 was seen to use: without it equal domains would take turns in step.
        ratelimit_ns: How long a vCPU keeps its pCPU at least.
    """
    dom0 = NoisePlan(vcpus=1, weight=DOM0_WEIGHT)
    burst_ns = round(dom0.sleep_ns * dom0_pcpus / (1 - dom0_pcpus))
    noise = dataclasses.replace(dom0, burst_ns=max(burst_ns, 1))
    host = Scenario(
        name="overcommit",
        domains=(),
        pcpus=pcpus,
        scheduler=scheduler,
        scheduler_options={"ratelimit_ns": ratelimit_ns},
        platform="xen",
        duration_ns=DURATION_NS,
        noise=noise,
    )
    work: dict[str, Workload] = {
        "independent": GobmkLike(),
        "synchronising": AmmpLike(grain_ns=grain_ns, cv_ratio=0.0, criticals=0),
    }
    return {name: _slowdown(host, workload) for name, workload in work.items()}


def _slowdown(host: Scenario, workload: Workload) -> float:
    alone, pair = (_rate(host, workload, domains) for domains in (1, 2))
    return alone / 2 / pair


def _rate(host: Scenario, workload: Workload, domains: int) -> float:
    """Return what the first of so many equal domains gets done."""
    plans = tuple(
        DomainPlan(name=f"x{number}", vcpus=host.pcpus, workload=workload)
        for number in range(1, domains + 1)
    )
    return run(dataclasses.replace(host, domains=plans), hashed=False).domains["x1"].rate
