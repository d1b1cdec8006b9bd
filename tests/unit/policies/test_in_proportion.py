"""Where weight counts per vCPU and cannot be set: what `adaptive` and the guard make of it together."""

from __future__ import annotations

from dataclasses import replace

from fakes.host import FakeDomain
from unit.loop.test_control import ENFORCE, Rig
from vcpud.model import Mode, ShareUnit
from vcpud.policy import load
from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory.reading import read_scenario
from vcpud_simulator.runner import RunResult, run
from vcpud_simulator.scenario import Scenario
from vcpud_simulator.workloads.bursty import Bursty


def managed(scenario: Scenario, seconds: int) -> RunResult:
    return run(
        scenario,
        policy=load("adaptive", {}),
        policy_name="adaptive",
        hashed=False,
        duration_ns=seconds * NS_PER_S,
    )


def ends(result: RunResult) -> dict[str, int]:
    return {name: points[-1].active_vcpus for name, points in result.timeline.items() if points}


def test_those_who_wait_for_locks_give_up_the_same_part_and_keep_their_shares() -> None:
    scenario = read_scenario("compare_kernel_lock_no_groups")
    alone = run(scenario, hashed=False, duration_ns=10 * NS_PER_S)
    result = managed(scenario, 10)
    assert ends(result) == {"db": 1, "mail": 1}
    for name, one in result.domains.items():
        assert one.rate > 5 * alone.domains[name].rate
        assert one.run_pcpus > 0.97 * alone.domains[name].run_pcpus


def test_a_neighbour_goes_along_even_while_it_idles_and_has_its_share_when_it_does_not() -> None:
    scenario = read_scenario("compare_dynamic_no_groups")
    [locks, worker] = scenario.domains
    soon = replace(worker, workload=Bursty(period_ns=16 * NS_PER_S, offset_ns=8 * NS_PER_S))
    scenario = replace(scenario, domains=(locks, soon))
    alone = run(scenario, hashed=False, duration_ns=13 * NS_PER_S)
    result = managed(scenario, 13)
    assert ends(result) == {"locks": 2, "worker": 1}
    assert result.domains["locks"].rate > 3 * alone.domains["locks"].rate
    assert result.domains["worker"].rate > 0.97 * alone.domains["worker"].rate


def test_what_was_given_up_is_given_back_when_somebody_comes_who_may_not_be_changed() -> None:
    scenario = read_scenario("compare_kernel_lock_no_groups")
    [db, mail] = scenario.domains
    guest = replace(db, name="guest", mode=Mode.OBSERVE, arrives_ns=15 * NS_PER_S)
    result = managed(replace(scenario, domains=(db, mail, guest)), 30)
    assert any(change.record.to_vcpus == 1 for change in result.changes)
    assert ends(result) == {"db": 4, "mail": 4, "guest": 4}


def test_who_cannot_be_changed_keeps_nobody_from_growing() -> None:
    a, b = (
        FakeDomain(name=name, vcpus=4, lock_bound=True, terms=ENFORCE, share_unit=ShareUnit.VCPU)
        for name in "ab"
    )
    rig = Rig(a, b, pcpus=4)
    rig.settings = replace(rig.settings, policy=load("adaptive", {}), policy_name="adaptive")
    rig.loop = rig.new_loop()
    rig.cycles(30)
    assert (len(a.online), len(b.online)) == (2, 2)
    b.hung = True
    rig.cycles(20)
    assert (len(a.online), len(b.online)) == (4, 2)
    assert not [stop for record in rig.recorder.records for stop in record.blocked]
