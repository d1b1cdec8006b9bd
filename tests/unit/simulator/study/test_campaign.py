"""What is simulated in which order, with a simulator that is made up."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import takewhile

import pytest

from unit.simulator.study.made_up import DONE, measured
from vcpud_simulator.laboratory.study import campaign, document
from vcpud_simulator.laboratory.study.campaign import SCREENING_SEED, Campaign
from vcpud_simulator.laboratory.study.cells import Kind, System, Wait
from vcpud_simulator.laboratory.study.grid import QUICK
from vcpud_simulator.laboratory.study.judging import Claim
from vcpud_simulator.laboratory.study.runs import Reading, Run, effort
from vcpud_simulator.laboratory.study.table import Cost, Table

PLAN = replace(QUICK, most_seeds=5)


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    DONE.clear()
    monkeypatch.setattr(campaign, "measure", measured)


def run() -> tuple[Table, tuple[Claim, ...]]:
    return Campaign(plan=PLAN, policy="static", jobs=1).run()


def test_what_a_study_took_is_added_up_over_all_its_runs() -> None:
    one = Campaign(plan=PLAN, policy="static", jobs=1)
    one.run()
    assert one.cost.runs == len(DONE)
    assert one.cost.cpu_s == pytest.approx(0.25 * len(DONE))
    simulated_ns = sum(run.warmup_ns + run.window_ns for run in DONE)
    assert one.cost.simulated_s == pytest.approx(simulated_ns / 1e9)


def test_every_cell_gets_its_seeds_and_nothing_is_simulated_twice() -> None:
    table, claims = run()
    assert set(table.rows) == set(PLAN.cells())
    assert min(len(row.shares) for row in table) == PLAN.seeds
    assert len(DONE) == len(set(DONE))
    assert [claim.id for claim in claims] == ["S1", "S2", "S3", "S4", "S5"]


def test_first_seeds_of_all_cells_come_before_second_ones() -> None:
    run()
    grid = [one.seed for one in DONE if one.counts is None and one.seed <= PLAN.seeds]
    assert grid == sorted(grid)


def test_of_a_seed_the_longest_runs_come_first() -> None:
    run()
    efforts = [effort(one) for one in takewhile(lambda one: one.seed == 1, DONE)]
    assert len(efforts) > 20
    assert efforts == sorted(efforts, reverse=True)
    assert efforts[0] > efforts[-1]


def test_static_assignments_are_chosen_by_other_runs_than_they_are_measured_in() -> None:
    table, _ = run()
    assert table.statics
    for cell, static in table.statics.items():
        assert set(static.counts) == {2 if cell.width > 2 else 1}
        assert len(static.shares) == len(table.rows[cell].shares)
        assert static.tried == cell.width
    tried = [one for one in DONE if one.seed == SCREENING_SEED]
    assert {one.window_ns for one in tried} == {PLAN.timing.screen_ns}
    assert {len({*(one.counts or ())}) for one in tried} >= {0, 1}, "all vCPUs are tried too"


def test_only_what_vcpud_is_judged_by_is_searched_for_static_assignments() -> None:
    table, _ = run()
    waits = {cell.job.wait for cell in table.statics if cell.system is System.XEN}
    assert Wait.ACTIVE not in waits
    assert Wait.SPIN in waits
    assert all(cell.overcommit > 1 for cell in table.statics)


def test_a_cell_that_straddles_a_bound_gets_more_seeds_with_what_it_is_paired_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def shaky(run: Run) -> Reading:
        cell = run.cell
        found = measured(run)
        if cell.job.kind is Kind.GOBMK and cell.system is System.XEN and cell.width == 2:
            return replace(found, rate=found.rate * (0.97 + 0.02 * ((run.seed * 3) % 5 - 2)))
        return found

    monkeypatch.setattr(campaign, "measure", shaky)
    table, _ = run()
    chosen = [row for row in table if len(row.shares) == PLAN.most_seeds]
    assert any(row.cell.system is System.XEN and row.cell.width == 2 for row in chosen)
    managed = [row for row in chosen if row.cell.system is System.XEN_VCPUD]
    assert managed
    assert all(table.unmanaged(row.cell) in {one.cell for one in chosen} for row in managed)
    assert len(chosen) < len(table.rows) / 2


def test_a_cell_that_only_more_seeds_show_slowed_is_searched_for_static_assignments_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def late(run: Run) -> Reading:
        cell = run.cell
        found = measured(run)
        if cell.job.wait is not Wait.PASSIVE or cell.overcommit == 1 or run.counts is not None:
            return found
        if run.seed > PLAN.seeds:
            return replace(found, rate=found.rate / 2)
        return replace(found, rate=found.rate * (1 - 0.03 * cell.system.managed * run.seed))

    monkeypatch.setattr(campaign, "measure", late)
    table, claims = run()
    slowed = [cell for cell in table.statics if cell.job.wait is Wait.PASSIVE]
    assert slowed
    assert {len(table.statics[cell].shares) for cell in slowed} == {PLAN.most_seeds}
    assert claims[-1].id == "S5"


def test_the_study_is_written_in_the_agreed_shape_and_every_cell_is_printed() -> None:
    table, claims = run()
    outcome = document.Outcome(
        plan=PLAN,
        policy="static",
        table=table,
        claims=claims,
        wall_s=1.0,
        cost=Cost(runs=3, simulated_s=60.0, cpu_s=2.5),
    )
    found = json.loads(json.dumps(document.document(outcome), allow_nan=False))
    assert {"claims", "cells"} <= set(found)
    assert len(found["cells"]) == len(table.rows)
    assert all(low is None or low <= cell["share_of_fair"] for cell in found["cells"]
               for low in cell["share_of_fair_ci"][:1])  # fmt: skip
    assert any("best_static" in cell for cell in found["cells"])
    assert (found["runs"], found["simulated_s"], found["cpu_s"]) == (3, 60.0, 2.5)
    assert found["resumed"] is False
    text = document.text(outcome)
    for word in ("gobmk-like", "ammp-like 10 ms active", "With host noise", "S5", "best 2"):
        assert word in text
    assert max(len(line) for line in text.splitlines()) < 160
