"""A scenario run from its first instant to its last, with vcpud's own control loop on it or without.

    result = run(scenario, policy=SpinFeedback())
    result.domains["a"].rate

Pure and repeatable: the same scenario, seed, policy and assignment give an equal `RunResult`, hash of
the trace included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from vcpud.control import ControlLoop
from vcpud.limits import Limits
from vcpud.model import Accepted, Original, Uuid
from vcpud.requests import LoopSettings
from vcpud.units import NS_PER_S
from vcpud_simulator.experiment import Totals
from vcpud_simulator.hypervisor import SimulatedClock, SimulatedHypervisor
from vcpud_simulator.trace import Digest, Sink, Tee
from vcpud_simulator.world import World

if TYPE_CHECKING:
    from vcpud.plan import Verdict
    from vcpud.policy import Policy
    from vcpud.ports import Recorder
    from vcpud.record import ChangeRecord, CycleRecord
    from vcpud.requests import Request
    from vcpud_simulator.scenario import Scenario
    from vcpud_simulator.workloads.base import Progress
    from vcpud_simulator.world import Resident

PERCENTILES: Final = (50, 95, 99)
UNMANAGED: Final = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One domain over one second, or over what was left of the run.

    Attributes:
        t_ns: End of that second.
        active_vcpus: CPUs in use at its end.
        rate: Units of work per second.
        run_pcpus: Processor time used, per unit of time.
        run_delay_pcpus: Time runnable without a pCPU, per unit of time.
        spin_pcpus: Processor time burnt waiting, per unit of time.
    """

    t_ns: int
    active_vcpus: int
    rate: float
    run_pcpus: float
    run_delay_pcpus: float
    spin_pcpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainResult:
    """One domain over the measured window, as nobody on a real host could see it.

    Attributes:
        iterations: Units of work.
        rate: Those per second.
        responses_ns: Response times by percentile, where the workload has any.
        run_pcpus: Processor time used, per unit of time.
        run_delay_pcpus: Time runnable without a pCPU, per unit of time.
        useful_pcpus: Processor time of tasks, spinning and kernel overhead excluded.
        spin_pcpus: Processor time burnt waiting.
        mean_active_vcpus: CPUs in use, on average over the window.
        entitled_pcpus: What its weight guaranteed it while it was there, if all wanted all they
            have.
    """

    iterations: int
    rate: float
    responses_ns: Mapping[int, int]
    run_pcpus: float
    run_delay_pcpus: float
    useful_pcpus: float
    spin_pcpus: float
    mean_active_vcpus: float
    entitled_pcpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A change that the loop asked for, and when."""

    at_ns: int
    record: ChangeRecord

    @property
    def accepted(self) -> bool:
        return isinstance(self.record.effect, Accepted)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What came of a run.

    Attributes:
        scenario: Its name.
        seed: Of all chance.
        policy: The policy's name; "none" where nobody managed the host.
        pcpus: Of the host.
        window_ns: Beginning and end of what was measured.
        domains: By name.
        changes: In order.
        verdicts: In order.
        timeline: Second by second from the start of the run, warm-up included, by domain.
        vcpus: Whose each vCPU is, as "DOMAIN.INDEX", by its number in traces.
        events: Events of the simulation.
        trace_hash: Of every event: same seed, same hash.
    """

    scenario: str
    seed: int
    policy: str
    pcpus: int
    window_ns: tuple[int, int]
    domains: Mapping[str, DomainResult]
    changes: tuple[Decided, ...]
    verdicts: tuple[Verdict, ...]
    timeline: Mapping[str, tuple[Point, ...]]
    vcpus: tuple[str, ...]
    events: int
    trace_hash: str


