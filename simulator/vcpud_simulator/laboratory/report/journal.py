"""What was decided, why, and how it ended: gathered from the loop's cycles while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vcpud.model import Refused, SetWeight
from vcpud.record import Purpose

if TYPE_CHECKING:
    from vcpud.model import Uuid
    from vcpud.plan import Verdict
    from vcpud.record import ChangeRecord, CycleRecord


@dataclass(slots=True, kw_only=True)
class Course:
    """One domain on its way from one count to another.

    Attributes:
        name: The domain.
        from_vcpus: Active vCPUs it had.
        to_vcpus: Those asked for last.
        took_ns: Time its steps took so far, as read back.
        trouble: Why a step was refused or failed, or empty.
    """

    name: str
    from_vcpus: int
    to_vcpus: int
    took_ns: int = 0
    trouble: str = ""


@dataclass(slots=True, kw_only=True)
class Decision:
    """Changes that belong together.

    Attributes:
        decision_id: As in logs.
        at_ns: When the first of them was begun.
        purpose: Whether it was decided, undone or restored.
        reason: The evidence.
        courses: By domain.
        verdict: What the judge said of it, or None.
    """

    decision_id: str
    at_ns: int
    purpose: Purpose
    reason: str
    courses: dict[Uuid, Course] = field(default_factory=dict)
    verdict: Verdict | None = None


@dataclass(slots=True, kw_only=True)
class Block:
    """A guard that stood in the way.

    Attributes:
        name: The domain.
        guard: Which guard.
        detail: What it said last.
        cycles: In how many cycles.
    """

    name: str
    guard: str
    detail: str
    cycles: int = 0


class Journal:
    """A `Recorder` that keeps what a report tells of the decisions.

    Attributes:
        decisions: In order.
        blocks: Guards that stood in the way, by domain and guard.
        entitled: Instant and entitled pCPUs, by domain's name.
        cycles: How many cycles there were.
    """

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.blocks: dict[tuple[Uuid, str], Block] = {}
        self.entitled: dict[str, list[tuple[int, float | None]]] = {}
        self.cycles = 0
        self._known: dict[tuple[str, Purpose], Decision] = {}

    def record(self, record: CycleRecord) -> None:
        self.cycles += 1
        names = {domain.uuid: domain.name for domain in record.sample.domains}
        for demand in record.demand.domains:
            points = self.entitled.setdefault(demand.name, [])
            points.append((record.began_ns, demand.entitled_pcpus))
        for change in record.changes:
            if not isinstance(change.change, SetWeight):
                self._change(change, record.began_ns)
        for done in record.completed:
            decision = self._known.get((done.decision_id, done.purpose))
            course = None if decision is None else decision.courses.get(done.uuid)
            if course is not None:
                course.took_ns += done.took_ns
                course.trouble = "" if done.reached else done.detail or "not reached"
        for verdict in record.verdicts:
            decision = self._known.get((verdict.decision_id, Purpose.DECIDE))
            if decision is not None:
                decision.verdict = verdict
        for blocked in record.blocked:
            name = names.get(blocked.uuid, blocked.uuid)
            block = self.blocks.setdefault(
                (blocked.uuid, blocked.guard),
                Block(name=name, guard=blocked.guard, detail=blocked.detail),
            )
            block.detail = blocked.detail
            block.cycles += 1

    def _change(self, change: ChangeRecord, at_ns: int) -> None:
        key = (change.decision_id, change.purpose)
        decision = self._known.get(key)
        if decision is None:
            decision = self._known[key] = Decision(
                decision_id=change.decision_id,
                at_ns=at_ns,
                purpose=change.purpose,
                reason=change.reason,
            )
            self.decisions.append(decision)
        course = decision.courses.setdefault(
            change.uuid,
            Course(name=change.name, from_vcpus=change.from_vcpus, to_vcpus=change.to_vcpus),
        )
        course.to_vcpus = change.to_vcpus
        if isinstance(change.effect, Refused):
            course.trouble = f"refused: {change.effect.reason} {change.effect.detail}".strip()
