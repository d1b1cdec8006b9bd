"""One finished cycle, whole: enough to explain, count, show and replay what was decided."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcpud.demand import HostDemand
    from vcpud.events import HostEvent
    from vcpud.model import Change, Effect, HostSample, Method, Original, Uuid
    from vcpud.plan import Plan, Verdict
    from vcpud.requests import Request


class Purpose(StrEnum):
    """Why a change was made."""

    DECIDE = "decide"
    UNDO = "undo"
    RESTORE = "restore"


class Phase(StrEnum):
    """Where a domain stands in the life of a move."""

    IDLE = "idle"
    CHANGING = "changing"
    SETTLING = "settling"
    JUDGING = "judging"
    UNDOING = "undoing"
    BACKING_OFF = "backing_off"
    RESTORING = "restoring"
    RELEASED = "released"
    PAUSED = "paused"
    QUARANTINED = "quarantined"


class Why(StrEnum):
    """Why a domain is in quarantine. Bounded: used as a metric label."""

    FAILED = "failed"
    SILENT = "silent"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """A guard that stood in the way of a resize, and why."""

    uuid: Uuid
    guard: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRecord:
    """One change asked of the hypervisor, and its immediate answer."""

    decision_id: str
    uuid: Uuid
    name: str
    change: Change
    effect: Effect
    purpose: Purpose
    method: Method
    from_vcpus: int
    to_vcpus: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A change read back: reached, or given up."""

    decision_id: str
    uuid: Uuid
    name: str
    purpose: Purpose
    method: Method
    from_vcpus: int
    to_vcpus: int
    reached: bool
    took_ns: int
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignChange:
    """Somebody else changed a domain's vCPUs, and wins.

    Attributes:
        uuid: Which domain.
        name: For people.
        from_vcpus: Active vCPUs as vcpud had left it.
        to_vcpus: As they were found.
        brought: vCPUs that were brought back.
        taken: vCPUs that were taken away.
        reversal: It undid what vcpud had done.
        owed_vcpus: What the domain will be given back from now on, None when it is owed nothing.
        detail: What vcpud does about it, for people.
    """

    uuid: Uuid
    name: str
    from_vcpus: int
    to_vcpus: int
    brought: frozenset[int]
    taken: frozenset[int]
    reversal: bool
    owed_vcpus: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainStatus:
    """What the loop knows of one domain beyond its sample and demand.

    Attributes:
        phase: Where it stands.
        target_vcpus: Active vCPUs on the way to, or as they are.
        original_vcpus: What it had before vcpud first touched it, None while untouched.
        until_ns: When the phase ends by itself (back-off, quarantine, pause), or None.
        failures: Changes failed in a row, of the course that is under way.
        detail: For people.
        why: What brought it into quarantine, None outside.
    """

    uuid: Uuid
    phase: Phase
    target_vcpus: int
    original_vcpus: int | None
    until_ns: int | None = None
    failures: int = 0
    detail: str = ""
    why: Why | None = None

    @property
    def restoring(self) -> bool:
        """What it had is being given back, also to one in quarantine because it does not take it."""
        return self.phase is Phase.RESTORING or (
            self.phase is Phase.QUARANTINED and self.failures > 0
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleRecord:
    """Everything that one cycle saw, decided and did.

    Attributes:
        lost_originals: What was owed to domains that are not the ones it was written down for.
        received: What a vcpud elsewhere owed to domains that have come here.
        recovered: What domains' own notes said they are owed, after the ledger was lost.
        foreign: What somebody else changed.
        killed: The kill switch is thrown: nothing is decided, everything is given back.
    """

    cycle: int
    began_ns: int
    ended_ns: int
    period_ns: int
    policy_name: str
    sample: HostSample
    demand: HostDemand
    proposed: Plan
    domains: tuple[DomainStatus, ...] = ()
    events: tuple[HostEvent, ...] = ()
    requests: tuple[Request, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    changes: tuple[ChangeRecord, ...] = ()
    completed: tuple[Completed, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    outstanding: tuple[Original, ...] = ()
    lost_originals: tuple[Original, ...] = ()
    received: tuple[Original, ...] = ()
    recovered: tuple[Original, ...] = ()
    foreign: tuple[ForeignChange, ...] = ()
    ledger_error: str | None = None
    policy_error: str | None = None
    sample_error: str | None = None
    overruns: int = 0
    paused: bool = False
    killed: bool = False
    stopping: bool = False
    hold_until_ns: int | None = None
