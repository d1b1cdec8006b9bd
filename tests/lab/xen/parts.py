"""What is measured in dom0 under one scheduler, and what each part must show."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lab import scenarios
from lab.board import Kind, Order
from lab.intervals import Bound, ratio
from lab.plan import Scenario
from lab.xen import estimate, overcommit
from lab.xen.books import DOM0, CpuBooks, note_use

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.cells import Block
    from lab.scenarios import Outcome
    from lab.xen.stage import XenStage

LOCK: Final = Order(kind=Kind.KERNEL_LOCK)
INDEPENDENT: Final = Order(kind=Kind.INDEPENDENT)
CURABLE: Final = 3.0
"""Where the best static count gives less than this, vcpud is held against that count instead."""
CURED: Final = Bound(figure="managed_over_unmanaged", limit=CURABLE)
SHARE_LIMIT: Final = 0.95
BESIDE_S: Final = 200.0


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
    with CpuBooks(stage.xen) as books:
        outcome = scenarios.run(stage, scenario)
    if CURABLE * outcome.intervals["unmanaged_over_best_static"].value > 1.0:
        outcome.verdicts.clear()
        outcome.judge((Bound(figure="managed_over_best_static", limit=0.85),))
        scenarios.report(outcome)
    note_use(books, outcome, stage.bench.guests.values(), stage.pcpus)
    return outcome


def beside(stage: XenStage) -> Outcome:
    """A domain of independent work beside one that contends on a kernel lock."""
    bounds = (Bound(figure="independent_managed_over_unmanaged", limit=SHARE_LIMIT),)
    with CpuBooks(stage.xen) as books:
        outcome = scenarios.mixed(stage, {"x1": LOCK, "x2": INDEPENDENT}, BESIDE_S, bounds)
    note_use(books, outcome, stage.bench.guests.values(), stage.pcpus)
    # The weight of each vCPU counts: the shrunk domain's share would shrink with it, were it not raised.
    shares = {
        "independent_share_managed_over_unmanaged": "x2",
        "lock_share_managed_over_unmanaged": "x1",
    }
    for figure, name in shares.items():
        pairs = _share_pairs(stage, books, outcome, name)
        outcome.figures[f"{figure}_pairs"] = pairs
        if pairs:
            outcome.record(figure, ratio(pairs))
    outcome.judge([Bound(figure=figure, limit=SHARE_LIMIT) for figure in shares])
    scenarios.report(outcome)
    return outcome


def _share(stage: XenStage, books: CpuBooks, name: str, block: Block) -> float | None:
    """Return the part a domain had of the pCPU time that dom0 left."""
    guest = stage.bench.guests[name]
    used = books.pcpus(guest.domain.ID(), [block])
    served = books.pcpus(DOM0, [block])
    if used is None or served is None:
        return None
    return used / (stage.pcpus - served)


def _share_pairs(
    stage: XenStage, books: CpuBooks, outcome: Outcome, name: str
) -> list[tuple[float, float]]:
    """Return the shares a domain had, managed and before, block by block."""
    pairs = []
    for managed, before in zip(
        outcome.blocks.get("managed", ()), outcome.blocks.get("unmanaged", ()), strict=False
    ):
        pair = _share(stage, books, name, managed), _share(stage, books, name, before)
        if pair[0] is not None and pair[1] is not None:
            pairs.append((pair[0], pair[1]))
    return pairs


def parts(*, quick: bool) -> dict[str, Part]:
    """Return the comparisons of a run, in order."""
    lock = Part(
        needs_s=300.0 if quick else 420.0, measure=functools.partial(kernel_lock, quick=quick)
    )
    if quick:
        return {"kernel_lock": lock}
    return {
        "kernel_lock": lock,
        "beside": Part(needs_s=BESIDE_S + 30.0, measure=beside),
        "estimator": Part(needs_s=estimate.NEEDS_S, measure=estimate.measure),
        "overcommit": Part(needs_s=overcommit.NEEDS_S, measure=overcommit.measure),
    }


def fits(stage: XenStage, needs_s: float) -> bool:
    """Whether half of what a part needs is left."""
    return stage.ends_s - time.monotonic() >= needs_s / 2
