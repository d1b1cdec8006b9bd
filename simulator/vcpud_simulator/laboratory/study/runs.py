"""One run of a cell: as a scenario for the runner, and what is kept of its result.

Guests are those of the study's time: HZ is 100, as in the Xen guests of 2006 to 2008, everything
else as `GuestConfig` has it. The monitor's overhead is nothing on every hypervisor: what differs
between systems is scheduling alone.

Domains arrive at random instants of the first second, while dom0, which starts them, uses 1 % of
each pCPU; from the end of the second on it is silent. Started all at once on a host that is silent
from the beginning, the slices of 30 ms of a domain's vCPUs would begin together and, where widths
divide the host, stay together for ever: a gang schedule by accident, which no real host keeps.

References: C. Wright, I. Pratt, linux-kernel 2006-05-09, "Add XEN config options" ("HZ: defaults
to 100 in Xen VMs"); J. Fitzhardinge, 2007-01-13 ("to cut down on VCPU context switch rate").
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from vcpud import policy as policies
from vcpud.model import Mode
from vcpud.units import NS_PER_MS, NS_PER_S
from vcpud_simulator import runner
from vcpud_simulator.engine import NEVER
from vcpud_simulator.laboratory.study.cells import (
    PCPUS,
    UNMANAGED,
    Cell,
    Job,
    Kind,
    System,
    Wait,
    same_run,
)
from vcpud_simulator.laboratory.study.grid import Timing
from vcpud_simulator.rng import Chance
from vcpud_simulator.scenario import DomainPlan, NoisePlan, Pause, Scenario
from vcpud_simulator.scenario import Kind as ScenarioKind
from vcpud_simulator.workloads import ammp
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.noise import Noise

if TYPE_CHECKING:
    from vcpud_simulator.workloads.base import Workload

GUEST: Final = {"hz": 100}
UNIT_NS: Final = 10 * NS_PER_MS
"""CPU time of one counted unit of gobmk-like."""
ARRIVALS_NS: Final = NS_PER_S
"""Domains start within this time of each other, each at an instant of its own."""
DOM0: Final = DomainPlan(
    name="dom0", vcpus=PCPUS, workload=Noise(), mode=Mode.OBSERVE, departs_ns=2 * ARRIVALS_NS
)
_SCHEDULERS: Final = {
    System.BARE: "round_robin",
    System.XEN: "credit_xen32",
    System.ESX_STRICT: "esx_strict",
    System.ESX_RELAXED: "esx_relaxed_3x",
    System.KVM: "cfs_groups",
}
_WAITS: Final = {
    Wait.ACTIVE: ammp.Wait.ACTIVE,
    Wait.SPIN: ammp.Wait.SPIN_THEN_FUTEX,
    Wait.PASSIVE: ammp.Wait.PASSIVE,
}


_MEETING: Final = {Wait.ACTIVE: 2.0, Wait.SPIN: 6.0, Wait.PASSIVE: 20.0, Wait.KERNEL: 20.0}
"""What it costs to simulate teams of 1 ms grains, beside what any domains cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One simulation.

    Attributes:
        cell: What is simulated.
        seed: Of its chance.
        warmup_ns: Before the window.
        window_ns: What is measured.
        policy: Name of the policy, "" where vcpud is off.
        counts: Constant active vCPUs of each domain, or None for all.
    """

    cell: Cell
    seed: int
    warmup_ns: int
    window_ns: int
    policy: str = ""
    counts: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is kept of a run; rates and pCPUs are of all domains together.

    Attributes:
        rate: Units of work per second.
        worst_rate: Of the domain that got least done.
        useful_pcpus: Processor time of its work.
        spin_pcpus: Burnt waiting.
        run_delay_pcpus: Time runnable without a pCPU.
        active_vcpus: Mean over the window.
        changes: Changes vcpud made, warm-up included.
        cpu_s: Processor time that simulating it took.
    """

    rate: float
    worst_rate: float
    useful_pcpus: float
    spin_pcpus: float
    run_delay_pcpus: float
    active_vcpus: float
    changes: int
    cpu_s: float = field(default=0.0, compare=False)


def run_of(  # noqa: PLR0913 - all but two by name
    cell: Cell,
    seed: int,
    timing: Timing,
    *,
    policy: str,
    counts: tuple[int, ...] | None = None,
    screening: bool = False,
) -> Run:
    """The run that measures a cell, or one that tries a static assignment."""
    cell = same_run(cell)
    managed = cell.system.managed
    if counts is not None and set(counts) == {cell.width}:
        counts = None  # all vCPUs: what is run anyway
    return Run(
        cell=cell,
        seed=seed,
        warmup_ns=timing.warmup_ns + (timing.settle_ns if managed else 0),
        window_ns=timing.screen_ns if screening else timing.window_ns,
        policy=policy if managed else "",
        counts=counts,
    )


