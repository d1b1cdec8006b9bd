"""Adaptive on the simulated host, which knows nothing of its model."""

from __future__ import annotations

from vcpud.units import NS_PER_S
from vcpud_policies.adaptive import Adaptive
from vcpud_simulator.laboratory.reading import read_scenario
from vcpud_simulator.runner import run


def test_who_is_left_on_one_vcpu_beside_two_gets_its_whole_share_in_the_end() -> None:
    """Linux shares out pCPU by pCPU: one vCPU beside two of equal weight may get 0.67."""
    scenario = read_scenario("compare_dynamic_phases")
    result = run(scenario, policy=Adaptive(), duration_ns=37 * NS_PER_S)
    last = {name: points[-5:] for name, points in result.timeline.items()}
    assert last["jobs"][-1].active_vcpus == 1
    for points in last.values():
        assert all(point.run_pcpus > 0.95 for point in points)
    assert len([one for one in result.changes if one.accepted]) <= 2
