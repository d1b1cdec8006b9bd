"""A domain of independent work beside one that contends on a kernel lock: neither may lose its share.

Both have the floor that `vcpud doctor` advises, half of their vCPUs; what the latter keeps of its share without, on
one, is measured on credit and stated, not judged.

The emulator is a process like others. A block in which it had clearly less processor time than in most, or threw away
what it had translated, has measured that: its pair is left out, by what was beneath it and never by what was found.
"""

from __future__ import annotations

import contextlib
import functools
import math
import statistics
import time
from typing import TYPE_CHECKING, Final

from lab import scenarios
from lab.arms import SETTLE_S, set_online
from lab.board import Kind, Order
from lab.compare import Comparison, interleave
from lab.intervals import Bound, ratio
from lab.outcome import report
from lab.stage import say
from lab.xen import beneath
from lab.xen.books import DOM0, PERIOD_S, note_use
from lab.xen.toolstack import tool, xl_info

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lab.cells import Block
    from lab.intervals import Interval
    from lab.outcome import Outcome
    from lab.xen.books import CpuBooks
    from lab.xen.stage import XenStage

    Blocks = Mapping[str, Sequence[Block]]
    Pairs = Sequence[tuple[Block, Block]]
    Told = Mapping[str, float | None]

LOCKED: Final = "x1"
INDEPENDENT: Final = "x2"
ORDERS: Final = {
    LOCKED: Order(kind=Kind.KERNEL_LOCK),
    INDEPENDENT: Order(kind=Kind.INDEPENDENT),
}
RATE: Final = "independent_managed_over_unmanaged"
EVERY_BLOCK: Final = f"{RATE}_every_block"
"""The same with the pairs that are left out, stated."""
SHARES: Final = {
    "independent_share_managed_over_unmanaged": INDEPENDENT,
    "lock_share_managed_over_unmanaged": LOCKED,
}
"""The weight of each vCPU counts: the shrunk domain's share would shrink with it, were it not raised."""
LIMIT: Final = 0.95
BOUNDS: Final = [Bound(figure=figure, limit=LIMIT) for figure in (RATE, *SHARES)]
BUDGET_S: Final = 235.0
BLOCKS_A_TURN: Final = 4
"""Shares are told to a few percent only by many blocks, and to enter an arm takes as long as several of them."""
COARSE: Final = "credit"
"""The scheduler under which a single vCPU falls further short of a share: how far is measured each time."""
WEIGHT: Final = 256
"""Xen's own for every domain."""
ON_ONE: Final = "on one"
BEFORE_ONE: Final = "on all"
UNDISTURBED: Final = 0.9
"""Of the processor time the emulator has in the median block."""


def needs_s(scheduler: str) -> float:
    """Return this part's share of the time."""
    return BUDGET_S + (100.0 if scheduler == COARSE else 30.0)


def measure(stage: XenStage) -> Outcome:
    """Compare managed with unmanaged, and on credit one vCPU with all."""
    scheduler = xl_info()["xen_scheduler"]
    floor = advised_floor(stage.sets["mixed"][0].vcpus)
    with stage.books() as books:
        record = functools.partial(_record, stage, books)
        with _floor(stage, floor):
            outcome = scenarios.mixed(
                stage, ORDERS, BUDGET_S, BOUNDS, more=record, blocks_a_turn=BLOCKS_A_TURN
            )
        if scheduler == COARSE:
            outcome.blocks = {**outcome.blocks, **_on_one(stage, scheduler).blocks}
        time.sleep(2 * PERIOD_S)  # until the books know of the last block's end
    record(outcome, outcome.blocks)
    outcome.figures["floor"] = floor
    if left_out := outcome.figures.get("pairs_left_out"):
        all_of_them = outcome.intervals[EVERY_BLOCK]
        say(
            f"  {left_out} pairs left out, the emulator was disturbed; with them independent work is at "
            f"{all_of_them.value:.3g} [{all_of_them.low:.3g}, {all_of_them.high:.3g}]"
        )
    note_use(books, outcome, stage.bench.guests.values(), stage.pcpus)
    if scheduler == COARSE:
        _record_on_one(stage, books, outcome)
    outcome.judge(BOUNDS)
    report(outcome)
    return outcome


