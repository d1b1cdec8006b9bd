"""A simulator that is made up: what it says of a cell is known, and it takes no time."""

from __future__ import annotations

from vcpud_simulator.laboratory.study.cells import Kind, System, Wait
from vcpud_simulator.laboratory.study.runs import Reading, Run, fair_rate

DONE: list[Run] = []


def share(run: Run) -> float:
    """Collapsed when overcommitted and spinning; cured by two active vCPUs each."""
    cell = run.cell
    shaken = 1 + 0.0005 * ((run.seed * 7) % 5 - 2)
    if run.counts is not None:
        return shaken * (0.9 if set(run.counts) == {2} else 0.5)
    if cell.system in {System.ESX_RELAXED, System.ESX_STRICT}:
        return 0.95 * shaken
    collapsed = (
        cell.job.kind is Kind.AMMP and cell.overcommit > 1 and cell.job.wait is not Wait.PASSIVE
    )
    if not collapsed:
        return 0.995 * shaken
    return shaken * (0.85 if cell.system.managed and cell.job.wait is Wait.SPIN else 0.3)


def measured(run: Run) -> Reading:
    DONE.append(run)
    bare = run.cell.system is System.BARE
    unit = reading(1.0)
    rate = 1.0 if bare else share(run) * fair_rate(run.cell, unit)
    return reading(rate, run.cell.domains)


def reading(rate: float, domains: int = 1) -> Reading:
    return Reading(
        rate=rate,
        worst_rate=rate / domains,
        useful_pcpus=1.0,
        spin_pcpus=0.5,
        run_delay_pcpus=0.25,
        active_vcpus=4.0,
        changes=1,
        cpu_s=0.25,
    )
