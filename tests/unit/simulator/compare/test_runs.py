"""One run of a comparison: as it is asked for, on the simulated host itself."""

from __future__ import annotations

import dataclasses

from unit.simulator.compare.made_up import S
from vcpud_simulator.laboratory.compare import runs, unmanaged
from vcpud_simulator.laboratory.compare.tasks import Hold, Task
from vcpud_simulator.laboratory.reading import read_scenario


def test_weights_are_compensated_only_where_they_count_per_vcpu_and_can_be_set() -> None:
    scenario = read_scenario("demo")
    counts = {"mail": 1, "build": 4}
    assert unmanaged.compensated(scenario, counts) is scenario
    unheard = dataclasses.replace(scenario, scheduler="cfs")
    assert unmanaged.compensated(unheard, counts) is unheard
    per_vcpu = dataclasses.replace(scenario, scheduler="credit2", platform="xen")
    weights = [one.weight for one in unmanaged.compensated(per_vcpu, counts).domains]
    assert weights == [4 * 256, 256]


def test_a_held_back_decision_leaves_the_domain_as_it_was() -> None:
    task = Task(
        key="demo",
        digest="",
        seed=1,
        duration_ns=7 * S,
        policy="spin_feedback",
    )
    free = runs.perform(task)
    assert free.decisions
    decision = free.decisions[0]
    hold = Hold(names=decision.names, from_ns=decision.at_ns, until_ns=10 * S)
    held = runs.perform(dataclasses.replace(task, hold=hold))
    whose = decision.names[0]
    assert dict(held.finals[-1][1])[whose] == 4
    assert dict(free.finals[-1][1])[whose] < 4
    before = decision.at_ns // S
    assert held.work[whose][: before - 1] == free.work[whose][: before - 1], "the same until then"


def test_a_script_is_followed_and_pays_for_it() -> None:
    task = Task(
        key="demo",
        digest="",
        seed=1,
        duration_ns=9 * S,
        script=((0, (("mail", 1), ("build", 1))), (8 * S, (("mail", 1), ("build", 3)))),
    )
    outcome = runs.perform(task)
    assert dict(outcome.finals[-1][1]) == {"mail": 1, "build": 3}, (
        "every step of it, not the first alone"
    )
    assert outcome.work["mail"][0][2] < outcome.work["mail"][6][2] / 2


def test_what_its_answers_needed_is_told_of_a_guest_that_is_asked() -> None:
    task = Task(key="demo", digest="", seed=1, duration_ns=20 * S, policy="static")
    outcome = runs.perform(task)
    assert outcome.changes == ()
    for name in ("mail", "build"):
        assert 0 < outcome.answering_pcpus[name] < 0.01 * outcome.run_pcpus[name]
    assert runs.perform(dataclasses.replace(task, policy="")).answering_pcpus == {}