def undisturbed(told: Sequence[Told]) -> list[bool]:
    """Return, for each block, whether the emulator had what it has in most; where nothing is told it is taken to have.

    Args:
        told: What was beneath each.
    """
    usual = [had for one in told if (had := one[beneath.QEMU]) is not None]
    least = UNDISTURBED * statistics.median(usual) if usual else 0.0
    return [
        (had is None or had >= least) and (flushed is None or flushed < 0.5)
        for had, flushed in ((one[beneath.QEMU], one[beneath.FLUSHES]) for one in told)
    ]


def _pairs(blocks: Blocks, arms: tuple[str, str]) -> Pairs:
    """Return the blocks of two arms, side by side."""
    return list(zip(*(blocks.get(arm, ()) for arm in arms), strict=False))


def _fine(books: CpuBooks, pairs: Pairs) -> Pairs:
    """Return the pairs in which the emulator was not disturbed."""
    fine = iter(undisturbed([books.told_of(block) for pair in pairs for block in pair]))
    return [pair for pair in pairs if all([next(fine), next(fine)])]


def _rate(pairs: Pairs) -> Interval:
    return ratio([(one.rates[INDEPENDENT], other.rates[INDEPENDENT]) for one, other in pairs])


def _record(stage: XenStage, books: CpuBooks, outcome: Outcome, blocks: Blocks) -> None:
    every = _pairs(blocks, ("managed", "unmanaged"))
    pairs = _fine(books, every)
    outcome.figures["pairs"], outcome.figures["pairs_left_out"] = (
        len(pairs),
        len(every) - len(pairs),
    )
    outcome.record(EVERY_BLOCK, _rate(every))
    if pairs:
        outcome.record(RATE, _rate(pairs))
    for figure, name in SHARES.items():
        shares = _shares(stage, books, pairs, name)
        outcome.figures[f"{figure}_pairs"] = shares
        if shares:
            outcome.record(figure, ratio(shares))


def _record_on_one(stage: XenStage, books: CpuBooks, outcome: Outcome) -> None:
    pairs = _fine(books, _pairs(outcome.blocks, (ON_ONE, BEFORE_ONE)))
    shares = _shares(stage, books, pairs, LOCKED)
    if shares:
        kept = ratio(shares)
        outcome.record("lock_share_on_one_over_unmanaged", kept)
        say(
            f"  without a floor, on one vCPU of the same weight in all: {kept.value:.3g} "
            f"[{kept.low:.3g}, {kept.high:.3g}] of its share"
        )


def advised_floor(vcpus: int) -> int:
    """Return the fewest vCPUs the documentation advises for a domain whose share is to be kept."""
    return math.ceil(vcpus / 2)


@contextlib.contextmanager
def _floor(stage: XenStage, floor: int) -> Iterator[None]:
    """Have both domains under a floor, as an operator sets it."""
    vcpud = stage.paused_vcpud(stage.guests("mixed"))
    for name in ORDERS:
        vcpud.told("set", name, "--min", str(floor))
    try:
        yield
    finally:
        for name in ORDERS:
            vcpud.told("set", name, "--reset")


def _on_one(stage: XenStage, scheduler: str) -> Comparison:
    """Compare, vcpud paused, all vCPUs with a single one that has the weight of all."""
    guests = stage.guests("mixed")
    every = {guest.name: guest.shape.vcpus for guest in guests}

    def enter(count: int, weight: int) -> None:
        tool("xl", f"sched-{scheduler}", "-d", LOCKED, "-w", str(weight))
        set_online(guests, {**every, LOCKED: count})
        time.sleep(SETTLE_S)

    comparison = Comparison()
    arms = {
        BEFORE_ONE: functools.partial(enter, every[LOCKED], WEIGHT),
        ON_ONE: functools.partial(enter, 1, WEIGHT * every[LOCKED]),
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
        enter(every[LOCKED], WEIGHT)
    return comparison


def _share(stage: XenStage, books: CpuBooks, name: str, block: Block) -> float | None:
    """Return the part a domain had of the pCPU time that dom0 left."""
    guest = stage.bench.guests[name]
    used = books.pcpus(guest.domain.ID(), [block])
    served = books.pcpus(DOM0, [block])
    if used is None or served is None:
        return None
    return used / (stage.pcpus - served)


def _shares(
    stage: XenStage, books: CpuBooks, pairs: Pairs, name: str
) -> list[tuple[float, float]]:
    """Return the shares a domain had in each pair of blocks, as far as the books go."""
    found = []
    for first, second in pairs:
        pair = _share(stage, books, name, first), _share(stage, books, name, second)
        if pair[0] is not None and pair[1] is not None:
            found.append((pair[0], pair[1]))
    return found
