"""The mechanism of the hypervisor: dispatch, preemption, their costs, and who spent time on what.

It decides nothing: a scheduler does, through the hooks of `entities.Scheduler`. It models no guest:
`entities.VcpuGuest` does. A tickled pCPU decides at the same instant, after the event that tickled
it (Xen's SCHEDULE_SOFTIRQ); the costs of inter-processor interrupts are in the guests' wake costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from heapq import heappush
from typing import TYPE_CHECKING

from vcpud_simulator.engine import NEVER, Engine, Timer
from vcpud_simulator.entities import (
    BLOCKED,
    CO_STOPPED,
    OFFLINE,
    RUNNABLE,
    RUNNING,
    Domain,
    Pcpu,
    Scheduler,
    Vcpu,
)
from vcpud_simulator.rng import Chance
from vcpud_simulator.trace import Kind, Sink

if TYPE_CHECKING:
    from vcpud_simulator.pause import PauseLoop

_WAKE, _DISPATCH, _PREEMPT = int(Kind.WAKE), int(Kind.DISPATCH), int(Kind.PREEMPT)
_BLOCK, _YIELD, _MIGRATE, _IDLE = (
    int(Kind.BLOCK),
    int(Kind.YIELD),
    int(Kind.MIGRATE),
    int(Kind.IDLE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCosts:
    """What the hypervisor's own work costs; it is charged to the incoming vCPU's run time.

    Attributes:
        context_switch_ns: Before another vCPU's instructions execute. 2 us: a VM exit and entry
            with state switch is 1 to 2 us on VT-x/SVM, the scheduler's own path the rest.
        migration_ns: Added when it last ran on another pCPU. 10 us: refilling 32 KiB of L1 and
            part of L2. A whole working set costs up to 1 ms (Li, Ding, Shen 2007: "Quantifying the
            cost of context switch"); for that a guest has `refill_ns`, which is paid besides.
        co_stop_ns: Stopping a vCPU for its siblings' sake: 3 us, an interrupt to its pCPU and an
            exit, as for a reschedule from afar; ESX publishes none.
        co_start_ns: Starting it with them: 3 us likewise. Both are paid by the vCPU that was
            stopped, when it runs again.
    """

    context_switch_ns: int = 2_000
    migration_ns: int = 10_000
    co_stop_ns: int = 3_000
    co_start_ns: int = 3_000


FREE = HostCosts(context_switch_ns=0, migration_ns=0, co_stop_ns=0, co_start_ns=0)
"""Costs of a host for closed forms."""


class Host:
    """A host: pCPUs, domains, one scheduler.

    Attributes:
        engine: Its time.
        chance: Its randomness.
        pcpus: The processors.
        domains: Guests, in order of creation.
        scheduler: Who decides.
        costs: What mechanism costs.
        trace: Where events go, or None.
        pause: What becomes of PAUSE loops, or None where the hardware does not see them.
        idle_mask: Bit i is set while pCPU i idles and has not been tickled (Xen's `idlers`).
    """

    __slots__ = (
        "_choose", "_soon", "chance", "costs", "domains", "engine", "idle_mask", "pause", "pcpus",
        "scheduler", "trace", "vcpus",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - a host has these parts
        self,
        *,
        engine: Engine,
        pcpus: int,
        scheduler: Scheduler,
        chance: Chance,
        costs: HostCosts | None = None,
        trace: Sink | None = None,
        pause: PauseLoop | None = None,
    ) -> None:
        if pcpus < 1:
            raise ValueError(f"a host has at least one pCPU, not {pcpus}")
        self.engine = engine
        self.chance = chance
        self.costs = costs or HostCosts()
        self.trace = trace
        self.pause = pause
        self.scheduler = scheduler
        self.domains: list[Domain] = []
        self.vcpus: list[Vcpu] = []
        self._choose = scheduler.schedule
        self._soon = engine.soon
        phases = chance.stream("host", "phases")
        tick_ns = max(1, scheduler.tick_ns)
        drawn = [phases.below(tick_ns) for _ in range(1 if scheduler.ticks_together else pcpus)]
        self.pcpus = [Pcpu(i, drawn[i % len(drawn)]) for i in range(pcpus)]
        self.idle_mask = (1 << pcpus) - 1
        for pcpu in self.pcpus:
            pcpu.reschedule = partial(self._schedule, pcpu)
            pcpu.quantum = Timer(pcpu.reschedule)
            pcpu.ticker = Timer(partial(self._tick, pcpu))
        scheduler.attach(self)
        if scheduler.accounting_ns:
            engine.after(scheduler.accounting_ns, self._account)
        if scheduler.tick_ns and scheduler.ticks_when_idle:
            for pcpu in self.pcpus:
                engine.arm(pcpu.ticker, engine.now_ns + pcpu.phase_ns)

    def add_domain(
        self, name: str, *, vcpus: int, weight: int = 256, cap_pcpus: float | None = None
    ) -> Domain:
        """A new domain; its vCPUs are blocked until something wakes them.

        Raises:
            ValueError: An impossible size, weight or cap.
        """
        if vcpus < 1 or weight < 1 or (cap_pcpus is not None and cap_pcpus <= 0):
            raise ValueError(f"domain {name!r}: vcpus, weight and cap must be positive")
        domain = Domain(name, weight, cap_pcpus)
        self.domains.append(domain)
        for index in range(vcpus):
            number = len(self.vcpus)
            home = self.pcpus[number % len(self.pcpus)]
            vcpu = Vcpu(number, index, domain, home, self.engine.now_ns)
            domain.vcpus.append(vcpu)
            self.vcpus.append(vcpu)
            self.scheduler.insert(vcpu, self.engine.now_ns)
        return domain

    def adjust(self, domain: Domain, *, weight: int) -> None:
        """Change a domain's weight."""
        domain.weight = weight
        self.scheduler.adjust(domain, self.engine.now_ns)

    # ------------------------------------------------------------------ asked for by guests

    def wake(self, vcpu: Vcpu) -> None:
        """An interrupt for a blocked vCPU; nothing when it is not blocked."""
        if vcpu.state != BLOCKED:
            return
        now_ns = self.engine.now_ns
        vcpu.blocked_ns += now_ns - vcpu.since_ns
        vcpu.since_ns = now_ns
        vcpu.state = RUNNABLE
        if self.trace is not None:
            self.trace.record(now_ns, _WAKE, vcpu.number, vcpu.pcpu.index)
        if vcpu.pcpu.current is not vcpu:
            self.scheduler.wake(vcpu, now_ns)

    def block(self, vcpu: Vcpu) -> None:
        """The running vCPU halts."""
        now_ns = self.engine.now_ns
        vcpu.run_ns += now_ns - vcpu.since_ns
        vcpu.since_ns = now_ns
        vcpu.state = BLOCKED
        pcpu = vcpu.pcpu
        if self.trace is not None:
            self.trace.record(now_ns, _BLOCK, vcpu.number, pcpu.index)
        if not pcpu.pending:
            pcpu.pending = True
            self._soon.append(pcpu.reschedule)

    def offline(self, vcpu: Vcpu) -> None:
        """The running or waiting vCPU is taken out of use."""
        self._leave(vcpu, OFFLINE, int(Kind.OFFLINE))

    def online(self, vcpu: Vcpu) -> None:
        """An offline vCPU is brought back, and starts to run."""
        if vcpu.state != OFFLINE:
            return
        vcpu.enter(BLOCKED, self.engine.now_ns)
        if self.trace is not None:
            self.trace.record(self.engine.now_ns, int(Kind.ONLINE), vcpu.number, vcpu.pcpu.index)
        vcpu.woken_on = None
        self.wake(vcpu)

    def yield_(self, vcpu: Vcpu) -> None:
        """The running vCPU lets others pass."""
        if self.trace is not None:
            self.trace.record(self.engine.now_ns, _YIELD, vcpu.number, vcpu.pcpu.index)
        self.scheduler.yield_(vcpu, self.engine.now_ns)
        self.tickle(vcpu.pcpu)

    def pause_exit(self, vcpu: Vcpu) -> None:
        """The hardware saw the running vCPU in a PAUSE loop for a whole window."""
        vcpu.pause_exits += 1
        if self.trace is not None:
            self.trace.record(
                self.engine.now_ns, int(Kind.PAUSE_EXIT), vcpu.number, vcpu.pcpu.index
            )
        if self.pause is not None:
            self.pause.exited(self, vcpu)

    # ------------------------------------------------------------------ asked for by schedulers

    def tickle(self, pcpu: Pcpu) -> None:
        """Have a pCPU decide anew at this instant."""
        if not pcpu.pending:
            pcpu.pending = True
            self.idle_mask &= ~(1 << pcpu.index)
            self._soon.append(pcpu.reschedule)

    def co_stop(self, vcpu: Vcpu) -> None:
        """Withhold the processor from a running or (already unqueued) runnable vCPU."""
        vcpu.due_ns += self.costs.co_stop_ns + self.costs.co_start_ns
        self._leave(vcpu, CO_STOPPED, int(Kind.CO_STOP))

    def co_start(self, vcpu: Vcpu) -> None:
        """Let a withheld vCPU be runnable again; the scheduler queues it."""
        vcpu.enter(RUNNABLE, self.engine.now_ns)
        if self.trace is not None:
            self.trace.record(self.engine.now_ns, int(Kind.CO_START), vcpu.number, vcpu.pcpu.index)

    # ------------------------------------------------------------------ mechanism

    def _leave(self, vcpu: Vcpu, state: int, kind: int) -> None:
        """Out of running or runnable, into a state in which it cannot be chosen."""
        now_ns = self.engine.now_ns
        if vcpu.state == RUNNING and state == CO_STOPPED:
            vcpu.guest.suspend(now_ns)
            vcpu.preemptions += 1
        vcpu.enter(state, now_ns)
        if self.trace is not None:
            self.trace.record(now_ns, kind, vcpu.number, vcpu.pcpu.index)
        pcpu = vcpu.pcpu
        if pcpu.current is vcpu:
            if not pcpu.pending:
                pcpu.pending = True
                self._soon.append(pcpu.reschedule)
        elif state != CO_STOPPED:
            self.scheduler.sleep(vcpu, now_ns)

    def _schedule(self, pcpu: Pcpu) -> None:  # noqa: C901, PLR0912, PLR0915 - hot
        pcpu.pending = False
        engine = self.engine
        now_ns = engine.now_ns
        prev = pcpu.current
        chosen, until_ns = self._choose(pcpu, now_ns)
        trace = self.trace
        if prev is None:
            if chosen is None:
                self.idle_mask |= 1 << pcpu.index
                return
            self._wakes(pcpu, now_ns)
        elif prev.state == RUNNING:
            if chosen is prev:
                engine.arm(pcpu.quantum, until_ns)
                return
            prev.guest.suspend(now_ns)
            prev.run_ns += now_ns - prev.since_ns
            prev.since_ns = now_ns
            prev.state = RUNNABLE
            prev.preemptions += 1
            if trace is not None:
                trace.record(now_ns, _PREEMPT, prev.number, pcpu.index)
        if chosen is None:
            self._idle(pcpu, now_ns)
            return
        pcpu.current = chosen
        pcpu.dispatches += 1
        chosen.runnable_ns += now_ns - chosen.since_ns
        chosen.since_ns = now_ns
        chosen.state = RUNNING
        begin_ns = now_ns
        last = pcpu.last
        if last is not chosen:
            if last is not None and last.working_set is not None:
                last.working_set.leave(pcpu)
            pcpu.last = chosen
            begin_ns += self.costs.context_switch_ns
        if chosen.ran_on is not pcpu:
            chosen.pcpu = pcpu
            if chosen.ran_on is not None:
                chosen.migrations += 1
                begin_ns += self.costs.migration_ns
                if trace is not None:
                    trace.record(now_ns, _MIGRATE, chosen.number, pcpu.index)
            chosen.ran_on = pcpu
        if chosen.due_ns:
            begin_ns += chosen.due_ns
            chosen.due_ns = 0
        if trace is not None:
            trace.record(now_ns, _DISPATCH, chosen.number, pcpu.index)
        quantum = pcpu.quantum
        if until_ns < NEVER:  # `Engine.arm`, here because this path is as hot as any
            engine.sequence = sequence = engine.sequence + 1
            quantum.sequence = sequence
            heappush(engine.heap, (until_ns, sequence, quantum))
        else:
            quantum.sequence = 0
        chosen.guest.resume(begin_ns)

    def _wakes(self, pcpu: Pcpu, now_ns: int) -> None:
        """A pCPU ceases to idle."""
        pcpu.idle_ns += now_ns - pcpu.since_ns
        pcpu.since_ns = now_ns
        tick_ns = self.scheduler.tick_ns
        if tick_ns and not pcpu.ticker.sequence:
            self.engine.arm(pcpu.ticker, now_ns + tick_ns - (now_ns - pcpu.phase_ns) % tick_ns)

    def _idle(self, pcpu: Pcpu, now_ns: int) -> None:
        """A pCPU begins to idle."""
        pcpu.busy_ns += now_ns - pcpu.since_ns
        pcpu.since_ns = now_ns
        pcpu.current = None
        self.idle_mask |= 1 << pcpu.index
        pcpu.quantum.sequence = 0
        if not self.scheduler.ticks_when_idle:
            pcpu.ticker.sequence = 0
        if self.trace is not None:
            self.trace.record(now_ns, _IDLE, -1, pcpu.index)

    def _tick(self, pcpu: Pcpu) -> None:
        now_ns = self.engine.now_ns
        self.engine.arm(pcpu.ticker, now_ns + self.scheduler.tick_ns)
        self.scheduler.tick(pcpu, now_ns)

    def _account(self) -> None:
        engine = self.engine
        engine.after(self.scheduler.accounting_ns, self._account)
        self.scheduler.account(engine.now_ns)