def run(  # noqa: PLR0913 - a run has these parts
    scenario: Scenario,
    *,
    policy: Policy[Any] | None = None,
    policy_name: str | None = None,
    limits: Limits | None = None,
    seed: int | None = None,
    duration_ns: int | None = None,
    managed_from_ns: int = 0,
    assignment: Mapping[str, int] | None = None,
    trace: Sink | None = None,
    progress: Callable[[int, int], None] | None = None,
    watch: Callable[[Mapping[str, Point]], None] | None = None,
    recorder: Recorder | None = None,
) -> RunResult:
    """Run a scenario.

    Args:
        scenario: What to run.
        policy: Decides, or None for a host that nobody manages: then nothing is read either.
        policy_name: For records; the class's name by default.
        limits: Of the guard.
        seed: Instead of the scenario's own.
        duration_ns: How long to measure, instead of the scenario's own.
        managed_from_ns: When the control loop begins.
        assignment: CPUs in use from the start, by domain, instead of the scenario's own.
        trace: Also gets every event.
        progress: Called with simulated time so far and in all, once a simulated second.
        watch: Called with what each domain that is there did, once a simulated second.
        recorder: Also gets every cycle.

    Raises:
        ValueError: The scenario or the assignment is impossible; every mistake is named.
    """
    digest = Digest()
    sink: Sink = digest if trace is None else Tee(digest, trace)
    world = World(scenario, seed=seed, trace=sink, assignment=assignment)
    begin_ns = scenario.warmup_ns
    end_ns = begin_ns + (scenario.duration_ns if duration_ns is None else duration_ns)
    meter = Meter(world, begin_ns, end_ns, progress, watch)
    notes = Notes(recorder)
    name = UNMANAGED
    if policy is not None:
        name = policy_name or type(policy).__name__
        world.engine.run_until(min(managed_from_ns, end_ns))
        hypervisor = SimulatedHypervisor(world)
        ControlLoop(
            clock=SimulatedClock(hypervisor, end_ns),
            hypervisor=hypervisor,
            ledger=MemoryLedger(),
            inbox=NoRequests(),
            recorder=notes,
            settings=LoopSettings(
                period_ns=scenario.period_ns,
                policy=policy,
                policy_name=name,
                limits=limits or Limits(),
                on_stop_keep=True,  # the host ends with the run: nothing is owed to it
            ),
        ).run()
    world.engine.run_until(end_ns)
    return RunResult(
        scenario=scenario.name,
        seed=world.lab.host.chance.seed,
        policy=name,
        pcpus=scenario.pcpus,
        window_ns=(begin_ns, end_ns),
        domains=meter.results(),
        changes=tuple(notes.changes),
        verdicts=tuple(notes.verdicts),
        timeline={name: tuple(points) for name, points in meter.timeline.items()},
        vcpus=tuple(repr(vcpu) for vcpu in world.lab.host.vcpus),
        events=digest.events,
        trace_hash=digest.hexdigest(),
    )


