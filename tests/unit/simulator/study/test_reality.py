"""Reading the lab's results, and judging simulated cells by them, on made-up figures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vcpud.errors import ConfigError
from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory.study import agreement, reality
from vcpud_simulator.laboratory.study.agreement import judge
from vcpud_simulator.laboratory.study.reality import Costs, Lab, Task, parse, read, tasks
from vcpud_simulator.runner import run


def cell(median: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {
        "median": median,
        "ci": [0.95 * median if low is None else low, 1.05 * median if high is None else high],
        "rates": [median] * 5,
    }


def results() -> dict[str, Any]:
    return {
        "commit": "0123456789abcdef",
        "host": {"kernel": "6.18.44-x", "pcpus": 2},
        "micro": {
            "compute": {"grain": 20_000, "rates": [18_000.0, 20_000.0]},
            "kernel_lock_bare": {"lock_rounds": 64, "rates": [5_000.0, 4_000.0]},
        },
        "grid": {
            "kernel_lock": {"4": cell(2.0), "2": cell(900.0), "1": cell(9_000.0)},
            "independent": {"4": cell(20_000.0), "1": cell(20_100.0)},
            "something_else": {"1": cell(1.0)},
        },
        "scenarios": {"user_spin_alone": {"static": {"2": 400.0, "4": 1_500.0}}},
    }


def rates(lab: Lab, rate: Callable[[str, int], float]) -> dict[Task, float]:
    return {task: rate(task.name, task.active) for task in tasks(lab, seeds=2)}


def real(name: str, active: int) -> float:
    grid = {
        "kernel_lock": {4: 2.0, 2: 900.0, 1: 9_000.0},
        "independent": {4: 20_000.0, 1: 20_100.0},
        "user_spin_alone": {2: 400.0, 4: 1_500.0},
    }
    return grid[name][active]


def test_costs_are_those_of_the_micro_benchmarks_and_nothing_else() -> None:
    costs = parse(results()).bench.costs
    assert costs.grain_ns == 50_000
    assert costs.rounds == 128
    assert costs.section_ns == round(200_000 / 128)


def test_the_host_has_the_scheduler_of_its_kernel() -> None:
    assert parse(results()).bench.scheduler == "eevdf_groups"
    older = results() | {"host": {"kernel": "6.1.0-56", "pcpus": 2}}
    assert parse(older).bench.scheduler == "cfs_groups"


def test_cells_come_from_the_grid_and_where_it_has_none_from_single_blocks() -> None:
    lab = parse(results())
    assert set(lab.cells) == {"kernel_lock", "independent", "user_spin_alone"}
    assert lab.cells["user_spin_alone"][2].high == math.inf


def test_the_world_agrees_with_itself() -> None:
    lab = parse(results())
    found = judge(lab, rates(lab, real))
    assert found.agrees
    assert (found.ordered, found.disordered) == (3, ())
    assert "9,000.0" in agreement.text(lab, found)
    document = json.loads(json.dumps(agreement.document(lab, found), allow_nan=False))
    assert document["order_judged"] == 3


def test_a_wrong_order_is_found_only_where_the_real_one_is_certain() -> None:
    lab = parse(results())

    def reversed_rates(name: str, active: int) -> float:
        if name == "kernel_lock" and active in {1, 2}:
            return {1: 8_000.0, 2: 8_500.0}[active]
        return 20_000.0 + active if name == "independent" else real(name, active)

    found = judge(lab, rates(lab, reversed_rates))
    assert found.disordered == (("kernel_lock", 1, 2),)
    assert not found.agrees


@pytest.mark.parametrize(
    ("name", "active", "factor", "agrees"),
    [
        ("independent", 4, 0.55, True),
        ("independent", 4, 0.45, False),
        ("kernel_lock", 4, 5.1, True),
        ("kernel_lock", 4, 5.4, False),
        ("kernel_lock", 2, 0.53, True),
        ("kernel_lock", 2, 0.47, False),
        ("user_spin_alone", 2, 1.9, True),
        ("user_spin_alone", 2, 2.1, False),
    ],
)
def test_ratios_may_differ_by_two_or_where_small_by_five_and_by_the_real_error(
    name: str, active: int, factor: float, agrees: bool
) -> None:
    document = results()
    document["grid"]["kernel_lock"]["2"] = cell(900.0, 890.0, 910.0)
    lab = parse(document)

    def off(task: str, count: int) -> float:
        return real(task, count) * (factor if (task, count) == (name, active) else 1.0)

    found = judge(lab, rates(lab, off))
    (chosen,) = (one for one in found.cells if (one.name, one.active) == (name, active))
    assert chosen.agrees is agrees


def test_nothing_to_compare_does_not_agree() -> None:
    empty = parse(results() | {"grid": {}, "scenarios": {}})
    assert not judge(empty, {}).agrees


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("", "not JSON"),
        ("[]", "nothing to compare with"),
        ("{}", "micro"),
        (json.dumps(results() | {"host": {}}), "kernel"),
        (json.dumps(results() | {"grid": {"kernel_lock": {"x": cell(1.0)}}}), "invalid literal"),
    ],
)
def test_a_file_that_is_no_result_of_the_lab_is_refused_by_name(
    tmp_path: Path, contents: str, words: str
) -> None:
    path = tmp_path / "lab.json"
    path.write_text(contents)
    with pytest.raises(ConfigError, match=words) as refused:
        read(path)
    assert str(path) in str(refused.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "lab.json")


@pytest.mark.parametrize("name", sorted(reality.ROWS))
def test_every_workload_of_the_lab_can_be_simulated(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = parse(results() | {"grid": {name: {"1": cell(1.0)}}, "scenarios": {}})
    (task,) = tasks(lab, seeds=1)
    scenario = reality.scenario(task)
    assert scenario.platform == "tcg"
    assert [plan.vcpus for plan in scenario.each()] == [4, 4]
    short = replace(scenario, warmup_ns=20_000_000, duration_ns=30_000_000)
    monkeypatch.setattr(reality, "scenario", lambda _: short)
    assert reality.simulate(task) > 0


def test_each_guest_at_work_brings_the_main_loop_of_its_emulator() -> None:
    bench = parse(results()).bench
    turns = {}
    for name in ("user_spin_alone", "user_spin_pair"):
        noise = reality.scenario(Task(name=name, active=4, bench=bench, seed=1)).noise
        turns[name] = noise.vcpus * NS_PER_S / noise.sleep_ns
    assert turns == {"user_spin_alone": 800, "user_spin_pair": 1_600}


def test_teams_that_spin_are_let_through_where_main_loops_have_the_host_choose_anew() -> None:
    bench = replace(parse(results()).bench, costs=Costs(grain_ns=34_000, section_ns=1, rounds=1))
    cell = reality.scenario(Task(name="user_spin_pair", active=4, bench=bench, seed=1))
    seldom = replace(
        cell.noise, burst_ns=10 * cell.noise.burst_ns, sleep_ns=10 * cell.noise.sleep_ns
    )
    rates = [
        sum(domain.rate for domain in run(world, hashed=False).domains.values())
        for world in (cell, replace(cell, noise=seldom))
    ]
    assert rates[0] > 1.3 * rates[1]
