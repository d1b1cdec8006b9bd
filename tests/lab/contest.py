"""Every allocation policy on the same real guests: against unmanaged and the best static count, in turns.

Problem: policies differ by less than a shared machine drifts in an hour. Approach: every turn of a policy starts a new
vcpud into guests with all vCPUs online, waits until it has found its counts, and measures; policies and static counts
take turns, each round in the reverse order of the one before.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lab import scenarios
from lab.arms import PACE, SETTLE_S, set_online, wait_until_quiet
from lab.board import IDLE, Kind, Order
from lab.cells import measure
from lab.compare import Comparison, interleave
from lab.stage import say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.cells import Block
    from lab.domain import Guest
    from lab.intervals import Interval
    from lab.stage import Stage

POLICIES: Final = ("adaptive", "spin_feedback", "extendability", "steal_governor", "folding")
"""Those that need no rules of the operator's; `static` is what is called unmanaged here."""
LIMIT_S: Final = 2.5 * 3600.0
ROUNDS: Final = 3
SLOW: Final = dataclasses.replace(PACE, least_s=20.0, most_s=60.0)
"""How long a policy may look for its counts; one that never rests is measured all the same."""
PHASE_S: Final = 60.0
PHASES: Final = 4
MIXED_S: Final = 120.0
PART_S: Final = 1500.0
"""A workload with all its turns: 9 arms, 3 rounds, most of it waiting for the counts."""

_LOCK = Order(kind=Kind.KERNEL_LOCK)
_INDEPENDENT = Order(kind=Kind.INDEPENDENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One workload of the pair.

    Attributes:
        order: What both guests work on, or the first one where it is alone.
        alone: Whether the second guest is idle.
    """

    order: Order
    alone: bool = False

    def orders(self) -> dict[str, Order]:
        """The order of every guest."""
        return {"g1": self.order, "g2": IDLE if self.alone else self.order}


ROWS: Final[Mapping[str, Row]] = {
    "kernel_lock": Row(order=_LOCK),
    "blocking_barrier": Row(order=Order(kind=Kind.BLOCKING_BARRIER)),
    "independent": Row(order=_INDEPENDENT),
    "user_spin_pair_pause": Row(order=Order(kind=Kind.USER_SPIN, pause=True)),
    "user_spin_alone": Row(order=Order(kind=Kind.USER_SPIN), alone=True),
}


class Corner:
    """Puts the guests into the state that is to be measured."""

    def __init__(self, stage: Stage, guests: Sequence[Guest]) -> None:
        """Take all guests of the set, the idle ones too."""
        self._stage = stage
        self._guests = tuple(guests)

    def static(self, working: Sequence[Guest], count: int) -> None:
        """Every guest that works at ``count`` vCPUs, without vcpud."""
        self._stage.end_vcpud()
        names = {guest.name for guest in working}
        counts = {
            guest.name: min(count, guest.shape.vcpus) if guest.name in names else guest.shape.vcpus
            for guest in self._guests
        }
        set_online(self._guests, counts)
        time.sleep(SETTLE_S)

    def policy(self, name: str) -> None:
        """A new vcpud with this policy, from all vCPUs online, until its counts are quiet."""
        self._stage.end_vcpud()
        set_online(self._guests, {guest.name: guest.shape.vcpus for guest in self._guests})
        self._stage.fresh_vcpud(policy=name)
        wait_until_quiet(self._guests, SLOW)


def run_row(stage: Stage, name: str) -> dict[str, Any]:
    """Let every policy and every static count take turns on one workload.

    Returns:
        ``rates`` by arm, ``best_static``, and by policy its ratio to the best static count and to unmanaged with
        intervals, and the active vCPUs it ended with.
    """
    row = ROWS[name]
    everybody = stage.guests("pair")
    stage.end_vcpud()
    guests = stage.give(everybody, row.orders())
    corner = Corner(stage, everybody)
    most = max(guest.shape.vcpus for guest in guests)
    sides: dict[str, Callable[[], None]] = {
        str(count): _static(corner, guests, count) for count in range(1, most + 1)
    }
    sides |= {policy: _policy(corner, policy) for policy in POLICIES}
    comparison = Comparison()
    interleave(
        comparison,
        guests,
        sides,
        until_s=time.monotonic(),
        enough=lambda: True,
        least_rounds=ROUNDS,
    )
    stage.end_vcpud()
    counts = [str(count) for count in range(1, most + 1)]
    best = max(counts, key=comparison.rate)
    found = {
        "rates": {arm: comparison.rate(arm) for arm in sides},
        "best_static": best,
        "policies": {
            policy: {
                **_figures("over_best_static", comparison.over(policy, best)),
                **_figures("over_unmanaged", comparison.over(policy, str(most))),
                "active": dict(comparison.blocks[policy][-1].active),
            }
            for policy in POLICIES
        },
    }
    for policy in POLICIES:
        over = comparison.over(policy, best)
        say(f"  {policy:<16} {over.value:6.3f} [{over.low:.3f}, {over.high:.3f}] of {best} active")
    return found


def _static(corner: Corner, guests: Sequence[Guest], count: int) -> Callable[[], None]:
    return lambda: corner.static(guests, count)


def _policy(corner: Corner, name: str) -> Callable[[], None]:
    return lambda: corner.policy(name)


def _figures(name: str, interval: Interval) -> dict[str, Any]:
    return {name: interval.value, f"{name}_ci": interval.pair()}


def run_mixed(stage: Stage) -> dict[str, Any]:
    """The lock-bound domain beside an independent one, under every policy."""
    found = {}
    for policy in POLICIES:
        say(f"  {policy}")
        stage.end_vcpud()
        stage.policy = policy
        try:
            outcome = scenarios.mixed(stage, {"m1": _LOCK, "m2": _INDEPENDENT}, MIXED_S)
        finally:
            stage.end_vcpud()
            stage.policy = None
        found[policy] = outcome.figures
    return {"policies": found}


def run_phases(stage: Stage) -> dict[str, Any]:
    """Both guests alternate between a kernel lock and independent work, a minute each.

    Returns:
        By policy: its rate in each kind of phase over the best static count of that kind, and the geometric mean.
    """
    everybody = stage.guests("pair")
    corner = Corner(stage, everybody)
    kinds = {"kernel_lock": _LOCK, "independent": _INDEPENDENT}
    best: dict[str, float] = {}
    for kind, order in kinds.items():
        guests = stage.give(everybody, dict.fromkeys(("g1", "g2"), order))
        blocks = []
        for count in (1, max(guest.shape.vcpus for guest in guests)):
            corner.static(guests, count)
            blocks.append(measure(guests, str(count), PHASE_S / 2))
        best[kind] = max(block.rate for block in blocks)
    found = {}
    for policy in POLICIES:
        stage.give(everybody, {})
        corner.policy(policy)
        seen: dict[str, list[Block]] = {kind: [] for kind in kinds}
        for number in range(PHASES):
            kind = tuple(kinds)[number % 2]
            for guest in everybody:
                guest.board.give(kinds[kind])
            seen[kind].append(measure(everybody, policy, PHASE_S))
        over = {
            kind: sum(block.rate for block in blocks) / len(blocks) / best[kind]
            for kind, blocks in seen.items()
        }
        found[policy] = over | {
            "geometric_mean": (over["kernel_lock"] * over["independent"]) ** 0.5
        }
        say(f"  {policy:<16} " + ", ".join(f"{k} {v:.3f}" for k, v in found[policy].items()))
    stage.end_vcpud()
    return {"best_static_rates": best, "policies": found}
