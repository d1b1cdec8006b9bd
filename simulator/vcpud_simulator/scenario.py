"""A scenario: one host, who lives on it, what can be seen of them, and how long it runs. Pure data.

Instants count from the start of the run. `faults` says everything that is wrong with a scenario at
once; `vcpud_simulator.reading` makes one of a YAML file whose keys are the fields below, durations
written with their unit and without the suffix `_ns`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Final, TypeAlias

from vcpud.model import Method, Mode
from vcpud.text import meant
from vcpud.units import NS_PER_S
from vcpud_simulator.bounds import DAY_NS, ENDLESS, Fault, Within, misfits, outside, unknown
from vcpud_simulator.catalogue import SCHEDULERS
from vcpud_simulator.guest.costs import GuestConfig
from vcpud_simulator.guest.hotplug import HotplugCosts
from vcpud_simulator.host import HostCosts
from vcpud_simulator.platform import PLATFORMS, Signal
from vcpud_simulator.workloads.base import Workload

MAX_VCPUS: Final = 4_096
"""Of a host, all domains together."""

Size: TypeAlias = Annotated[int, Within(1, 1_024)]
Weight: TypeAlias = Annotated[int, Within(1, 65_535)]
Ratio: TypeAlias = Annotated[float, Within(0, 1)]
Duration: TypeAlias = Annotated[int, Within(0, DAY_NS)]
Period: TypeAlias = Annotated[int, Within(100_000_000, 10 * NS_PER_S)]


class Kind(StrEnum):
    """What a scenario is about: what a good policy may and may not do there."""

    UNCONTENDED = "uncontended"
    INSENSITIVE = "insensitive"
    KERNEL_LOCK = "kernel_lock"
    USER_SYNC = "user_sync"
    DYNAMIC = "dynamic"
    STUDY = "study"
    LITERATURE = "literature"
    LAB = "lab"


class Pause(StrEnum):
    """What the hardware notices of PAUSE loops."""

    OFF = "off"
    KERNEL = "kernel"
    """Spins in kernel mode (Intel PLE)."""
    ANY = "any"
    """Spins in any mode (AMD pause filter)."""


class Lie(StrEnum):
    """What a guest can say of itself that is not so."""

    LOCKS_INFLATED = "locks_inflated"
    """Waits for locks it does not wait for: every CPU all the time."""
    LOCKS_DENIED = "locks_denied"
    """No waits at all."""
    ALL_USER = "all_user"
    """All its busy time is useful."""
    ABSURD = "absurd"
    """Counters that run faster than the clock, and backwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalPlan:
    """How well one signal arrives.

    Attributes:
        latency_ns: From reading to arrival, beyond what the guest itself takes.
        noise_ratio: Relative standard deviation of each increase of a counter.
        staleness_ns: It is renewed at most this often; in between the last reading is repeated.
        loss_ratio: Share of readings that get lost.
    """

    latency_ns: Duration = 0
    noise_ratio: Ratio = 0.0
    staleness_ns: Duration = 0
    loss_ratio: Ratio = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalsPlan:
    """How well each signal of every domain arrives; see `platform.Signal`.

    Attributes:
        agent_period_ns: Spacing of readings through a guest's agent, 5 s as vcpud has it.
    """

    run: SignalPlan = SignalPlan()
    run_delay: SignalPlan = SignalPlan()
    perf: SignalPlan = SignalPlan()
    accounting: SignalPlan = SignalPlan()
    locks: SignalPlan = SignalPlan()
    run_queue: SignalPlan = SignalPlan()
    runnable: SignalPlan = SignalPlan()
    preferred: SignalPlan = SignalPlan()
    agent_period_ns: Period = 5 * NS_PER_S

    def of(self, signal: Signal) -> SignalPlan:
        """The plan of one signal."""
        plan: SignalPlan = getattr(self, signal.value)
        return plan


