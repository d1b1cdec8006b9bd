"""What a domain's vCPUs are expected to be, and what somebody else did to them.

No effects and no clock. Who else changes a domain's vCPUs wins; here it is only told that it was not
vcpud, and whether that undid what vcpud did. What follows on it is the agenda's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vcpud import steer
from vcpud.model import Change, DomainSample, Method, Original, SetOnline, SetWeight, Uuid
from vcpud.steer import Course


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a domain's vCPUs were when they were last known to be as vcpud left them.

    Attributes:
        online: Guest CPUs online, None where nobody can tell.
        live_vcpus: vCPUs present.
        heading: -1 after vcpud took some away, 1 after it gave some, 0 after somebody else did.
        leads_to: What the step that is under way leads to, None where none is. All between is
            expected then: a step may be done in part.
    """

    online: frozenset[int] | None
    live_vcpus: int
    heading: int
    leads_to: frozenset[int] | None = None

    @property
    def count(self) -> int:
        """Active vCPUs."""
        return self.live_vcpus if self.online is None else len(self.online)

    def differs(self, sample: DomainSample) -> tuple[frozenset[int], frozenset[int]]:
        """vCPUs brought back and taken away since; without an agent their numbers are counts."""
        if self.online is not None:
            was, now = self.online, self.online if sample.online is None else sample.online
        else:
            was, now = frozenset(range(self.live_vcpus)), frozenset(range(sample.live_vcpus))
        to = was if self.leads_to is None else self.leads_to
        return now - (was | to), (was & to) - now


@dataclass(frozen=True, slots=True, kw_only=True)
class Interference:
    """What somebody else did to one domain.

    Attributes:
        from_vcpus: Active vCPUs before, as far as was known.
        to_vcpus: After.
        brought: vCPUs that came back.
        taken: vCPUs that went away.
        reversal: It undid what vcpud had done.
        reversals: How often that has happened to this domain; None where an operator has resumed
            it since, and so has left it as it is found.
    """

    from_vcpus: int
    to_vcpus: int
    brought: frozenset[int]
    taken: frozenset[int]
    reversal: bool
    reversals: int | None


@dataclass(slots=True)
class Watch:
    """What every domain that vcpud has changed is expected to have.

    Attributes:
        expected: What each had when it was last as vcpud left it, or found it.
        reversals: How often somebody else undid what vcpud did to a domain.
        resumed_at_ns: Domains that an operator resumed and that have not been read since: as they
            are found then is how he left them.
    """

    expected: dict[Uuid, Expected] = field(default_factory=dict)
    reversals: dict[Uuid, int] = field(default_factory=dict)
    resumed_at_ns: dict[Uuid, int] = field(default_factory=dict)

    def lapse(self, uuid: Uuid) -> None:
        """Nothing is expected: what is still to come may be vcpud's own."""
        self.expected.pop(uuid, None)

    def forget(self, uuid: Uuid) -> None:
        """The domain is gone or a new incarnation."""
        self.lapse(uuid)
        self.reversals.pop(uuid, None)
        self.resumed_at_ns.pop(uuid, None)

    def resume(self, uuid: Uuid | None, now_ns: int) -> None:
        """An operator leaves one domain, or all, as they are found next."""
        if uuid is None:
            self.reversals.clear()
            self.resumed_at_ns = dict.fromkeys(self.expected, now_ns)
        else:
            self.reversals.pop(uuid, None)
            if uuid in self.expected:
                self.resumed_at_ns[uuid] = now_ns

    def begun(self, course: Course, sample: DomainSample, change: Change) -> None:
        """A step of a course was begun: what it leads to is expected, and all between.

        Not after a failure, which may still be carried out late, and not of a restore, which goes
        on whatever anybody does meanwhile.
        """
        if isinstance(change, SetWeight):
            return
        self.lapse(sample.uuid)
        if course.restoring or course.failures:
            return
        by_agent = isinstance(change, SetOnline)
        self.expected[sample.uuid] = Expected(
            online=sample.online if by_agent else None,
            live_vcpus=sample.live_vcpus,
            heading=_heading(course),
            leads_to=change.online
            if isinstance(change, SetOnline)
            else frozenset(range(change.count)),
        )

    def done(self, uuid: Uuid) -> None:
        """A step was reached, as it was read back: through an agent that is all that is expected."""
        expected = self.expected.get(uuid)
        if expected is not None and expected.online is not None and expected.leads_to is not None:
            self.expected[uuid] = replace(expected, online=expected.leads_to, leads_to=None)

    def ended(self, course: Course | None, sample: DomainSample, *, reached: bool) -> None:
        """A course ended; where it was reached, what there is now is expected to stay.

        What was given up may still be carried out late, and would look like somebody else's.
        """
        self.resumed_at_ns.pop(sample.uuid, None)
        self.lapse(sample.uuid)
        if course is not None and reached:
            by_agent = course.method is Method.AGENT
            self.expected[sample.uuid] = Expected(
                online=sample.online if by_agent else None,
                live_vcpus=sample.live_vcpus,
                heading=0 if course.restoring else _heading(course),
            )

    def found(self, sample: DomainSample, original: Original, touched_at_ns: int | None) -> None:
        """Whoever is owed CPUs is to stay as it is found: taken over, or after a refused step.

        Its agent answers one after the other, so what it says is not on the point of changing.
        Devices may be: one that vcpud has asked for could still come, or go.
        """
        if original.online is None or not steer.settled(sample, touched_at_ns):
            return
        if sample.online is not None:
            self.expected[sample.uuid] = Expected(
                online=sample.online, live_vcpus=sample.live_vcpus, heading=-1
            )

    def look(
        self,
        sample: DomainSample,
        original: Original | None,
        course: Course | None,
        since_ns: int,
    ) -> Interference | None:
        """What somebody else has changed since the last look.

        Args:
            sample: A domain of which something is expected.
            original: What it is owed.
            course: What it is in the middle of.
            since_ns: When vcpud last did something to it: what was read before says nothing.
        """
        uuid = sample.uuid
        expected = self.expected[uuid]
        if sample.in_flight is not None or (course is not None and course.failures):
            return None
        read_at_ns = sample.taken_at_ns
        if expected.online is not None:
            read_at_ns = sample.online_taken_at_ns or 0
        resumed = uuid in self.resumed_at_ns
        if resumed and read_at_ns > self.resumed_at_ns[uuid]:
            del self.resumed_at_ns[uuid]
        brought, taken = expected.differs(sample)
        if course is not None and original is not None and original.unplug_from is not None:
            taken = frozenset()  # an unplug of our own may still be carried out
        if not (brought or taken) or read_at_ns <= since_ns:
            return None
        undone = brought if expected.heading < 0 else taken if expected.heading else ()
        reversal = bool(undone) and not resumed
        now = Expected(
            online=None if expected.online is None else sample.online,
            live_vcpus=sample.live_vcpus,
            heading=0,
        )
        self.expected[uuid] = now
        if not resumed:
            self.reversals[uuid] = self.reversals.get(uuid, 0) + reversal
        return Interference(
            from_vcpus=expected.count,
            to_vcpus=now.count,
            brought=brought,
            taken=taken,
            reversal=reversal,
            reversals=None if resumed else self.reversals[uuid],
        )


def _heading(course: Course) -> int:
    return (course.to_vcpus > course.from_vcpus) - (course.to_vcpus < course.from_vcpus)
