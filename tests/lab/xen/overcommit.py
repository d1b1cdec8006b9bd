"""The seed's finding on real Xen: overcommit costs independent work nothing, and synchronising work much.

Two domains with as many vCPUs as there are pCPUs, each alone and both together, nobody managing them. A domain that
has half of the host for itself would do half of what it does alone: that is its fair share, and slowdown is measured
against it. The team of threads that meets at a barrier and spins for the last is the simulator's "ammp-like".

credit2 lets whoever runs keep its pCPU for its rate limit, 1 ms unless told otherwise; equal domains then take turns
of that length. A switch takes a processor a few microseconds, and an emulator, which loses what it knows of the
guest's memory, a good part of such a turn: what independent work loses there is the emulator's. So it is measured with
turns of 1 ms and of 10 ms, each beside the simulator's figure; the bounds are for the latter, and what work
is done in a pCPU second says how much of the former is the emulator's.
"""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING, Final

from lab.arms import SETTLE_S, set_online
from lab.board import IDLE, Kind, Order
from lab.compare import HALF_WIDTH, Comparison, interleave
from lab.intervals import Bound, Interval, Verdict
from lab.outcome import Outcome, report
from lab.stage import say
from lab.xen.books import PERIOD_S, note_use
from lab.xen.toolstack import tool, xl_info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.cells import Block
    from lab.domain import Guest
    from lab.xen.books import CpuBooks
    from lab.xen.stage import XenStage

RATELIMITS_US: Final = {"credit": (1_000,), "credit2": (10_000, 1_000)}
"""Measured under each scheduler; the bounds are for the first. Credit's turns are its time slices, 30 ms."""
DEFAULT_US: Final = 1_000
"""Xen's own, SCHED_DEFAULT_RATELIMIT_US."""
PAIR_NEEDS_S: Final = 65.0
"""For one kind of work at one rate limit: two rounds, or three."""
INDEPENDENT_MOST: Final = 1.05
SYNCHRONISING_LEAST: Final = 1.5
NAMES: Final = {"independent": Kind.INDEPENDENT, "synchronising": Kind.USER_SPIN}
BOUNDS: Final = (
    Bound(figure="independent_slowdown", limit=INDEPENDENT_MOST, at_least=False),
    Bound(figure="synchronising_slowdown", limit=SYNCHRONISING_LEAST),
)
_SHARE: Final = 0.5


def needs_s(scheduler: str) -> float:
    """Return this part's share of the time."""
    return PAIR_NEEDS_S * len(NAMES) * len(RATELIMITS_US[scheduler]) + 10.0


def suffix(scheduler: str, ratelimit_us: int) -> str:
    """Return what the figures measured at a rate limit end in; those that are judged have nothing added."""
    judged = RATELIMITS_US[scheduler][0]
    return "" if ratelimit_us == judged else f"_at_{ratelimit_us // 1_000}ms"


def measure(stage: XenStage) -> Outcome:
    """Measure both kinds of work alone and in pairs, at every rate limit."""
    outcome = Outcome()
    stage.end_vcpud()
    guests = stage.guests("pair")
    stage.give(guests, {})
    set_online(guests, {guest.name: stage.pcpus for guest in guests})
    scheduler = xl_info()["xen_scheduler"]
    with stage.books() as books:
        go_on = functools.partial(_one, stage, guests, outcome, books)
        for ratelimit_us in RATELIMITS_US[scheduler]:
            with _ratelimit(scheduler, ratelimit_us):
                for name in NAMES:
                    go_on(name, suffix(scheduler, ratelimit_us), PAIR_NEEDS_S)
        outcome.judge(BOUNDS)
        with _ratelimit(scheduler, RATELIMITS_US[scheduler][0]):
            for name, bound in zip(NAMES, BOUNDS, strict=True):
                extra_s = stage.extra_s(2 * PAIR_NEEDS_S)
                if outcome.verdicts[str(bound)] is Verdict.INCONCLUSIVE and extra_s > 0:
                    say(f"  inconclusive: {extra_s:.0f} s more")
                    go_on(name, "", extra_s)
    note_use(books, outcome, guests, stage.pcpus)
    outcome.figures["ratelimit_us"] = {
        f"{name}_slowdown{suffix(scheduler, ratelimit_us)}": ratelimit_us
        for ratelimit_us in RATELIMITS_US[scheduler]
        for name in NAMES
    }
    set_online(guests, {guest.name: guest.shape.vcpus for guest in guests})
    outcome.judge(BOUNDS)
    report(outcome)
    return outcome


@contextlib.contextmanager
def _ratelimit(scheduler: str, ratelimit_us: int) -> Iterator[None]:
    """Have Xen's own rate limit, or another and Xen's own again."""
    if ratelimit_us == DEFAULT_US:
        yield
        return
    tool("xl", f"sched-{scheduler}", "-s", "-r", str(ratelimit_us))
    try:
        yield
    finally:
        tool("xl", f"sched-{scheduler}", "-s", "-r", str(DEFAULT_US))


def _one(  # noqa: PLR0913, PLR0917  each is a fact of the comparison
    stage: XenStage,
    guests: list[Guest],
    outcome: Outcome,
    books: CpuBooks,
    name: str,
    ending: str,
    budget_s: float,
) -> None:
    """Measure one kind of work at the rate limit in force, or go on with it."""
    order = Order(kind=NAMES[name], threads=stage.pcpus)
    alone, pair = f"{name} alone{ending}", f"{name} pair{ending}"
    figure = f"{name}_slowdown{ending}"
    watched = guests[0]
    comparison = Comparison()
    comparison.blocks.update(
        {arm: list(outcome.blocks[arm]) for arm in (alone, pair) if arm in outcome.blocks}
    )

    def enough() -> bool:
        over = comparison.over(alone, pair, lambda block: block.rates[watched.name])
        slowdown = Interval(
            value=over.value * _SHARE, low=over.low * _SHARE, high=over.high * _SHARE
        )
        outcome.record(figure, slowdown)
        say(f"  {name} work{ending}: {slowdown.value:.3g} times slower than its fair share")
        return slowdown.half_width <= HALF_WIDTH

    arms = {
        alone: functools.partial(_give, guests, order, IDLE),
        pair: functools.partial(_give, guests, order, order),
    }
    interleave(comparison, guests, arms, until_s=time.monotonic() + budget_s, enough=enough)
    enough()
    outcome.figures[f"{name}_alone_rate{ending}"] = comparison.rate(alone)
    outcome.blocks = {**outcome.blocks, **comparison.blocks}
    time.sleep(2 * PERIOD_S)  # until the books know of the last block's end
    done = [_done(books, watched, comparison.blocks[arm]) for arm in (pair, alone)]
    if done[0] is not None and done[1]:
        kept = outcome.figures[f"{name}_work_in_a_pcpu_second{ending}"] = done[0] / done[1]
        say(f"  {name} work{ending}: in a pCPU second {kept:.3g} of what is done alone")


def _done(books: CpuBooks, guest: Guest, blocks: list[Block]) -> float | None:
    """Return what a guest gets done in a second of a pCPU."""
    pcpus = books.pcpus(guest.domain.ID(), blocks)
    return (
        sum(block.rates[guest.name] for block in blocks) / len(blocks) / pcpus if pcpus else None
    )


def _give(guests: list[Guest], first: Order, second: Order) -> None:
    for guest, order in zip(guests, (first, second), strict=True):
        guest.order(order)
    time.sleep(SETTLE_S)