@dataclass(frozen=True, slots=True, kw_only=True)
class ActuationPlan:
    """How well changes go, beyond what the guest itself takes and cannot do.

    Attributes:
        latency_ns: Until a change reaches the guest.
        failure_ratio: Share of changes that are accepted, do nothing and fail.
        lost_answer_ratio: Share of changes that are made although they are said to have failed.
    """

    latency_ns: Duration = 0
    failure_ratio: Ratio = 0.0
    lost_answer_ratio: Ratio = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisePlan:
    """Work of dom0 or the host: a domain that vcpud does not see, but whose use it does.

    Attributes:
        vcpus: How many it has; 0 for no noise.
        weight: Its share.
        burst_ns: Mean CPU time of a burst, 100 us.
        sleep_ns: Mean time between bursts, 10 ms: together 1 % of each vCPU.
    """

    vcpus: Annotated[int, Within(0, 1_024)] = 0
    weight: Weight = 256
    burst_ns: Annotated[int, Within(1, NS_PER_S)] = 100_000
    sleep_ns: Annotated[int, Within(1, DAY_NS)] = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainPlan:
    """A domain, or several alike.

    Attributes:
        name: Its name; copies are called NAME-1, NAME-2 and so on.
        vcpus: What it has, and what its workload's threads are counted by.
        workload: What it does.
        online: Guest CPUs in use at the start, the lowest-numbered; None for all.
        weight: Its share, in the scheduler's own unit.
        cap_pcpus: Ceiling of processor time, or None; on Xen's schedulers and Linux with groups.
        min_vcpus: The floor its owner asks for.
        mode: What its owner allows, as its metadata on a real host would say.
        method: The rung of the actuator ladder; None for the platform's best.
        arrives_ns: When it starts.
        departs_ns: When it is destroyed, or None.
        copies: How many of it there are.
        guest: Fields of `GuestConfig` that differ from the platform's.
        steers: Whether its kernel keeps work on fewer CPUs by itself while time is stolen.
        missing: Signals of its guest that do not come.
        lies: What its guest says that is not so.
    """

    name: str
    vcpus: Size
    workload: Workload
    online: Size | None = None
    weight: Weight = 256
    cap_pcpus: Annotated[float, Within(0.01, 1_024)] | None = None
    min_vcpus: Size = 1
    mode: Mode = Mode.ENFORCE
    method: Method | None = None
    arrives_ns: Duration = 0
    departs_ns: Duration | None = None
    copies: Size = 1
    guest: Mapping[str, Any] = field(default_factory=dict)
    steers: bool = False
    missing: tuple[Signal, ...] = ()
    lies: tuple[Lie, ...] = ()

    @property
    def home_vcpus(self) -> int:
        """Active vCPUs it comes with, beyond which nobody here gives it any."""
        return self.online or self.vcpus

    def each(self) -> Iterator[DomainPlan]:
        """One plan for each copy."""
        if self.copies == 1:
            yield self
            return
        for number in range(1, self.copies + 1):
            yield dataclasses.replace(self, name=f"{self.name}-{number}", copies=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One experiment.

    Attributes:
        name: Its file's name without suffix.
        title: One line for people.
        domains: Who lives on the host.
        pcpus: Its processors.
        scheduler: Name in `catalogue.SCHEDULERS`.
        scheduler_options: Its keyword arguments.
        platform: Name in `platform.PLATFORMS`: what can be seen, and how guests are configured.
        pause: What the hardware notices of PAUSE loops.
        stands_for: The real situation it is a model of.
        kind: What it is about.
        expectation: What should come out, and why.
        tags: For choosing scenarios.
        seed: Of all chance in it.
        warmup_ns: Before measuring begins; policies are at work from the first instant.
        duration_ns: How long is measured.
        period_ns: Spacing of the control loop's cycles.
        noise: Work of dom0 or the host.
        signals: How well signals arrive.
        actuation: How well changes go.
        costs: Fields of `HostCosts` and `HotplugCosts` that differ from their defaults.
    """

    name: str
    domains: tuple[DomainPlan, ...]
    pcpus: Size
    scheduler: str = "cfs_groups"
    scheduler_options: Mapping[str, Any] = field(default_factory=dict)
    platform: str = "kvm"
    pause: Pause = Pause.OFF
    title: str = ""
    stands_for: str = ""
    kind: Kind = Kind.LAB
    expectation: str = ""
    tags: tuple[str, ...] = ()
    seed: Annotated[int, Within(0, 2**63)] = 1
    warmup_ns: Duration = 3 * NS_PER_S
    duration_ns: Annotated[int, Within(1, DAY_NS)] = 30 * NS_PER_S
    period_ns: Period = NS_PER_S
    noise: NoisePlan = NoisePlan()
    signals: SignalsPlan = SignalsPlan()
    actuation: ActuationPlan = ActuationPlan()
    costs: Mapping[str, Any] = field(default_factory=dict)

    def each(self) -> Iterator[DomainPlan]:
        """Every domain, copies one by one, in the order of the file."""
        for plan in self.domains:
            yield from plan.each()


def faults(scenario: Scenario) -> tuple[Fault, ...]:
    """Everything that is wrong with a scenario: where, in words of its keys, and what."""
    return tuple(_faults(scenario))


def _faults(scenario: Scenario) -> Iterator[Fault]:
    yield from outside((), scenario, but="domains")
    if scenario.platform not in PLATFORMS:
        words = f"there is no platform {scenario.platform!r}{meant(scenario.platform, PLATFORMS)}"
        yield ("platform",), words
    if scenario.scheduler in SCHEDULERS:
        yield from _scheduler_faults(scenario)
    else:
        words = f"there is no scheduler {scenario.scheduler!r}"
        yield ("scheduler",), words + meant(scenario.scheduler, SCHEDULERS)
    yield from misfits(("costs",), scenario.costs, (HostCosts, HotplugCosts))
    if not scenario.domains:
        yield ("domains",), "expected at least one domain"
    names: set[str] = set()
    total = 0
    for plan in scenario.domains:
        yield from _domain_faults(plan)
        total += plan.vcpus * plan.copies
        for name in (one.name for one in plan.each()) if plan.copies <= MAX_VCPUS else ():
            if name in names:
                yield ("domains", plan.name), f"there are two domains named {name!r}"
            names.add(name)
    if total > MAX_VCPUS:
        yield ("domains",), f"expected at most {MAX_VCPUS} vCPUs on the host, found {total}"


def _domain_faults(plan: DomainPlan) -> Iterator[Fault]:
    key = ("domains", plan.name)
    yield from outside(key, plan)
    for word in ("online", "min_vcpus"):
        count = getattr(plan, word)
        if count is not None and count > plan.vcpus:
            yield (*key, word), f"{count} of {plan.vcpus} vCPUs"
    if plan.departs_ns is not None and plan.departs_ns <= plan.arrives_ns:
        yield (*key, "departs"), "it would depart before it arrives"
    yield from misfits((*key, "guest"), plan.guest, (GuestConfig,))


def _scheduler_faults(scenario: Scenario) -> Iterator[Fault]:
    factory = SCHEDULERS[scenario.scheduler]
    known = {
        name
        for name, parameter in inspect.signature(factory).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    strange = tuple(unknown(("scheduler_options",), scenario.scheduler_options, known))
    yield from strange
    for name, value in scenario.scheduler_options.items():
        turn = _ANY_TURN.refuses(value, duration=True) if name in _TURNS else None
        if turn is not None:
            yield ("scheduler_options", name.removesuffix("_ns")), turn
    if strange:
        return
    try:
        scheduler = factory(**scenario.scheduler_options)
    except (TypeError, ValueError) as error:
        yield ("scheduler_options",), str(error)
        return
    capped = [plan.name for plan in scenario.domains if plan.cap_pcpus is not None]
    if capped and not scheduler.keeps_caps:
        words = f"{scenario.scheduler} keeps nobody to a ceiling, which {capped[0]} is to have"
        keepers = [name for name, made in SCHEDULERS.items() if made().keeps_caps]
        yield ("scheduler",), f"{words} (cap_pcpus); {', '.join(keepers)} would"


_ANY_TURN: Final = Within(10_000, ENDLESS)
_TURNS: Final = {"slice_ns", "base_slice_ns", "quantum_ns", "tick_ns", "poll_ns"}
"""Options of schedulers that say how often something happens."""
