"""CFS bandwidth control: what the cgroup of a domain may use in each period (libvirt's `global_quota`).

At the beginning of a period a domain's pool is filled to its quota. Its queue on each pCPU runs on what
it draws from the pool, a slice at a time. What it used is looked at by ticks and whenever its pCPU
decides, so it may have used more than it had, which it owes. A queue that owes and finds the pool
empty is throttled: it leaves its pCPU with all that wait in it, wherever they were in their code,
until time comes that pays what it owes. To the guest that is stolen time, as any other wait. A queue
that runs empty gives back all but a remainder, and throttled ones may have that at the next tick.

Not modelled: `vcpu_quota` (a quota for each vCPU), bursts, that periods of domains begin at different
instants, and that time given back is passed on by a timer of 5 ms of its own.

References: Linux 6.1 and 6.12 kernel/sched/fair.c: `__refill_cfs_bandwidth_runtime`,
`__assign_cfs_rq_runtime`, `throttle_cfs_rq`, `check_enqueue_throttle`, `distribute_cfs_runtime`,
`__return_cfs_rq_runtime`, `do_sched_cfs_slack_timer`; Turner, Rao, Rao: "CPU bandwidth control for
CFS", Linux Symposium 2010.
"""

from __future__ import annotations

from typing import Final

from vcpud_simulator.entities import Domain
from vcpud_simulator.schedulers.fair_queue import FairQueue, Pool

PERIOD_NS: Final = 100_000_000
"""default_cfs_period, which libvirt leaves as it is where no `global_period` is given."""
SLICE_NS: Final = 5_000_000
"""sysctl_sched_cfs_bandwidth_slice."""
KEPT_NS: Final = 1_000_000
"""min_cfs_rq_runtime: what a queue that runs empty keeps."""


class Bandwidth:
    """The pools of a host's domains, and who is throttled. It takes nobody off a pCPU."""

    __slots__ = ("_pools",)

    def __init__(self) -> None:
        self._pools: dict[Domain, Pool] = {}

    def pool(self, domain: Domain) -> Pool | None:
        """What a domain may use in a period, None where it has no ceiling."""
        if domain.cap_pcpus is None:
            return None
        found = self._pools.get(domain)
        if found is None:
            found = self._pools[domain] = Pool(round(domain.cap_pcpus * PERIOD_NS))
        return found

    @staticmethod
    def exhausted(queue: FairQueue) -> bool:
        """Whether a domain's queue has nothing left to run on, nor can draw any."""
        pool = queue.pool
        if pool is None or queue.left_ns > 0:
            return False
        drawn_ns = min(pool.left_ns, SLICE_NS - queue.left_ns)
        pool.left_ns -= drawn_ns
        queue.left_ns += drawn_ns
        return queue.left_ns <= 0

    def throttles(self, queue: FairQueue) -> bool:
        """Whether a domain's queue has to leave its pCPU; it is throttled then."""
        if queue.pool is None or not self.exhausted(queue):
            return False
        queue.throttled = True
        queue.pool.throttled.append(queue)
        return True

    @staticmethod
    def give_back(queue: FairQueue) -> None:
        """A domain's queue has run empty."""
        pool = queue.pool
        if pool is not None and queue.left_ns > KEPT_NS:
            pool.left_ns += queue.left_ns - KEPT_NS
            queue.left_ns = KEPT_NS

    def begin(self) -> list[FairQueue]:
        """A period begins: which queues may run again."""
        freed: list[FairQueue] = []
        for pool in self._pools.values():
            pool.left_ns = pool.quota_ns
            freed += _distribute(pool)
        return freed

    def pass_on(self) -> list[FairQueue]:
        """Which queues may run again on what others gave back, if that is worth a slice."""
        freed: list[FairQueue] = []
        for pool in self._pools.values():
            if pool.throttled and pool.left_ns > SLICE_NS:
                freed += _distribute(pool)
        return freed


def _distribute(pool: Pool) -> list[FairQueue]:
    """Debts are paid in the order in which they were made; whoever has none left is freed."""
    freed: list[FairQueue] = []
    for queue in pool.throttled:
        paid_ns = min(pool.left_ns, 1 - queue.left_ns)
        pool.left_ns -= paid_ns
        queue.left_ns += paid_ns
        if queue.left_ns > 0:
            queue.throttled = False
            freed.append(queue)
    pool.throttled = [queue for queue in pool.throttled if queue.throttled]
    return freed
