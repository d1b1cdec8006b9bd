"""VMware ESX 2.x: proportional shares with strict co-scheduling.

Problem: the vCPUs of a guest expect to run at the same time; one that waits for a sibling which the
host does not run may spin for it.

Approach: runnable vCPUs are kept in the order of what they have used of what they are entitled to,
the least first; each runs for a quantum. Active domains are entitled to the host by weight (their
"shares"), none to more than a pCPU for each online vCPU. Every millisecond the progress of siblings
is compared: to run and to be idle is progress, to wait is not. If one that waits is further behind
the leader than a threshold while a sibling runs, the whole domain is co-stopped. It is co-started,
all of it at the same instant, as soon as there are enough pCPUs for all: idle ones, and those whose
vCPU has used more than the domain. Until then pCPUs may idle beside it: fragmentation. (A domain
wider than the host, which ESX refuses, needs all pCPUs.)

What is published is co-stop, co-start, thresholds, polls and quanta; this order of use, the
preemption rules and who makes room for a domain are a reconstruction. Not modelled: cells of four
pCPUs, caps, reservations, hyperthreads, and the monitor's overhead (a cost of the guest).

References: VMware, "Co-scheduling SMP VMs in VMware ESX Server" (2008) and "ESX scheduler"
(blogs.vmware.com/performance, 2008-06); "VMware vSphere 4: The CPU Scheduler in VMware ESX 4"
(2009), which also describes its predecessors; advanced settings Cpu.* of ESX.
"""

from __future__ import annotations

from bisect import insort
from typing import Final

from vcpud_simulator.engine import NEVER
from vcpud_simulator.entities import (
    CO_STOPPED,
    RUNNABLE,
    RUNNING,
    Dispatch,
    Domain,
    Pcpu,
    Vcpu,
)
from vcpud_simulator.schedulers.base import BaseScheduler
from vcpud_simulator.schedulers.esx_worlds import (
    IDLE,
    PCPU,
    World,
    charge,
    entitle,
    leader_ns,
    measure,
    progress,
    used,
)

QUANTUM_NS: Final = 50_000_000
"""Cpu.Quantum of the releases up to 4 (recent ESXi: 200 ms)."""
COSTOP_NS: Final = 3_000_000
"""Cpu.CoschedCostopThreshold: the largest tolerated skew."""
COSTART_NS: Final = 2_000_000
"""Cpu.CoschedCostartThreshold: the skew at which one that leads may go on."""
POLL_NS: Final = 1_000_000
"""Cpu.CoschedPollUsec."""
BOUND_LAG_QUANTA: Final = 8
"""Cpu.BoundLagQuanta: what a sleeper may save up at most."""
WAKE_ADVANTAGE_NS: Final = 1_000_000
"""A vCPU that wakes preempts one that has used this much more; assumed, nothing is published."""


