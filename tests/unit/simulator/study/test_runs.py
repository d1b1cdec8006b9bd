"""Cells really simulated, for fractions of a second."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vcpud.units import NS_PER_MS, NS_PER_S
from vcpud_simulator.laboratory.study.cells import (
    GOBMK,
    KERNEL_LOCK,
    KERNEL_PCPUS,
    Cell,
    Job,
    Kind,
    System,
    Wait,
    same_run,
)
from vcpud_simulator.laboratory.study.grid import FULL, Timing
from vcpud_simulator.laboratory.study.runs import (
    Reading,
    Run,
    effort,
    fair_rate,
    measure,
    run_of,
    scenario,
)
from vcpud_simulator.scenario import faults

ACTIVE = Job(kind=Kind.AMMP, grain_ms=10, wait=Wait.ACTIVE)


def cell(job: Job = ACTIVE, system: System = System.XEN, *, overcommit: int = 2) -> Cell:
    return Cell(job=job, system=system, width=4, overcommit=overcommit)


def short(chosen: Cell, *, warmup_ms: int = 2_100, window_ms: int = 400, policy: str = "") -> Run:
    return Run(
        cell=chosen,
        seed=1,
        warmup_ns=warmup_ms * NS_PER_MS,
        window_ns=window_ms * NS_PER_MS,
        policy=policy,
    )


def bare(job: Job = ACTIVE) -> Reading:
    return measure(short(cell(job).bare, warmup_ms=100, window_ms=1_000))


def test_every_cell_of_the_study_is_a_possible_scenario() -> None:
    for one in FULL.cells()[::23]:
        for chosen in (one, one.bare):
            run = run_of(chosen, 1, FULL.timing, policy="static")
            assert not faults(scenario(run)), str(chosen)


def test_managed_cells_have_longer_to_settle_and_the_same_window() -> None:
    timing = Timing()
    managed, unmanaged = (
        run_of(cell(system=system), 1, timing, policy="static")
        for system in (System.XEN_VCPUD, System.XEN)
    )
    assert managed.warmup_ns - unmanaged.warmup_ns == timing.settle_ns
    assert managed.window_ns == unmanaged.window_ns == 10 * NS_PER_S
    assert (managed.policy, unmanaged.policy) == ("static", "")


def test_the_same_domains_arrive_at_the_same_instants_on_every_system() -> None:
    arrivals = {
        tuple(plan.arrives_ns for plan in scenario(short(cell(system=system))).each())
        for system in (System.XEN, System.ESX_STRICT, System.XEN_VCPUD)
    }
    assert len(arrivals) == 1
    (instants,) = arrivals
    assert len(set(instants)) == len(instants) > 2


def test_independent_work_gets_its_fair_share_on_xen() -> None:
    chosen = cell(GOBMK)
    assert measure(short(chosen)).rate / fair_rate(chosen, None) == pytest.approx(1.0, abs=0.03)


def test_spinning_work_collapses_on_xen_only_when_it_is_overcommitted() -> None:
    undisturbed = bare()
    crowded, fits = (
        measure(short(chosen)).rate / fair_rate(chosen, undisturbed)
        for chosen in (cell(), cell(overcommit=1))
    )
    assert crowded < 0.75
    assert fits == pytest.approx(1.0, abs=0.05)


def test_relaxed_co_scheduling_is_strict_where_pcpus_suffice() -> None:
    relaxed = cell(system=System.ESX_RELAXED, overcommit=1)
    assert same_run(relaxed).system is System.ESX_STRICT
    found = [measure(short(chosen, window_ms=100)) for chosen in (relaxed, same_run(relaxed))]
    assert found[0] == found[1]


def test_a_team_of_one_does_the_same_however_it_waits() -> None:
    found = [
        measure(
            short(
                replace(cell(Job(kind=Kind.AMMP, grain_ms=10, wait=wait)), width=1),
                window_ms=100,
            )
        )
        for wait in (Wait.ACTIVE, Wait.PASSIVE, Wait.SPIN)
    ]
    assert found[0].rate == found[1].rate == found[2].rate
    assert found[0].useful_pcpus == pytest.approx(found[1].useful_pcpus, rel=1e-4)


def test_kernel_locks_are_normalised_by_one_thread_that_nobody_disturbs() -> None:
    chosen = Cell(job=KERNEL_LOCK, system=System.XEN, width=4, overcommit=4, pcpus=KERNEL_PCPUS)
    assert chosen.domains == 2
    alone = measure(short(chosen.bare, warmup_ms=10, window_ms=100))
    assert fair_rate(chosen, alone) == pytest.approx(2 * alone.rate)


def test_vcpud_is_run_by_its_own_loop_and_a_policy_that_does_nothing_changes_nothing() -> None:
    chosen = cell(GOBMK, System.XEN_VCPUD)
    chosen = replace(chosen, platform="xen-reporter")
    found = measure(short(chosen, policy="static"))
    assert found.changes == 0
    assert found.active_vcpus == pytest.approx(chosen.vcpus)


def test_to_keep_all_vcpus_is_the_run_without_an_assignment() -> None:
    timing = Timing()
    plain = run_of(cell(), 1, timing, policy="static")
    assert run_of(cell(), 1, timing, policy="static", counts=(4,) * 4) == plain
    assert run_of(cell(), 1, timing, policy="static", counts=(4, 4, 4, 3)) != plain


def test_dear_runs_are_known_to_be_so() -> None:
    cheap, dear = (
        short(cell(Job(kind=Kind.AMMP, grain_ms=grain, wait=wait), system))
        for grain, wait, system in (
            (100, Wait.ACTIVE, System.XEN),
            (1, Wait.PASSIVE, System.ESX_STRICT),
        )
    )
    assert effort(dear) > 5 * effort(cheap)


def test_a_static_assignment_is_kept_from_the_first_instant_to_the_last() -> None:
    chosen = replace(short(cell()), counts=(2, 2, 3, 1))
    found = measure(chosen)
    assert found.active_vcpus == pytest.approx(8.0)
    assert found.changes == 0


def test_without_its_undisturbed_rate_a_cell_has_no_fair_one() -> None:
    with pytest.raises(ValueError, match="undisturbed"):
        fair_rate(cell(), None)
