"""Where vCPUs of CFS and EEVDF go: when they wake, and when loads are evened out. It moves nobody.

A sleeper goes back to where it was if that idles, else to an idle pCPU. Where none idles it stays,
or (an option) goes to the pCPU whose vCPU woke it if that is not more loaded than its own
(`wake_affine`): siblings that interrupt one another then gather where load is least. A pCPU that
runs out of work pulls a waiting vCPU whose caches are cold; a periodic balance evens out loads,
which are sums of weights. Balance scheduling (Sukwong and Kim, EuroSys 2011) never puts two siblings
on one pCPU's queue, where that can be avoided.

Not modelled: NUMA, more than one cache, PELT's decaying averages (loads are those of the instant),
`wake_wide`.

References: Linux kernel/sched/fair.c, v6.1 and v6.12: `select_task_rq_fair`, `select_idle_sibling`,
`wake_affine_weight`, `calculate_imbalance`, `task_hot`; kernel/sched_fair.c, v2.6.35: `wake_affine`,
which differs by comparing with 112 instead of 108 per cent, and admits equality.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud_simulator.entities import RUNNABLE, Pcpu, Vcpu
from vcpud_simulator.schedulers.fair_queue import (
    MIGRATION_COST_NS,
    SHARES_PER_WEIGHT,
    Entity,
    FairQueue,
    load,
    siblings,
    threads,
    throttled,
    waiting,
)

if TYPE_CHECKING:
    from vcpud_simulator.host import Host

IMBALANCE_PERCENT: Final = 117
"""sd->imbalance_pct of pCPUs that share a cache: a load less than a sixth larger is no reason."""
_AFFINE_PERCENT: Final = 100 + (IMBALANCE_PERCENT - 100) // 2
"""How much more load the waker's pCPU may come to have than the own one has (WA_BIAS)."""


class Placement:
    """Chooses.

    Attributes:
        host: Whose pCPUs.
        siblings_apart: Balance scheduling.
        wake_affine: Whether who wakes may be drawn to its waker.
    """

    __slots__ = ("host", "siblings_apart", "wake_affine")

    host: Host

    def __init__(self, *, siblings_apart: bool, wake_affine: bool) -> None:
        self.siblings_apart = siblings_apart
        self.wake_affine = wake_affine

    def for_woken(self, vcpu: Vcpu) -> Pcpu:
        """Where a vCPU that wakes is queued."""
        before, host = vcpu.pcpu, self.host
        if self.siblings_apart:
            return min(host.pcpus, key=lambda p: (siblings(vcpu, p), threads(p), p is not before))
        if host.idle_mask:
            if host.idle_mask >> before.index & 1:
                return before
            later = host.idle_mask & -(2 << before.index)
            mask = later or host.idle_mask
            return host.pcpus[(mask & -mask).bit_length() - 1]
        waker = vcpu.woken_on
        if self.wake_affine and waker is not None and self._draws(vcpu, waker):
            return waker
        return before

    @staticmethod
    def _draws(vcpu: Vcpu, waker: Pcpu) -> bool:
        """Whether the waker's pCPU may have it: loads before and after decide (`WA_WEIGHT`)."""
        entity: Entity = vcpu.sched
        weight = entity.weight
        if entity.queue.holder is not None:
            domain = vcpu.domain
            runnable = sum(other.state <= RUNNABLE for other in domain.vcpus)
            weight = domain.weight * SHARES_PER_WEIGHT // runnable
        theirs: FairQueue = waker.sched
        own: FairQueue = vcpu.pcpu.sched
        return 100 * (theirs.load + weight) < _AFFINE_PERCENT * own.load

    def to_pull(self, pcpu: Pcpu, now_ns: int) -> Vcpu | None:
        """Whom a pCPU without work takes from the most crowded one.

        None that ran a moment ago: its caches are warm over there (`task_hot`).
        """
        busiest = max(self.host.pcpus, key=threads)
        if busiest is pcpu or threads(busiest) < 2:  # noqa: PLR2004 - one runs
            return None
        for vcpu in waiting(busiest):
            warm = now_ns - vcpu.sched.stopped_ns < MIGRATION_COST_NS
            if not warm and not throttled(vcpu.domain, pcpu):
                return vcpu
        return None

    def to_balance(self, pcpu: Pcpu) -> Vcpu | None:
        """Whom a busy pCPU takes from the one with most load on which somebody waits.

        pCPUs are groups of one CPU, and one of these with a single runnable thread is not
        overloaded (`group_is_overloaded`): so a heavy vCPU that has a pCPU for itself is nobody's
        to take, and hides no other (`update_sd_pick_busiest` goes by the type of a group first).

        None is taken whose load is more than what is out of balance (`calculate_imbalance`),
        until nothing else was found several times: so nobody shares a pCPU for ever beside one who
        has his own. Where loads are balanced, these failures are forgotten (`out_balanced`).
        """
        root: FairQueue = pcpu.sched
        loads = [other.sched.load for other in self.host.pcpus]
        crowded = [p for p in self.host.pcpus if threads(p) > 1]
        busiest = max(crowded, key=lambda p: p.sched.load, default=pcpu)
        most = busiest.sched.load
        # Only between overloaded ones a little more is no reason (`find_busiest_group`).
        percent = IMBALANCE_PERCENT if threads(pcpu) > 1 else 100
        mean = sum(loads) // len(loads)
        imbalance = mean - root.load
        if most >= mean:  # below, the kernel's unsigned difference is huge and does not count
            imbalance = min(imbalance, most - mean)
        if 100 * most <= percent * root.load or imbalance <= 0:
            root.balance_failures = 0
            return None
        for vcpu in waiting(busiest):
            if throttled(vcpu.domain, pcpu) or (self.siblings_apart and siblings(vcpu, pcpu)):
                continue
            if load(vcpu) >> root.balance_failures <= imbalance:
                root.balance_failures = 0
                return vcpu
        root.balance_failures += 1
        return None
