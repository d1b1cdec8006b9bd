"""The seed's finding on real Xen: overcommit costs independent work nothing, and synchronising work much.

Two domains with as many vCPUs as there are pCPUs, each alone and both together, nobody managing them. A domain that
has half of the host for itself would do half of what it does alone: that is its fair share, and slowdown is measured
against it. The team of threads that meets at a barrier and spins for the last is the simulator's "ammp-like".
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Final

from lab.arms import SETTLE_S, set_online
from lab.board import IDLE, Kind, Order
from lab.compare import Comparison, interleave
from lab.intervals import Bound, Interval
from lab.scenarios import Outcome, report
from lab.stage import say
from lab.xen.books import CpuBooks, note_use

if TYPE_CHECKING:
    from lab.domain import Guest
    from lab.xen.stage import XenStage

NEEDS_S: Final = 200.0
INDEPENDENT_MOST: Final = 1.05
SYNCHRONISING_LEAST: Final = 1.5
NAMES: Final = {"independent": Kind.INDEPENDENT, "synchronising": Kind.USER_SPIN}
BOUNDS: Final = (
    Bound(figure="independent_slowdown", limit=INDEPENDENT_MOST, at_least=False),
    Bound(figure="synchronising_slowdown", limit=SYNCHRONISING_LEAST),
)
_SHARE: Final = 0.5


def measure(stage: XenStage) -> Outcome:
    """Measure both kinds of work alone and in pairs."""
    outcome = Outcome()
    stage.end_vcpud()
    guests = stage.guests("pair")
    stage.give(guests, {})
    set_online(guests, {guest.name: stage.pcpus for guest in guests})
    until_s = time.monotonic() + NEEDS_S
    with CpuBooks(stage.xen) as books:
        for number, (name, kind) in enumerate(NAMES.items(), start=1):
            order = Order(kind=kind, threads=stage.pcpus)
            comparison = Comparison()
            arms = {
                f"{name} alone": functools.partial(_give, guests, order, IDLE),
                f"{name} pair": functools.partial(_give, guests, order, order),
            }
            part_until_s = time.monotonic() + (until_s - time.monotonic()) * number / len(NAMES)

            def enough(comparison: Comparison = comparison, name: str = name) -> bool:
                _record(outcome, comparison, name, guests[0].name)
                return outcome.narrow()

            interleave(comparison, guests, arms, until_s=part_until_s, enough=enough)
            _record(outcome, comparison, name, guests[0].name)
            outcome.figures[f"{name}_alone_rate"] = comparison.rate(f"{name} alone")
            outcome.blocks = {**outcome.blocks, **comparison.blocks}
    note_use(books, outcome, guests, stage.pcpus)
    set_online(guests, {guest.name: guest.shape.vcpus for guest in guests})
    outcome.judge(BOUNDS)
    report(outcome)
    return outcome


def _give(guests: list[Guest], first: Order, second: Order) -> None:
    for guest, order in zip(guests, (first, second), strict=True):
        guest.order(order)
    time.sleep(SETTLE_S)


def _record(outcome: Outcome, comparison: Comparison, name: str, watched: str) -> None:
    over = comparison.over(f"{name} alone", f"{name} pair", lambda block: block.rates[watched])
    slowdown = Interval(value=over.value * _SHARE, low=over.low * _SHARE, high=over.high * _SHARE)
    outcome.record(f"{name}_slowdown", slowdown)
    say(f"  {name} work: {slowdown.value:.3g} times slower than its fair share")
