"""One host with its domains: built from parts, warmed up, run, measured.

The API for what comes later (study, backend, demo): a `Laboratory` has the host, each domain's
kernel, agent and progress; `run_for` moves time; `measure` runs a window and says what happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcpud.units import NS_PER_S
from vcpud_simulator.engine import Engine
from vcpud_simulator.entities import (
    BLOCKED,
    CO_STOPPED,
    OFFLINE,
    RUNNABLE,
    RUNNING,
    Scheduler,
    Vcpu,
)
from vcpud_simulator.guest.costs import GuestConfig
from vcpud_simulator.guest.hotplug import Agent, HotplugCosts
from vcpud_simulator.guest.kernel import GuestKernel
from vcpud_simulator.host import Host, HostCosts
from vcpud_simulator.rng import Chance
from vcpud_simulator.trace import Sink
from vcpud_simulator.workloads.base import Progress, Workload

if TYPE_CHECKING:
    from vcpud_simulator.pause import PauseLoop


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One domain over a window.

    Attributes:
        rate: Iterations per second.
        run_pcpus: Processor time used, per unit of time.
        run_delay_pcpus: Time runnable without a pCPU, per unit of time.
        useful_pcpus: Processor time of tasks, spinning and kernel overhead excluded.
        spin_pcpus: Processor time burnt waiting.
        online_vcpus: CPUs in use at the end.
    """

    rate: float
    run_pcpus: float
    run_delay_pcpus: float
    useful_pcpus: float
    spin_pcpus: float
    online_vcpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """One domain since it began: units of work, and times summed over its vCPUs."""

    iterations: int = 0
    run_ns: int = 0
    run_delay_ns: int = 0
    useful_ns: int = 0
    spin_ns: int = 0
    offline_ns: int = 0
    queued_ns: int = 0
    answering_ns: int = 0


class Inhabitant:
    """A domain with all that belongs to it.

    Attributes:
        kernel: Its guest.
        agent: What sets its CPUs online and offline.
        progress: What its workload has got done.
        started_ns: When it began.
    """

    def __init__(self, kernel: GuestKernel, agent: Agent, progress: Progress) -> None:
        self.kernel = kernel
        self.agent = agent
        self.progress = progress
        self.started_ns = kernel.host.engine.now_ns

    def totals(self) -> Totals:
        """What it has done and used since it began."""
        kernel = self.kernel
        for cpu in kernel.cpus:
            cpu.advance()
        now_ns = kernel.host.engine.now_ns
        vcpus = kernel.domain.vcpus
        return Totals(
            iterations=self.progress.total,
            run_ns=sum(vcpu.in_state_ns(RUNNING, now_ns) for vcpu in vcpus),
            run_delay_ns=sum(vcpu.in_state_ns(RUNNABLE, now_ns) for vcpu in vcpus),
            useful_ns=sum(cpu.true_work_ns for cpu in kernel.cpus),
            spin_ns=sum(cpu.true_spin_ns for cpu in kernel.cpus),
            offline_ns=sum(vcpu.in_state_ns(OFFLINE, now_ns) for vcpu in vcpus),
            queued_ns=sum(cpu.queue_wait_ns for cpu in kernel.cpus),
            answering_ns=kernel.answering_ns,
        )

    def wanted_ns(self) -> int:
        """Processor time that it used or waited for since it began, on its guest's own run queues, too."""
        kernel = self.kernel
        now_ns = kernel.host.engine.now_ns
        return sum(cpu.queue_wait_ns for cpu in kernel.cpus) + sum(
            vcpu.in_state_ns(state, now_ns)
            for vcpu in kernel.domain.vcpus
            for state in (RUNNING, RUNNABLE, CO_STOPPED)
        )


