"""What is under way for each domain, and which domains are to be left alone.

No effects and no clock: the loop tells it what happened and when. Courses, quarantines, pauses
and releases live here, keyed by UUID; a domain that is gone leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from vcpud.judge import Docket
from vcpud.model import DomainSample, Original, Trouble, Uuid
from vcpud.record import DomainStatus, Phase, Purpose
from vcpud.steer import Course
from vcpud.units import NS_PER_S

QUARANTINE_NS = 60 * NS_PER_S
QUARANTINE_MAX_NS = 3600 * NS_PER_S
SILENT_NS = 15 * NS_PER_S
"""An agent that has not answered for so long is not merely slow."""
FOREIGN_NS = 300 * NS_PER_S
"""How long a domain is left to whoever else changed its vCPUs."""
PACE_NS = 60 * NS_PER_S
FOREVER_NS = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Why a domain is left alone, and until when."""

    phase: Phase
    until_ns: int
    detail: str


@dataclass(slots=True)
class Agenda:
    """The loop's notebook.

    Attributes:
        courses: Domains on their way to a target.
        bars: Pauses, releases and quarantines.
        quarantines: How often in a row each domain was quarantined.
        changed_at_ns: When each domain's last change ended.
        begun_at_ns: When resizes of the last minute were begun.
        touched_at_ns: When a change of each domain was last begun.
        expected: What each domain's online set was when its last course ended.
        silent_since_ns: Since when an agent has not answered.
        paused_until_ns: Everything is paused until then, None when it is not.
    """

    courses: dict[Uuid, Course] = field(default_factory=dict)
    bars: dict[Uuid, Bar] = field(default_factory=dict)
    quarantines: dict[Uuid, int] = field(default_factory=dict)
    changed_at_ns: dict[Uuid, int] = field(default_factory=dict)
    begun_at_ns: list[int] = field(default_factory=list)
    touched_at_ns: dict[Uuid, int] = field(default_factory=dict)
    expected: dict[Uuid, frozenset[int]] = field(default_factory=dict)
    silent_since_ns: dict[Uuid, int] = field(default_factory=dict)
    paused_until_ns: int | None = None

    def set_course(self, course: Course) -> None:
        """A course replaces the one before; a restore is replaced by nothing but a restore."""
        current = self.courses.get(course.uuid)
        if current is None or not current.restoring or course.restoring:
            touched_at_ns = self.touched_at_ns.get(course.uuid)
            self.courses[course.uuid] = replace(course, touched_at_ns=touched_at_ns)
            self.expected.pop(course.uuid, None)
            if course.purpose is Purpose.DECIDE:
                self.begun_at_ns.append(course.begun_at_ns)

    def finish(self, uuid: Uuid, now_ns: int, online: frozenset[int] | None) -> None:
        """A course ended; what is online now is what is expected to stay."""
        self.courses.pop(uuid, None)
        self.changed_at_ns[uuid] = now_ns
        if online is not None:
            self.expected[uuid] = online

    def quarantine(self, uuid: Uuid, now_ns: int, detail: str) -> None:
        """Leave a domain alone for a while that doubles each time."""
        count = self.quarantines.get(uuid, 0)
        self.quarantines[uuid] = count + 1
        until_ns = now_ns + min(QUARANTINE_NS << count, QUARANTINE_MAX_NS)
        self.bars[uuid] = Bar(phase=Phase.QUARANTINED, until_ns=until_ns, detail=detail)

    def forget(self, uuid: Uuid) -> None:
        """The domain is gone or a new incarnation."""
        bar = self.bars.get(uuid)
        if bar is not None and bar.phase is Phase.QUARANTINED:
            del self.bars[uuid]
        for notes in (
            self.courses,
            self.quarantines,
            self.changed_at_ns,
            self.touched_at_ns,
            self.expected,
            self.silent_since_ns,
        ):
            notes.pop(uuid, None)

    def look(self, samples: Iterable[DomainSample], now_ns: int) -> None:
        """Notice what the samples say: silence, foreign changes, and bars that have run out."""
        self.begun_at_ns = [at_ns for at_ns in self.begun_at_ns if now_ns - at_ns < PACE_NS]
        if self.paused_until_ns is not None and self.paused_until_ns <= now_ns:
            self.paused_until_ns = None
        for uuid in [uuid for uuid, bar in self.bars.items() if bar.until_ns <= now_ns]:
            del self.bars[uuid]
        for sample in samples:
            self._silence(sample, now_ns)
            self._foreign(sample, now_ns)

    def _silence(self, sample: DomainSample, now_ns: int) -> None:
        uuid = sample.uuid
        if Trouble.AGENT_SILENT not in sample.troubles and Trouble.HUNG not in sample.troubles:
            if self.silent_since_ns.pop(uuid, None) is not None:
                bar = self.bars.get(uuid)
                if bar is not None and bar.detail.startswith("silent"):
                    del self.bars[uuid]
            return
        since_ns = self.silent_since_ns.setdefault(uuid, now_ns)
        if Trouble.HUNG in sample.troubles or now_ns - since_ns >= SILENT_NS:
            self.bars.setdefault(
                uuid,
                Bar(
                    phase=Phase.QUARANTINED,
                    until_ns=FOREVER_NS,
                    detail="silent: its agent or QEMU does not answer",
                ),
            )

    def _foreign(self, sample: DomainSample, now_ns: int) -> None:
        expected = self.expected.get(sample.uuid)
        if expected is None or sample.online is None or sample.uuid in self.courses:
            return
        read_at_ns = sample.online_taken_at_ns or 0
        if sample.online != expected and read_at_ns > self.changed_at_ns.get(sample.uuid, 0):
            del self.expected[sample.uuid]
            self.bars.setdefault(
                sample.uuid,
                Bar(
                    phase=Phase.QUARANTINED,
                    until_ns=now_ns + FOREIGN_NS,
                    detail="somebody else changed its vCPUs",
                ),
            )

    def barred(self, docket: Docket, uuids: Iterable[Uuid], now_ns: int) -> Mapping[Uuid, str]:
        """Domains that must not be changed on a policy's behalf, and why."""
        reasons: dict[Uuid, str] = {}
        for uuid in uuids:
            bar = self.bars.get(uuid)
            if self.paused_until_ns is not None:
                reasons[uuid] = "vcpud is paused"
            elif bar is not None:
                reasons[uuid] = f"{bar.phase}: {bar.detail}"
            elif docket.blocked_until_ns(uuid, now_ns) is not None:
                reasons[uuid] = "the last move did not help; backing off"
        return reasons

    def status(
        self, sample: DomainSample, original: Original | None, docket: Docket, now_ns: int
    ) -> DomainStatus:
        """Where one domain stands."""
        uuid = sample.uuid
        course = self.courses.get(uuid)
        bar = self.bars.get(uuid)
        trial = docket.on_trial(uuid)
        blocked_until_ns = docket.blocked_until_ns(uuid, now_ns)
        active = len(sample.active)
        phase, until_ns, detail = Phase.IDLE, None, ""
        if course is not None:
            phase = _PHASE_OF[course.purpose]
            detail = course.detail or course.reason
        elif bar is not None:
            phase, detail = bar.phase, bar.detail
            until_ns = None if bar.until_ns == FOREVER_NS else bar.until_ns
        elif self.paused_until_ns is not None:
            phase = Phase.PAUSED
        elif trial is not None:
            phase, detail = Phase.JUDGING, trial.move.reason
        elif blocked_until_ns is not None:
            phase, until_ns = Phase.BACKING_OFF, blocked_until_ns
        had = None
        if original is not None:
            had = original.live_vcpus if original.online is None else len(original.online)
        return DomainStatus(
            uuid=uuid,
            phase=phase,
            target_vcpus=active if course is None else course.to_vcpus,
            original_vcpus=had,
            until_ns=until_ns,
            failures=0 if course is None else course.failures,
            detail=detail,
        )


_PHASE_OF = {
    Purpose.DECIDE: Phase.CHANGING,
    Purpose.UNDO: Phase.UNDOING,
    Purpose.RESTORE: Phase.RESTORING,
}
