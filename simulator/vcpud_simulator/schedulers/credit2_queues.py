"""What credit2 knows of queues, vCPUs and their load, and its constants; see `credit2`.

Problem: queues that are not shared must be kept about equally busy without reacting to every
wake-up. Approach: the number of runnable vCPUs is averaged over the last second, for each queue
and each vCPU.

References: Xen c447b7308b (2026-08-18), xen/common/sched/credit2.c, `update_runq_load`.
"""

from __future__ import annotations

from bisect import insort
from typing import Final

from vcpud_simulator.entities import Pcpu, Vcpu

CREDIT_INIT_NS: Final = 10_000_000
"""CSCHED2_CREDIT_INIT: what an epoch gives; also the longest run (CSCHED2_MAX_TIMER)."""
CREDIT_MIN_NS: Final = -CREDIT_INIT_NS
"""CSCHED2_CREDIT_MIN."""
MIN_TIMER_NS: Final = 500_000
"""CSCHED2_MIN_TIMER: the shortest run."""
CARRYOVER_MAX_NS: Final = MIN_TIMER_NS
"""CSCHED2_CARRYOVER_MAX."""
MIGRATE_RESIST_NS: Final = 500_000
"""sched_credit2_migrate_resist."""
MIGRATE_COMPENSATION_NS: Final = 50_000
"""CSCHED2_MIGRATE_COMPENSATION."""
RATELIMIT_NS: Final = 1_000_000
"""SCHED_DEFAULT_RATELIMIT_US."""
RATELIMIT_TOLERANCE_NS: Final = 50_000
"""CSCHED2_RATELIMIT_TICKLE_TOLERANCE."""
CAP_PERIOD_NS: Final = 10_000_000
"""sched_credit2_cap_period_ms."""
PCPUS_PER_QUEUE: Final = 16
"""sched_credit2_max_cpus_runqueue."""
LOAD_WINDOW_NS: Final = 1 << 30
"""LOADAVG_WINDOW_SHIFT."""
LOAD_ONE: Final = 1 << 18
"""LOADAVG_PRECISION_SHIFT: the load of one busy pCPU."""
OVERLOAD_TOLERANCE: Final = LOAD_ONE >> 3
"""opt_overload_balance_tolerance -3; below capacity the tolerance is LOAD_ONE."""


class Load:
    """A number of runnable vCPUs and its average over the last second."""

    __slots__ = ("average", "now", "updated_ns")

    def __init__(self) -> None:
        self.now = 0
        self.average = 0
        self.updated_ns = 0

    def change(self, by: int, now_ns: int) -> None:
        past_ns = min(now_ns - self.updated_ns, LOAD_WINDOW_NS)
        self.average += past_ns * (self.now * LOAD_ONE - self.average) // LOAD_WINDOW_NS
        self.updated_ns = now_ns
        self.now += by


class RunQueue:
    """pCPUs that share a queue.

    Attributes:
        pcpus: Those.
        mask: Those, as bits.
        waiting: Runnable vCPUs, most credit first.
        members: All vCPUs that belong here, asleep or not.
        max_weight: The largest weight among them.
        load: How busy it is.
    """

    __slots__ = ("load", "mask", "max_weight", "members", "pcpus", "waiting")

    def __init__(self, pcpus: list[Pcpu]) -> None:
        self.pcpus = pcpus
        self.mask = sum(1 << pcpu.index for pcpu in pcpus)
        self.waiting: list[Vcpu] = []
        self.members: list[Vcpu] = []
        self.max_weight = 1
        self.load = Load()

    def enqueue(self, vcpu: Vcpu) -> None:
        """Behind all with as much credit."""
        insort(self.waiting, vcpu, key=_less_credit)

    def weigh(self) -> None:
        """Weights or members have changed."""
        self.max_weight = max((vcpu.domain.weight for vcpu in self.members), default=1)


class Unit:
    """What the scheduler knows of one vCPU.

    Attributes:
        queue: Where it belongs.
        credit_ns: What it has left.
        remainder: What it burnt beyond a whole credit.
        charged_ns: Until when it has paid.
        dispatched_ns: When it was last given a pCPU.
        tickled: The pCPU that was asked to run it.
        yielding: Whether it yielded since it was dispatched.
        destination: The queue it has to move to.
        budget_ns: What it drew from its capped domain.
        load: Its part of the load.
    """

    __slots__ = (
        "budget_ns", "charged_ns", "credit_ns", "destination", "dispatched_ns", "load", "queue",
        "remainder", "tickled", "yielding",
    )  # fmt: skip

    def __init__(self, queue: RunQueue) -> None:
        self.queue = queue
        self.credit_ns = CREDIT_INIT_NS
        self.remainder = 0
        self.charged_ns = 0
        self.dispatched_ns = 0
        self.tickled: Pcpu | None = None
        self.yielding = False
        self.destination: RunQueue | None = None
        self.budget_ns = 0
        self.load = Load()


def best_move(
    here: RunQueue, queues: list[RunQueue], now_ns: int
) -> tuple[Vcpu | None, RunQueue | None]:
    """The vCPU whose move between this queue and the most different one evens them out best."""
    for queue in queues:
        queue.load.change(0, now_ns)
    there = max(queues, key=lambda queue: abs(queue.load.average - here.load.average))
    busier, other = (here, there) if here.load.average > there.load.average else (there, here)
    gap = busier.load.average - other.load.average
    full = busier.load.average >= LOAD_ONE * max(len(here.pcpus), len(there.pcpus))
    if gap < (OVERLOAD_TOLERANCE if full else LOAD_ONE):
        return None, None
    best, mover = gap, None
    for vcpu in busier.members:
        unit: Unit = vcpu.sched
        unit.load.change(0, now_ns)
        left = abs(gap - 2 * unit.load.average)
        if unit.destination is None and left < best:
            best, mover = left, vcpu
    return mover, other


def _less_credit(vcpu: Vcpu) -> int:
    credit_ns: int = vcpu.sched.credit_ns
    return -credit_ns
