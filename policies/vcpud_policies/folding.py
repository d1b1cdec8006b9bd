"""Processor folding: as many vCPUs as the work that is done needs, moved one a second.

Units: amounts of processor are pCPUs.

Problem
    A partition with more virtual processors than it uses spreads little work over many of them,
    each dispatched for short, cold moments.

Approach
    AIX's virtual processor folding. Once an interval: the base number is the processor that was
    used since the last look, rounded up. Where that number would be highly used, above
    `fold_threshold` of each, it is one more, so that the work can grow. `extra_vcpus` are added,
    and the number of unfolded processors moves towards that by at most one. What is unfolded now
    does not enter: a domain that saturates a whole number of pCPUs has one vCPU more, and keeps it.

    Known to fail: spinning is use, so a guest that spins never folds below what it burns; under
    contention use is what the host allows, so it folds late.

    Where the source is silent: `vpm_fold_threshold` was 70 % of a core until AIX 6.1 TL6 and is
    49 % of its SMT threads' use since. A vCPU has no such threads, and with either figure taken of
    vCPUs the example below would run on 4. 0.95 reproduces it and folds most, which is what synchronising
    guests gain by; a sweep tries others.

References:
    IBM, "Virtual processor management within a partition": evaluated every second; "if the number
    yields a high virtual processor utilization, the base number of virtual processors required is
    incremented"; one processor a second; `vpm_xvcpus` (0).
    IBM, "POWER7 and POWER7+ Optimization and Tuning Guide": `vpm_fold_threshold`.
    IBM Support, "AIX Virtual Processor Folding is Misunderstood", the example: of 10 virtual
    processors, 2.5 used, it folds 7 and runs on 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vcpud.demand import DomainDemand, HostDemand, PoolDemand
from vcpud.plan import Move, Outlook, Plan, Verdict
from vcpud.units import NS_PER_S
from vcpud_policies import proposals
from vcpud_policies.paced import Looks, Since, paced


@dataclass(frozen=True, slots=True, kw_only=True)
class Folding:
    """AIX's rule.

    Attributes:
        extra_vcpus: vCPUs kept beyond those that are needed (`vpm_xvcpus`).
        fold_threshold: Use per vCPU of the base number above which one more vCPU is needed.
        interval_ns: Time between two looks at a domain.
        judged: Whether vcpud undoes moves that do not help; the source does not judge moves.
    """

    extra_vcpus: int = 0
    fold_threshold: float = 0.95
    interval_ns: int = NS_PER_S
    judged: bool = True

    def __post_init__(self) -> None:
        if self.extra_vcpus < 0 or not 0 < self.fold_threshold <= 1:
            raise ValueError("extra_vcpus >= 0 and 0 < fold_threshold <= 1 are required")

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

    def needed_vcpus(self, used_pcpus: float) -> int:
        """What a domain needs for the processor it uses."""
        base = max(math.ceil(used_pcpus - _NOTHING), 1)
        return base + (used_pcpus > self.fold_threshold * base) + self.extra_vcpus

    def _most_pcpus(self, vcpus: int) -> float:
        """What may be used so that no more than these are needed."""
        base = vcpus - self.extra_vcpus
        return max(self.fold_threshold * base, base - 1, 0)

    def _see(
        self, domain: DomainDemand, _: PoolDemand, since: Since
    ) -> tuple[Outlook, Move | None]:
        active, used = domain.active_vcpus, since.used_pcpus
        wanted = active
        if used is not None:
            needed = proposals.within(domain, self.needed_vcpus(used))
            wanted = active + max(-1, min(1, needed - active))
        outlook = proposals.stepped(
            domain,
            wanted,
            (("used_pcpus", used),),
            more=f"more than {self._most_pcpus(active):.2f} pCPUs are used",
            fewer=f"at most {self._most_pcpus(active - 1):.2f} pCPUs are used",
        )
        if wanted == active:
            return outlook, None
        reason = f"{used:.2f} pCPUs used on {active} vCPUs"
        return outlook, proposals.resize(domain, wanted, reason, judged=self.judged)


_NOTHING = 0.01
"""Use is measured in ticks: 3.001 pCPUs are 3."""
