"""VMware ESX 3.x and 4+: relaxed co-scheduling.

Problem: strict co-scheduling leaves pCPUs idle beside domains that find no room as a whole.

Approach: shares, quanta and polls are those of ESX 2.x (see `esx_strict`).

* 3.x: a domain is stopped as before, but only its vCPUs that are behind have to be started
  together; the others may run as soon as those do, where they find a pCPU.
* 4+: skew is the lead over the slowest sibling that is not idle. Whoever leads by more than the
  threshold is stopped alone, and goes on alone when the lead is small enough. Nobody has to start
  together, so no pCPU is held for a domain.

With enough pCPUs for all, neither differs from strict co-scheduling.

References: as in `esx_strict`; yellow-bricks.com 2008-07-07 ("descheduled
idle vCPUs are considered as making progress"); for 3.5 the thresholds are assumed to be those of 4.
"""

from __future__ import annotations

from vcpud_simulator.entities import CO_STOPPED, RUNNABLE, Domain, Vcpu
from vcpud_simulator.schedulers.esx_strict import EsxStrict
from vcpud_simulator.schedulers.esx_worlds import leader_ns, slowest_ns


class EsxRelaxed3(EsxStrict):
    """Relaxed co-scheduling of ESX 3.x: only those that are behind start together."""

    name = "esx-relaxed-3"

    def _gang(self, domain: Domain) -> list[Vcpu]:
        """Those that are behind; nobody waits for anybody if none is."""
        enough_ns = leader_ns(domain) - self.costart_ns
        return [
            vcpu
            for vcpu in domain.vcpus
            if vcpu.state == CO_STOPPED and vcpu.sched.progress_ns <= enough_ns
        ]

    def _started(self, domain: Domain, now_ns: int) -> None:
        """The others may run now, where they find a pCPU."""
        self._release(domain, now_ns)


class EsxRelaxed4(EsxStrict):
    """Relaxed co-scheduling since ESX 4: whoever leads too far waits alone."""

    name = "esx-relaxed-4"

    def _settled(self, domain: Domain) -> bool:  # noqa: ARG002
        """Never: who leads too far is stopped even while all run."""
        return False

    def _judge(self, domain: Domain, most_ns: int, now_ns: int) -> None:
        """Who is stopped or goes on is as little idle as before, so the slowest stays the same."""
        slowest = slowest_ns(domain, most_ns)
        for vcpu in domain.vcpus:
            lead_ns = vcpu.sched.progress_ns - slowest
            if vcpu.state <= RUNNABLE:
                if lead_ns > self.costop_ns:
                    self._stop(vcpu)
            elif vcpu.state == CO_STOPPED and lead_ns < self.costart_ns:
                self._resume(vcpu, now_ns)
