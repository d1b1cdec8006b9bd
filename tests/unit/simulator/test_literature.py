"""Published findings: sign and order on shortened runs; simulator/README.md has the whole ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vcpud_simulator.laboratory.statistics import Interval, ratio
from vcpud_simulator.meter import DomainResult
from vcpud_simulator.reading import find_scenario, read_scenario, scenario_names
from vcpud_simulator.runner import run
from vcpud_simulator.scenario import Kind, Scenario
from vcpud_simulator.trace import Kind as Event

MS = 1_000_000
NAMES = [name for name in scenario_names() if name.startswith("literature_")]


def scenario(name: str, warmup_ms: int, ms: int) -> Scenario:
    found = read_scenario(find_scenario(f"literature_{name}"))
    return replace(found, warmup_ns=warmup_ms * MS, duration_ns=ms * MS)


def domain(shortened: Scenario, seed: int, name: str) -> DomainResult:
    return run(shortened, seed=seed).domains[name]


class Dispatches:
    """Counts context switches of the host."""

    def __init__(self) -> None:
        self.count = 0

    def record(self, when_ns: int, kind: int, vcpu: int, place: int) -> None:  # noqa: ARG002
        self.count += kind == Event.DISPATCH


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_of_the_literature_says_its_source_and_what_was_found(name: str) -> None:
    found = read_scenario(find_scenario(name))
    assert found.kind is Kind.LITERATURE
    assert found.title.startswith(name.split("_")[1].upper() + ":")
    assert any(source in found.stands_for for source in ("commit", "EuroSys", "20"))
    assert found.expectation


def test_l12_a_rogue_takes_nearly_all_only_with_sampled_debit() -> None:
    sampled = domain(scenario("l12_sampled", 1_000, 3_000), 1, "rogue").run_pcpus
    accurate = domain(scenario("l12_accurate", 1_000, 3_000), 1, "rogue").run_pcpus
    assert sampled >= 0.85
    assert accurate <= 1.1 * 0.5


def computed(found: Scenario, seed: int, trace: Dispatches | None = None) -> float:
    """What the two guests that compute get done; those that serve answer every request."""
    domains = run(found, seed=seed, trace=trace).domains
    return domains["busy-1"].rate + domains["busy-2"].rate


def test_l11_the_rate_limit_saves_context_switches_and_gets_more_done() -> None:
    switches, work = [], []
    for seed in (1, 2, 3):
        limited, free = Dispatches(), Dispatches()
        work.append(
            (
                computed(scenario("l11_on", 100, 300), seed, limited),
                computed(scenario("l11_off", 100, 300), seed, free),
            )
        )
        switches.append((limited.count, free.count))
    assert ratio(switches).high < 1
    assert ratio(work).low > 1


def test_l11_gets_hardly_more_done_where_there_are_no_caches_to_lose() -> None:
    def cacheless(name: str) -> Scenario:
        found = scenario(name, 100, 300)
        return replace(found, domains=tuple(replace(plan, guest={}) for plan in found.domains))

    assert computed(cacheless("l11_on"), 1) / computed(cacheless("l11_off"), 1) < 1.02


def files(seeds: tuple[int, ...]) -> Interval:
    aware, unaware = scenario("l5_files_aware", 20, 40), scenario("l5_files_unaware", 20, 40)
    return ratio(
        [(domain(aware, n, "guest").rate, domain(unaware, n, "guest").rate) for n in seeds]
    )


def test_l5_who_knows_of_preempted_vcpus_copies_more() -> None:
    assert files((1, 2, 3)).low > 1.3


def test_l4_each_of_three_guests_gets_less_than_a_third() -> None:
    def each(name: str, seed: int) -> float:
        domains = run(scenario(name, 20, 20), seed=seed).domains
        return sum(found.rate for found in domains.values()) / len(domains)

    pairs = [(each("l4_three", seed), each("l4_one", seed)) for seed in (1, 2)]
    assert ratio(pairs).high < 1 / 3


def test_l3_keeping_siblings_apart_shortens_responses_and_gets_as_much_done_as_co_scheduling() -> (
    None
):
    sooner, as_much = [], []
    for seed in (1, 2, 3):
        balance, cfs, together = (
            domain(scenario(f"l3_{word}", 2_000, 5_000), seed, "server")
            for word in ("balance", "cfs", "coscheduled")
        )
        sooner.append((balance.responses_ns[95], cfs.responses_ns[95]))
        as_much.append((balance.rate, together.rate))
    assert ratio(sooner).high < 0.8
    assert ratio(as_much).low > 0.98


def test_l3_siblings_gather_on_one_pcpu_only_where_wakers_draw() -> None:
    found = scenario("l3_cfs", 2_000, 5_000)
    stays = replace(found, scheduler_options={})
    drawn, stayed = (domain(one, 1, "server").responses_ns[95] for one in (found, stays))
    assert drawn > 1.5 * stayed
