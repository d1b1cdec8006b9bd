"""Processor folding: as many vCPUs as the work that is done needs, moved one a second.

Units: amounts of processor are pCPUs.

Problem
    A partition with more virtual processors than it uses spreads little work over many of them,
    each dispatched for short, cold moments.

Approach
    AIX's virtual processor folding. Once a second: the processor the partition uses, rounded up,
    plus `extra_vcpus`, and one more where those in use are busy; the number of unfolded processors
    moves towards that by at most one.

    Known to fail: spinning is use, so a guest that spins never folds; under contention use is
    what the host allows, so it folds late. From what use on AIX takes processors for busy it does not
    publish: `busy_high` is vcpud's. How AIX applies `vpm_fold_threshold` is not published
    in a form that its own example could be reproduced with, so it is not an option here.

References:
    IBM AIX documentation: "Virtual processor management within a partition": evaluated every
    second, at most one virtual processor a second; `vpm_xvcpus` (0). Its example, a partition of
    10 virtual processors that uses 2.5, runs on 3 and folds 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vcpud.demand import DomainDemand, HostDemand, PoolDemand
from vcpud.plan import Move, Outlook, Plan, Verdict
from vcpud.units import NS_PER_S
from vcpud_policies import proposals
from vcpud_policies.paced import Looks, paced


@dataclass(frozen=True, slots=True, kw_only=True)
class Folding:
    """AIX's rule.

    Attributes:
        extra_vcpus: Kept beyond what is needed (`vpm_xvcpus`).
        busy_high: Use per active vCPU above which one more is unfolded.
        interval_ns: Time between two looks at a domain.
        judged: Whether moves that do not help are undone; the source has no judge.
    """

    extra_vcpus: int = 0
    busy_high: float = 0.95
    interval_ns: int = NS_PER_S
    judged: bool = True

    def __post_init__(self) -> None:
        if self.extra_vcpus < 0 or not 0 < self.busy_high <= 1:
            raise ValueError("extra_vcpus >= 0 and 0 < busy_high <= 1 are required")

    def initial(self) -> Looks:
        return Looks()

    def decide(
        self,
        state: Looks,
        demand: HostDemand,
        verdicts: tuple[Verdict, ...],  # noqa: ARG002 - feedback is use itself
        now_ns: int,
    ) -> tuple[Looks, Plan]:
        return paced(state, demand, now_ns, interval_ns=self.interval_ns, see=self._see)

    def needed_vcpus(self, used_pcpus: float, active_vcpus: int) -> int:
        """What a domain needs, for the processor it uses on that many vCPUs."""
        busy = used_pcpus > self.busy_high * active_vcpus
        return max(math.ceil(used_pcpus - _NOTHING), 1) + self.extra_vcpus + busy

    def _see(self, domain: DomainDemand, _: PoolDemand) -> tuple[Outlook, Move | None]:
        active, used = domain.active_vcpus, domain.used_pcpus
        wanted = active
        if used is not None:
            needed = proposals.within(domain, self.needed_vcpus(used, active))
            wanted = active + max(-1, min(1, needed - active))
        outlook = proposals.stepped(
            domain,
            wanted,
            (("used_pcpus", used),),
            more=f"more than {self.busy_high * active:.2f} pCPUs are used",
            fewer=f"at most {max(active - 1 - self.extra_vcpus, 0)} pCPUs are used",
        )
        if wanted == active:
            return outlook, None
        reason = f"{used:.2f} pCPUs used on {active} vCPUs"
        return outlook, proposals.resize(domain, wanted, reason, judged=self.judged)


_NOTHING = 0.01
"""Use is measured in ticks: 3.001 pCPUs are 3."""
