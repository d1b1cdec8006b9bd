"""Fresh scenarios over every parameter, so that nothing can be tuned to the ones everybody knows.

Hosts, overcommit and crowds range as far as the suite's; every field of a domain's plan is drawn.
Trouble (lies, signals that do not come, changes that fail) is drawn for the host and befalls one
domain or all: of large hosts hardly one would be without any if each domain had its own chance.

Pure: the same seed and number give the same scenario.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from vcpud.model import Mode
from vcpud.units import NS_PER_MS, NS_PER_S, NS_PER_US
from vcpud_simulator.catalogue import SCHEDULERS
from vcpud_simulator.platform import PLATFORMS, Signal
from vcpud_simulator.rng import Chance, Stream
from vcpud_simulator.scenario import (
    ActuationPlan,
    DomainPlan,
    Kind,
    Lie,
    NoisePlan,
    Scenario,
    SignalPlan,
    SignalsPlan,
)
from vcpud_simulator.workloads.ammp import AmmpLike, Wait
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.bursty import Bursty
from vcpud_simulator.workloads.database import Database
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.kernbench import KernbenchLike
from vcpud_simulator.workloads.noise import Noise
from vcpud_simulator.workloads.phased import Phase, Phased
from vcpud_simulator.workloads.web import WebServer

_PCPUS: Final = (2, 2, 2, 3, 4, 4, 6, 8, 12, 16)
_OVERCOMMIT: Final = (0.5, 1.0, 1.5, 2.0, 2.0, 3.0, 4.0, 6.0, 8.0)
_WIDTHS: Final = (1, 2, 2, 4, 4, 8, 16)
_WEIGHTS: Final = (256, 256, 256, 128, 512, 768, 1024)
_MOST_DOMAINS: Final = 64
_HOLDS_US: Final = (2, 5, 10, 20)
_NOISE_SLEEPS_MS: Final = (5, 10, 20)
"""No host is silent: work of its own takes 2, 1 or half a percent of each pCPU."""
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
    wanted = pcpus * chance.choose(_OVERCOMMIT)
    duration_ns = 600 * NS_PER_S
    domains: list[DomainPlan] = []
    while sum(plan.vcpus for plan in domains) < wanted and len(domains) < _MOST_DOMAINS:
        domains.append(_domain(len(domains), pcpus, duration_ns, chance))
    if _once_in(chance, 6):
        _befall(domains, chance, lies=(chance.choose(tuple(Lie)),))
    if _once_in(chance, 12):
        _befall(domains, chance, missing=(Signal.LOCKS,))
    tags = set()
    if platform == "xen" or any(_unseen(plan, platform) for plan in domains):
        tags.add("blind")
    if any(plan.lies for plan in domains):
        tags.add("liar")
    if not (PLATFORMS[platform].sets_weights or SCHEDULERS[scheduler]().weight_per_domain):
        tags.add("stuck")  # to shrink anybody would cost it share, so it is refused
    actuation = ActuationPlan()
    if _once_in(chance, 12):
        actuation = ActuationPlan(latency_ns=chance.below(5) * NS_PER_S, failure_ratio=0.2)
        tags.add("stuck")
    signals = SignalsPlan()
    if _once_in(chance, 12):
        late = SignalPlan(latency_ns=chance.below(4) * NS_PER_S, noise_ratio=0.1, loss_ratio=0.2)
        signals = SignalsPlan(locks=late, accounting=late)
        tags.add("blind")
    return Scenario(
        name=f"drawn_{seed}_{number}",
        title=f"Drawn at random: seed {seed}, number {number}",
        kind=_kind(domains, pcpus),
        tags=tuple(sorted(tags)),
        pcpus=pcpus,
        scheduler=scheduler,
        platform=platform,
        duration_ns=duration_ns,
        domains=tuple(domains),
        noise=NoisePlan(vcpus=pcpus, sleep_ns=chance.choose(_NOISE_SLEEPS_MS) * NS_PER_MS),
        actuation=actuation,
        signals=signals,
    )


def _once_in(chance: Stream, times: int) -> bool:
    return chance.below(times) == 0


def _befall(domains: list[DomainPlan], chance: Stream, **trouble: Any) -> None:
    """One of them has it."""
    place = chance.below(len(domains))
    domains[place] = replace(domains[place], **trouble)


def _domain(number: int, pcpus: int, duration_ns: int, chance: Stream) -> DomainPlan:
    vcpus = min(chance.choose(_WIDTHS), 2 * pcpus)
    arrives_ns = departs_ns = 0
    if number and _once_in(chance, 12):
        arrives_ns = (1 + chance.below(4)) * 60 * NS_PER_S
        departs_ns = arrives_ns + (1 + chance.below(4)) * 60 * NS_PER_S
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
    return DomainPlan(
        name=f"d{number}",
        vcpus=vcpus,
        weight=chance.choose(_WEIGHTS),
        workload=_workload(chance),
        arrives_ns=arrives_ns,
        departs_ns=departs_ns if 0 < departs_ns < duration_ns else None,
        **options,
    )


def _workload(chance: Stream) -> Workload:
    if _once_in(chance, 6):
        period_ns = (2 + chance.below(149)) * 2 * NS_PER_S
        if _once_in(chance, 2):
            return Bursty(period_ns=period_ns, unit_ns=20 * NS_PER_MS)
        phases = (_steady(chance), _steady(chance))
        return Phased(
            phases=tuple(Phase(workload=one, duration_ns=period_ns // 2) for one in phases)
        )
    return _steady(chance)


def _steady(chance: Stream) -> Workload:
    grain_ns = chance.choose((1, 2, 5, 10, 30)) * NS_PER_MS
    kinds: tuple[Workload, ...] = (
        GobmkLike(unit_ns=20 * NS_PER_MS),
        GobmkLike(unit_ns=20 * NS_PER_MS),
        _locks(2 * grain_ns, chance),
        _locks(2 * grain_ns, chance),
        AmmpLike(grain_ns=grain_ns, wait=chance.choose(tuple(Wait))),
        AmmpLike(grain_ns=grain_ns, wait=Wait.PASSIVE),
        KernbenchLike(compile_ns=(50 + chance.below(200)) * NS_PER_MS),
        Database(statement_ns=(200 + chance.below(800)) * NS_PER_US),
        WebServer(
            requests_per_s=50.0 + chance.below(200), service_ns=(1 + chance.below(8)) * NS_PER_MS
        ),
        Noise(burst_ns=50 * NS_PER_US, sleep_ns=100 * NS_PER_MS),
    )
    return chance.choose(kinds)


def _locks(grain_ns: int, chance: Stream) -> Descriptors:
    """A twentieth to a half of the time among sections, some of which is under the lock."""
    least_ns = chance.choose(_HOLDS_US) * NS_PER_US
    hold_ns = chance.uniform_ns(least_ns, 2 * least_ns)
    gap_ns = (2 + chance.below(7)) * hold_ns
    share = 0.05 + 0.45 * chance.unit()
    rounds = round(share / (1 - share) * grain_ns / (hold_ns + gap_ns))
    return Descriptors(grain_ns=grain_ns, rounds=max(1, rounds), hold_ns=hold_ns, gap_ns=gap_ns)


def _unseen(plan: DomainPlan, platform: str) -> bool:
    """Whether it waits, or says, in a way that nothing on that platform shows."""
    spins = isinstance(plan.workload, AmmpLike) and plan.workload.wait in (
        Wait.ACTIVE,
        Wait.YIELDING,
    )
    return bool(plan.missing) or (spins and platform != "kvm-perf")


def _kind(domains: list[DomainPlan], pcpus: int) -> Kind:
    """The class by what is in it: change first, then locks, other synchronising, computing."""
    workloads = [plan.workload for plan in domains]
    if any(plan.arrives_ns or isinstance(plan.workload, Bursty | Phased) for plan in domains):
        return Kind.DYNAMIC
    if sum(plan.vcpus for plan in domains) <= pcpus:
        return Kind.UNCONTENDED
    if any(isinstance(one, Descriptors | KernbenchLike) for one in workloads):
        return Kind.KERNEL_LOCK
    if any(isinstance(one, AmmpLike | Database) for one in workloads):
        return Kind.USER_SYNC
    return Kind.INSENSITIVE
