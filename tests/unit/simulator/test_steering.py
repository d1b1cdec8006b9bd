"""A guest that steers by itself: what its kernel does, what vcpud sees of it, and that it keeps off."""

from __future__ import annotations

import dataclasses

import pytest

from vcpud import policy
from vcpud.units import NS_PER_S
from vcpud_simulator import runner
from vcpud_simulator.experiment import Inhabitant, Laboratory
from vcpud_simulator.guest.steering import StealGovernor
from vcpud_simulator.laboratory.reading import read_scenario
from vcpud_simulator.scenario import Scenario
from vcpud_simulator.schedulers.cfs import Cfs
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.world import World

S = NS_PER_S
WORK = GobmkLike(unit_ns=20_000_000)


def preferred(guest: Inhabitant) -> int:
    return len(guest.kernel.preferred_cpus)


def busy(guest: Inhabitant) -> set[int]:
    return {cpu.index for cpu in guest.kernel.cpus if cpu.current is not None or len(cpu.queue)}


def test_work_leaves_cpus_one_a_second_while_time_is_stolen_and_comes_back_when_none_is() -> None:
    lab = Laboratory(pcpus=2, scheduler=Cfs())
    guest = lab.add("a", WORK, vcpus=4)
    lab.add("hog", WORK, vcpus=2)
    StealGovernor(guest.kernel)
    lab.run_for(1_500_000_000)
    assert preferred(guest) == 3
    lab.run_for(3 * S)
    few = preferred(guest)
    assert few < 3
    assert len(guest.kernel.online_cpus) == 4, "no CPU goes offline"
    assert busy(guest) <= set(range(few)), "nothing runs or waits where it should not"
    assert len(guest.kernel.tasks) >= 4, "no thread got lost"
    lab.remove("hog")
    lab.run_for(6 * S)
    assert preferred(guest) >= 2, "two pCPUs are free for it"


@pytest.fixture
def short() -> Scenario:
    scenario = read_scenario("compare_kernel_lock_self_managed")
    return dataclasses.replace(scenario, warmup_ns=S, duration_ns=19 * S)


def test_a_guest_that_steers_itself_is_left_alone_and_its_neighbour_is_not(
    short: Scenario,
) -> None:
    result = runner.run(short, policy=policy.load("adaptive", {}), hashed=False)
    assert {one.record.name for one in result.changes} == {"plain"}
    assert result.domains["steering"].mean_active_vcpus == 4


def test_who_does_not_steer_has_all_its_cpus_in_use_preferred(short: Scenario) -> None:
    world = World(short)
    world.engine.run_until(4 * S)
    steering, plain = world.residents["steering"], world.residents["plain"]
    assert preferred(steering.inhabitant) < 4 == preferred(plain.inhabitant)
    assert plain.governor is None


def test_a_guest_that_is_gone_steers_no_longer(short: Scenario) -> None:
    domains = tuple(
        dataclasses.replace(plan, departs_ns=2 * S if plan.steers else None)
        for plan in short.domains
    )
    world = World(dataclasses.replace(short, domains=domains))
    world.engine.run_until(5 * S)
    gone = world.departed["steering"]
    before = preferred(gone.inhabitant)
    assert before == 3, "one CPU was given up while it was there"
    world.engine.run_until(10 * S)
    assert preferred(gone.inhabitant) == before
