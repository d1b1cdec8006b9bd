"""Adaptive on the simulated host, which knows nothing of its model."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import pytest

from vcpud.plan import Outcome
from vcpud.units import NS_PER_S
from vcpud_policies.adaptive import Adaptive
from vcpud_simulator.laboratory.reading import read_scenario
from vcpud_simulator.runner import Point, run


def test_who_is_left_on_one_vcpu_beside_two_gets_its_whole_share_in_the_end() -> None:
    """Linux shares out pCPU by pCPU: one vCPU beside two of equal weight may get 0.67."""
    scenario = read_scenario("compare_dynamic_phases")
    result = run(scenario, policy=Adaptive(), duration_ns=37 * NS_PER_S)
    last = {name: points[-5:] for name, points in result.timeline.items()}
    assert last["jobs"][-1].active_vcpus == 1
    for points in last.values():
        assert all(point.run_pcpus > 0.95 for point in points)
    assert len([one for one in result.changes if one.accepted]) <= 2


def test_who_is_kept_from_its_share_by_a_hog_gets_it_back() -> None:
    """What sleeps at barriers gets 1.3 of its 2 pCPUs beside what never sleeps."""
    scenario = read_scenario("compare_user_sync_beside_hog")
    result = run(scenario, policy=Adaptive(), duration_ns=37 * NS_PER_S)
    solver, hog = (result.timeline[name] for name in ("solver", "hog"))
    assert solver[-1].active_vcpus == hog[-1].active_vcpus == 2
    assert rate(solver[-5:]) > 1.3 * rate(solver[3:10])
    assert min(point.run_pcpus for point in hog[-5:]) > 0.97 * 2
    assert [verdict.outcome for verdict in result.verdicts] == [Outcome.HELPED]


def test_guests_whose_owners_keep_the_host_overfull_queue_for_locks_less() -> None:
    scenario = read_scenario("compare_kernel_lock_floors")
    result = run(scenario, policy=Adaptive(), duration_ns=100 * NS_PER_S)
    before = run(scenario, policy=None, duration_ns=30 * NS_PER_S)
    for name, points in result.timeline.items():
        assert points[-1].active_vcpus == 2
        assert rate(points[-20:]) > 4 * rate(before.timeline[name][-20:])


def test_vcpus_that_nobody_gives_a_domain_entitle_it_to_nothing() -> None:
    """Seven tasks queue behind one vCPU of eight: the seven pCPUs left are the others'."""
    scenario = read_scenario("compare_kernel_lock_spare_vcpus")
    before = run(scenario, policy=None, duration_ns=7 * NS_PER_S)
    entitled = {name: one.entitled_pcpus for name, one in before.domains.items()}
    noise = scenario.noise
    own_pcpus = noise.vcpus * noise.burst_ns / (noise.burst_ns + noise.sleep_ns)
    assert entitled["small"] == 1
    assert entitled["files"] == entitled["batch"]
    assert sum(entitled.values()) == pytest.approx(8 - own_pcpus, abs=0.02)
    result = run(scenario, policy=Adaptive(), duration_ns=12 * NS_PER_S)
    last = {name: points[-5:] for name, points in result.timeline.items()}
    counts = {name: points[-1].active_vcpus for name, points in last.items()}
    assert counts == {"files": 3, "batch": 4, "small": 1}
    assert sum(fmean(p.run_pcpus for p in points) for points in last.values()) > 0.97 * 8
    assert rate(last["files"]) > 20 * before.domains["files"].rate
    floor = entitled["batch"] / before.domains["batch"].run_pcpus
    for name, share in (("batch", floor), ("small", 1.0)):
        assert rate(last[name]) > 0.97 * share * before.domains[name].rate


def rate(points: Sequence[Point]) -> float:
    return fmean(point.rate for point in points)
