"""Drawn scenarios: over every parameter, but for those that are named here with a reason."""

from __future__ import annotations

import dataclasses
import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcpud_simulator.catalogue import LOCKS, SCHEDULERS, WORKLOADS
from vcpud_simulator.guest.costs import GuestConfig
from vcpud_simulator.guest.hotplug import HotplugCosts
from vcpud_simulator.host import HostCosts
from vcpud_simulator.laboratory.compare import states, suite
from vcpud_simulator.laboratory.compare.drawn import draw
from vcpud_simulator.laboratory.compare.tasks import digest
from vcpud_simulator.platform import PLATFORMS, Signal
from vcpud_simulator.scenario import (
    ActuationPlan,
    DomainPlan,
    Kind,
    NoisePlan,
    Pause,
    Scenario,
    SignalPlan,
    SignalsPlan,
    faults,
)
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.phased import Phase, Phased

CLASSES: Final = (
    Kind.UNCONTENDED,
    Kind.INSENSITIVE,
    Kind.KERNEL_LOCK,
    Kind.USER_SYNC,
    Kind.DYNAMIC,
)
NOT_DRAWN: Final[dict[type[Any], dict[str, str]]] = {
    Scenario: {
        "stands_for": "words for people, and nothing real: it is drawn",
        "expectation": "words for people; nobody expects anything of it",
        "seed": "of the chance in a run: a comparison gives each of its runs one",
        "duration_ns": "floors are promised over 600 s: all of them are as long",
    },
    GuestConfig: {
        "batch_locks": "how the simulator saves events; the guest is the same either way",
    },
    WORKLOADS["gobmk"]: {"unit_ns": "only the resolution at which its progress is counted"},
    WORKLOADS["bursty"]: {"unit_ns": "the same"},
}
NOT_TURNED: Final = {
    "boosting": "no Xen is without; it is there to show what boosting does",
    "groups": "is what tells cfs from cfs_groups, and eevdf from eevdf_groups",
    "siblings_apart": "is what tells cfs_balance from cfs_groups",
}
"""Options of schedulers."""
COMPILED_IN: Final = {"credit_xen32": {"slice_ns": "no parameter before Xen 4.2"}}


