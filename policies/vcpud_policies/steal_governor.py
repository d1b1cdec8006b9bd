"""A governor on steal time: above a threshold one vCPU less, below another one more.

Units: `steal` is a ratio: run delay per vCPU and unit of time, which is what a guest with a steal
clock calls steal. Those that the governor has taken out of use still count as vCPUs.

Problem
    A guest that runs more vCPUs than its host has pCPUs to spare pays in steal time. It can avoid
    that by running on fewer, if it knows when.

Approach
    Linux's steal governor. Every `interval`: steal above `steal_high` takes the last vCPU out of
    use, at or below `steal_low` puts the next one back, in between nothing changes; one vCPU a
    step, at least one stays. The source's guest reads its own steal; here the host's run delay is
    read, which is the same quantity, and as in the source of all the time since the last look. The
    source divides it by the guest's active CPUs, of which the preferred ones are a subset: a guest
    on half its CPUs bears twice the steal per CPU in use before it gives up another. The first look
    comes an interval after a domain was first seen.

    Known to fail: domains that share a pool shrink together and grow together (a limit cycle);
    independent work gains nothing; one that does not take part wins.

References:
    S. Hegde: "sched, steal_governor: Introduce preferred CPUs and steal-driven vCPU backoff", v14,
    Linux 7.4: Documentation/driver-api/steal-governor.rst ("normalized by the number of active
    CPUs") and drivers/virt/steal_governor.c; high_threshold 500 and low_threshold 200 of 10,000,
    interval_ms 1,000; steal_ratio = delta_steal * 10,000 / (delta_ns * CPUs), above the high one a
    core less, at or below the low one a core more.
"""

from __future__ import annotations

from dataclasses import dataclass

from vcpud.demand import DomainDemand, HostDemand, PoolDemand
from vcpud.plan import Move, Outlook, Plan, Verdict
from vcpud.units import NS_PER_S
from vcpud_policies import proposals
from vcpud_policies.paced import Looks, Since, paced


@dataclass(frozen=True, slots=True, kw_only=True)
class StealGovernor:
    """Linux's governor, outside the guest.

    Attributes:
        steal_high: Share of stolen time above which the domain gets one vCPU fewer.
        steal_low: Share of stolen time at or below which the domain gets one vCPU more.
        interval_ns: Time between two looks at a domain.
        judged: Whether vcpud undoes moves that do not help; the source does not judge moves.
    """

    steal_high: float = 0.05
    steal_low: float = 0.02
    interval_ns: int = NS_PER_S
    judged: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.steal_low < self.steal_high <= 1:
            raise ValueError("0 <= steal_low < steal_high <= 1 is required")

    def initial(self) -> Looks:
        return Looks()

    def decide(
        self,
        state: Looks,
        demand: HostDemand,
        verdicts: tuple[Verdict, ...],  # noqa: ARG002 - feedback is steal itself
        now_ns: int,
    ) -> tuple[Looks, Plan]:
        return paced(state, demand, now_ns, interval_ns=self.interval_ns, see=self._see)

    def _see(
        self, domain: DomainDemand, _: PoolDemand, since: Since
    ) -> tuple[Outlook, Move | None]:
        active = domain.active_vcpus
        vcpus = max(active, domain.home_vcpus or 0)
        delay = since.run_delay_pcpus
        steal = None if delay is None else delay / vcpus
        wanted = active
        if steal is not None and steal > self.steal_high:
            wanted = min(active, proposals.within(domain, active - 1))
        elif steal is not None and steal <= self.steal_low:
            wanted = max(active, proposals.within(domain, active + 1))
        outlook = proposals.stepped(
            domain,
            wanted,
            (("steal_ratio", steal),),
            more=f"steal is at most {self.steal_low:g}",
            fewer=f"steal is above {self.steal_high:g}",
        )
        if wanted == active:
            return outlook, None
        return outlook, proposals.resize(
            domain, wanted, f"steal {steal:.3f} of {vcpus} vCPUs", judged=self.judged
        )
