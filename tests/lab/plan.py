"""Which scenarios there are, what each must show, and how the thirty minutes are shared out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lab.board import IDLE, Kind, Order
from lab.domain import Shape
from lab.intervals import Bound

COARSE: Final = 2_000_000
FULL_S: Final = 1770.0
QUICK_S: Final = 500.0
"""What a run may last; make's own limits are 30 and 10 minutes, building the image included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPart:
    """The part of the host the guests run on.

    Attributes:
        pcpus: Number of host CPUs they may use.
        cpuset: Which, when the host has more than that.
        accelerator: ``qemu`` (TCG) or ``kvm``.
    """

    pcpus: int
    cpuset: str
    accelerator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One comparison on one set of guests.

    Attributes:
        name: As in the results.
        guests: Name of the set of guests it needs.
        orders: What each guest works on; the guests that are not named are idle.
        budget_s: Its share of the run.
        counts: Static counts to try, the same for every guest.
        bounds: What it must show.
        collapsed: Whether the unmanaged guests hardly get anything done.
        from_start: Whether vcpud is started anew into the unmanaged guests and watched settling.
        undone: Whether every change vcpud makes here must have been undone in the end.
        least_rounds: Rounds of the comparison to make even when the budget is used up.
        extra: Whether it is beyond what must be shown: it comes last, where time is left.
    """

    name: str
    guests: str
    orders: Mapping[str, Order]
    budget_s: float
    counts: tuple[int, ...] = (1, 2, 3)
    bounds: tuple[Bound, ...] = ()
    collapsed: bool = False
    from_start: bool = False
    undone: bool = False
    least_rounds: int = 2
    extra: bool = False


def guest_sets(host: HostPart) -> dict[str, tuple[Shape, ...]]:
    """Return the guests by set; every domain has twice as many vCPUs as there are pCPUs."""
    wide = 2 * host.pcpus

    def shape(name: str, vcpus: int = wide, *, fifo_locks: bool = True) -> Shape:
        return Shape(
            name=name,
            vcpus=vcpus,
            accelerator=host.accelerator,
            fifo_locks=fifo_locks,
            cpuset=host.cpuset,
        )

    return {
        "pair": (shape("g1"), shape("g2")),
        "tas": (shape("t1", fifo_locks=False), shape("t2", fifo_locks=False)),
        "stubborn": (
            shape("g1"),
            dataclasses.replace(shape("u1"), blocked_rpcs=("guest-set-vcpus",)),
        ),
        "mixed": (shape("m1"), shape("m2", host.pcpus)),
    }


def _both(first: str, second: str, order: Order) -> dict[str, Order]:
    return {first: order, second: order}


def _spin(name: str, budget_s: float, *, pair: bool, pause: bool, grain: int) -> Scenario:
    order = Order(kind=Kind.USER_SPIN, pause=pause, grain=grain)
    return Scenario(
        name=name,
        guests="pair",
        orders={"g1": order, "g2": order if pair else IDLE},
        budget_s=budget_s,
        counts=(2,),
        bounds=(Bound(figure="managed_over_unmanaged", limit=0.95),),
        undone=True,
        extra=grain == COARSE,
    )


def scenarios() -> tuple[Scenario, ...]:
    """Return all scenarios that compare arms, in the order of a full run."""
    lock = Order(kind=Kind.KERNEL_LOCK)
    coarse_lock = Order(kind=Kind.KERNEL_LOCK, grain=COARSE)
    found = [
        Scenario(
            name="kernel_lock",
            guests="pair",
            orders=_both("g1", "g2", lock),
            budget_s=270,
            bounds=(
                Bound(figure="managed_over_best_static", limit=0.80),
                Bound(
                    figure="unmanaged_over_best_static", limit=0.02, at_least=False, decisive=False
                ),
                Bound(figure="settle_s", limit=30.0, at_least=False),
            ),
            collapsed=True,
            from_start=True,
        ),
        Scenario(
            name="kernel_lock_coarse",
            guests="pair",
            orders=_both("g1", "g2", coarse_lock),
            budget_s=150,
            counts=(1, 2),
            bounds=(Bound(figure="managed_over_unmanaged", limit=0.95),),
            extra=True,
        ),
        Scenario(
            name="independent",
            guests="pair",
            orders=_both("g1", "g2", Order(kind=Kind.INDEPENDENT)),
            budget_s=160,
            bounds=(Bound(figure="managed_over_unmanaged", limit=0.97),),
            undone=True,
        ),
    ]
    for grain, suffix, budget_s in ((20_000, "", 100), (COARSE, "_coarse", 100)):
        for pair in (False, True):
            for pause in (False, True):
                if suffix and pause:
                    continue  # time: at the coarse grain the spin is short against the work
                name = (
                    f"user_spin_{'pair' if pair else 'alone'}{'_pause' if pause else ''}{suffix}"
                )
                found.append(_spin(name, budget_s, pair=pair, pause=pause, grain=grain))
    found.append(
        Scenario(
            name="kernel_lock_tas",
            guests="tas",
            orders=_both("t1", "t2", lock),
            budget_s=150,
            bounds=(Bound(figure="managed_over_unmanaged", limit=0.97),),
        )
    )
    return tuple(found)


def quick(scenario: Scenario, bounds: tuple[Bound, ...]) -> Scenario:
    """Return the short form of a scenario: fewer static counts, other bounds, less time."""
    return dataclasses.replace(
        scenario, budget_s=150.0, counts=(1,), bounds=bounds, least_rounds=1
    )


MIXED_S: Final = 120.0
NEIGHBOUR_S: Final = 90.0
COST_S: Final = 250.0
FAULT_S: Final[Mapping[str, float]] = {
    "libvirtd_restart": 25.0,
    "agent_killed": 20.0,
    "guest_rebooted": 40.0,
    "qemu_stopped_60s": 85.0,
    "sigterm": 35.0,
    "sigkill_restore": 15.0,
    "ledger_disk_full": 30.0,
    "domain_destroyed_between_decision_and_change": 20.0,
    "unplug_timeout": 60.0,
}
"""Where nothing goes wrong; each wait inside a fault has a limit of its own."""
