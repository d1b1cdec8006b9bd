"""The scenarios that come with vcpud cover what a comparison must cover."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from vcpud import cli
from vcpud.errors import UsageError
from vcpud.units import NS_PER_S
from vcpud_simulator import runner
from vcpud_simulator.catalogue import SCHEDULERS
from vcpud_simulator.laboratory.compare import states, suite, watched
from vcpud_simulator.platform import PLATFORMS
from vcpud_simulator.scenario import Kind, Lie, NoisePlan, Scenario
from vcpud_simulator.workloads.ammp import AmmpLike, Wait
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.phased import Phased

CLASSES = (
    Kind.UNCONTENDED,
    Kind.INSENSITIVE,
    Kind.KERNEL_LOCK,
    Kind.USER_SYNC,
    Kind.DYNAMIC,
)


@pytest.fixture(scope="module")
def scenarios() -> dict[str, Scenario]:
    return {key: suite.load(key) for key in suite.keys(quick=False)}


def test_there_are_thirty_and_six_of_each_class(scenarios: dict[str, Scenario]) -> None:
    assert len(scenarios) >= 30
    kinds = Counter(one.kind for one in scenarios.values())
    assert set(kinds) == set(CLASSES)
    assert min(kinds.values()) >= 6


def test_what_was_drawn_can_be_named_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert suite.drawn_keys(2, 5) == ("drawn_5_0", "drawn_5_1")
    assert suite.keys("drawn_5_1", "drawn_-2_0") == ("drawn_5_1", "drawn_-2_0")
    assert suite.load("drawn_5_1").name == "drawn_5_1"
    assert cli.main(["simulate", "drawn_5_1", "--duration", "1s", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["scenario"] == "drawn_5_1"


@pytest.mark.parametrize("name", ["drawn_5", "drawn_5_", "drawn_x_1", "drawn_1_2_3", "drawn_1_-1"])
def test_a_name_that_nothing_was_drawn_under_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="there are no scenarios called"):
        suite.keys(name)
    assert not suite.is_drawn(name)
    assert cli.main(["simulate", name]) == 3


def test_each_scheduler_of_a_real_system_decides_in_three(scenarios: dict[str, Scenario]) -> None:
    used = Counter(one.scheduler for one in scenarios.values())
    assert set(used) == set(SCHEDULERS) - {"round_robin"}
    assert min(used.values()) >= 3


def test_each_says_what_it_is_and_what_to_expect(scenarios: dict[str, Scenario]) -> None:
    for name, one in scenarios.items():
        assert one.title, name
        assert len(one.stands_for) > 30, name
        assert len(one.expectation) > 30, name
        assert name.removeprefix("compare_").startswith(str(one.kind)), name


def test_the_lock_beside_the_hog_is_there_on_four_schedulers(
    scenarios: dict[str, Scenario],
) -> None:
    mandatory = [one for one in scenarios.values() if "mandatory" in one.tags]
    assert {one.scheduler for one in mandatory} == {
        "credit", "credit2", "cfs_groups", "eevdf_groups",
    }  # fmt: skip
    for one in mandatory:
        locks, hog = one.domains
        assert (one.pcpus, locks.vcpus, hog.vcpus) == (8, 8, 8)
        assert isinstance(locks.workload, Descriptors)
        assert isinstance(hog.workload, GobmkLike)


def test_hosts_domains_overcommit_and_trouble_are_spread_out(
    scenarios: dict[str, Scenario],
) -> None:
    every = list(scenarios.values())
    assert {one.pcpus for one in every} >= {2, 4, 8, 16}
    assert sum(one.pcpus > 16 for one in every) >= 2
    assert max(sum(plan.copies for plan in one.domains) for one in every) == 64
    overcommit = [
        sum(plan.vcpus * plan.copies for plan in one.domains) / one.pcpus for one in every
    ]
    assert min(overcommit) == 0.5
    assert max(overcommit) >= 8
    assert {lie for one in every for plan in one.domains for lie in plan.lies} == set(Lie)
    assert any(plan.arrives_ns for one in every for plan in one.domains)
    tags = Counter(tag for one in every for tag in one.tags)
    assert tags["blind"] >= 3
    assert tags["stuck"] >= 2


def test_weights_caps_and_a_crowd_are_met_by_those_who_wait_for_locks_too(
    scenarios: dict[str, Scenario],
) -> None:
    for among in (
        list(scenarios.values()),
        [one for one in scenarios.values() if one.kind is Kind.KERNEL_LOCK],
    ):
        assert any(len({plan.weight for plan in one.domains}) > 1 for one in among)
        assert any(plan.cap_pcpus for one in among for plan in one.domains)
        assert any(sum(1 for _ in one.each()) > 4 for one in among)


def test_locks_differ(scenarios: dict[str, Scenario]) -> None:
    locks = Counter(
        load
        for one in scenarios.values()
        for plan in one.domains
        for load in loads(plan.workload)
        if isinstance(load, Descriptors)
    )
    assert len({(load.hold_ns, load.gap_ns, load.rounds, load.grain_ns) for load in locks}) >= 6
    assert len({load.lock for load in locks}) > 1
    assert max(locks.values()) <= locks.total() / 2, "none stands for all"


def loads(workload: Workload) -> Iterator[Workload]:
    if isinstance(workload, Phased):
        for phase in workload.phases:
            yield from loads(phase.workload)
    else:
        yield workload


def test_where_fewer_vcpus_would_cost_share_is_told(scenarios: dict[str, Scenario]) -> None:
    """As on a KVM host without groups; where nobody should be shrunk there is nothing to tell."""
    for name, one in scenarios.items():
        scheduler = SCHEDULERS[one.scheduler]()
        weighs = scheduler.weight_per_domain or PLATFORMS[one.platform].sets_weights
        calm = one.kind in (Kind.UNCONTENDED, Kind.INSENSITIVE)
        assert ("unweighted" in one.tags) is not (weighs or calm), name


def test_no_host_is_silent(scenarios: dict[str, Scenario]) -> None:
    steady = {key: suite.load(key) for key in watched.scenarios()}
    drawn = {key: suite.load(key) for key in suite.drawn_keys(50, 3)}
    for name, one in {**scenarios, **steady, **drawn}.items():
        assert one.noise.vcpus == one.pcpus, name
        busy = one.noise.burst_ns / (one.noise.burst_ns + one.noise.sleep_ns)
        assert 0.004 < busy < 0.02, name
        if name not in drawn:
            assert one.noise == NoisePlan(vcpus=one.pcpus), "one rule for all, not one for each"


def test_spinning_that_nothing_shows_is_called_blind(scenarios: dict[str, Scenario]) -> None:
    for name, one in scenarios.items():
        unseen = any(
            isinstance(plan.workload, AmmpLike)
            and plan.workload.wait in (Wait.ACTIVE, Wait.YIELDING)
            for plan in one.domains
        )
        if unseen and one.platform != "kvm-perf":
            assert "blind" in one.tags, name


def test_the_short_form_has_every_class() -> None:
    quick = [suite.load(key) for key in suite.keys(quick=True)]
    assert {one.kind for one in quick} == set(CLASSES)
    assert len(quick) <= 10


@pytest.mark.parametrize("name", ["dynamic_steps", "dynamic_steps_long"])
def test_neither_to_shrink_for_good_nor_to_do_nothing_is_right(name: str) -> None:
    """What is right beside a neighbour loses without it, and the other way round."""
    scenario = suite.load(f"compare_{name}")
    beside, alone = (0, 0), (0, 1)
    assert {one.state for one in states.stretches(scenario)} == {beside, alone}
    assert made(scenario, beside, vcpus=2) > 1.2 * made(scenario, beside, vcpus=4)
    assert made(scenario, alone, vcpus=4) > 1.5 * made(scenario, alone, vcpus=2)


def made(scenario: Scenario, state: states.State, *, vcpus: int) -> float:
    """What the first domain makes while every one there has so many vCPUs."""
    frozen = states.frozen(scenario, state)
    counts = {plan.name: vcpus for plan in frozen.each()}
    result = runner.run(frozen, assignment=counts, duration_ns=4 * NS_PER_S, hashed=False)
    return result.domains[next(frozen.each()).name].rate
