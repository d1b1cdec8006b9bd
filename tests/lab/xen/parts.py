"""What is measured in dom0 under one scheduler, and what each part must show."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lab import scenarios
from lab.arms import SETTLE_S, set_online
from lab.board import Kind, Order
from lab.compare import Comparison, interleave
from lab.intervals import Bound, ratio
from lab.plan import Scenario
from lab.stage import say
from lab.xen import estimate, overcommit
from lab.xen.books import DOM0, PERIOD_S, note_use
from lab.xen.toolstack import tool, xl_info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lab.cells import Block
    from lab.scenarios import Outcome
    from lab.xen.books import CpuBooks
    from lab.xen.stage import XenStage

    Blocks = Mapping[str, Sequence[Block]]

LOCK: Final = Order(kind=Kind.KERNEL_LOCK)
INDEPENDENT: Final = Order(kind=Kind.INDEPENDENT)
CURABLE: Final = 3.0
"""Where the best static count gives less than this, vcpud is held against that count instead."""
CURED: Final = Bound(figure="managed_over_unmanaged", limit=CURABLE)
SHARE_LIMIT: Final = 0.95
BESIDE_S: Final = 235.0
COARSE: Final = "credit"
"""The scheduler that keeps no share on less than half of a domain's vCPUs."""
WEIGHT: Final = 256
"""Xen's own for every domain."""
ON_ONE: Final = "on one"
BEFORE_ONE: Final = "on all"
BLOCKS_A_TURN: Final = 4
"""Shares are told to a few percent only by many blocks, and to enter an arm takes as long as several of them."""


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
        scenarios.report(outcome)
    note_use(books, outcome, stage.bench.guests.values(), stage.pcpus)
    return outcome


def beside(stage: XenStage) -> Outcome:
    """A domain of independent work beside one that contends on a kernel lock.

    On credit the latter has the floor that `vcpud doctor` advises there, half of its vCPUs; what it keeps of its share
    without, on one, is measured and stated, not judged.
    """
    # The weight of each vCPU counts: the shrunk domain's share would shrink with it, were it not raised.
    shares = {
        "independent_share_managed_over_unmanaged": "x2",
        "lock_share_managed_over_unmanaged": "x1",
    }
    figures = ("independent_managed_over_unmanaged", *shares)
    bounds = [Bound(figure=figure, limit=SHARE_LIMIT) for figure in figures]
    scheduler = xl_info()["xen_scheduler"]
    shape = stage.sets["mixed"][0]
    floor = floor_on(scheduler, shape.vcpus)
    with stage.books() as books:

        def record(outcome: Outcome, blocks: Blocks) -> None:
            outcome.figures["floor"] = floor
            for figure, name in shares.items():
                pairs = _share_pairs(stage, books, blocks, name, ("managed", "unmanaged"))
                outcome.figures[f"{figure}_pairs"] = pairs
                if pairs:
                    outcome.record(figure, ratio(pairs))

        with _floor(stage, shape.name, floor):
            outcome = scenarios.mixed(
                stage,
                {"x1": LOCK, "x2": INDEPENDENT},
                BESIDE_S,
                bounds,
                more=record,
                blocks_a_turn=BLOCKS_A_TURN,
            )
        if floor > 1:
            alone = _on_one(stage, scheduler, shape.name)
            outcome.blocks = {**outcome.blocks, **alone.blocks}
        time.sleep(2 * PERIOD_S)  # until the books know of the last block's end
    record(outcome, outcome.blocks)
    if floor > 1:
        pairs = _share_pairs(stage, books, outcome.blocks, shape.name, (ON_ONE, BEFORE_ONE))
        if pairs:
            outcome.record("lock_share_on_one_over_unmanaged", ratio(pairs))
            low, high = outcome.figures["lock_share_on_one_over_unmanaged_ci"]
            kept = outcome.figures["lock_share_on_one_over_unmanaged"]
            say(f"  without a floor, on one vCPU: {kept:.3g} [{low:.3g}, {high:.3g}] of its share")
    outcome.judge(bounds)
    note_use(books, outcome, stage.bench.guests.values(), stage.pcpus)
    scenarios.report(outcome)
    return outcome


def floor_on(scheduler: str, vcpus: int) -> int:
    """Return the fewest vCPUs the documentation advises for a domain whose share is to be kept."""
    return math.ceil(vcpus / 2) if scheduler == COARSE else 1


@contextlib.contextmanager
def _floor(stage: XenStage, name: str, floor: int) -> Iterator[None]:
    """Have a domain under a floor, as an operator sets it."""
    if floor == 1:
        yield
        return
    vcpud = stage.paused_vcpud(stage.guests("mixed"))
    vcpud.told("set", name, "--min", str(floor))
    try:
        yield
    finally:
        vcpud.told("set", name, "--reset")


def _on_one(stage: XenStage, scheduler: str, name: str) -> Comparison:
    """Compare, vcpud paused, all vCPUs with a single one that has the weight of all."""
    guests = stage.guests("mixed")
    every = {guest.name: guest.shape.vcpus for guest in guests}

    def enter(count: int, weight: int) -> None:
        tool("xl", f"sched-{scheduler}", "-d", name, "-w", str(weight))
        set_online(guests, {**every, name: count})
        time.sleep(SETTLE_S)

    comparison = Comparison()
    arms = {
        BEFORE_ONE: functools.partial(enter, every[name], WEIGHT),
        ON_ONE: functools.partial(enter, 1, WEIGHT * every[name]),
    }
    try:
        interleave(
            comparison,
            guests,
            arms,
            until_s=time.monotonic(),
            enough=lambda: True,
            least_rounds=1,
            blocks_a_turn=BLOCKS_A_TURN,
        )
    finally:
        enter(every[name], WEIGHT)
    return comparison


def _share(stage: XenStage, books: CpuBooks, name: str, block: Block) -> float | None:
    """Return the part a domain had of the pCPU time that dom0 left."""
    guest = stage.bench.guests[name]
    used = books.pcpus(guest.domain.ID(), [block])
    served = books.pcpus(DOM0, [block])
    if used is None or served is None:
        return None
    return used / (stage.pcpus - served)


def _share_pairs(
    stage: XenStage, books: CpuBooks, blocks: Blocks, name: str, arms: tuple[str, str]
) -> list[tuple[float, float]]:
    """Return the shares a domain had in two arms, block by block."""
    pairs = []
    for first, second in zip(*(blocks.get(arm, ()) for arm in arms), strict=False):
        pair = _share(stage, books, name, first), _share(stage, books, name, second)
        if pair[0] is not None and pair[1] is not None:
            pairs.append((pair[0], pair[1]))
    return pairs


def parts(scheduler: str, *, quick: bool) -> dict[str, Part]:
    """Return the comparisons of a run under a scheduler, in order; their names are the same under each."""
    lock = Part(
        needs_s=300.0 if quick else 420.0, measure=functools.partial(kernel_lock, quick=quick)
    )
    if quick:
        return {"kernel_lock": lock}
    return {
        "kernel_lock": lock,
        "beside": Part(
            needs_s=BESIDE_S + (100.0 if scheduler == COARSE else 30.0), measure=beside
        ),
        "estimator": Part(needs_s=estimate.NEEDS_S, measure=estimate.measure),
        "overcommit": Part(needs_s=overcommit.needs_s(scheduler), measure=overcommit.measure),
    }


def fits(stage: XenStage, needs_s: float) -> bool:
    """Whether half of what a part needs is left."""
    return stage.ends_s - time.monotonic() >= needs_s / 2