class Meter:
    """Looks at a world once a second, and at both ends of the measured window.

    Attributes:
        timeline: Points so far, by domain.
    """

    def __init__(
        self,
        world: World,
        begin_ns: int,
        end_ns: int,
        progress: Callable[[int, int], None] | None,
        watch: Callable[[Mapping[str, Point]], None] | None,
    ) -> None:
        self.timeline: dict[str, list[Point]] = {}
        self._world = world
        self._begin_ns = begin_ns
        self._end_ns = end_ns
        self._progress = progress
        self._watch = watch
        self._last: dict[str, tuple[int, Totals]] = {}
        self._at_begin: dict[str, tuple[Totals, list[int]]] = {}
        instants = {*range(NS_PER_S, end_ns + 1, NS_PER_S), begin_ns, end_ns} - {0}
        self._instants = iter(sorted(instants))
        if begin_ns == 0:
            self._begin()
        self._next()

    def _next(self) -> None:
        at_ns = next(self._instants, None)
        if at_ns is not None:
            self._world.engine.at(at_ns, self._look)

    def _look(self) -> None:
        now_ns = self._world.engine.now_ns
        if now_ns == self._begin_ns:
            self._begin()
        if now_ns % NS_PER_S == 0 or now_ns == self._end_ns:
            for resident in self._world.residents.values():
                self._point(resident, now_ns)
            if self._progress is not None:
                self._progress(now_ns, self._end_ns)
            if self._watch is not None:
                there = (name for name in self._world.residents if name in self.timeline)
                self._watch({name: self.timeline[name][-1] for name in there})
        self._next()

    def _begin(self) -> None:
        for resident in self._world.residents.values():
            inhabitant = resident.inhabitant
            counts = [len(responses) for responses in _responses(inhabitant.progress)]
            self._at_begin[resident.plan.name] = (inhabitant.totals(), counts)

    def _point(self, resident: Resident, now_ns: int) -> None:
        name, inhabitant = resident.plan.name, resident.inhabitant
        then_ns, then = self._last.get(name, (inhabitant.started_ns, Totals()))
        now, span_ns = inhabitant.totals(), now_ns - then_ns
        self._last[name] = (now_ns, now)
        if span_ns <= 0:
            return
        self.timeline.setdefault(name, []).append(
            Point(
                t_ns=now_ns,
                active_vcpus=len(inhabitant.kernel.online_cpus),
                rate=(now.iterations - then.iterations) * NS_PER_S / span_ns,
                run_pcpus=(now.run_ns - then.run_ns) / span_ns,
                run_delay_pcpus=(now.run_delay_ns - then.run_delay_ns) / span_ns,
                spin_pcpus=(now.spin_ns - then.spin_ns) / span_ns,
            )
        )

    # ------------------------------------------------------------------ at the end

    def results(self) -> dict[str, DomainResult]:
        """Every domain that was there in the window."""
        window_ns = self._end_ns - self._begin_ns
        shares = self._entitlements()
        found = {}
        for resident in self._world.everybody():
            name, inhabitant = resident.plan.name, resident.inhabitant
            if name not in shares:
                continue
            then, counts = self._at_begin.get(name, (Totals(), []))
            phases = _responses(inhabitant.progress)
            counts += [0] * (len(phases) - len(counts))
            responses = [one for part, at in zip(phases, counts, strict=True) for one in part[at:]]
            now = inhabitant.totals()
            vcpus_ns = resident.plan.vcpus * (
                self._end_ns - max(self._begin_ns, inhabitant.started_ns)
            )
            found[name] = DomainResult(
                iterations=now.iterations - then.iterations,
                rate=(now.iterations - then.iterations) * NS_PER_S / window_ns,
                responses_ns=percentiles(responses),
                run_pcpus=(now.run_ns - then.run_ns) / window_ns,
                run_delay_pcpus=(now.run_delay_ns - then.run_delay_ns) / window_ns,
                useful_pcpus=(now.useful_ns - then.useful_ns) / window_ns,
                spin_pcpus=(now.spin_ns - then.spin_ns) / window_ns,
                mean_active_vcpus=(vcpus_ns - now.offline_ns + then.offline_ns) / window_ns,
                entitled_pcpus=shares[name],
            )
        return found

    def _entitlements(self) -> dict[str, float]:
        """By weight, up to what each has, among those who are there; a mean over the window."""
        residents = [
            resident
            for resident in self._world.everybody()
            if self._begin_ns < self._leaves_ns(resident)
        ]
        stops = {self._begin_ns, self._end_ns}
        for resident in residents:
            stops |= {resident.inhabitant.started_ns, self._leaves_ns(resident)}
        instants = sorted(at_ns for at_ns in stops if self._begin_ns <= at_ns <= self._end_ns)
        shares = {resident.plan.name: 0.0 for resident in residents}
        for from_ns, to_ns in pairwise(instants):
            there = [
                resident
                for resident in residents
                if resident.inhabitant.started_ns <= from_ns < self._leaves_ns(resident)
            ]
            weight = (to_ns - from_ns) / (self._end_ns - self._begin_ns)
            for name, share in self._shares(there).items():
                shares[name] += weight * share
        return shares

    def _leaves_ns(self, resident: Resident) -> int:
        departs_ns = resident.plan.departs_ns
        return self._end_ns if departs_ns is None else min(departs_ns, self._end_ns)

    def _shares(self, residents: list[Resident]) -> dict[str, float]:
        """Weighted water-filling among always busy domains."""
        host = self._world.lab.host
        weights, ceilings = {}, {}
        for plan in (resident.plan for resident in residents):
            weights[plan.name] = plan.weight * (
                1 if host.scheduler.weight_per_domain else plan.vcpus
            )
            ceilings[plan.name] = min(plan.vcpus, plan.cap_pcpus or plan.vcpus)
        shares, left = {}, float(len(host.pcpus))
        total = sum(weights.values())
        for name in sorted(weights, key=lambda name: ceilings[name] / weights[name]):
            shares[name] = min(ceilings[name], left * weights[name] / total)
            left -= shares[name]
            total -= weights[name]
        return shares


def _responses(progress: Progress) -> list[list[int]]:
    """Response times of a workload and of each of its phases, in an order that stays."""
    found = [progress.responses_ns]
    for phase in progress.phases:
        found += _responses(phase)
    return found


def percentiles(responses_ns: list[int]) -> dict[int, int]:
    """Response times by percentile (nearest rank); empty where there are none."""
    ordered = sorted(responses_ns)
    return {
        percent: ordered[-(-len(ordered) * percent // 100) - 1]
        for percent in PERCENTILES
        if ordered
    }


class Notes:
    """A `Recorder` that keeps what was changed and judged, and passes every cycle on."""

    def __init__(self, recorder: Recorder | None) -> None:
        self.changes: list[Decided] = []
        self.verdicts: list[Verdict] = []
        self._recorder = recorder

    def record(self, record: CycleRecord) -> None:
        self.changes += (Decided(at_ns=record.began_ns, record=one) for one in record.changes)
        self.verdicts += record.verdicts
        if self._recorder is not None:
            self._recorder.record(record)


class MemoryLedger:
    """A `Ledger` for hosts that end with the run."""

    def __init__(self) -> None:
        self._kept: dict[Uuid, Original] = {}

    def remember(self, original: Original) -> None:
        self._kept.setdefault(original.uuid, original)

    def amend(self, original: Original) -> None:
        self._kept[original.uuid] = original

    def forget(self, uuid: Uuid) -> None:
        self._kept.pop(uuid, None)

    def outstanding(self) -> tuple[Original, ...]:
        return tuple(self._kept.values())


class NoRequests:
    """An `Inbox` nobody can write to."""

    def drain(self) -> tuple[Request, ...]:
        return ()
