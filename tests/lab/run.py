"""A whole run: which parts, in which order, within which time."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import libvirt
from lab import contest, cost, faults, grid, jobs, plan, scenarios, sitting
from lab.arms import ArmError
from lab.bench import Bench
from lab.board import BoardTimeoutError, Kind, Order
from lab.host import accelerator, describe_host, host_part
from lab.image import guest_image
from lab.intervals import Bound, Verdict
from lab.managed import VcpudError
from lab.outcome import Outcome
from lab.paths import BUILD
from lab.picture import draw, draw_contest
from lab.results import Results, commit
from lab.stage import Stage, say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

LOCK = Order(kind=Kind.KERNEL_LOCK)
INDEPENDENT = Order(kind=Kind.INDEPENDENT)
QUICK_SLACK = 10.0
QUICK_BOUNDS = (Bound(figure="managed_over_unmanaged", limit=20.0),)
"""Function and a loose factor, so that a noisy machine never blocks a good change."""


ON_REQUEST = {
    "micro": grid.LIMIT_S,
    "grid": grid.LIMIT_S,
    "contest": sitting.LIMIT_S,
    **{f"contest:{name}": lasts_s for name, lasts_s in sitting.SITTING_S.items()},
    "jobs": jobs.LIMIT_S,
}
"""Parts that only run when they are named, and what a run of them may last."""


FAILURES = (ArmError, BoardTimeoutError, VcpudError, libvirt.libvirtError)
"""The guests or vcpud are not in the state that was to be measured."""


def part_names() -> list[str]:
    """Return the names ``--only`` takes."""
    found = [scenario.name for scenario in plan.scenarios()]
    return [*found, "neighbour_leaves", "mixed", "cost", "faults", *faults.FAULTS, *ON_REQUEST]


def _stop(_number: int, _frame: object) -> None:
    sys.exit(1)


def run(options: argparse.Namespace) -> int:
    """Run the lab; returns the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    only = set(options.only.split(",")) if options.only else set()
    unknown = only - set(part_names())
    if unknown:
        say(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(part_names())}")
        return 2
    began_s = time.monotonic()
    image = guest_image()
    part = host_part(accelerator(os.environ.get("ACCEL", "tcg"), image))
    limit_s = (plan.QUICK_S if options.quick else plan.FULL_S) - (time.monotonic() - began_s)
    if only & ON_REQUEST.keys():
        limit_s = sum(ON_REQUEST[name] for name in only & ON_REQUEST.keys())
    with Bench() as bench:
        stage = Stage(bench, part, limit_s)
        stage.guests("pair")
        results = Results(host=describe_host(bench, part), quick=options.quick)
        if only:
            results.keep()
        if any(name.startswith("contest") for name in only):
            results.contest = sitting.kept(results.host)
        try:
            stage.slack = QUICK_SLACK if options.quick else 1.0
            work = _Run(stage, results)
            parts = work.parts(quick=options.quick)
            work.everything(_chosen(parts, only, quick=options.quick))
        finally:
            stage.end_vcpud()
            results.write()
    return results.summarise()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing a run does.

    Attributes:
        name: As ``--only`` takes it.
        needs_s: Its share of the time.
        extra: Whether it may be left out where time is short.
        do: Does it and records what it found.
    """

    name: str
    needs_s: float
    do: Callable[[], None]
    extra: bool = False


class _Run:
    def __init__(self, stage: Stage, results: Results) -> None:
        self._stage = stage
        self._results = results

    def parts(self, *, quick: bool) -> list[Part]:
        """Return every part of a full or a quick run, in order."""
        found = []
        for scenario in plan.scenarios():
            chosen = plan.quick(scenario, QUICK_BOUNDS) if quick else scenario
            do = functools.partial(scenarios.run, self._stage, chosen)
            part = self._scenario(chosen.name, chosen.budget_s, do)
            found.append(dataclasses.replace(part, extra=chosen.extra))
            if scenario.name == "kernel_lock":
                found.append(self._scenario("neighbour_leaves", plan.NEIGHBOUR_S, self._neighbour))
        found.append(self._scenario("mixed", plan.MIXED_S, self._mixed))
        found += [
            Part(name=name, needs_s=plan.FAULT_S[name], do=functools.partial(self._fault, name))
            for name in faults.FAULTS
        ]
        found.append(Part(name="cost", needs_s=plan.COST_S, do=self._cost))
        found.sort(key=lambda part: part.extra)
        found.append(Part(name="micro", needs_s=grid.MICRO_S, do=self._micro))
        found += [
            Part(name=f"grid {name}", needs_s=grid.GRID_S, do=functools.partial(self._grid, name))
            for name in grid.ROWS
        ]
        found += [
            Part(name=f"jobs {name}", needs_s=jobs.PART_S, do=functools.partial(self._job, name))
            for name in jobs.JOBS
        ]
        found += [
            Part(
                name=f"contest:{name}",
                needs_s=sitting.SITTING_S[name],
                do=functools.partial(self._contest, name),
            )
            for name in contest.PARTS
        ]
        return found

    def everything(self, parts: Sequence[Part]) -> None:
        """Run ``parts`` in order; one for which half of its time is not left is skipped."""
        for number, part in enumerate(parts):
            later = [one.needs_s for one in parts[number + 1 :] if not one.extra]
            self._stage.reserved_s = sum(later)
            if self._stage.left_s < part.needs_s / (1 if part.extra else 2):
                if not part.extra:
                    self._results.skipped.append(part.name)
                continue
            say(f"\n{part.name} ({part.needs_s:.0f} s of {self._stage.left_s:,.0f} s left)")
            part.do()
            self._results.write()

    def _scenario(self, name: str, needs_s: float, measure: Callable[[], Outcome]) -> Part:
        def do() -> None:
            try:
                outcome = measure()
            except FAILURES as error:
                # That scenario has failed, and the next one starts with fresh guests.
                say(f"  FAIL  {name}: {error}")
                outcome = Outcome(figures={"error": str(error)})
                outcome.verdicts[f"ran: {error}"] = Verdict.FAIL
                self._stage.start_over()
            self._results.scenarios[name] = outcome
            if outcome.moments:
                caption = "Two domains contend on a kernel lock; vcpud is started at 0"
                BUILD.mkdir(exist_ok=True)
                draw(outcome.moments, outcome.started_ns, BUILD / "lab.png", caption)

        return Part(name=name, needs_s=needs_s, do=do)

    def _neighbour(self) -> Outcome:
        return scenarios.neighbour_leaves(self._stage, {"g1": LOCK, "g2": LOCK})

    def _mixed(self) -> Outcome:
        return scenarios.mixed(self._stage, {"m1": LOCK, "m2": INDEPENDENT}, plan.MIXED_S)

    def _fault(self, name: str) -> None:
        found = faults.run_fault(self._stage, name, faults.FAULTS[name])
        self._results.faults[name] = found

    def _job(self, name: str) -> None:
        self._results.faults[name] = faults.run_fault(self._stage, name, jobs.JOBS[name])

    def _cost(self) -> None:
        self._results.cost = cost.run_cost(self._stage)

    def _micro(self) -> None:
        self._results.micro = grid.run_micro(self._stage)

    def _grid(self, name: str) -> None:
        self._results.grid[name] = grid.run_grid(self._stage, name)

    def _contest(self, name: str) -> None:
        try:
            found = sitting.run_part(self._stage, name, self._results.host)
        except FAILURES as error:
            say(f"  FAIL  {name}: {error}")
            verdicts = {f"ran: {error}": str(Verdict.FAIL)}
            found = {"commit": commit(), "error": str(error), "verdicts": verdicts}
            self._stage.start_over()
        self._results.contest[name] = found
        BUILD.mkdir(exist_ok=True)
        played = self._results.contest
        draw_contest(
            {part: played[part] for part in contest.PARTS if part in played},
            BUILD / "lab-contest.svg",
        )


def _chosen(parts: Sequence[Part], only: set[str], *, quick: bool) -> list[Part]:
    """Return the parts that were asked for: by name, or those of the quick run, or all."""
    if only:
        return [
            part
            for part in parts
            if part.name in only
            or re.split("[ :]", part.name)[0] in only
            or ("faults" in only and part.name in faults.FAULTS)
        ]
    if quick:
        return [part for part in parts if part.name in {"kernel_lock", *faults.FAULTS}]
    return [part for part in parts if re.split("[ :]", part.name)[0] not in ON_REQUEST]
