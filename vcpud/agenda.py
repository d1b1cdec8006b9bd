"""What is under way for each domain, and which domains are to be left alone.

No effects and no clock: the loop tells it what happened and when. Courses, quarantines, pauses
and releases live here, keyed by UUID; a domain that is gone leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from vcpud import owed
from vcpud.foreign import Watch
from vcpud.judge import Docket
from vcpud.limits import Foreign
from vcpud.model import (
    Change,
    DomainSample,
    Original,
    Trouble,
    Uuid,
)
from vcpud.record import DomainStatus, ForeignChange, Phase, Purpose, Why
from vcpud.steer import Course
from vcpud.swift import maker
from vcpud.units import NS_PER_S

QUARANTINE_NS = 60 * NS_PER_S
QUARANTINE_MAX_NS = 3600 * NS_PER_S
SILENT_NS = 15 * NS_PER_S
"""An agent that has not answered for so long is not merely slow."""
FOREIGN_NS = 300 * NS_PER_S
"""How long a domain is left to whoever else changed its vCPUs."""
REVERSALS = 2
"""So often may somebody else undo what vcpud did before the domain is left to him."""
FIGHT_NS = 3600 * NS_PER_S
FIGHT_MAX_NS = 24 * 3600 * NS_PER_S
PACE_NS = 60 * NS_PER_S
FOREVER_NS = 2**63 - 1
UNPLUG_PENDING = (
    "its guest may still carry out an unplug that was given up: it is plugged back then"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Why a domain is left alone, and until when.

    Attributes:
        spell_ns: How long it lasts once the domain has back what it had: until then it does not end.
    """

    phase: Phase
    until_ns: int
    detail: str
    why: Why | None = None
    spell_ns: int = 0


