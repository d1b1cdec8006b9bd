"""Host samples as differences from the one before.

Problem: an hour of a hundred domains is a third of a million samples, each with dozens of
counters, and replaying it is to take seconds. Approach: whatever has not changed its kind since
the last cycle (the same domains in the same order, the same vCPUs with the same counters) is one
short list of integers; all else is written in full. JSON reads such lists in C.

A domain that only counted on is
    [counter, counter, ...] or [[taken, booted_for, online_taken, guest, perf], counter, ...]
each the difference to the sample before, or to it and the step of the whole sample where that is
time. The list in front is left out where it is all zeros, counters where none has changed. `guest`
is as in `readings`; `perf` is 0, or the differences of cycles and instructions. Counters stand as in
`VcpuCounters`, column after column, errors last, without those that are not reported.
"""

from __future__ import annotations

import dataclasses
from operator import add, attrgetter
from typing import Any

from vcpud.counters import VcpuCounters, make_counters
from vcpud.model import DomainSample, HostSample
from vcpud.recording import older, readings
from vcpud.recording.codec import UnreadableError, plain, read
from vcpud.swift import changer

FORMAT = 2
_HOT = (
    "taken_at_ns",
    "booted_for_ns",
    "online_taken_at_ns",
    "vcpus",
    "guest",
    "cycles",
    "instructions",
)
_NAMES = tuple(field.name for field in dataclasses.fields(DomainSample))
_SLOW = attrgetter(*(name for name in _NAMES if name not in _HOT))
_HOST = attrgetter(
    *(
        field.name
        for field in dataclasses.fields(HostSample)
        if field.name not in ("taken_at_ns", "busy_ns", "domains")
    )
)

_sample = changer(HostSample, "taken_at_ns", "busy_ns", "domains")
_domain = changer(DomainSample, *_HOT)
_counted = changer(DomainSample, "taken_at_ns", "booted_for_ns", "vcpus")


# ------------------------------------------------------------------------------------ writing


def difference(was: HostSample, now: HostSample) -> list[Any] | None:
    """What changed from one sample to the next; None where it must be written in full."""
    if (
        _HOST(was) != _HOST(now)
        or (was.busy_ns is None) != (now.busy_ns is None)
        or [domain.uuid for domain in was.domains] != [domain.uuid for domain in now.domains]
    ):
        return None
    return [
        now.taken_at_ns - was.taken_at_ns,
        0 if was.busy_ns is None or now.busy_ns is None else now.busy_ns - was.busy_ns,
        [
            0
            if after is before
            else _domain_difference(before, after, now.taken_at_ns - was.taken_at_ns)
            for before, after in zip(was.domains, now.domains, strict=True)
        ],
    ]


def _domain_difference(was: DomainSample, now: DomainSample, step_ns: int) -> Any:
    """A list where it only counted on, else the domain in full."""
    if _SLOW(was) != _SLOW(now):
        return plain(now)
    booted = _change(was.booted_for_ns, now.booted_for_ns)
    online = _change(was.online_taken_at_ns, now.online_taken_at_ns)
    guest = readings.difference(was.guest, now.guest)
    cycles = _change(was.cycles, now.cycles)
    instructions = _change(was.instructions, now.instructions)
    counters = _counter_differences(was.vcpus, now.vcpus)
    if None in (booted, online, guest, cycles, instructions) or counters is None:
        return plain(now)
    # Time passes by the step of the whole sample almost always, and zeros are short.
    taken = now.taken_at_ns - was.taken_at_ns - step_ns
    booted = 0 if now.booted_for_ns is None else (booted or 0) - step_ns
    perf = [cycles, instructions] if cycles or instructions else 0
    head = [taken, booted, online, guest, perf]
    return [*([head] if any(head) else ()), *(counters if any(counters) else ())]


def _counter_differences(was: VcpuCounters, now: VcpuCounters) -> list[int] | None:
    """Those of what both tell; None where they do not tell the same of the same vCPUs."""
    if was is now:
        return []
    if was.indices != now.indices or len(was.counts) != len(now.counts):
        return None
    old, new = _counts(was), _counts(now)
    if [count is None for count in old] != [count is None for count in new]:
        return None
    pairs = zip(old, new, strict=True)
    return [after - before for before, after in pairs if before is not None and after is not None]


def _counts(counters: VcpuCounters) -> tuple[int | None, ...]:
    return counters.counts + counters.errors_ns


