"""Fresh scenarios over every parameter, so that nothing can be tuned to the ones everybody knows.

Hosts, overcommit and crowds range as far as the suite's; every field of a scenario and of a domain's
plan is drawn, but for names, words for people, the seed and how long a run is. What guests do is
drawn in `drawn_loads`, how hosts and guests are set up in `drawn_parts`. Trouble (lies, signals that
do not come, changes that fail) is drawn for the host and befalls one domain or all: of large hosts
hardly one would be without any if each domain had its own chance.

Tags say what the figures may leave out, in the words in which that is claimed: *blind*, signals are
missing or lost, or threads spin in user mode where nothing shows it; *stuck*, changes fail or come
late. What is late, old or noisy is to be coped with, and so is a guest that can only be grown.

Pure: the same seed and number give the same scenario.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from vcpud.model import Method, Mode
from vcpud.units import NS_PER_MS, NS_PER_S, NS_PER_US
from vcpud_simulator.catalogue import SCHEDULERS
from vcpud_simulator.laboratory.compare import drawn_parts as parts
from vcpud_simulator.laboratory.compare.drawn_loads import Loads
from vcpud_simulator.platform import GUEST_SIGNALS, PLATFORMS
from vcpud_simulator.rng import Chance, Stream
from vcpud_simulator.scenario import (
    ActuationPlan,
    DomainPlan,
    Kind,
    Lie,
    NoisePlan,
    Pause,
    Scenario,
)
from vcpud_simulator.workloads.ammp import AmmpLike, Wait
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.bursty import Bursty
from vcpud_simulator.workloads.database import Database
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.files import Files
from vcpud_simulator.workloads.hackbench import HackbenchLike
from vcpud_simulator.workloads.kernbench import KernbenchLike
from vcpud_simulator.workloads.phased import Phased
from vcpud_simulator.workloads.schbench import Schbench

_PCPUS: Final = (2, 2, 2, 2, 3, 4, 4, 4, 6, 6, 8, 8, 12, 16)
_OVERCOMMIT: Final = (0.5, 1.0, 1.5, 2.0, 2.0, 3.0, 4.0, 6.0, 8.0)
_WIDTHS: Final = (1, 2, 2, 4, 4, 8, 16)
_WEIGHTS: Final = (256, 256, 256, 128, 512, 768, 1024)
_COPIES: Final = (1, 1, 1, 1, 1, 1, 2, 3)
_MOST_DOMAINS: Final = 64
_MOST_CHANGING: Final = 3
"""Each multiplies the states of the host, and the oracle is searched in each of them."""
_MOST_PAUSING: Final = 4
_WARMUPS_S: Final = (8, 10, 15)
"""Guests have been at work for some seconds when vcpud comes, three seconds before measuring begins."""
_PERIODS_MS: Final = (500, 1_000, 1_000, 1_000, 2_000, 5_000)
_DURATION_NS: Final = 600 * NS_PER_S
"""Over which floors are judged; everybody's arrivals and phases find room in it."""
_REAL: Final = tuple(name for name in SCHEDULERS if name != "round_robin")


def draw(seed: int, number: int) -> Scenario:
    """One scenario."""
    chance = Chance(seed).stream("drawn", number)
    pcpus = chance.choose(_PCPUS)
    scheduler = chance.choose(_REAL)
    xen = not scheduler.startswith(("cfs", "eevdf"))
    platform = chance.choose(
        ("xen-reporter", "xen-reporter", "xen-reporter", "xen")
        if xen
        else ("kvm", "kvm", "kvm-perf", "tcg")
    )
    domains = _domains(pcpus * chance.choose(_OVERCOMMIT), pcpus, platform, scheduler, chance)
    if _once_in(chance, 6):
        _befall(domains, chance, lies=(chance.choose(tuple(Lie)),))
    if _once_in(chance, 12):
        _befall(domains, chance, missing=(chance.choose(GUEST_SIGNALS),))
    actuation = parts.actuation(chance) if _once_in(chance, 8) else ActuationPlan()
    made = Scenario(
        name=f"drawn_{seed}_{number}",
        title=f"Drawn at random: seed {seed}, number {number}",
        kind=_kind(domains, pcpus),
        pcpus=pcpus,
        scheduler=scheduler,
        scheduler_options=parts.scheduler_options(scheduler, chance),
        platform=platform,
        pause=_pause(platform, pcpus, chance),
        warmup_ns=chance.choose(_WARMUPS_S) * NS_PER_S,
        duration_ns=_DURATION_NS,
        period_ns=chance.choose(_PERIODS_MS) * NS_PER_MS,
        domains=tuple(domains),
        noise=_noise(pcpus, chance),
        actuation=actuation,
        signals=parts.signals(chance),
        costs=parts.costs(chance),
    )
    return replace(made, tags=tuple(sorted(_tags(made))))


def _tags(scenario: Scenario) -> Iterator[str]:
    domains, platform = scenario.domains, scenario.platform
    missing = platform == "xen" or any(plan.missing for plan in domains)
    unseen = platform != "kvm-perf" and any(spins(plan.workload) for plan in domains)
    if missing or unseen or parts.loses(scenario.signals):
        yield "blind"
    if scenario.actuation != ActuationPlan():
        yield "stuck"
    if any(plan.lies for plan in domains):
        yield "liar"
    weighs = SCHEDULERS[scenario.scheduler]().weight_per_domain
    if not (weighs or PLATFORMS[platform].sets_weights):
        yield "unweighted"


