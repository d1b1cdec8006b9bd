"""One host with its domains: built from parts, warmed up, run, measured.

The API for what comes later (study, backend, demo): a `Laboratory` has the host, each domain's
kernel, agent and progress; `run_for` moves time; `measure` runs a window and says what happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcpud.units import NS_PER_S
from vcpud_simulator.engine import Engine
from vcpud_simulator.entities import RUNNABLE, RUNNING, Scheduler
from vcpud_simulator.guest.costs import GuestConfig
from vcpud_simulator.guest.hotplug import Agent
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


class Inhabitant:
    """A domain with all that belongs to it."""

    def __init__(self, kernel: GuestKernel, agent: Agent, progress: Progress) -> None:
        self.kernel = kernel
        self.agent = agent
        self.progress = progress

    def totals(self) -> tuple[int, int, int, int, int]:
        """Iterations, run, run delay, useful and spin time so far."""
        kernel = self.kernel
        for cpu in kernel.cpus:
            cpu.advance()
        now_ns = kernel.host.engine.now_ns
        vcpus = kernel.domain.vcpus
        return (
            self.progress.iterations,
            sum(vcpu.in_state_ns(RUNNING, now_ns) for vcpu in vcpus),
            sum(vcpu.in_state_ns(RUNNABLE, now_ns) for vcpu in vcpus),
            sum(cpu.true_work_ns for cpu in kernel.cpus),
            sum(cpu.true_spin_ns for cpu in kernel.cpus),
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

    def add(
        self,
        name: str,
        workload: Workload,
        *,
        vcpus: int,
        weight: int = 256,
        config: GuestConfig | None = None,
    ) -> Inhabitant:
        """A domain with a workload; its threads are fixed by the CPUs it begins with."""
        domain = self.host.add_domain(name, vcpus=vcpus, weight=weight)
        kernel = GuestKernel(self.host, domain, config)
        inhabitant = Inhabitant(kernel, Agent(kernel), workload.start(kernel))
        self.inhabitants[name] = inhabitant
        return inhabitant

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
            done, run, delay, useful, spin = (
                after - then for after, then in zip(domain.totals(), before[name], strict=True)
            )
            found[name] = Measurement(
                rate=done * NS_PER_S / window_ns,
                run_pcpus=run / window_ns,
                run_delay_pcpus=delay / window_ns,
                useful_pcpus=useful / window_ns,
                spin_pcpus=spin / window_ns,
                online_vcpus=len(domain.kernel.online_cpus),
            )
        return found
