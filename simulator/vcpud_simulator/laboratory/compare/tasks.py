"""What is asked of a worker in a comparison, and what it hands back.

A task is small, hashable, and says everything, so that results can be kept and looked up: the
scenario by its key and the hash of what that stood for. Nothing here knows of the control loop: what is
kept of hosts that nobody manages outlives every change of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vcpud_simulator.laboratory.compare import states
from vcpud_simulator.laboratory.compare.changes import Change
from vcpud_simulator.scenario import Scenario

Counts = tuple[tuple[str, int], ...]
"""Active vCPUs by domain, in the scenario's order."""
Script = tuple[tuple[int, Counts], ...]
"""From when on which domain has how many, in order of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Domains that are left as they are for a while, against the policy's will."""

    names: tuple[str, ...]
    from_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A run.

    Attributes:
        key: The scenario, as `suite.load` knows it.
        digest: Of the scenario.
        seed: Of all chance.
        duration_ns: What is measured.
        warmup_ns: Before it; None for the scenario's own.
        cycle_ns: How soon what changes too fast to be told apart repeats itself; None for as it is.
        state: The state it is frozen in, or None for the scenario as it is.
        policy: Who manages the host; empty for nobody.
        options: Of the policy.
        counts: Constant active vCPUs, with weights compensated; None for all.
        script: Counts that change at given instants.
        hold: What the policy may not do.
    """

    key: str
    digest: str
    seed: int
    duration_ns: int
    warmup_ns: int | None = None
    cycle_ns: int | None = None
    state: states.State | None = None
    policy: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    counts: Counts | None = None
    script: Script = ()
    hold: Hold | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Domains resized together."""

    at_ns: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why one domain has the vCPUs that it has, as the run tells.

    Attributes:
        cycles: In which it was there.
        blocked: Cycles in which a guard blocked a move that it was in, by guard.
        held: Cycles in which nothing could be decided for it, by trouble.
        verdicts: On moves that it was in, by how they ended.
        outlook: The policy's last word on it, in words; empty where it has none.
        cost_ratio: What contention is believed to cost it; None where the policy believes nothing.
    """

    cycles: int
    blocked: tuple[tuple[str, int], ...] = ()
    held: tuple[tuple[str, int], ...] = ()
    verdicts: tuple[tuple[str, int], ...] = ()
    outlook: str = ""
    cost_ratio: float | None = None

    @property
    def text(self) -> str:
        """For people, in a line."""
        parts = [
            f"guards blocked its moves in so many of {self.cycles} cycles: {_counted(self.blocked)}"
            if self.blocked
            else "",
            f"held in so many of {self.cycles} cycles: {_counted(self.held)}" if self.held else "",
            f"verdicts: {_counted(self.verdicts)}" if self.verdicts else "",
            ""
            if self.cost_ratio is None
            else f"contention is believed to cost it {self.cost_ratio:.2f} of its progress",
            self.outlook,
        ]
        return "; ".join(filter(None, parts))


def _counted(counts: tuple[tuple[str, int], ...]) -> str:
    return ", ".join(f"{word} {count}" for word, count in counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        window_ns: Beginning and end of what was measured.
        work: From when, until when, and units of work, second by second, by domain.
        run_pcpus: Processor time used, by domain.
        entitled_pcpus: What each was entitled to.
        answering_pcpus: Processor time that its answers needed, of who was asked.
        responses_ns: Response times by percentile, of domains that have any.
        decisions: What the policy decided and had begun.
        changes: Changes of vCPUs that were begun, for whatever reason.
        finals: For each state of the host the active vCPUs at the end of its last stretch, in order.
        why: Why each domain is as it is, where a policy was at work, by domain.
    """

    window_ns: tuple[int, int]
    work: Mapping[str, tuple[tuple[int, int, float], ...]]
    run_pcpus: Mapping[str, float]
    entitled_pcpus: Mapping[str, float]
    responses_ns: Mapping[str, Mapping[int, int]]
    finals: tuple[tuple[states.State, Counts], ...]
    decisions: tuple[Decision, ...] = ()
    changes: tuple[Change, ...] = ()
    answering_pcpus: Mapping[str, float] = field(default_factory=dict)
    why: Mapping[str, Why] = field(default_factory=dict)


def digest(scenario: Scenario) -> str:
    """What tells scenarios apart that have the same name."""
    return hashlib.sha256(repr(scenario).encode()).hexdigest()[:16]