class EsxStrict(BaseScheduler):
    """Strict co-scheduling.

    Attributes:
        quantum_ns: How long a vCPU runs before others that wait are considered.
        costop_ns: Skew at which a domain is stopped.
        costart_ns: Skew below which a vCPU does not count as behind.
    """

    name = "esx-strict"
    weight_per_domain = True

    def __init__(
        self,
        *,
        quantum_ns: int = QUANTUM_NS,
        costop_ns: int = COSTOP_NS,
        costart_ns: int = COSTART_NS,
        poll_ns: int = POLL_NS,
    ) -> None:
        super().__init__()
        if costart_ns > costop_ns:
            raise ValueError("costart_ns must not be larger than costop_ns")
        self.quantum_ns = quantum_ns
        self.costop_ns = costop_ns
        self.costart_ns = costart_ns
        self.accounting_ns = poll_ns
        self.balance_ns = poll_ns
        self._queue: list[Vcpu] = []
        self._stopped: list[Domain] = []
        self._frozen: set[Domain] = set()
        self._promised: dict[Pcpu, Vcpu] = {}
        self._least_ns = 0
        self._entitled = False

    def insert(self, vcpu: Vcpu, now_ns: int) -> None:  # noqa: ARG002
        vcpu.sched = World()
        vcpu.domain.sched = PCPU

    def adjust(self, domain: Domain, now_ns: int) -> None:  # noqa: ARG002
        self._entitled = False

    # ------------------------------------------------------------------ queue

    def wake(self, vcpu: Vcpu, now_ns: int) -> None:
        self._entitled = False
        world: World = vcpu.sched
        saved_ns = 0 if world.fresh else BOUND_LAG_QUANTA * self.quantum_ns
        world.used_ns = max(world.used_ns, self._least_ns - saved_ns)
        world.fresh = False
        if vcpu.domain in self._stopped:
            self.host.co_stop(vcpu)
        else:
            self._enqueue(vcpu)
            self._place(vcpu, now_ns)

    def sleep(self, vcpu: Vcpu, now_ns: int) -> None:  # noqa: ARG002
        self._entitled = False
        if vcpu in self._queue:
            self._queue.remove(vcpu)
        for pcpu in [pcpu for pcpu, promised in self._promised.items() if promised is vcpu]:
            del self._promised[pcpu]

    def yield_(self, vcpu: Vcpu, now_ns: int) -> None:  # noqa: ARG002
        vcpu.sched.yielding = True

    def _enqueue(self, vcpu: Vcpu) -> None:
        insort(self._queue, vcpu, key=used)

    def _place(self, vcpu: Vcpu, now_ns: int) -> None:
        """Have an idle pCPU take it, best where it was; else who has used most makes room."""
        host = self.host
        idle_mask = host.idle_mask
        if idle_mask:
            mask = idle_mask & -(1 << vcpu.pcpu.index) or idle_mask
            host.tickle(host.pcpus[(mask & -mask).bit_length() - 1])
            return
        victims = self._running(now_ns)
        if victims and victims[0].sched.used_ns - vcpu.sched.used_ns > WAKE_ADVANTAGE_NS:
            host.tickle(victims[0].pcpu)

    def _running(self, now_ns: int) -> list[Vcpu]:
        """vCPUs that run and are not about to stop, those that have used most first."""
        found = []
        for pcpu in self.host.pcpus:
            vcpu = pcpu.current
            if vcpu is not None and vcpu.state == RUNNING and not pcpu.pending:
                world: World = vcpu.sched
                ran_ns = now_ns - world.charged_ns
                if ran_ns:  # `charge`, here because polls are many
                    world.used_ns += ran_ns * PCPU // vcpu.domain.sched
                    world.charged_ns = now_ns
                found.append(vcpu)
        found.sort(key=used, reverse=True)
        return found

    # ------------------------------------------------------------------ decisions

    def schedule(self, pcpu: Pcpu, now_ns: int) -> Dispatch:
        current = pcpu.current
        if current is not None:
            charge(current, now_ns)
            if current.state <= RUNNABLE:
                self._enqueue(current)
            elif current.state != CO_STOPPED:
                self._entitled = False
        chosen = self._promised.pop(pcpu, None)
        if chosen is None and self._stopped:
            self._start_domains(now_ns, pcpu)
            chosen = self._promised.pop(pcpu, None)
        if chosen is None and self._queue:
            passed = current is not None and current.sched.yielding and len(self._queue) > 1
            chosen = self._queue.pop(1 if passed and self._queue[0] is current else 0)
        if current is not None:
            current.sched.yielding = False
        if self._queue and self.host.idle_mask:
            self._place(self._queue[0], now_ns)
        if chosen is None:
            return None, NEVER
        chosen.pcpu = pcpu
        chosen.sched.charged_ns = now_ns
        self._least_ns = max(self._least_ns, chosen.sched.used_ns)
        return chosen, now_ns + self.quantum_ns

    # ------------------------------------------------------------------ co-scheduling

    def account(self, now_ns: int) -> None:
        """One poll: who lags whom, who has to stop, who may start."""
        if not self._entitled:
            self._running(now_ns)  # charged before entitlements change
            entitle(self.host)
            self._entitled = True
        for domain in self.host.domains:
            if len(domain.vcpus) > 1 and not self._settled(domain):
                self._judge(domain, measure(domain, now_ns), now_ns)
        if self._stopped:
            self._start_domains(now_ns, None)

    def _settled(self, domain: Domain) -> bool:
        """Whether a poll of it can be left out, as most can: all its vCPUs are in one state.

        Running or waiting, their progress adds up until a poll that has something to judge;
        stopped, the first poll has brought it up to date.
        """
        state = domain.vcpus[0].state
        if state in IDLE:
            return False
        for vcpu in domain.vcpus:
            if vcpu.state != state:
                return False
        if state != CO_STOPPED or domain in self._frozen:
            return True
        self._frozen.add(domain)
        return False

    def _judge(self, domain: Domain, most_ns: int, now_ns: int) -> None:  # noqa: ARG002
        """Stop a domain one of whose vCPUs waits, too far behind, while another runs."""
        runs = lags = False
        enough_ns = most_ns - self.costop_ns
        for vcpu in domain.vcpus:
            state = vcpu.state
            if state == RUNNING:
                runs = True
            elif state == RUNNABLE and vcpu.sched.progress_ns < enough_ns:
                lags = True
        if runs and lags and domain not in self._stopped:
            self._stopped.append(domain)
            for vcpu in domain.vcpus:
                self._stop(vcpu)

    def _stop(self, vcpu: Vcpu) -> None:
        if vcpu.state <= RUNNABLE:
            if vcpu.pcpu.current is not vcpu:
                self._queue.remove(vcpu)
            self.host.co_stop(vcpu)

    def _gang(self, domain: Domain) -> list[Vcpu]:
        """Those that can only start together: all."""
        return [vcpu for vcpu in domain.vcpus if vcpu.state == CO_STOPPED]

    def _start_domains(self, now_ns: int, here: Pcpu | None) -> None:
        """Start what finds room, least used first; `here` is a pCPU that is about to decide."""
        stopped = []
        for number, domain in enumerate(self._stopped):
            gang = self._gang(domain)
            used_ns = 0
            for vcpu in gang:
                used_ns += vcpu.sched.used_ns
            stopped.append((used_ns // max(1, len(gang)), number, domain, gang))
        stopped.sort()
        running: list[Vcpu] | None = None
        for used_ns, _, domain, gang in stopped:
            if running is None:
                running = self._running(now_ns)
            room = self._room(used_ns, running, here)
            if len(room) < min(len(gang), len(self.host.pcpus)) or self._leaving(domain, here):
                continue
            running = None
            self._stopped.remove(domain)
            self._frozen.discard(domain)
            gang.sort(key=progress)  # the pCPUs of a domain wider than the host go to the last
            for pcpu, vcpu in zip(room, gang, strict=False):
                self.host.co_start(vcpu)
                self._promised[pcpu] = vcpu
                if pcpu is not here:
                    self.host.tickle(pcpu)
            self._started(domain, now_ns)

    @staticmethod
    def _leaving(domain: Domain, here: Pcpu | None) -> bool:
        """Whether some of its vCPUs, stopped at this instant, are still on their pCPUs."""
        return any(
            vcpu.state == CO_STOPPED and vcpu.pcpu.current is vcpu and vcpu.pcpu is not here
            for vcpu in domain.vcpus
        )

    def _room(self, used_ns: int, running: list[Vcpu], here: Pcpu | None) -> list[Pcpu]:
        """pCPUs a domain that has used so much may take at once."""
        pcpus = self.host.pcpus
        room = []
        if here is not None and here not in self._promised:
            first_ns = self._queue[0].sched.used_ns if self._queue else NEVER
            room = [here] if used_ns <= first_ns else []
        idle_mask = self.host.idle_mask
        room += [p for p in pcpus if idle_mask >> p.index & 1 and p is not here]
        for vcpu in running:
            if vcpu.sched.used_ns <= used_ns:
                break
            if vcpu.pcpu is not here:
                room.append(vcpu.pcpu)
        return [pcpu for pcpu in room if pcpu not in self._promised]

    def _started(self, domain: Domain, now_ns: int) -> None:
        """All run: nobody is behind any more."""
        self._release(domain, now_ns)
        most_ns = leader_ns(domain)
        for vcpu in domain.vcpus:
            vcpu.sched.progress_ns = most_ns

    def _release(self, domain: Domain, now_ns: int) -> None:
        """Those still stopped queue like anybody else: here, what is wider than the host."""
        for vcpu in domain.vcpus:
            if vcpu.state == CO_STOPPED:
                self._resume(vcpu, now_ns)

    def _resume(self, vcpu: Vcpu, now_ns: int) -> None:
        self.host.co_start(vcpu)
        self._enqueue(vcpu)
        self._place(vcpu, now_ns)