def _pause(platform: str, pcpus: int, chance: Stream) -> Pause:
    """What the hardware notices, where a run with it costs no more than others.

    Where an exit yields to nobody (Xen) there is one every 1.6 us of a spin, and on hosts with many
    pCPUs there are as many on KVM: up to fifty times the events of a run without.
    """
    seen = PLATFORMS[platform].directed_yield and pcpus <= _MOST_PAUSING
    return chance.choose(tuple(Pause)) if seen else Pause.OFF


def _once_in(chance: Stream, times: int) -> bool:
    return chance.below(times) == 0


def _befall(domains: list[DomainPlan], chance: Stream, **trouble: Any) -> None:
    """One of them has it."""
    place = chance.below(len(domains))
    domains[place] = replace(domains[place], **trouble)


def _noise(pcpus: int, chance: Stream) -> NoisePlan:
    """No host is silent: work of its own takes half a percent to 2 % of each pCPU."""
    burst_ns = chance.choose((50, 100, 200)) * NS_PER_US
    return NoisePlan(
        vcpus=pcpus,
        weight=chance.choose(_WEIGHTS),
        burst_ns=burst_ns,
        sleep_ns=burst_ns * chance.choose((50, 100, 200)),
    )


def _domains(
    wanted: float, pcpus: int, platform: str, scheduler: str, chance: Stream
) -> list[DomainPlan]:
    """So many that together they want so many vCPUs."""
    capping = SCHEDULERS[scheduler]().keeps_caps
    found: list[DomainPlan] = []
    while _vcpus(found) < wanted and sum(plan.copies for plan in found) < _MOST_DOMAINS:
        plan = _domain(len(found), _widest(pcpus, scheduler), platform, chance)
        if found and _once_in(chance, 4) and sum(map(_changes, found)) < _MOST_CHANGING:
            plan = _changing(plan, chance)
        cap_pcpus = plan.cap_pcpus if capping else None
        guest = parts.guest(platform, scheduler, chance)
        found.append(replace(plan, cap_pcpus=cap_pcpus, guest=guest))
    return found


def _vcpus(domains: list[DomainPlan]) -> int:
    return sum(plan.vcpus * plan.copies for plan in domains)


def _widest(pcpus: int, scheduler: str) -> int:
    """The most vCPUs of a domain: ESX gives none more than the host has logical processors.

    References: VMware, "vSphere Virtual Machine Administration" 6.7, Virtual CPU Limitations.
    """
    return pcpus if scheduler.startswith("esx") else 2 * pcpus


def _domain(number: int, widest: int, platform: str, chance: Stream) -> DomainPlan:
    vcpus = min(chance.choose(_WIDTHS), widest)
    options: dict[str, Any] = {}
    if _once_in(chance, 12):
        options["online"] = 1 + chance.below(vcpus)
    if _once_in(chance, 6):
        options["min_vcpus"] = 1 + chance.below(options.get("online", vcpus))
    if _once_in(chance, 12):
        options["cap_pcpus"] = max(0.5, vcpus * chance.choose((0.25, 0.5, 0.75)))
    if _once_in(chance, 12):
        options["mode"] = Mode.OBSERVE
    if _once_in(chance, 12):
        options["steers"] = True
    if _once_in(chance, 8):
        options["method"] = chance.choose(_methods(platform))
    return DomainPlan(
        name=f"d{number}",
        vcpus=vcpus,
        weight=chance.choose(_WEIGHTS),
        workload=Loads(vcpus, chance).steady(),
        copies=chance.choose(_COPIES),
        **options,
    )


def _changing(plan: DomainPlan, chance: Stream) -> DomainPlan:
    """One that comes or leaves, or does one thing after the other."""
    if chance.below(3):
        return replace(plan, copies=1, workload=Loads(plan.vcpus, chance).changing())
    arrives_ns = chance.below(5) * 60 * NS_PER_S
    departs_ns = arrives_ns + (1 + chance.below(4)) * 60 * NS_PER_S
    leaves = departs_ns if chance.below(2) else None
    return replace(plan, arrives_ns=arrives_ns, departs_ns=leaves)


def _changes(plan: DomainPlan) -> bool:
    moves = plan.arrives_ns > 0 or plan.departs_ns is not None
    return moves or isinstance(plan.workload, Bursty | Phased)


def _methods(platform: str) -> tuple[Method, ...]:
    """What there is besides the best: no agent, Windows, Xen HVM, nothing that can be changed."""
    best = PLATFORMS[platform].method
    devices = (Method.HOTPLUG,) if best is Method.AGENT else ()
    return (*devices, Method.GROW_ONLY, Method.NONE)


def spins(workload: Workload) -> bool:
    """Whether its threads spin in user mode until what they wait for happens."""
    if isinstance(workload, Phased):
        return any(spins(phase.workload) for phase in workload.phases)
    if isinstance(workload, AmmpLike):
        return workload.wait in (Wait.ACTIVE, Wait.YIELDING)
    return isinstance(workload, Schbench)


def _kind(domains: list[DomainPlan], pcpus: int) -> Kind:
    """The class by what is in it: change first, then locks, other synchronising, computing."""
    workloads = [plan.workload for plan in domains]
    if any(map(_changes, domains)):
        return Kind.DYNAMIC
    if _vcpus(domains) <= pcpus:
        return Kind.UNCONTENDED
    if any(isinstance(one, Descriptors | HackbenchLike | KernbenchLike) for one in workloads):
        return Kind.KERNEL_LOCK
    if any(isinstance(one, AmmpLike | Database | Files | Schbench) for one in workloads):
        return Kind.USER_SYNC
    return Kind.INSENSITIVE
