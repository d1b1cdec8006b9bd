"""Feedback on guest spin-lock wait and run-queue length, with host run delay as witness.

Units: ratios are per active vCPU and unit of time; amounts of processor are pCPUs.

Problem
    On an overcommitted host the hypervisor preempts vCPUs that hold a spinlock or are next in line
    for one, and their siblings spin for whole time slices. The guest sees the waiting, the host
    sees the run delay; neither alone is enough: waiting on a host that is not contended is the
    guest's own lock contention, and run delay without waiting is independent work.

Approach
    Shrink a domain by one vCPU when its guest waits for spinlocks, its vCPUs wait for pCPUs and
    its pool is overcommitted, each in `shrink_readings` fresh readings in a row. Where the wait is
    overwhelming, two independent witnesses cannot both be wrong by so much: go to the entitlement
    at once. Grow by one when tasks queue inside the guest, the lock wait is low (or, with one or
    two active vCPUs, where the tracepoint sees little, not evidence either way) and its
    entitlement has room. Whether it helped is the judge's business; the source, as far as it is
    known, measures again and has none (`judged: false`).

References:
    G. Southern, "Symmetric Multiprocessing Virtualization", MSc thesis, George Mason University,
    2008: proposes dynamic VCPU allocation from guest spin-lock and run-queue statistics. The text
    of its algorithm could not be had; this is a reconstruction from its abstract.
    The two-threshold form and one-step pace follow IBM's cpuplugd and AIX processor folding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from vcpud.demand import DomainDemand, HostDemand, PoolDemand
from vcpud.model import Uuid
from vcpud.plan import Move, Outlook, Outlooks, Plan, Verdict
from vcpud.swift import maker
from vcpud_policies import proposals


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Evidence gathered on one domain.

    Attributes:
        read_at_ns: The guest reading last counted.
        spinning: Readings in a row in favour of shrinking.
        queueing: Readings in a row in favour of growing.
    """

    read_at_ns: int | None = None
    spinning: int = 0
    queueing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The policy's state: what was seen of each domain."""

    domains: Mapping[Uuid, Seen] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpinFeedback:
    """The thesis's feedback.

    Attributes:
        spin_high: Lock wait per active vCPU second above which a guest spins too much.
        spin_low: Lock wait per active vCPU second below which spinning does not prevent growing.
        spin_overwhelming: Lock wait that no healthy guest shows.
        delay_high: Run delay per active vCPU above which the host may be the cause; 5 % is the
            threshold of Linux's steal governor.
        queue_high: Tasks waiting per active vCPU above which a guest lacks vCPUs.
        overcommit_high: Active vCPUs per available pCPU above which a pool is overcommitted.
        shrink_readings: Fresh guest readings in a row needed to shrink.
        grow_readings: The same to grow.
        judged: Whether vcpud undoes moves that do not help; the source does not judge moves.
    """

    spin_high: float = 0.10
    spin_low: float = 0.02
    spin_overwhelming: float = 0.40
    delay_high: float = 0.05
    queue_high: float = 0.5
    overcommit_high: float = 1.05
    shrink_readings: int = 2
    grow_readings: int = 2
    judged: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.spin_low < self.spin_high <= self.spin_overwhelming:
            raise ValueError("spin_low < spin_high <= spin_overwhelming is required")
        if min(self.shrink_readings, self.grow_readings) < 1:
            raise ValueError("shrink_readings and grow_readings must be at least 1")

    def initial(self) -> Evidence:
        return Evidence()

    def decide(
        self,
        state: Evidence,
        demand: HostDemand,
        verdicts: tuple[Verdict, ...],  # noqa: ARG002 - the judge undoes and backs off
        now_ns: int,  # noqa: ARG002 - evidence is dated by the guest's own readings
    ) -> tuple[Evidence, Plan]:
        seen: dict[Uuid, Seen] = {}
        moves: list[Move] = []
        looked: list[tuple[DomainDemand, PoolDemand, Move | None]] = []
        for pool, domain in proposals.eligible(demand):
            before = state.domains.get(domain.uuid, _NOTHING)
            seen[domain.uuid], move = self._one(before, domain, pool)
            looked.append((domain, pool, move))
            if move is not None:
                moves.append(move)
        plan = Plan(moves=tuple(moves), outlooks=Outlooks(looked, self._outlook))
        return Evidence(domains=seen), plan

    def _outlook(self, domain: DomainDemand, pool: PoolDemand, move: Move | None) -> Outlook:
        return proposals.stepped(
            domain,
            domain.active_vcpus if move is None else move.resizes[0].to_vcpus,
            (
                ("lock_wait_ratio", domain.lock_wait_ratio),
                ("run_delay_pcpus", domain.run_delay_pcpus),
                ("queued_tasks", domain.queued_tasks),
                ("entitled_pcpus", domain.entitled_pcpus),
                ("overcommit_ratio", pool.overcommit_ratio),
            ),
            more=f"more than {self.queue_high:g} tasks per vCPU queue, its lock wait is below "
            f"{self.spin_low:g} and its entitlement has room",
            fewer=f"its lock wait is above {self.spin_high:g}, its run delay above "
            f"{self.delay_high:g} per vCPU and its pool above {self.overcommit_high:g} vCPUs per "
            "pCPU",
        )

    def _one(self, seen: Seen, domain: DomainDemand, pool: PoolDemand) -> tuple[Seen, Move | None]:
        read_at_ns = domain.lock_wait_at_ns
        if domain.lock_wait_ratio is None or domain.entitled_pcpus is None:
            return _NOTHING if read_at_ns is None else _seen(read_at_ns), None
        spin, waited = domain.lock_wait_ratio, domain.run_delay_pcpus
        delay = (waited or 0.0) / domain.active_vcpus
        queue = (domain.queued_tasks or 0.0) / domain.active_vcpus
        if read_at_ns != seen.read_at_ns:
            # Whether it waits for pCPUs, too, may not be known: then it may spin, or may not.
            may_spin = spin > self.spin_high and pool.overcommit_ratio > self.overcommit_high
            spins = may_spin and delay > self.delay_high
            # With two or fewer active vCPUs the tracepoint hardly sees a wait: no evidence.
            calm = spin < self.spin_low or domain.active_vcpus <= 2  # noqa: PLR2004
            grows = calm and not (may_spin if waited is None else spins)
            queues = queue > self.queue_high and grows
            seen = _seen(
                read_at_ns,
                seen.spinning + 1 if spins else 0,
                seen.queueing + 1 if queues else 0,
            )
        floor = max(domain.min_vcpus, 1)
        target = max(floor, nearest_vcpus(domain.entitled_pcpus))
        overwhelming = spin > self.spin_overwhelming and delay > self.delay_high
        enough = 1 if overwhelming else self.shrink_readings
        if seen.spinning >= enough and domain.active_vcpus > target:
            to_vcpus = target if overwhelming else domain.active_vcpus - 1
        elif seen.queueing >= self.grow_readings and domain.active_vcpus < min(
            domain.max_vcpus, target
        ):
            to_vcpus = domain.active_vcpus + 1
        else:
            return seen, None
        reason = (
            f"lock wait {spin:.2f} and run delay {delay:.2f} per vCPU, "
            f"{queue:.2f} tasks queued per vCPU, entitled to {domain.entitled_pcpus:.2f} pCPUs"
        )
        return _seen(read_at_ns), proposals.resize(domain, to_vcpus, reason, judged=self.judged)


_seen = maker(Seen)
_NOTHING = Seen()


def nearest_vcpus(entitled_pcpus: float) -> int:
    """The whole number of vCPUs that an entitlement can keep running.

    Rounded down with a tolerance of a quarter: a host is never wholly free, so a guest alone on
    two pCPUs is entitled to 1.9 and should have two vCPUs.
    """
    return max(1, math.floor(entitled_pcpus + 0.25))
