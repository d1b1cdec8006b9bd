"""What is under way for each domain, and where each stands.

No effects and no clock: the loop tells it what happened and when. Courses live here, keyed by UUID,
beside the bars and the watch; a domain that is gone leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from vcpud import owed
from vcpud.bars import FOREVER_NS, Bars
from vcpud.docket import Docket
from vcpud.foreign import Watch
from vcpud.limits import Foreign
from vcpud.model import Change, DomainSample, Original, Uuid
from vcpud.record import DomainStatus, ForeignChange, Phase, Purpose
from vcpud.steer import Course
from vcpud.swift import maker
from vcpud.units import NS_PER_S

PACE_NS = 60 * NS_PER_S
UNPLUG_PENDING = (
    "its guest may still carry out an unplug that was given up: then vcpud plugs the vCPU back"
)


@dataclass(slots=True)
class Agenda:
    """The loop's notebook.

    Attributes:
        courses: Domains on their way to a target.
        bars: Who is left alone.
        changed_at_ns: When each domain's last change ended.
        begun_at_ns: When resizes of the last minute were begun.
        touched_at_ns: When a change of each domain was last begun.
        watch: What each domain is expected to have, and what others did to it.
    """

    courses: dict[Uuid, Course] = field(default_factory=dict)
    bars: Bars = field(default_factory=Bars)
    changed_at_ns: dict[Uuid, int] = field(default_factory=dict)
    begun_at_ns: list[int] = field(default_factory=list)
    touched_at_ns: dict[Uuid, int] = field(default_factory=dict)
    watch: Watch = field(default_factory=Watch)

    def set_course(self, course: Course) -> None:
        """A course replaces the one before; a restore is replaced by nothing but a restore."""
        current = self.courses.get(course.uuid)
        if current is None or not current.restoring or course.restoring:
            touched_at_ns = self.touched_at_ns.get(course.uuid)
            self.courses[course.uuid] = replace(course, touched_at_ns=touched_at_ns)
            self.watch.lapse(course.uuid)
            if course.purpose is Purpose.DECIDE:
                self.begun_at_ns.append(course.begun_at_ns)

    def sent_since(self, since_ns: int) -> dict[Uuid, int]:
        """The vCPUs that those are to have who were sent on their way then or later, and are not there."""
        courses = self.courses.items()
        return {uuid: one.to_vcpus for uuid, one in courses if one.begun_at_ns >= since_ns}

    def begun(self, sample: DomainSample, change: Change, now_ns: int) -> None:
        """A step of a domain's course was begun."""
        self.touched_at_ns[sample.uuid] = now_ns
        self.watch.begun(self.courses[sample.uuid], sample, change)

    def finish(self, sample: DomainSample, now_ns: int, *, reached: bool) -> None:
        """A course ended."""
        uuid = sample.uuid
        course = self.courses.pop(uuid, None)
        self.changed_at_ns[uuid] = now_ns
        self.watch.ended(course, sample, reached=reached)
        if course is not None and course.restoring:
            self.bars.restored(uuid, now_ns)

    def forget(self, uuid: Uuid) -> None:
        """The domain is gone or a new incarnation."""
        for notes in (self.courses, self.changed_at_ns, self.touched_at_ns):
            notes.pop(uuid, None)
        self.bars.forget(uuid)
        self.watch.forget(uuid)

    def resume(self, uuid: Uuid | None, now_ns: int) -> None:
        """An operator ends pauses, releases and quarantines, of one domain or of all."""
        self.bars.lift(uuid)
        self.hasten(uuid)
        self.watch.resume(uuid, now_ns)

    def hasten(self, uuid: Uuid | None) -> None:
        """Somebody waits for what a domain, or all, are to be given back: ask at once.

        Who did not take it back has as many attempts as before.
        """
        for course in list(self.courses.values()):
            if course.restoring and uuid in (None, course.uuid):
                self.courses[course.uuid] = replace(course, failures=0, held=0, not_before_ns=0)

    def look(
        self,
        samples: Collection[DomainSample],
        originals: Mapping[Uuid, Original],
        now_ns: int,
        foreign: Foreign,
    ) -> tuple[ForeignChange, ...]:
        """Notice what the samples say: silence, foreign changes, and bars that have run out.

        Args:
            samples: What there is.
            originals: What domains are owed.
            now_ns: The instant.
            foreign: What follows on a change that somebody else made.

        Returns:
            What somebody else changed since the last look.
        """
        self.begun_at_ns = [at_ns for at_ns in self.begun_at_ns if now_ns - at_ns < PACE_NS]
        restoring = {uuid for uuid, course in self.courses.items() if course.restoring}
        self.bars.expire(now_ns, restoring)
        self.bars.listen(samples, now_ns)
        found = []
        expected = self.watch.expected
        for sample in samples:
            uuid = sample.uuid
            if uuid in expected:
                change = self._foreign(sample, originals.get(uuid), now_ns, foreign)
                if change is not None:
                    found.append(change)
            elif uuid in originals and uuid not in self.courses:
                self.watch.found(sample, originals[uuid], self.touched_at_ns.get(uuid))
        return tuple(found)

    def _foreign(
        self, sample: DomainSample, original: Original | None, now_ns: int, foreign: Foreign
    ) -> ForeignChange | None:
        """Whoever else changed a domain's vCPUs wins, and is left in peace for a while.

        Also in the middle of a course, which then ends.
        """
        uuid = sample.uuid
        course = self.courses.get(uuid)
        since_ns = (self.changed_at_ns if course is None else self.touched_at_ns).get(uuid, 0)
        found = self.watch.look(sample, original, course, since_ns)
        if found is None:
            return None
        if course is not None:
            del self.courses[uuid]
            self.changed_at_ns[uuid] = now_ns
        detail = "somebody else changed its vCPUs before it was resumed"
        if found.reversals is not None:
            detail = self.bars.leave_to_others(uuid, found.reversals, now_ns, foreign)
        return ForeignChange(
            uuid=uuid,
            name=sample.name,
            from_vcpus=found.from_vcpus,
            to_vcpus=found.to_vcpus,
            brought=found.brought,
            taken=found.taken,
            reversal=found.reversal,
            detail=detail,
        )

    def statuses(
        self,
        samples: Collection[DomainSample],
        originals: Mapping[Uuid, Original],
        docket: Docket,
        now_ns: int,
    ) -> tuple[DomainStatus, ...]:
        """Where every domain stands; of most there is nothing to tell."""
        everybody = self.bars.everybody
        noted = self.courses.keys() | self.bars.by_domain.keys() | originals.keys()
        noted |= docket.blames.keys() | docket.tried()
        return tuple(
            [
                self._status(sample, originals.get(sample.uuid), docket, now_ns)
                if everybody or sample.uuid in noted
                else _idle(
                    sample.uuid, sample.live_vcpus if sample.online is None else len(sample.online)
                )
                for sample in samples
            ]
        )

    def _status(
        self, sample: DomainSample, original: Original | None, docket: Docket, now_ns: int
    ) -> DomainStatus:
        """Where one domain stands of which there is something to tell."""
        uuid = sample.uuid
        course = self.courses.get(uuid)
        bar = self.bars.by_domain.get(uuid)
        trial = docket.on_trial(uuid)
        blocked_until_ns = docket.blocked_until_ns(uuid, now_ns)
        active = sample.live_vcpus if sample.online is None else len(sample.online)
        phase, until_ns, detail, why = Phase.IDLE, None, "", None
        if course is not None:
            phase = _PHASE_OF[course.purpose]
            detail = course.detail or course.reason
            if course.restoring and course.failures and bar is not None and bar.spell_ns:
                phase, why = Phase.QUARANTINED, bar.why
        elif bar is not None:
            phase, detail, why = bar.phase, bar.detail, bar.why
            until_ns = None if bar.until_ns == FOREVER_NS else bar.until_ns
        elif self.bars.killed:
            phase, detail = Phase.PAUSED, "the kill switch is thrown"
        elif self.bars.paused_until_ns is not None:
            phase = Phase.PAUSED
        elif trial is not None:
            phase, detail = Phase.JUDGING, trial.move.reason
        elif blocked_until_ns is not None:
            phase, until_ns = Phase.BACKING_OFF, blocked_until_ns
        had = None
        if original is not None:
            had = original.home_vcpus
            if not detail and owed.unplug_pending(sample, original):
                detail = UNPLUG_PENDING
        return _make_status(
            uuid,
            phase,
            active if course is None else course.to_vcpus,
            had,
            until_ns,
            0 if course is None else course.failures,
            detail,
            why,
        )


_make_status = maker(DomainStatus)


@lru_cache(maxsize=4096)
def _idle(uuid: Uuid, active_vcpus: int) -> DomainStatus:
    """Nothing is under way, nothing is owed and nothing bars it: the same from cycle to cycle."""
    return DomainStatus(
        uuid=uuid, phase=Phase.IDLE, target_vcpus=active_vcpus, original_vcpus=None
    )


_PHASE_OF = {
    Purpose.DECIDE: Phase.CHANGING,
    Purpose.UNDO: Phase.UNDOING,
    Purpose.RESTORE: Phase.RESTORING,
}