def _change(was: int | None, now: int | None) -> int | None:
    """The difference; None where one of two is missing, 0 where both are."""
    if was is None or now is None:
        return 0 if was is now else None
    return now - was


# ------------------------------------------------------------------------------------ reading


class SampleReader:
    """Samples in their order, each from the one before.

    A recording that is told again goes on where it ended: `shift_ns` later, in another `life` of
    every domain, because its counters begin anew. All but what was written in full follows from
    the sample before, so only that is ever shifted.
    """

    def __init__(self, shift_ns: int = 0, life: str = "", *, form: int = FORMAT) -> None:
        self._shift_ns = shift_ns
        self._life = life
        self._older = form == older.FORMAT
        self._now: HostSample | None = None

    def next(self, seen: Any) -> HostSample:
        """The next sample.

        Args:
            seen: In full, or what `difference` said.

        Raises:
            UnreadableError: It does not fit what came before.
        """
        if type(seen) is dict:
            if self._older:
                seen = seen | {"domains": list(map(older.in_full, seen["domains"]))}
            sample: HostSample = read(HostSample, seen)
            if self._shift_ns or self._life:
                sample = dataclasses.replace(
                    sample,
                    taken_at_ns=sample.taken_at_ns + self._shift_ns,
                    domains=tuple(map(self._later, sample.domains)),
                )
        elif self._now is None:
            raise UnreadableError("a change before there is anything to change")
        else:
            sample = self._changed(self._now, seen)
        self._now = sample
        return sample

    def _changed(self, was: HostSample, change: Any) -> HostSample:
        step_ns, busy_ns, changes = change
        if type(step_ns) is not int or type(busy_ns) is not int:
            raise UnreadableError("times must be whole")
        if self._older:
            pairs = zip(was.domains, changes, strict=True)
            changes = [older.told(before.vcpus, entry) for before, entry in pairs]
        domains: list[DomainSample] = []
        for before, entry in zip(was.domains, changes, strict=True):
            if type(entry) is not list:
                domain = before if entry == 0 else self._later(read(DomainSample, entry))
            elif entry and type(entry[0]) is list:
                domain = self._domain(before, entry, step_ns)
            else:
                up_ns = before.booted_for_ns
                domain = _counted(
                    before,
                    before.taken_at_ns + step_ns,
                    None if up_ns is None else up_ns + step_ns,
                    _applied(before.vcpus, entry),
                )
            domains.append(domain)
        return _sample(
            was,
            was.taken_at_ns + step_ns,
            None if was.busy_ns is None else was.busy_ns + busy_ns,
            tuple(domains),
        )

    def _domain(self, was: DomainSample, entry: list[Any], step_ns: int) -> DomainSample:
        (taken, up, online_taken, said, perf), *counters = entry
        booted, online, guest = was.booted_for_ns, was.online_taken_at_ns, was.guest
        cycles, instructions = was.cycles, was.instructions
        if booted is not None:
            booted += up + step_ns
        if online_taken and online is not None:
            online += online_taken
        if said:
            guest = readings.changed(guest, said, self._shift_ns)
        if perf:
            cycles = None if cycles is None else cycles + perf[0]
            instructions = None if instructions is None else instructions + perf[1]
        return _domain(
            was,
            was.taken_at_ns + taken + step_ns,
            booted,
            online,
            _applied(was.vcpus, counters),
            guest,
            cycles,
            instructions,
        )

    def _later(self, domain: DomainSample) -> DomainSample:
        if not self._shift_ns and not self._life:
            return domain
        online_ns, guest = domain.online_taken_at_ns, domain.guest
        return dataclasses.replace(
            domain,
            incarnation=domain.incarnation + self._life,
            taken_at_ns=domain.taken_at_ns + self._shift_ns,
            online_taken_at_ns=None if online_ns is None else online_ns + self._shift_ns,
            guest=None if guest is None else readings.later(guest, self._shift_ns),
        )


def _applied(was: VcpuCounters, changes: list[int]) -> VcpuCounters:
    if not changes:
        return was
    counts: tuple[Any, ...] = was.counts
    if len(changes) == len(counts) and not was.errors_ns:
        return make_counters(was.indices, tuple(map(add, counts, changes)), ())
    left = changes[::-1]
    now = tuple([None if count is None else count + left.pop() for count in _counts(was)])
    if left:
        raise UnreadableError("counters of other vCPUs")
    return make_counters(was.indices, now[: len(counts)], now[len(counts) :])
