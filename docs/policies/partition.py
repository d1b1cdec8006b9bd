#!/usr/bin/env python3
"""Fewer vCPUs against a partition of the pCPUs, for the same two guests: the table of docs/policies.md.

    .venv/bin/python docs/policies/partition.py

A partition is simulated as two hosts. Progress per second and pCPUs used, over 20 s, one run each.
"""

from __future__ import annotations

from collections.abc import Mapping

from vcpud.units import NS_PER_MS, NS_PER_S, NS_PER_US
from vcpud_simulator.runner import run
from vcpud_simulator.scenario import DomainPlan, Scenario
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike

LOCKS = DomainPlan(
    name="locks",
    vcpus=4,
    workload=Descriptors(
        grain_ns=2 * NS_PER_MS, rounds=60, hold_ns=2 * NS_PER_US, gap_ns=6 * NS_PER_US
    ),
)
HOG = DomainPlan(name="hog", vcpus=4, workload=GobmkLike(unit_ns=20 * NS_PER_MS))


def host(pcpus: int, *plans: DomainPlan, counts: Mapping[str, int] | None = None) -> str:
    """What each got done on a host."""
    scenario = Scenario(
        name="partition",
        pcpus=pcpus,
        scheduler="cfs_groups",
        duration_ns=20 * NS_PER_S,
        domains=plans,
    )
    result = run(scenario, assignment=counts)
    return ", ".join(
        f"{name} {one.rate:.1f}/s on {one.run_pcpus:.2f} pCPUs"
        for name, one in result.domains.items()
    )


def main() -> None:
    """Print the table."""
    both = LOCKS, HOG
    for title, parts in {
        "4 pCPUs, unmanaged": [host(4, *both)],
        "4 pCPUs, vCPUs 2 + 2": [host(4, *both, counts={"locks": 2, "hog": 2})],
        "4 pCPUs in 2 | 2, all vCPUs": [host(2, LOCKS), host(2, HOG)],
        "4 pCPUs in 2 | 2, vCPUs 2 + 4": [host(2, LOCKS, counts={"locks": 2}), host(2, HOG)],
        "3 pCPUs, unmanaged": [host(3, *both)],
        "3 pCPUs, vCPUs 1 + 2": [host(3, *both, counts={"locks": 1, "hog": 2})],
        "3 pCPUs in 1 | 2, vCPUs 1 + 4": [host(1, LOCKS, counts={"locks": 1}), host(2, HOG)],
        "3 pCPUs in 2 | 1, vCPUs 2 + 4": [host(2, LOCKS, counts={"locks": 2}), host(1, HOG)],
    }.items():
        print(f"{title:32} {', '.join(parts)}")  # noqa: T201 - a script


if __name__ == "__main__":
    main()