@dataclass(slots=True)
class Agenda:
    """The loop's notebook.

    Attributes:
        courses: Domains on their way to a target.
        bars: Pauses, releases and quarantines.
        quarantines: How often in a row each domain was quarantined because it could not be
            shrunk, or (True) grown: that the one works says nothing of the other.
        changed_at_ns: When each domain's last change ended.
        begun_at_ns: When resizes of the last minute were begun.
        touched_at_ns: When a change of each domain was last begun.
        watch: What each domain is expected to have, and what others did to it.
        silent_since_ns: Since when an agent has not answered.
        paused_until_ns: Everything is paused until then, None when it is not.
        killed: The kill switch is thrown.
    """

    courses: dict[Uuid, Course] = field(default_factory=dict)
    bars: dict[Uuid, Bar] = field(default_factory=dict)
    quarantines: dict[tuple[Uuid, bool], int] = field(default_factory=dict)
    changed_at_ns: dict[Uuid, int] = field(default_factory=dict)
    begun_at_ns: list[int] = field(default_factory=list)
    touched_at_ns: dict[Uuid, int] = field(default_factory=dict)
    watch: Watch = field(default_factory=Watch)
    silent_since_ns: dict[Uuid, int] = field(default_factory=dict)
    paused_until_ns: int | None = None
    killed: bool = False

    def set_course(self, course: Course) -> None:
        """A course replaces the one before; a restore is replaced by nothing but a restore."""
        current = self.courses.get(course.uuid)
        if current is None or not current.restoring or course.restoring:
            touched_at_ns = self.touched_at_ns.get(course.uuid)
            self.courses[course.uuid] = replace(course, touched_at_ns=touched_at_ns)
            self.watch.lapse(course.uuid)
            if course.purpose is Purpose.DECIDE:
                self.begun_at_ns.append(course.begun_at_ns)

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
        bar = self.bars.get(uuid)
        if bar is not None and bar.spell_ns and course is not None and course.restoring:
            self.bars[uuid] = replace(bar, until_ns=now_ns + bar.spell_ns)

    def quarantine(self, uuid: Uuid, now_ns: int, detail: str, *, grows: bool = False) -> None:
        """Leave a domain alone for a while that doubles each time.

        Args:
            uuid: Which domain.
            now_ns: The instant.
            detail: What it did not do, for people.
            grows: It was to be grown, not shrunk.
        """
        count = self.quarantines.get((uuid, grows), 0)
        self.quarantines[uuid, grows] = count + 1
        spell_ns = min(QUARANTINE_NS << min(count, 8), QUARANTINE_MAX_NS)
        bar = Bar(
            phase=Phase.QUARANTINED,
            until_ns=now_ns + spell_ns,
            detail=detail,
            why=Why.FAILED,
            spell_ns=spell_ns,
        )
        if self.bars.get(uuid, bar).phase is Phase.QUARANTINED:  # not an operator's own word
            self.bars[uuid] = bar

    def resists(self, course: Course, now_ns: int) -> None:
        """A domain does not take back what it had: asked again, and left alone otherwise."""
        if course.uuid not in self.bars:
            self.quarantine(course.uuid, now_ns, course.detail, grows=True)

    def forget(self, uuid: Uuid) -> None:
        """The domain is gone or a new incarnation."""
        bar = self.bars.get(uuid)
        if bar is not None and bar.phase is Phase.QUARANTINED:
            del self.bars[uuid]
        for grows in (False, True):
            self.quarantines.pop((uuid, grows), None)
        for notes in (
            self.courses,
            self.changed_at_ns,
            self.touched_at_ns,
            self.silent_since_ns,
        ):
            notes.pop(uuid, None)
        self.watch.forget(uuid)

    def pause(self, uuid: Uuid | None, until_ns: int | None) -> None:
        """An operator wants nothing decided, for one domain or for all."""
        end_ns = FOREVER_NS if until_ns is None else until_ns
        if uuid is None:
            self.paused_until_ns = end_ns
        else:
            self.bars[uuid] = Bar(phase=Phase.PAUSED, until_ns=end_ns, detail="by an operator")

    def release(self, uuid: Uuid, until_ns: int | None) -> None:
        """An operator wants a domain whole and left alone."""
        end_ns = FOREVER_NS if until_ns is None else until_ns
        self.bars[uuid] = Bar(phase=Phase.RELEASED, until_ns=end_ns, detail="to an operator")

    def resume(self, uuid: Uuid | None, now_ns: int) -> None:
        """An operator ends pauses, releases and quarantines, of one domain or of all.

        Who did not take back what it had is asked at once, and has as many attempts as before.
        """
        if uuid is None:
            self.paused_until_ns = None
            self.bars.clear()
        else:
            self.bars.pop(uuid, None)
        for course in list(self.courses.values()):
            if course.restoring and uuid in (None, course.uuid):
                self.courses[course.uuid] = replace(course, failures=0, held=0, not_before_ns=0)
        self.watch.resume(uuid, now_ns)

    def look(
        self,
        samples: Iterable[DomainSample],
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
        if self.paused_until_ns is not None and self.paused_until_ns <= now_ns:
            self.paused_until_ns = None
        for uuid in [uuid for uuid, bar in self.bars.items() if self._over(uuid, bar, now_ns)]:
            del self.bars[uuid]
        found = []
        silent, expected = self.silent_since_ns, self.watch.expected
        for sample in samples:
            uuid, troubles = sample.uuid, sample.troubles
            if uuid in silent or (troubles and not troubles.isdisjoint(_SILENT)):
                self._silence(sample, now_ns)
            if uuid in expected:
                change = self._foreign(sample, originals.get(uuid), now_ns, foreign)
                if change is not None:
                    found.append(change)
            elif uuid in originals and uuid not in self.courses:
                self.watch.found(sample, originals[uuid], self.touched_at_ns.get(uuid))
        return tuple(found)

    def _over(self, uuid: Uuid, bar: Bar, now_ns: int) -> bool:
        """A quarantine for failures begins to end when the domain has back what it had."""
        course = self.courses.get(uuid) if bar.spell_ns else None
        return bar.until_ns <= now_ns and (course is None or not course.restoring)

    def _silence(self, sample: DomainSample, now_ns: int) -> None:
        uuid = sample.uuid
        if sample.troubles.isdisjoint(_SILENT):
            if self.silent_since_ns.pop(uuid, None) is not None:
                bar = self.bars.get(uuid)
                if bar is not None and bar.why is Why.SILENT:
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
                    why=Why.SILENT,
                ),
            )

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
            bar = self._bar_after(found.reversals, now_ns, foreign)
            detail = bar.detail
            if self.bars.get(uuid, bar).phase is Phase.QUARANTINED:
                self.bars[uuid] = bar
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

    def _bar_after(self, reversals: int, now_ns: int, foreign: Foreign) -> Bar:
        detail, until_ns = "somebody else changed its vCPUs", now_ns + FOREIGN_NS
        if reversals >= REVERSALS:
            detail += f", and undid what vcpud did {reversals} times: it is managed elsewhere"
            until_ns = now_ns + min(FIGHT_NS << min(reversals - REVERSALS, 8), FIGHT_MAX_NS)
        elif foreign is Foreign.STAND_DOWN:
            detail += ": left alone until it is resumed"
            until_ns = FOREVER_NS
        return Bar(phase=Phase.QUARANTINED, until_ns=until_ns, detail=detail, why=Why.FOREIGN)

    def barred(self, docket: Docket, uuids: Collection[Uuid], now_ns: int) -> Mapping[Uuid, str]:
        """Domains that must not be changed on a policy's behalf, and why."""
        if self.killed:
            return dict.fromkeys(uuids, "the kill switch is thrown")
        if self.paused_until_ns is not None:
            return dict.fromkeys(uuids, "vcpud is paused")
        reasons = {
            uuid: "the last move did not help; backing off"
            for uuid in docket.blames
            if uuid in uuids and docket.blocked_until_ns(uuid, now_ns) is not None
        }
        for uuid, bar in self.bars.items():
            if uuid in uuids:
                reasons[uuid] = f"{bar.phase}: {bar.detail}"
        return reasons

    def statuses(
        self,
        samples: Iterable[DomainSample],
        originals: Mapping[Uuid, Original],
        docket: Docket,
        now_ns: int,
    ) -> tuple[DomainStatus, ...]:
        """Where every domain stands; of most there is nothing to tell."""
        everybody = self.killed or self.paused_until_ns is not None
        noted = self.courses.keys() | self.bars.keys() | originals.keys() | docket.blames.keys()
        noted |= docket.tried()
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
        bar = self.bars.get(uuid)
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
        elif self.killed:
            phase, detail = Phase.PAUSED, "the kill switch is thrown"
        elif self.paused_until_ns is not None:
            phase = Phase.PAUSED
        elif trial is not None:
            phase, detail = Phase.JUDGING, trial.move.reason
        elif blocked_until_ns is not None:
            phase, until_ns = Phase.BACKING_OFF, blocked_until_ns
        had = None
        if original is not None:
            had = owed.had(original)
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


_SILENT = frozenset({Trouble.AGENT_SILENT, Trouble.HUNG})
_PHASE_OF = {
    Purpose.DECIDE: Phase.CHANGING,
    Purpose.UNDO: Phase.UNDOING,
    Purpose.RESTORE: Phase.RESTORING,
}
