"""As many vCPUs as a domain's CPU extendability: its fair share and what others leave over.

Units: amounts of processor are pCPUs, of the time between the latest two readings.

Problem
    A domain with more vCPUs than the pCPUs it can get has them preempted while siblings wait. What
    it can get is known to the scheduler: its share by weight, and what others do not use of theirs.

Approach
    vScale's extendability. With P pCPUs and weights W, a domain's fair share is
    s = P W / sum(W). One that consumed less in the last period is a releaser: it keeps its share,
    and leaves s - c to the others. One that consumed its share is a competitor and may extend into
    what was left, in proportion to its weight: E = s + left W / sum(W of competitors). It gets
    ceil(E) vCPUs. With `water_filling` a competitor that cannot use its extension for want of vCPUs
    hands it on, which the source does not do. In the source the hypervisor measures every 10 ms;
    through libvirt a period is that of the daemon's cycles.

    Where the source is silent: its scheduler knows exactly what was charged, counters read from
    outside do not, and other people's work (dom0, interrupts) takes a per cent or two from everybody.
    Compared exactly, as with `competes_from` 1, domains that want all they can get were releasers
    every other period, and what they seem to leave would round others up. So a domain competes from
    0.95 of its share on. P is what unmanaged work leaves of the pool, for the same reason.

    Known to fail: the sum of ceil(E) exceeds P, which leaves a residual overcommit; a domain that
    was shrunk consumes less and looks like a releaser.

References:
    L. Cheng, J. Rao, F. C. M. Lau: "vScale: Automatic and Efficient Processor Scaling for SMP
    Virtual Machines", EuroSys 2016. Its abstract could be read; the structure above is recalled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vcpud.demand import DomainDemand, HostDemand
from vcpud.model import Uuid
from vcpud.plan import Move, Outlook, Plan, Verdict
from vcpud_policies import proposals


@dataclass(frozen=True, slots=True, kw_only=True)
class Extendability:
    """vScale's rule.

    Attributes:
        competes_from: Ratio of its share that a domain must have consumed to count as a competitor.
        water_filling: Whether a competitor passes on what it cannot use.
        judged: Whether vcpud undoes moves that do not help; the source does not judge moves.
    """

    competes_from: float = 0.95
    water_filling: bool = False
    judged: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.competes_from <= 1:
            raise ValueError("0 < competes_from <= 1 is required")

    def initial(self) -> None:
        return None

    def decide(
        self,
        state: None,
        demand: HostDemand,
        verdicts: tuple[Verdict, ...],  # noqa: ARG002 - feedback is consumption itself
        now_ns: int,  # noqa: ARG002 - the same at any time
    ) -> tuple[None, Plan]:
        members: dict[str, list[DomainDemand]] = {}
        for domain in demand.domains:
            members.setdefault(domain.pool, []).append(domain)
        shares: dict[Uuid, float] = {}
        for pool in demand.pools:
            inside = members.get(pool.name, [])
            shares |= extendabilities(
                pool.available_pcpus,
                inside,
                competes_from=self.competes_from,
                water_filling=self.water_filling,
            )
        return state, proposals.plan(
            self._one(domain, shares[domain.uuid]) for _, domain in proposals.eligible(demand)
        )

    def _one(self, domain: DomainDemand, extendability: float) -> tuple[Outlook, Move | None]:
        used = domain.last_used_pcpus
        inputs = (("used_pcpus", used), ("extendability_pcpus", extendability))
        wanted = domain.active_vcpus
        if used is not None:
            wanted = proposals.within(domain, math.ceil(extendability - 1e-9))
        outlook = proposals.stepped(
            domain,
            wanted,
            inputs,
            more=f"its extendability passes {domain.active_vcpus} pCPUs",
            fewer=f"its extendability falls to {domain.active_vcpus - 1} pCPUs",
        )
        if wanted == domain.active_vcpus:
            return outlook, None
        reason = f"used {used:.2f} pCPUs, may extend to {extendability:.2f}"
        return outlook, proposals.resize(domain, wanted, reason, judged=self.judged)


def extendabilities(
    pcpus: float,
    domains: list[DomainDemand],
    *,
    competes_from: float = 1.0,
    water_filling: bool = False,
) -> dict[Uuid, float]:
    """What each domain of a pool may extend to.

    Args:
        pcpus: What there is to share.
        domains: Who shares it, with positive weights; one whose use is not known is taken to use
            its share.
        competes_from: What of its share a competitor has consumed.
        water_filling: Whether a competitor hands on what exceeds its vCPUs.
    """
    weight = sum(domain.weight for domain in domains)
    fair = {domain.uuid: pcpus * domain.weight / weight for domain in domains}
    extended = dict(fair)
    competitors = []
    left = 0.0
    for domain in domains:
        share, used = fair[domain.uuid], domain.last_used_pcpus
        if used is not None and used < share * competes_from:
            left += share - used
        else:
            competitors.append(domain)
    while competitors and left > _NOTHING:
        weight = sum(domain.weight for domain in competitors)
        given, left = left, 0.0
        for domain in competitors:
            extended[domain.uuid] += given * domain.weight / weight
        if water_filling:
            for domain in competitors:
                surplus = extended[domain.uuid] - domain.max_vcpus
                if surplus > 0:
                    extended[domain.uuid] -= surplus
                    left += surplus
            competitors = [d for d in competitors if extended[d.uuid] < d.max_vcpus]
    return extended


_NOTHING = 1e-6
