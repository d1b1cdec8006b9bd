"""Making changes, and being able to undo every one of them.

Courses are begun step by step through the hypervisor port, after the original was written to the
ledger; read back; given up when they fail; and every original is given back, or stays in the
ledger and is named. An original of another boot or incarnation is never applied.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vcpud import owed, steer
from vcpud.agenda import Agenda
from vcpud.errors import LedgerError
from vcpud.model import (
    Accepted,
    Change,
    DomainSample,
    Effect,
    EventKind,
    HostEvent,
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
    same_run,
)
from vcpud.record import ChangeRecord, Completed, ForeignChange, Purpose
from vcpud.steer import Course, Standing

if TYPE_CHECKING:
    from vcpud.ports import Hypervisor, Ledger


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
    lost: list[Original] = field(default_factory=list)
    received: list[Original] = field(default_factory=list)
    recovered: list[Original] = field(default_factory=list)
    foreign: list[ForeignChange] = field(default_factory=list)
    dropped: list[Uuid] = field(default_factory=list)
    given_up: list[Uuid] = field(default_factory=list)
    ledger_error: str | None = None


class Actuation:
    """The hand of the loop.

    `acts` is filled during a cycle and taken by the loop at its end.
    """

    def __init__(self, hypervisor: Hypervisor, ledger: Ledger, agenda: Agenda) -> None:
        self._hypervisor = hypervisor
        self._ledger = ledger
        self._agenda = agenda
        self._unplugs = owed.Unplugs()
        self._elsewhere: frozenset[Uuid] = frozenset()
        self.acts = Acts()

    # --------------------------------------------------------------------------- originals

    def look(self, sample: HostSample) -> None:
        """What is owed to domains of another hypervisor is none of this one's business."""
        others = owed.elsewhere(self._ledger.outstanding(), sample)
        self._elsewhere = frozenset([original.uuid for original in others])

    def originals(self) -> dict[Uuid, Original]:
        """Every original not yet restored, by domain."""
        return {
            original.uuid: original
            for original in self._ledger.outstanding()
            if original.uuid not in self._elsewhere
        }

    def had(self) -> dict[Uuid, int]:
        """Active vCPUs before vcpud first touched a domain, where it is owed any."""
        return {uuid: owed.had(original) for uuid, original in self.originals().items()}

    def home(self, sample: DomainSample) -> frozenset[int]:
        """The guest CPUs a domain had before vcpud first touched it."""
        original = self.originals().get(sample.uuid)
        if original is not None and original.online is not None:
            return original.online
        return sample.active

    def forget(self, *uuids: Uuid) -> None:
        """Domains are owed nothing any more; the disk is waited for once, however many they are."""
        for uuid in uuids:
            self._unplugs.forget(uuid)
        done = self.originals().keys() & frozenset(uuids)
        if not done:
            return
        try:
            self._ledger.forget(*done)
        except LedgerError as error:
            self.acts.ledger_error = str(error)

    def rebooted(self, domain: DomainSample) -> bool:
        """Its CPUs are online again by themselves; whether devices or a weight are still owed."""
        original = self.originals().get(domain.uuid)
        if original is None:
            return False
        left = original if domain.in_flight is not None else self._unplugs.end(original)
        if original.online is not None:
            left = replace(left, online=None, live_vcpus=domain.live_vcpus)
        if left.unplug_from is None and owed.is_back(domain, left):
            self.forget(domain.uuid)
            return False
        self._amend(left)
        return True

    def _amend(self, original: Original) -> bool:
        """Write down what a domain is owed from now on; whether that is durable."""
        try:
            self._ledger.amend(original)
        except LedgerError as error:
            self.acts.ledger_error = str(error)
            return False
        return True

    def yield_to(self, change: ForeignChange, sample: DomainSample) -> bool:
        """Somebody else changed a domain's vCPUs: what it is owed is what he leaves it.

        Who brings back what vcpud had parked sets the size: nothing is owed beyond it. Who adds what
        the domain never had, or takes some away, does that alone: what vcpud had parked besides is
        still given back, and what he took stays away.

        Returns:
            Whether nothing but a weight is owed any more: there is nothing to keep it for.
        """
        only_weight = False
        original = self.originals().get(sample.uuid)
        left = original
        if original is not None:
            if original.online is not None and sample.online is not None:
                home = (original.online - change.taken) | change.brought
                if change.brought & original.online:
                    home = sample.online
                left = replace(original, online=home)
            else:
                kept = original.live_vcpus - len(change.taken)
                left = replace(original, live_vcpus=sample.live_vcpus if change.brought else kept)
            try:
                if owed.is_back(sample, left) and left.weight is None:
                    self._ledger.forget(sample.uuid)
                    left = None
                else:
                    self._ledger.amend(left)
                    only_weight = bool(change.brought) and owed.is_back(
                        sample, replace(left, weight=None)
                    )
            except LedgerError as error:
                self.acts.ledger_error = str(error)
        owed_vcpus = None if left is None else owed.had(left)
        self.acts.foreign.append(replace(change, owed_vcpus=owed_vcpus))
        return only_weight

    def _receive(self, domain: DomainSample, host: HostSample) -> bool:
        """Take over what a vcpud elsewhere still owed; whether there is anything to give back."""
        note = domain.handed_over
        if note is None or note.online is None or domain.online is None:
            return False
        home = note.online & frozenset(range(domain.max_vcpus))
        if domain.online >= home:
            return False
        received = replace(
            note,
            boot_id=host.boot_id,
            uuid=domain.uuid,
            name=domain.name,
            incarnation=domain.incarnation,
            hypervisor=host.hypervisor,
            online=home | domain.online,
            live_vcpus=domain.live_vcpus,
        )
        try:
            self._ledger.remember(received)
        except LedgerError as error:
            self.acts.ledger_error = str(error)
            return False
        self.acts.received.append(received)
        return True

    def recover(self, sample: HostSample, among: frozenset[Uuid] | None) -> frozenset[Uuid] | None:
        """Take up again what domains' own notes say, where the ledger that said so is lost.

        Args:
            sample: What there is.
            among: Whose notes are to be looked at, None for all.

        Returns:
            Who is owed something by them, None where that could not be written down.
        """
        known = {original.uuid for original in self._ledger.outstanding()}
        found = [
            original
            for domain in sample.domains
            if domain.uuid not in known and (among is None or domain.uuid in among)
            if (original := owed.recovered(domain, sample)) is not None
        ]
        try:
            self._ledger.remember(*found)
        except LedgerError as error:
            self.acts.ledger_error = str(error)
            return None
        self.acts.recovered += found
        return frozenset([original.uuid for original in found])

    def to_give_back(
        self, sample: HostSample, *, everything: bool, met: frozenset[Uuid]
    ) -> list[DomainSample]:
        """Domains that must get back what they had.

        They are no longer enforced, under a job, have just come from a vcpud elsewhere, are below
        a floor that has been raised since, or have lost a vCPU to an unplug long given up.

        Args:
            sample: What there is.
            everything: Whoever is owed anything.
            met: Who is owed anything by an earlier run of vcpud, and is met for the first time.
        """
        originals = self.originals()
        found = []
        for domain in sample.domains:
            original = originals.get(domain.uuid)
            if original is None:
                enforced = domain.handed_over is not None and domain.terms.mode is Mode.ENFORCE
                if enforced and self._receive(domain, sample):
                    found.append(domain)
                continue
            floor = min(domain.terms.min_vcpus, owed.had(original))
            unwanted = domain.terms.mode is not Mode.ENFORCE or domain.job is not None
            unwanted |= self._unplugged_late(domain, original) or len(domain.active) < floor
            if everything or domain.uuid in met or unwanted:
                found.append(domain)
        return found

    def _unplugged_late(self, domain: DomainSample, original: Original) -> bool:
        """Note that an unplug has been carried out; whether nobody waits for it any more."""
        if original.unplug_from is None or domain.live_vcpus == original.unplug_from:
            return False
        if domain.live_vcpus > original.unplug_from:  # plugged meanwhile: it is missed from there
            self._amend(replace(original, unplug_from=domain.live_vcpus))
            return False
        noted = self._amend(self._unplugs.end(original))
        return noted and domain.uuid not in self._agenda.courses

    def discard_stale(self, sample: HostSample, *, absent: frozenset[Uuid]) -> None:
        """Originals of another boot or incarnation are named and never applied.

        Args:
            sample: What is there now.
            absent: Also drop those of these that are not running: their CPUs went with them.
        """
        outstanding = self.originals().values()
        if not outstanding:
            return
        running = {domain.uuid: domain for domain in sample.domains}
        stale: list[Original] = []
        for original in outstanding:
            uuid, domain = original.uuid, running.get(original.uuid)
            other = domain is not None and not same_run(domain.incarnation, original.incarnation)
            gone = domain is None and uuid in absent and uuid not in sample.undescribed
            if original.boot_id != sample.boot_id or other or gone:
                stale.append(original)
                self._agenda.forget(uuid)
        self.acts.lost += stale
        self.forget(*(original.uuid for original in stale))

    def forget_restored(self, sample: HostSample, settle_ns: int) -> None:
        """A domain that is back at its original, and on no course, owes nothing.

        Args:
            sample: What there is.
            settle_ns: How long a guest must have run whole to be past an unplug asked for earlier.
        """
        originals = self.originals()
        restored: list[Uuid] = []
        for domain in sample.domains if originals else ():
            original = originals.get(domain.uuid)
            if original is None or domain.uuid in self._agenda.courses:
                continue
            if not steer.settled(domain, self._agenda.touched_at_ns.get(domain.uuid)):
                continue
            if owed.is_back(domain, original) and self._unplugs.settled(
                domain, original, settle_ns
            ):
                restored.append(domain.uuid)
        self.forget(*restored)

    # ----------------------------------------------------------------------------- courses

    def set_course(self, sample: DomainSample, intent: Intent, now_ns: int) -> None:
        """Send a domain on its way."""
        original = self.originals().get(sample.uuid)
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
                home=self.home(sample),
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
        original = self.originals().get(sample.uuid)
        if original is None:
            return False
        if current is None and owed.unplug_pending(sample, original):
            return False
        intent = Intent(
            decision_id=decision_id,
            purpose=Purpose.RESTORE,
            to_vcpus=owed.had(original),
            step_vcpus=owed.had(original),
            reason="give back what the domain had",
        )
        self.set_course(sample, intent, now_ns)
        return True

    def call_off_unowed(self, *uuids: Uuid) -> None:
        """End what has not begun yet, of these domains or of all: they are as they were."""
        owed = self.originals()
        for uuid in uuids or tuple(self._agenda.courses):
            course = self._agenda.courses.get(uuid)
            if course is not None and uuid not in owed and not course.restoring:
                del self._agenda.courses[uuid]

    def hear(self, events: tuple[HostEvent, ...], now_ns: int) -> None:
        """Changes that the hypervisor says are done, or have failed."""
        for event in events:
            if event.kind is EventKind.CHANGE_DONE and event.uuid is not None:
                self._agenda.watch.done(event.uuid)
            course = self._agenda.courses.get(event.uuid or "")
            if course is not None and event.kind is EventKind.CHANGE_FAILED:
                if not course.restoring and course.to_vcpus < course.from_vcpus:
                    self._unplug_failed(course.uuid, event.reason)
                detail = f"{event.reason}: {event.detail}"
                self._agenda.courses[course.uuid] = steer.failed(course, now_ns, detail)

    def _unplug_failed(self, uuid: Uuid, reason: Reason | None) -> None:
        original = self.originals().get(uuid)
        if original is not None and original.unplug_from is not None:
            self._amend(self._unplugs.fail(original, reason))

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
                continue
            reached = standing is Standing.REACHED
            self._agenda.finish(domain, now_ns, reached=reached)
            original = self.originals().get(domain.uuid)
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
                self._agenda.quarantines.pop(domain.uuid, None)
            elif not reached:
                self._agenda.quarantine(domain.uuid, now_ns, course.detail)
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
            original = self.originals().get(course.uuid)
            if original is not None and (original.online is not None) is not by_agent:
                return Refused(Reason.NO_ACTUATOR, "shrunk in another way: to be given back first")
            try:
                self._ledger.remember(
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
                    self._expect_unplug(domain)
            except LedgerError as error:
                self.acts.ledger_error = str(error)
                return Refused(Reason.LEDGER, str(error))
        original = self.originals().get(course.uuid)
        if not isinstance(change, SetWeight):
            change = replace(change, original=original)
        effect = self._hypervisor.begin(change)
        unplugs = isinstance(change, SetLive) and change.count < domain.live_vcpus
        if unplugs and original is not None and isinstance(effect, Refused):
            self._amend(self._unplugs.refuse(original))
        return effect

    def _expect_unplug(self, domain: DomainSample) -> None:
        """Before a vCPU is unplugged: its guest may do it later than anybody waits.

        Raises:
            LedgerError: It could not be made durable.
        """
        original = self.originals().get(domain.uuid)
        if original is not None:
            self._ledger.amend(self._unplugs.ask(original, domain.live_vcpus))

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
            detail = f"{effect.reason}: {effect.detail}"
            self._agenda.courses[course.uuid] = steer.failed(course, now_ns, detail)


def _rung(original: Original, method: Method) -> Method:
    """What was taken in one way can be given back in no other."""
    if original.online is not None:
        return Method.AGENT
    return Method.HOTPLUG if method in (Method.AGENT, Method.NONE) else method


_FINAL = frozenset({Reason.DRY_RUN, Reason.LEDGER, Reason.GONE, Reason.OUT_OF_BOUNDS})


def _wanted(change: Change, domain: DomainSample) -> int:
    match change:
        case SetOnline(online=online):
            return len(online)
        case SetLive(count=count):
            return count
        case _:
            return len(domain.active)
