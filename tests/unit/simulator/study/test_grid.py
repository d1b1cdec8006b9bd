from __future__ import annotations

from dataclasses import replace

import pytest

from vcpud_simulator.laboratory.study.cells import (
    GOBMK,
    PCPUS,
    Cell,
    Job,
    Kind,
    System,
    Wait,
    assignments,
    same_run,
)
from vcpud_simulator.laboratory.study.grid import FULL, QUICK, Plan


def cell(system: System = System.XEN, *, width: int = 4, overcommit: int = 2) -> Cell:
    return Cell(job=GOBMK, system=system, width=width, overcommit=overcommit)


def test_the_table_is_the_whole_grid() -> None:
    table = FULL.table()
    assert len(table) == len(set(table)) == 16 * 4 * 6 * 4
    assert {one.job.grain_ms for one in table} == {0, 1, 3, 10, 30, 100}


@pytest.mark.parametrize("plan", [FULL, QUICK])
def test_every_managed_cell_has_its_unmanaged_one_and_every_platform_is_tried(plan: Plan) -> None:
    cells = set(plan.cells())
    for managed in (one for one in cells if one.system.managed):
        before = System.XEN if managed.system is System.XEN_VCPUD else System.KVM
        assert managed.on(before) in cells
    assert {"xen-reporter", "kvm-perf"} <= {one.platform for one in cells if one.system.managed}


@pytest.mark.parametrize("width", FULL.widths)
def test_domains_come_as_near_to_the_overcommit_as_they_can(width: int) -> None:
    assert cell(width=width, overcommit=1).vcpus <= PCPUS
    for overcommit in (2, 3, 4):
        vcpus = cell(width=width, overcommit=overcommit).vcpus
        assert abs(vcpus - overcommit * PCPUS) <= width / 2


def test_cells_the_product_did_not_allow_are_marked() -> None:
    assert not cell(System.ESX_RELAXED, width=4).extrapolated
    assert cell(System.ESX_RELAXED, width=6).extrapolated
    assert cell(System.ESX_STRICT, width=3).extrapolated
    assert not cell(System.XEN, width=8).extrapolated


def test_a_team_of_one_never_waits_and_is_run_once() -> None:
    waits = [
        replace(cell(width=1), job=Job(kind=Kind.AMMP, grain_ms=1, wait=wait))
        for wait in (Wait.ACTIVE, Wait.SPIN, Wait.PASSIVE)
    ]
    assert len({same_run(one) for one in waits}) == 1


def test_relaxed_is_strict_where_pcpus_suffice_and_only_there() -> None:
    relaxed = cell(System.ESX_RELAXED, overcommit=1)
    assert same_run(relaxed).system is System.ESX_STRICT
    assert same_run(cell(System.ESX_RELAXED)).system is System.ESX_RELAXED
    assert same_run(replace(relaxed, noise=True)).system is System.ESX_RELAXED


def test_a_thinner_grid_has_only_what_was_asked_for() -> None:
    assert FULL.only() is FULL
    thin = FULL.only(widths=(2,), overcommits=(2,), grains_ms=(10,))
    assert {(one.width, one.overcommit) for one in thin.table()} == {(2, 2)}
    assert {one.job.grain_ms for one in thin.cells() if one.pcpus == PCPUS} == {0, 10}


def test_static_assignments_are_all_equal_ones_and_the_one_that_fills_the_host() -> None:
    assert assignments(cell()) == [(1,) * 4, (2,) * 4, (3,) * 4, (4,) * 4]
    assert assignments(cell(width=2)) == [(1,) * 8, (2,) * 8]
    wide = assignments(cell(width=8, overcommit=3))
    assert (3, 3, 2) in wide
    assert all(sum(found) == PCPUS for found in wide if len(set(found)) > 1)
