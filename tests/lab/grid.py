"""Every static count of every workload, and what each costs alone: what a simulation of this host is compared with.

Problem: a comparison of vcpud with the best count says little of the other counts, and a model fitted to the scenarios
would prove nothing. Approach: static cells take turns, so that drift meets all of them alike, each reported as the
median of its blocks with an interval. The costs that a model may be given (computing, a section, a wake-up, a switch)
are measured on one guest that has the host to itself, outside of every scenario.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from lab.board import IDLE, Kind, Order
from lab.cells import measure
from lab.compare import Comparison, interleave
from lab.intervals import median_interval
from lab.stage import say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.arms import Arms
    from lab.cells import Block
    from lab.domain import Guest
    from lab.stage import Stage

ROUNDS: Final = 5
BLOCK_S: Final = 5.0
COLLAPSE_S: Final = 5.0
"""A collapse feeds on itself: it takes a few seconds until every waiter waits for a waiter."""
MICRO_BLOCK_S: Final = 3.0
GRID_S: Final = 240.0
MICRO_S: Final = 200.0
LIMIT_S: Final = 3600.0
"""What a run of these may last."""

_LOCK = Order(kind=Kind.KERNEL_LOCK)
_SPIN = Order(kind=Kind.USER_SPIN)
_PAUSE = Order(kind=Kind.USER_SPIN, pause=True)
ROWS: Final[Mapping[str, tuple[str, Mapping[str, Order]]]] = {
    "kernel_lock": ("pair", {"g1": _LOCK, "g2": _LOCK}),
    "independent": ("pair", dict.fromkeys(("g1", "g2"), Order(kind=Kind.INDEPENDENT))),
    "user_spin_alone": ("pair", {"g1": _SPIN, "g2": IDLE}),
    "user_spin_alone_pause": ("pair", {"g1": _PAUSE, "g2": IDLE}),
    "user_spin_pair": ("pair", {"g1": _SPIN, "g2": _SPIN}),
    "user_spin_pair_pause": ("pair", {"g1": _PAUSE, "g2": _PAUSE}),
    "blocking_barrier": ("pair", dict.fromkeys(("g1", "g2"), Order(kind=Kind.BLOCKING_BARRIER))),
    "kernel_lock_tas": ("tas", {"t1": _LOCK, "t2": _LOCK}),
}
"""By name: the guests, and what each works on."""

ALONE: Final[Mapping[str, tuple[Order, int]]] = {
    "compute": (Order(kind=Kind.INDEPENDENT, threads=1), 1),
    "kernel_lock": (Order(kind=Kind.KERNEL_LOCK, threads=1), 1),
    "kernel_lock_bare": (Order(kind=Kind.KERNEL_LOCK, threads=1, grain=1), 1),
    "blocking_barrier_switch": (Order(kind=Kind.BLOCKING_BARRIER, threads=2, grain=1), 1),
    "blocking_barrier_wake": (Order(kind=Kind.BLOCKING_BARRIER, threads=2, grain=1), 2),
    "spin_barrier": (Order(kind=Kind.USER_SPIN, threads=2, grain=1), 2),
    "spin_barrier_pause": (Order(kind=Kind.USER_SPIN, threads=2, grain=1, pause=True), 2),
}
"""By name: the order of the one guest that works, and its active vCPUs, never more than there are pCPUs."""


def run_grid(stage: Stage, name: str) -> dict[str, Any]:
    """Measure one workload at every static count.

    Returns:
        By count, as text: ``median`` (iterations per second of both guests), ``ci`` and ``rates``.
    """
    guests_name, orders = ROWS[name]
    everybody = stage.guests(guests_name)
    arms = stage.arms(everybody)
    guests = stage.give(everybody, orders)
    most = max(guest.shape.vcpus for guest in guests)
    sides = {str(count): _at(arms, guests, count) for count in range(1, most + 1)}
    comparison = Comparison()
    interleave(
        comparison,
        guests,
        sides,
        until_s=time.monotonic(),
        enough=lambda: True,
        least_rounds=ROUNDS,
        block_s=BLOCK_S,
        blocks_a_turn=1,
    )
    arms.unmanaged()
    found = {side: _cell(blocks) for side, blocks in comparison.blocks.items()}
    for side, cell in found.items():
        low, high = cell["ci"]
        say(f"  {side:>3} active: {cell['median']:12,.1f}/s [{low:,.1f}, {high:,.1f}]")
    return found


def _at(arms: Arms, guests: Sequence[Guest], count: int) -> Callable[[], None]:
    def enter() -> None:
        every = arms.every
        wanted = {guest.name: min(count, every[guest.name]) for guest in guests}
        arms.static(every | wanted, f"static {count}")
        time.sleep(COLLAPSE_S)

    return enter


def _cell(blocks: Sequence[Block]) -> dict[str, Any]:
    rates = [block.rate for block in blocks]
    return {
        "median": statistics.median(rates),
        "ci": median_interval(rates).pair(),
        "rates": rates,
    }


def run_micro(stage: Stage) -> dict[str, Any]:
    """Measure what each workload costs where nothing contends.

    Returns:
        By name: the order's ``threads``, ``grain``, ``lock_rounds``, the ``active`` vCPUs, and a cell as of `run_grid`.
    """
    everybody = stage.guests("pair")
    arms = stage.arms(everybody)
    worker = everybody[0]
    found = {}
    for name, (order, active) in ALONE.items():
        stage.give(everybody, {worker.name: order})
        arms.static(arms.every | {worker.name: active}, f"alone on {active}")
        blocks = [measure([worker], name, MICRO_BLOCK_S) for _ in range(ROUNDS)]
        facts = {
            "threads": order.threads,
            "grain": order.grain,
            "lock_rounds": order.lock_rounds,
            "active": active,
        }
        found[name] = facts | _cell(blocks)
        say(f"  {name:<24} {found[name]['median']:12,.1f}/s")
    stage.give(everybody, {})
    arms.unmanaged()
    return found
