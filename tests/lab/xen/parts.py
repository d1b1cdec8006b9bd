"""What is measured in dom0 under one scheduler, and what each part must show."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lab import scenarios
from lab.board import Kind, Order
from lab.intervals import Bound
from lab.outcome import Outcome, report
from lab.plan import Scenario
from lab.xen import beside, estimate, overcommit
from lab.xen.books import note_use

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.xen.stage import XenStage

LOCK: Final = Order(kind=Kind.KERNEL_LOCK)
CURABLE: Final = 3.0
"""Where the best static count gives less than this, vcpud is held against that count instead."""
CURED: Final = Bound(figure="managed_over_unmanaged", limit=CURABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One comparison.

    Attributes:
        needs_s: Its share of the time.
        measure: Measures it.
    """

    needs_s: float
    measure: Callable[[XenStage], Outcome]


def kernel_lock(stage: XenStage, *, quick: bool) -> Outcome:
    """Two domains contend on a kernel lock; vcpud is started into the collapse."""
    scenario = Scenario(
        name="kernel_lock",
        guests="pair",
        orders={"x1": LOCK, "x2": LOCK},
        budget_s=150.0 if quick else 300.0,
        counts=(1,) if quick else (1, 2),
        bounds=(CURED,),
        collapsed=True,
        from_start=True,
    )
    with stage.books() as books:
        outcome = scenarios.run(stage, scenario)
    if CURABLE * outcome.intervals["unmanaged_over_best_static"].value > 1.0:
        outcome.verdicts.clear()
        outcome.judge((Bound(figure="managed_over_best_static", limit=0.85),))
        report(outcome)
    note_use(books, outcome, stage.bench.guests.values(), stage.pcpus)
    return outcome


def parts(scheduler: str, *, quick: bool) -> dict[str, Part]:
    """Return the comparisons of a run under a scheduler, in order; their names are the same under each."""
    lock = Part(
        needs_s=300.0 if quick else 420.0, measure=functools.partial(kernel_lock, quick=quick)
    )
    if quick:
        return {"kernel_lock": lock}
    return {
        "kernel_lock": lock,
        "beside": Part(needs_s=beside.needs_s(scheduler), measure=beside.measure),
        "estimator": Part(needs_s=estimate.NEEDS_S, measure=estimate.measure),
        "overcommit": Part(needs_s=overcommit.needs_s(scheduler), measure=overcommit.measure),
    }


def fits(stage: XenStage, needs_s: float) -> bool:
    """Whether half of what a part needs is left."""
    return stage.ends_s - time.monotonic() >= needs_s / 2