def effort(run: Run) -> float:
    """About how long a run takes to simulate, in units of its own, to begin with the longest."""
    cell = run.cell
    polls = 2.0 if cell.system in {System.ESX_STRICT, System.ESX_RELAXED} else 0.0
    meetings = _MEETING.get(cell.job.wait, 0.0) / max(1, cell.job.grain_ms)
    return (run.warmup_ns + run.window_ns) / NS_PER_S * (1.0 + polls + meetings)


def workload(job: Job) -> Workload:
    """What the domains of a job do."""
    if job.kind is Kind.GOBMK:
        return GobmkLike(unit_ns=UNIT_NS)
    grain_ns = job.grain_ms * NS_PER_MS
    if job.wait is Wait.KERNEL:
        # An eighth of a thread's time under the lock, 600 ns at a time; nobody ever sleeps.
        return Descriptors(grain_ns=grain_ns, rounds=500 * job.grain_ms, gap_ns=2_500, hold_ns=600)
    return ammp.AmmpLike(grain_ns=grain_ns, wait=_WAITS[job.wait])


def scenario(run: Run) -> Scenario:
    """The run in the runner's terms."""
    cell = run.cell
    bare = cell.system is System.BARE
    kvm = cell.system in {System.KVM, System.KVM_VCPUD}
    options: dict[str, Any] = {"slice_ns": NEVER} if bare else {}
    arrivals = Chance(run.seed).stream("study", "arrivals")
    domains = [
        DomainPlan(
            name=f"domain-{number}",
            vcpus=cell.width,
            workload=workload(cell.job),
            guest=GUEST,
            arrives_ns=0 if bare else 1 + arrivals.below(ARRIVALS_NS),
        )
        for number in range(1, cell.domains + 1)
    ]
    costs = {"context_switch_ns": 0, "migration_ns": 0} if bare else {}
    return Scenario(
        name=str(cell),
        title=f"study: {cell}",
        kind=ScenarioKind.STUDY,
        domains=(*domains, *(() if bare else (replace(DOM0, vcpus=cell.pcpus),))),
        pcpus=cell.width if bare else cell.pcpus,
        scheduler=_SCHEDULERS[UNMANAGED.get(cell.system, cell.system)],
        scheduler_options=options,
        platform=cell.platform or ("kvm-perf" if kvm else "xen"),
        # The hardware of Xen 3.2's time saw no PAUSE loops; Intel's later one sees the kernel's.
        pause=Pause.KERNEL if kvm else Pause.OFF,
        seed=run.seed,
        warmup_ns=run.warmup_ns,
        duration_ns=run.window_ns,
        noise=NoisePlan(vcpus=cell.pcpus) if cell.noise else NoisePlan(),
        costs=costs,
    )


def measure(run: Run) -> Reading:
    """Simulate; a module-level function, so that it can be sent to other processes."""
    began_s = time.process_time()
    described = scenario(run)
    names = [plan.name for plan in described.domains if plan.name != DOM0.name]
    result = runner.run(
        described,
        policy=policies.load(run.policy, {}) if run.policy else None,
        assignment=dict(zip(names, run.counts, strict=True)) if run.counts else None,
        hashed=False,
    )
    domains = list(result.domains.values())
    return Reading(
        rate=sum(domain.rate for domain in domains),
        worst_rate=min(domain.rate for domain in domains),
        useful_pcpus=sum(domain.useful_pcpus for domain in domains),
        spin_pcpus=sum(domain.spin_pcpus for domain in domains),
        run_delay_pcpus=sum(domain.run_delay_pcpus for domain in domains),
        active_vcpus=sum(domain.mean_active_vcpus for domain in domains),
        changes=len(result.changes),
        cpu_s=time.process_time() - began_s,
    )


def fair_rate(cell: Cell, bare: Reading | None) -> float:
    """Rate of all domains if each ran undisturbed on its fair share of the host.

    Args:
        cell: Which.
        bare: One such domain on pCPUs of its own; not needed for independent work, whose fair
            share is known: all the processor time there is.
    """
    if cell.job.kind is Kind.GOBMK:
        return cell.fair_pcpus * 1e9 / UNIT_NS
    if bare is None:
        raise ValueError(f"{cell}: its undisturbed rate is not known")
    return bare.rate / cell.bare.width * cell.fair_pcpus