@pytest.fixture(scope="module")
def every() -> list[Scenario]:
    return [suite.load(key) for key in suite.drawn_keys(200, 1)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_drawn_scenarios_are_possible_and_drawn_again_the_same(seed: int, number: int) -> None:
    drawn = draw(seed, number)
    assert faults(drawn) == ()
    assert drawn.kind in CLASSES
    assert digest(draw(seed, number)) == digest(drawn)
    [key] = suite.drawn_keys(1, seed)
    assert suite.load(key) == draw(seed, 0)


def test_every_field_is_drawn_but_those_that_are_named_with_a_reason(
    every: list[Scenario],
) -> None:
    plans = [plan for one in every for plan in one.domains]
    signals = [one.signals for one in every]
    loads = [load for plan in plans for load in parts(plan.workload)]
    samples: dict[type[Any], list[Any]] = {
        Scenario: every,
        DomainPlan: plans,
        NoisePlan: [one.noise for one in every],
        ActuationPlan: [one.actuation for one in every],
        SignalsPlan: signals,
        SignalPlan: [one.of(signal) for one in signals for signal in Signal],
        Phase: [phase for one in loads if isinstance(one, Phased) for phase in one.phases],
        **{kind: [one for one in loads if type(one) is kind] for kind in WORKLOADS.values()},
    }
    for kind, found in samples.items():
        fixed = {name for name, values in drawn(kind, found).items() if len(values) < 2}
        assert fixed == set(NOT_DRAWN.get(kind, ())), kind


def test_ceilings_are_drawn_where_they_are_kept_and_nowhere_else(every: list[Scenario]) -> None:
    capped = {one.scheduler for one in every if any(plan.cap_pcpus for plan in one.domains)}
    assert capped <= {name for name, make in SCHEDULERS.items() if make().keeps_caps}
    assert {name[:6] for name in capped} == {"credit", "cfs_gr", "cfs_ba", "eevdf_"}


def drawn(kind: type[Any], found: Iterable[Any]) -> dict[str, set[str]]:
    """The values of each field; of containers and dataclasses it is their text that tells them apart."""
    values: defaultdict[str, set[str]] = defaultdict(set)
    for item in dataclasses.fields(kind):
        values[item.name] = {repr(getattr(one, item.name)) for one in found}
    return values


def parts(workload: Workload) -> Iterator[Workload]:
    yield workload
    for phase in workload.phases if isinstance(workload, Phased) else ():
        yield from parts(phase.workload)


def test_every_cost_and_every_setting_of_a_guest_is_drawn(every: list[Scenario]) -> None:
    of_guests = [plan.guest for one in every for plan in one.domains]
    for kinds, found in (
        ((GuestConfig,), of_guests),
        ((HostCosts, HotplugCosts), [one.costs for one in every]),
    ):
        for kind in kinds:
            for item in dataclasses.fields(kind):
                values = {one.get(item.name) for one in found}
                assert (len(values) > 2) is (item.name not in NOT_DRAWN.get(kind, ())), item.name


def test_every_knob_of_a_scheduler_is_turned() -> None:
    turned = defaultdict(set)
    for number in range(600):
        one = draw(2, number)
        for name, value in one.scheduler_options.items():
            turned[one.scheduler, name].add(value)
    for scheduler in set(SCHEDULERS) - {"round_robin"}:
        for name in inspect.signature(SCHEDULERS[scheduler]).parameters:
            left = name in NOT_TURNED or name in COMPILED_IN.get(scheduler, ())
            assert (len(turned[scheduler, name]) > 1) is not left, (scheduler, name)


def test_hosts_crowds_platforms_and_locks_are_spread_out(every: list[Scenario]) -> None:
    assert {one.pcpus for one in every} >= {2, 8, 16}
    assert max(sum(1 for _ in one.each()) for one in every) > 16
    overcommit = [sum(plan.vcpus for plan in one.each()) / one.pcpus for one in every]
    assert min(overcommit) < 1
    assert max(overcommit) > 6
    assert {one.platform for one in every} == set(PLATFORMS)
    assert {one.scheduler for one in every} == set(SCHEDULERS) - {"round_robin"}
    assert {one.kind for one in every} == set(CLASSES)
    assert {one.pause for one in every} == set(Pause)
    assert len({digest(one) for one in every}) == 200
    loads = [one for it in every for plan in it.domains for one in parts(plan.workload)]
    locks = [one for one in loads if type(one) is WORKLOADS["descriptors"]]
    assert {one.lock for one in locks} == set(LOCKS.values())  # type: ignore[attr-defined]
    assert len({repr(one) for one in locks}) == len(locks), "none is the suite's own"


def test_no_guest_on_esx_is_wider_than_its_host_and_on_others_some_are(
    every: list[Scenario],
) -> None:
    wide = {one.scheduler for one in every if max(d.vcpus for d in one.domains) > one.pcpus}
    assert wide
    assert not any(name.startswith("esx") for name in wide)


def test_tags_say_no_more_than_the_issue_excuses(every: list[Scenario]) -> None:
    for one in every:
        tags = set(one.tags)
        assert ("stuck" in tags) is (one.actuation != ActuationPlan()), "failing or slow"
        lost = any(one.signals.of(signal).loss_ratio for signal in Signal)
        missing = one.platform == "xen" or any(plan.missing for plan in one.domains)
        if lost or missing:
            assert "blind" in tags
        elif one.platform == "kvm-perf":
            assert "blind" not in tags, "what is late, old or noisy can be seen"
        weighs = SCHEDULERS[one.scheduler](**one.scheduler_options).weight_per_domain
        weighs = weighs or PLATFORMS[one.platform].sets_weights
        assert ("unweighted" in tags) is not weighs


def test_half_of_the_drawn_scenarios_count_for_every_claim(every: list[Scenario]) -> None:
    assert sum(not {"blind", "stuck"} & set(one.tags) for one in every) >= 80


def test_what_the_oracle_looks_at_is_short(every: list[Scenario]) -> None:
    assert max(map(states.cycle_ns, every)) <= 60_000_000_000
    assert max(len({part.state for part in states.stretches(one)}) for one in every) <= 30
