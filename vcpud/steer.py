"""From a target to the next single change: one step at a time, each read back before the next.

Pure. A count asked for is not a count reached: a course looks only at what samples say. It names
the vCPUs: the highest-numbered go first, vCPU 0 never, and nothing beyond the domain's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from vcpud.limits import MAX_WEIGHT
from vcpud.model import (
    Change,
    DomainSample,
    Method,
    Original,
    SetLive,
    SetOnline,
    SetWeight,
    ShareUnit,
    Uuid,
)
from vcpud.record import Purpose
from vcpud.units import NS_PER_MS, NS_PER_S

ANSWER_NS = 20 * NS_PER_S
"""A change that shows no result by then has failed; a collapsed guest needs several seconds."""
RETRY_NS = 500 * NS_PER_MS
RETRY_MAX_NS = 30 * NS_PER_S
HELD_MAX_NS = 4 * NS_PER_S
"""Who was not asked is not troubled by trying: it is asked soon after it can be."""
MAX_FAILURES = 3
"""Failures in a row after which a domain is quarantined, and its course given up if that takes."""


class Standing(Enum):
    """Where a course stands."""

    ON_ITS_WAY = "on_its_way"
    REACHED = "reached"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A domain on its way to a target.

    Attributes:
        uuid: Which domain.
        decision_id: On whose behalf.
        purpose: Why.
        reason: For the log.
        begun_at_ns: When it was set.
        home: The vCPUs it may use at most: those it had before vcpud first touched it.
        from_vcpus: Active vCPUs at the start.
        to_vcpus: Active vCPUs wanted; for a restore, exactly `home`.
        step_vcpus: How many may change at once.
        method: The rung of the actuator ladder.
        home_live_vcpus: Live vCPUs it had before vcpud first touched it.
        weight: The weight that keeps its share on `to_vcpus`, None where that changes nothing.
        issued_at_ns: When the change in flight was begun, None when none is.
        touched_at_ns: When a change of this domain was last begun, on behalf of this course or of
            one it replaced: nothing read before that says where the domain is.
        failures: Changes that failed in a row.
        held: How many of them are no failures of the domain's: it was not asked at all.
        dragging: It was asked in vain: it may stay as it is for long, and keeps its share.
        not_before_ns: Next attempt.
    """

    uuid: Uuid
    decision_id: str
    purpose: Purpose
    reason: str
    begun_at_ns: int
    home: frozenset[int]
    from_vcpus: int
    to_vcpus: int
    step_vcpus: int
    method: Method
    home_live_vcpus: int
    weight: int | None = None
    issued_at_ns: int | None = None
    touched_at_ns: int | None = None
    failures: int = 0
    held: int = 0
    dragging: bool = False
    not_before_ns: int = 0
    detail: str = ""

    @property
    def restoring(self) -> bool:
        return self.purpose is Purpose.RESTORE

    @property
    def grows(self) -> bool:
        return self.to_vcpus > self.from_vcpus

    @property
    def defied(self) -> bool:
        """Its domain was asked again and again, and did not do it."""
        return self.failures - self.held >= MAX_FAILURES


def standing(course: Course, sample: DomainSample) -> Standing:
    """Look at what is, not at what was asked."""
    if _there(course, sample) and _balanced(course, sample) and _read_back(course, sample):
        return Standing.REACHED
    if not course.restoring and (course.defied or course.held >= MAX_FAILURES):
        return Standing.GIVEN_UP
    return Standing.ON_ITS_WAY


def next_change(course: Course, sample: DomainSample, now_ns: int) -> Change | None:
    """The next step, or None while one is in flight, it is too early or nothing is left."""
    if sample.in_flight is not None or now_ns < course.not_before_ns:
        return None
    if not _read_back(course, sample) and not _overdue(course, now_ns):
        return None
    weight = _weight_due(course, sample)
    if weight is not None and weight != sample.weight:
        return SetWeight(uuid=course.uuid, weight=weight)
    if _there(course, sample):
        return None
    if course.method in (Method.HOTPLUG, Method.GROW_ONLY, Method.XENSTORE):
        return _live_step(course, sample)
    return _online_step(course, sample)


def _weight_due(course: Course, sample: DomainSample) -> int | None:
    """The weight to be set before any other step, None where it may stay as it is.

    Fewer vCPUs weigh more once they are fewer. More of them weigh less before they are more: vCPUs
    that each weigh as much as several would take the shares of others, dom0's too, which has all
    the work of bringing them.
    """
    if course.weight is None or _there(course, sample):
        return course.weight
    if not course.grows:
        return None
    if course.dragging:
        share = course.weight * course.to_vcpus
        return min(max(round(share / max(len(sample.active), 1)), 1), MAX_WEIGHT)
    return course.weight


def _overdue(course: Course, now_ns: int) -> bool:
    """A change begun so long ago will show no result any more."""
    touched_at_ns = course.touched_at_ns
    return course.issued_at_ns is None and (
        touched_at_ns is None or course.failures > 0 or now_ns - touched_at_ns > ANSWER_NS
    )


