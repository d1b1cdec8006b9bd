"""The main job before one's eyes: two domains collapse, vcpud is switched on, they recover.

The host is simulated, everything else is what ships: the control loop, its guard and judge, and the
policy. What is seen is told to a `Screen`; the figures at the end are means of seconds, before the
switch and at the end of the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final, Protocol

from vcpud.units import NS_PER_MS, NS_PER_S
from vcpud_simulator.laboratory import report
from vcpud_simulator.runner import Point, RunResult, run
from vcpud_simulator.trace import Tee

if TYPE_CHECKING:
    from vcpud.policy import Policy
    from vcpud.record import CycleRecord
    from vcpud_simulator.scenario import Scenario

SCENARIO: Final = "demo"
SWITCH_NS: Final = 20 * NS_PER_S
"""When vcpud is switched on."""
AFTER_NS: Final = 15 * NS_PER_S
"""The last part of the run, from which the figures after it are taken."""
WINDOW_NS: Final = 200 * NS_PER_MS
"""Stretch of the trace that the report draws before and after."""
RECOVERED: Final = 2.0
"""Times the throughput before, from which a domain counts as recovered."""


class Screen(Protocol):
    """Where the demo is seen."""

    def second(self, now_ns: int, points: Mapping[str, Point]) -> None:
        """What each domain did in the last simulated second."""

    def say(self, now_ns: int, text: str) -> None:
        """Something happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """A domain over some seconds."""

    rate: float
    active_vcpus: float
    spin_pcpus: float
    run_delay_pcpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One domain before and after.

    Attributes:
        name: Which.
        before: Unmanaged.
        after: At the end.
    """

    name: str
    before: Means
    after: Means

    @property
    def gain(self) -> float | None:
        """Throughput after over before; None where there was none before."""
        return self.after.rate / self.before.rate if self.before.rate > 0 else None

    @property
    def recovered(self) -> bool:
        return self.after.rate >= RECOVERED * self.before.rate and self.after.rate > 0


def play(  # noqa: PLR0913 - all by name
    *,
    scenario: Scenario,
    policy: Policy[Any],
    policy_name: str,
    screen: Screen,
    seed: int | None = None,
    report_path: Path | None = None,
) -> tuple[RunResult, tuple[Shown, ...]]:
    """Run it, show it, and write the report.

    Args:
        scenario: Two domains in need.
        policy: What is switched on.
        policy_name: Its name.
        screen: Where it is seen.
        seed: Of all chance, instead of the scenario's own.
        report_path: Where the report goes, or None.
    """
    end_ns = scenario.warmup_ns + scenario.duration_ns
    before = report.Window(SWITCH_NS - WINDOW_NS, SWITCH_NS, title="unmanaged")
    after = report.Window(end_ns - WINDOW_NS, end_ns, title=f"managed by {policy_name}")
    journal = report.Journal()
    result = run(
        scenario,
        policy=policy,
        policy_name=policy_name,
        seed=seed,
        managed_from_ns=SWITCH_NS,
        trace=Tee(before, after),
        watch=_Watch(screen, policy_name),
        recorder=_Events(screen, journal),
    )
    if report_path is not None:
        report.write(
            report_path,
            scenario=scenario,
            result=result,
            windows=(before, after),
            journal=journal,
            phases=(
                report.Phase(title="unmanaged", from_ns=scenario.warmup_ns, until_ns=SWITCH_NS),
                report.Phase(title="managed", from_ns=end_ns - AFTER_NS, until_ns=end_ns),
            ),
            moments=(report.Moment(title="vcpud switched on", at_ns=SWITCH_NS),),
        )
    return result, compare(result, scenario.warmup_ns)


def compare(result: RunResult, warmup_ns: int) -> tuple[Shown, ...]:
    """Every domain before the switch and at the end."""
    end_ns = result.window_ns[1]
    return tuple(
        Shown(
            name=name,
            before=_means([p for p in points if warmup_ns < p.t_ns <= SWITCH_NS]),
            after=_means([p for p in points if p.t_ns > end_ns - AFTER_NS]),
        )
        for name, points in result.timeline.items()
    )


def _means(points: Sequence[Point]) -> Means:
    return Means(
        rate=fmean(point.rate for point in points),
        active_vcpus=fmean(point.active_vcpus for point in points),
        spin_pcpus=fmean(point.spin_pcpus for point in points),
        run_delay_pcpus=fmean(point.run_delay_pcpus for point in points),
    )


class _Watch:
    """Passes on what is measured, and says when vcpud is switched on."""

    def __init__(self, screen: Screen, policy_name: str) -> None:
        self._screen = screen
        self._policy_name = policy_name

    def __call__(self, points: Mapping[str, Point]) -> None:
        now_ns = max(point.t_ns for point in points.values())
        self._screen.second(now_ns, points)
        if now_ns == SWITCH_NS:
            self._screen.say(now_ns, f"vcpud is switched on, policy {self._policy_name}")


class _Events:
    """A `Recorder` that says what vcpud decides and how it ends, and passes each cycle on."""

    def __init__(self, screen: Screen, journal: report.Journal) -> None:
        self._screen = screen
        self._journal = journal
        self._said: set[tuple[str, str, str]] = set()

    def record(self, record: CycleRecord) -> None:
        self._journal.record(record)
        names = {domain.uuid: domain.name for domain in record.sample.domains}
        now_ns = record.began_ns
        for decision in self._journal.decisions:
            for course in decision.courses.values():
                key = (decision.decision_id, str(decision.purpose), course.name)
                if key not in self._said:
                    self._said.add(key)
                    what = "" if decision.purpose == "decide" else f" ({decision.purpose})"
                    self._screen.say(now_ns, f"{course.name} is resized{what}: {decision.reason}")
        for done in record.completed:
            if done.reached:
                took_s = done.took_ns / NS_PER_S
                what = f"{done.from_vcpus} to {done.to_vcpus} active vCPUs in {took_s:.1f} s"
                self._screen.say(now_ns, f"{done.name} went from {what}")
        for verdict in record.verdicts:
            whose = " and ".join(names.get(one.uuid, one.uuid) for one in verdict.move.resizes)
            kept = "kept" if verdict.kept else "taken back"
            self._screen.say(now_ns, f"{whose}: {verdict.outcome}, {kept} ({verdict.detail})")