class Laboratory:
    """A host to experiment on.

    Attributes:
        engine: Time.
        host: The host.
        inhabitants: Its domains by name.
    """

    def __init__(  # noqa: PLR0913 - the parts of a host, by name
        self,
        *,
        pcpus: int,
        scheduler: Scheduler,
        seed: int = 1,
        costs: HostCosts | None = None,
        trace: Sink | None = None,
        pause: PauseLoop | None = None,
    ) -> None:
        self.engine = Engine()
        self.host = Host(
            engine=self.engine,
            pcpus=pcpus,
            scheduler=scheduler,
            chance=Chance(seed),
            costs=costs,
            trace=trace,
            pause=pause,
        )
        self.inhabitants: dict[str, Inhabitant] = {}

    def add(  # noqa: PLR0913 - a domain has these properties
        self,
        name: str,
        workload: Workload,
        *,
        vcpus: int,
        online: int | None = None,
        weight: int = 256,
        cap_pcpus: float | None = None,
        config: GuestConfig | None = None,
        costs: HotplugCosts | None = None,
    ) -> Inhabitant:
        """A domain with a workload; its threads are fixed by the CPUs it has, in use or not.

        Args:
            name: Its name.
            workload: What it does.
            vcpus: What it has.
            online: CPUs in use from the start, as if the others had never been brought up.
            weight: Its share.
            cap_pcpus: Its ceiling.
            config: How its kernel is configured.
            costs: What taking CPUs offline and online costs.
        """
        domain = self.host.add_domain(name, vcpus=vcpus, weight=weight, cap_pcpus=cap_pcpus)
        kernel = GuestKernel(self.host, domain, config)
        for cpu in kernel.cpus[online or vcpus :]:
            cpu.online = False
            self._take_away(cpu.vcpu)
        kernel.rescale()
        inhabitant = Inhabitant(kernel, Agent(kernel, costs), workload.start(kernel))
        self.inhabitants[name] = inhabitant
        return inhabitant

    def remove(self, name: str) -> None:
        """A domain is destroyed: none of its vCPUs ever runs again."""
        inhabitant = self.inhabitants.pop(name)
        inhabitant.progress.stop()
        for vcpu in inhabitant.kernel.domain.vcpus:
            self._take_away(vcpu)

    def _take_away(self, vcpu: Vcpu) -> None:
        if vcpu.state == BLOCKED:
            self.host.wake(vcpu)  # only what waits or runs can be taken out of a scheduler
        if vcpu.state == CO_STOPPED:
            self.host.co_start(vcpu)
        if vcpu.state == RUNNING:
            vcpu.guest.suspend(self.engine.now_ns)
        if vcpu.state in {RUNNING, RUNNABLE}:
            self.host.offline(vcpu)

    def run_for(self, duration_ns: int) -> None:
        """Let time pass."""
        self.engine.run_until(self.engine.now_ns + duration_ns)

    def resize(self, name: str, active: int, *, patience_ns: int = 60 * NS_PER_S) -> None:
        """Have a domain's agent leave the first `active` CPUs online, and wait for it.

        Raises:
            TimeoutError: It did not get there in that much simulated time.
        """
        inhabitant = self.inhabitants[name]
        inhabitant.agent.request(frozenset(range(active)))
        deadline_ns = self.engine.now_ns + patience_ns
        while inhabitant.agent.busy:
            if self.engine.now_ns >= deadline_ns:
                raise TimeoutError(f"{name} did not come to {active} online CPUs")
            self.run_for(10_000_000)

    def measure(self, window_ns: int) -> dict[str, Measurement]:
        """Run a window and say what each domain did in it."""
        before = {name: domain.totals() for name, domain in self.inhabitants.items()}
        self.run_for(window_ns)
        found = {}
        for name, domain in self.inhabitants.items():
            then, now = before[name], domain.totals()
            found[name] = Measurement(
                rate=(now.iterations - then.iterations) * NS_PER_S / window_ns,
                run_pcpus=(now.run_ns - then.run_ns) / window_ns,
                run_delay_pcpus=(now.run_delay_ns - then.run_delay_ns) / window_ns,
                useful_pcpus=(now.useful_ns - then.useful_ns) / window_ns,
                spin_pcpus=(now.spin_ns - then.spin_ns) / window_ns,
                online_vcpus=len(domain.kernel.online_cpus),
            )
        return found