def issued(course: Course, now_ns: int) -> Course:
    """The hypervisor accepted a step."""
    return replace(course, issued_at_ns=now_ns, touched_at_ns=now_ns)


def failed(course: Course, now_ns: int, detail: str, *, held: bool = False) -> Course:
    """A step was refused or failed: try again later, each time later.

    Args:
        course: Of which course.
        now_ns: The instant.
        detail: Why, for people.
        held: The domain was not asked: that says nothing of what it would have done.
    """
    failures = course.failures + 1
    pause_ns = min(RETRY_NS << min(failures, 10), HELD_MAX_NS if held else RETRY_MAX_NS)
    return replace(
        course,
        issued_at_ns=None,
        failures=failures,
        held=course.held + held,
        dragging=course.dragging or not held,
        not_before_ns=now_ns + pause_ns,
        detail=detail,
    )


def checked(course: Course, sample: DomainSample, now_ns: int) -> Course:
    """Account for a step that was read back as done, or that never showed a result."""
    if course.issued_at_ns is None or sample.in_flight is not None:
        return course
    if _read_back(course, sample):
        return replace(course, issued_at_ns=None, failures=0, held=0)
    if now_ns - course.issued_at_ns > ANSWER_NS:
        return failed(course, now_ns, "no result within the time allowed")
    return course


def balancing_weight(sample: DomainSample, original: Original | None, to_vcpus: int) -> int | None:
    """The weight with which a domain keeps its share on another number of active vCPUs.

    Where weight counts per vCPU a domain's share is their product, so that stays as it was.

    Args:
        sample: The domain.
        original: What it had before vcpud first touched it, None while that is what it has.
        to_vcpus: Active vCPUs it is to have.

    Returns:
        None where weight counts otherwise, cannot be set or was never touched.
    """
    had_vcpus, had_weight = len(sample.active), sample.weight
    if original is not None:
        if original.weight is None:
            return None
        had_weight = original.weight
        had_vcpus = original.home_vcpus
    elif sample.share_unit is not ShareUnit.VCPU or not sample.weight_adjustable:
        return None
    return min(max(round(had_weight * had_vcpus / max(to_vcpus, 1)), 1), MAX_WEIGHT)


def _balanced(course: Course, sample: DomainSample) -> bool:
    return course.weight is None or sample.weight == course.weight


def _there(course: Course, sample: DomainSample) -> bool:
    if course.method in (Method.HOTPLUG, Method.GROW_ONLY, Method.XENSTORE):
        if course.restoring:
            return sample.live_vcpus >= course.home_live_vcpus
        return sample.live_vcpus == course.to_vcpus
    if sample.online is None or sample.online_taken_at_ns is None:
        return False
    if course.restoring:
        return is_whole(sample, course.home)
    return len(sample.online) == course.to_vcpus


def is_whole(sample: DomainSample, home: frozenset[int]) -> bool:
    """Whether every CPU of `home` is online that can be: who unplugs a parked one has taken it."""
    online = sample.online
    return online is not None and (online >= home or len(online) >= sample.live_vcpus)


def _read_back(course: Course, sample: DomainSample) -> bool:
    """Is what the sample says newer than the last change that was begun?"""
    return settled(sample, course.touched_at_ns)


def settled(sample: DomainSample, touched_at_ns: int | None) -> bool:
    """Nothing is in flight, and what is known was read after the last change was begun.

    Args:
        sample: What is known.
        touched_at_ns: When the last change was begun, None when none ever was.
    """
    if sample.in_flight is not None:
        return False
    if touched_at_ns is None:
        return True
    at_ns = sample.taken_at_ns if sample.online is None else sample.online_taken_at_ns
    return at_ns is not None and at_ns > touched_at_ns


def _online_step(course: Course, sample: DomainSample) -> Change | None:
    if course.restoring:
        # What is not known to be online is not owed either.
        return SetOnline(
            uuid=course.uuid, online=course.home | (sample.online or frozenset[int]())
        )
    online = sample.active
    surplus = len(online) - course.to_vcpus
    if surplus > 0:
        parkable = sorted(online - {0}, reverse=True)
        leaving = frozenset(parkable[: min(surplus, course.step_vcpus)])
        return SetOnline(uuid=course.uuid, online=online - leaving) if leaving else None
    parked = sorted(course.home - online)
    coming = frozenset(parked[: min(-surplus, course.step_vcpus)])
    return SetOnline(uuid=course.uuid, online=online | coming) if coming else None


def _live_step(course: Course, sample: DomainSample) -> Change | None:
    wanted = course.home_live_vcpus if course.restoring else course.to_vcpus
    if sample.live_vcpus == wanted:
        return None
    # Devices go one by one, because nothing undoes half of more; xenstore is told a number.
    most = max(course.step_vcpus, 1) if course.method is Method.XENSTORE else 1
    step = min(max(wanted - sample.live_vcpus, -most), most)
    return SetLive(uuid=course.uuid, count=sample.live_vcpus + step)
