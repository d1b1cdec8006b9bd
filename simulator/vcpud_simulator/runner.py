"""A scenario run from its first instant to its last, with vcpud's own control loop on it or without.

    result = run(scenario, policy=SpinFeedback())
    result.domains["a"].rate

Pure and repeatable: the same scenario, seed, policy and assignment give an equal `RunResult`, hash of
the trace included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vcpud.control import ControlLoop
from vcpud.limits import Limits
from vcpud.memory import MemoryLedger, NoRequests
from vcpud.model import Accepted
from vcpud.requests import LoopSettings
from vcpud_simulator.hypervisor import SimulatedClock, SimulatedHypervisor
from vcpud_simulator.meter import DomainResult, Meter, Point
from vcpud_simulator.trace import Digest, Sink, Tee
from vcpud_simulator.world import World

if TYPE_CHECKING:
    from vcpud.plan import Verdict
    from vcpud.policy import Policy
    from vcpud.ports import Recorder
    from vcpud.record import ChangeRecord, CycleRecord
    from vcpud_simulator.scenario import Scenario

__all__ = ["UNMANAGED", "Decided", "DomainResult", "Point", "RunResult", "run"]

UNMANAGED: Final = "none"


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
        policy_errors: What the policy raised, and in how many cycles; nothing was decided in those.
        vcpus: Whose each vCPU is, as "DOMAIN.INDEX", by its number in traces.
        events: Events of the simulation; 0 where they were not hashed.
        trace_hash: Of every event: same seed, same hash; empty where they were not hashed.
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
    policy_errors: Mapping[str, int]
    vcpus: tuple[str, ...]
    events: int
    trace_hash: str

    @property
    def policy_failed(self) -> str:
        """What the policy raised, a line for each error; empty where it did not."""
        return "\n".join(
            f"the policy failed in {count} cycles: {error}"
            for error, count in self.policy_errors.items()
        )


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
    hashed: bool = True,
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
        hashed: Whether every event goes into the hash; thousands of runs of which only figures
            are wanted do without.

    Raises:
        ValueError: The scenario or the assignment is impossible; every mistake is named.
    """
    digest = Digest()
    sink: Sink | None = trace
    if hashed:
        sink = digest if trace is None else Tee(digest, trace)
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
        policy_errors=notes.policy_errors,
        vcpus=tuple(repr(vcpu) for vcpu in world.lab.host.vcpus),
        events=digest.events,
        trace_hash=digest.hexdigest() if hashed else "",
    )


class Notes:
    """A `Recorder` that keeps what was changed, judged and raised, and passes every cycle on."""

    def __init__(self, recorder: Recorder | None) -> None:
        self.changes: list[Decided] = []
        self.verdicts: list[Verdict] = []
        self.policy_errors: dict[str, int] = {}
        self._recorder = recorder

    def record(self, record: CycleRecord) -> None:
        self.changes += (Decided(at_ns=record.began_ns, record=one) for one in record.changes)
        self.verdicts += record.verdicts
        if record.policy_error is not None:
            error = record.policy_error
            self.policy_errors[error] = self.policy_errors.get(error, 0) + 1
        if self._recorder is not None:
            self._recorder.record(record)
