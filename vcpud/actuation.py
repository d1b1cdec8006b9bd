"""Making changes: courses are begun step by step through the hypervisor port, and read back.

A step that takes is begun only after the original was written to the ledger. A course is given up
when its steps fail: only what is read back counts. One that gives back is never given up; a domain
that does not take back what it had is quarantined all the while, so that no more is taken from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vcpud import owed, steer
from vcpud.agenda import Agenda
from vcpud.errors import LedgerError
from vcpud.events import EventKind, HostEvent
from vcpud.model import (
    Accepted,
    Change,
    DomainSample,
    Effect,
    HostSample,
    Method,
    Mode,
    Original,
    Reason,
    Refused,
    SetLive,
    SetOnline,
    SetWeight,
    Uuid,
)
from vcpud.originals import Originals
from vcpud.record import ChangeRecord, Completed, Purpose
from vcpud.steer import Course, Standing

if TYPE_CHECKING:
    from vcpud.ports import Hypervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """Where a domain is to go, on whose behalf and why."""

    decision_id: str
    purpose: Purpose
    to_vcpus: int
    step_vcpus: int
    reason: str


@dataclass(slots=True)
class Acts:
    """What actuation did in one cycle, for its record."""

    changes: list[ChangeRecord] = field(default_factory=list)
    completed: list[Completed] = field(default_factory=list)
    dropped: list[Uuid] = field(default_factory=list)
    given_up: list[Uuid] = field(default_factory=list)


class Actuation:
    """The hand of the loop.

    `acts` is filled during a cycle and taken by the loop at its end.
    """

    def __init__(self, hypervisor: Hypervisor, originals: Originals, agenda: Agenda) -> None:
        self._hypervisor = hypervisor
        self._originals = originals
        self._agenda = agenda
        self.acts = Acts()

    # ----------------------------------------------------------------------------- courses

    def set_course(self, sample: DomainSample, intent: Intent, now_ns: int) -> None:
        """Send a domain on its way."""
        original = self._originals.outstanding().get(sample.uuid)
        method = sample.method
        if original is not None and intent.purpose is Purpose.RESTORE:
            method = _rung(original, method)
        self._agenda.set_course(
            Course(
                uuid=sample.uuid,
                decision_id=intent.decision_id,
                purpose=intent.purpose,
                reason=intent.reason,
                begun_at_ns=now_ns,
                home=self._originals.home(sample),
                home_live_vcpus=sample.live_vcpus if original is None else original.live_vcpus,
                from_vcpus=len(sample.active),
                to_vcpus=intent.to_vcpus,
                step_vcpus=intent.step_vcpus,
                method=method,
                weight=steer.balancing_weight(sample, original, intent.to_vcpus),
            )
        )

    def give_back(self, sample: DomainSample, decision_id: str, now_ns: int) -> bool:
        """Restore one domain; False when nothing can be done, or it is being restored already."""
        current = self._agenda.courses.get(sample.uuid)
        if current is not None and current.restoring:
            return False
        original = self._originals.outstanding().get(sample.uuid)
        if original is None:
            return False
        if current is None and owed.unplug_pending(sample, original):
            return False
        intent = Intent(
            decision_id=decision_id,
            purpose=Purpose.RESTORE,
            to_vcpus=original.home_vcpus,
            step_vcpus=original.home_vcpus,
            reason="give back what the domain had",
        )
        self.set_course(sample, intent, now_ns)
        return True

    def call_off_unowed(self, *uuids: Uuid) -> None:
        """End what has not begun yet, of these domains or of all: they are as they were."""
        owed_to = self._originals.outstanding()
        for uuid in uuids or tuple(self._agenda.courses):
            course = self._agenda.courses.get(uuid)
            if course is not None and uuid not in owed_to and not course.restoring:
                del self._agenda.courses[uuid]

    def hear(self, events: tuple[HostEvent, ...], now_ns: int) -> None:
        """Changes that the hypervisor says are done, or have failed."""
        for event in events:
            if event.kind is EventKind.CHANGE_DONE and event.uuid is not None:
                self._agenda.watch.done(event.uuid)
            course = self._agenda.courses.get(event.uuid or "")
            if course is not None and event.kind is EventKind.CHANGE_FAILED:
                if not course.restoring and course.to_vcpus < course.from_vcpus:
                    self._originals.unplug_failed(course.uuid, event.reason)
                self._fail(course, event.reason, event.detail, now_ns, asked=True)

    def read_back(self, sample: HostSample, now_ns: int) -> None:
        """Which courses are reached, which are given up; only what is counts."""
        for domain in sample.domains if self._agenda.courses else ():
            course = self._agenda.courses.get(domain.uuid)
            if course is None:
                continue
            course = steer.checked(course, domain, now_ns)
            self._agenda.courses[domain.uuid] = course
            standing = steer.standing(course, domain)
            if standing is Standing.ON_ITS_WAY:
                if course.restoring and course.defied:
                    self._agenda.bars.resists(course.uuid, now_ns, course.detail)
                continue
            reached = standing is Standing.REACHED
            self._agenda.finish(domain, now_ns, reached=reached)
            original = self._originals.outstanding().get(domain.uuid)
            if original is not None and original.unplug_from is not None:
                self._agenda.watch.lapse(domain.uuid)  # what is still to come is our own
            self.acts.completed.append(
                Completed(
                    decision_id=course.decision_id,
                    uuid=domain.uuid,
                    name=domain.name,
                    purpose=course.purpose,
                    method=course.method,
                    from_vcpus=course.from_vcpus,
                    to_vcpus=len(domain.active),
                    reached=reached,
                    took_ns=now_ns - course.begun_at_ns,
                    detail=course.detail,
                )
            )
            if reached and course.purpose is Purpose.DECIDE:
                self._agenda.bars.follows(domain.uuid, grows=course.grows)
            elif not reached:
                if course.defied:
                    self._agenda.bars.quarantine(
                        domain.uuid, now_ns, course.detail, grows=course.grows
                    )
                self.acts.given_up.append(domain.uuid)

    # ------------------------------------------------------------------------------- steps

    def act(self, sample: HostSample, now_ns: int) -> None:
        """Begin the next step of every course, shrinks first: they free what grows need."""
        running = {domain.uuid: domain for domain in sample.domains}
        steps = [
            (course, running[course.uuid], change)
            for course in self._agenda.courses.values()
            if course.uuid in running
            and (change := steer.next_change(course, running[course.uuid], now_ns)) is not None
        ]
        steps.sort(key=lambda step: (step[0].to_vcpus >= step[0].from_vcpus, step[0].uuid))
        for course, domain, change in steps:
            effect = self._begin(course, domain, change, sample)
            self._note(course, domain, change, effect, now_ns)
            self.acts.changes.append(
                ChangeRecord(
                    decision_id=course.decision_id,
                    uuid=course.uuid,
                    name=domain.name,
                    change=change,
                    effect=effect,
                    purpose=course.purpose,
                    method=course.method,
                    from_vcpus=len(domain.active),
                    to_vcpus=_wanted(change, domain),
                    reason=course.reason,
                )
            )

    def _begin(
        self, course: Course, domain: DomainSample, change: Change, host: HostSample
    ) -> Effect:
        """The original is durable before the change is begun; a failed write means no change."""
        if domain.terms.mode is not Mode.ENFORCE and not course.restoring:
            return Refused(Reason.OUT_OF_BOUNDS, f"mode is {domain.terms.mode}")
        gives = course.restoring and isinstance(change, SetOnline)
        if domain.job is not None and not gives:
            # What only gives back goes through the agent, which a job leaves free.
            return Refused(Reason.JOB, domain.job)
        if not course.restoring:
            by_agent = course.method is Method.AGENT
            if by_agent and domain.online is None:
                return Refused(
                    Reason.AGENT_SILENT, "its agent has not said yet which CPUs are online"
                )
            original = self._originals.outstanding().get(course.uuid)
            if original is not None and (original.online is not None) is not by_agent:
                return Refused(
                    Reason.NO_ACTUATOR,
                    "it was shrunk in another way, and must have that back first",
                )
            try:
                self._originals.remember(
                    Original(
                        boot_id=host.boot_id,
                        uuid=domain.uuid,
                        name=domain.name,
                        incarnation=domain.incarnation,
                        hypervisor=host.hypervisor,
                        online=domain.online if by_agent else None,
                        live_vcpus=domain.live_vcpus,
                        weight=None if course.weight is None else domain.weight,
                    )
                )
                if isinstance(change, SetLive) and change.count < domain.live_vcpus:
                    self._originals.unplug_asked(domain)
            except LedgerError as error:
                return Refused(Reason.LEDGER, str(error))
        original = self._originals.outstanding().get(course.uuid)
        if not isinstance(change, SetWeight):
            change = replace(change, original=original)
        effect = self._hypervisor.begin(change)
        unplugs = isinstance(change, SetLive) and change.count < domain.live_vcpus
        if unplugs and original is not None and isinstance(effect, Refused):
            self._originals.unplug_refused(original)
        return effect

    def _note(
        self, course: Course, domain: DomainSample, change: Change, effect: Effect, now_ns: int
    ) -> None:
        if isinstance(effect, Accepted):
            self._agenda.courses[course.uuid] = steer.issued(course, now_ns)
            self._agenda.begun(domain, change, now_ns)
        elif effect.reason in _FINAL and not course.restoring:
            # Nothing was begun and nothing will be: no course, and no new one for a moment.
            self._agenda.finish(domain, now_ns, reached=False)
            self.acts.dropped.append(course.uuid)
        else:
            self._fail(course, effect.reason, effect.detail, now_ns, asked=False)

    def _fail(
        self, course: Course, reason: Reason | None, detail: str, now_ns: int, *, asked: bool
    ) -> None:
        """A step failed, or was refused; what merely had to wait is no failure of the domain's."""
        held = reason is Reason.JOB or (not asked and reason in _WAITS)
        detail = f"{reason}: {detail}"
        self._agenda.courses[course.uuid] = steer.failed(course, now_ns, detail, held=held)


def _rung(original: Original, method: Method) -> Method:
    """What was taken in one way can be given back in no other."""
    if original.online is not None:
        return Method.AGENT
    return Method.HOTPLUG if method in (Method.AGENT, Method.NONE) else method


_FINAL = frozenset({Reason.DRY_RUN, Reason.LEDGER, Reason.GONE, Reason.OUT_OF_BOUNDS})
_WAITS = frozenset(
    {Reason.AGENT_SILENT, Reason.HUNG, Reason.NOT_CONNECTED, Reason.IN_FLIGHT, Reason.JOB}
)
"""Refusals that end by themselves: the domain has not been asked, so it has refused nothing."""


def _wanted(change: Change, domain: DomainSample) -> int:
    match change:
        case SetOnline(online=online):
            return len(online)
        case SetLive(count=count):
            return count
        case _:
            return len(domain.active)
