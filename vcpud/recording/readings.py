"""What a guest says as differences from what it said before.

It is 0 where nothing new was read, else the parts of its reading in their order, each 0 where it is
the same, a list of differences, or a list of one that holds it in full.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import Any

from vcpud.guest import (
    CpuAccounting,
    CpuTimes,
    GuestReading,
    LockWait,
    RunnableTasks,
    RunQueue,
    RunQueueWait,
)
from vcpud.recording.codec import UnreadableError, plain, read
from vcpud.swift import maker

_guest = maker(GuestReading)
_accounting = maker(CpuAccounting)
_times = maker(CpuTimes)
_locks = maker(LockWait)
_queue = maker(RunQueue)
_queue_wait = maker(RunQueueWait)
_runnable = maker(RunnableTasks)

_PARTS = tuple(field.name for field in dataclasses.fields(GuestReading))
_GUEST = attrgetter(*_PARTS)
_KINDS = (CpuAccounting, LockWait, RunQueue, RunnableTasks, None, None)
if _PARTS != ("accounting", "locks", "run_queue", "runnable", "latency_ns", "agent_cost_ns"):
    raise TypeError("GuestReading has changed: its parts are written by position")


# ------------------------------------------------------------------------------------ writing


def difference(was: GuestReading | None, now: GuestReading | None) -> Any:
    """What changed from one reading to the next; None where it must be written in full."""
    if was == now:
        return 0
    if was is None or now is None:
        return None
    return [
        0 if old == new else _part_difference(old, new) or [plain(new)]
        for old, new in zip(_GUEST(was), _GUEST(now), strict=True)
    ]


def _part_difference(was: Any, now: Any) -> list[int] | None:
    """At least two numbers, or None: a list of one holds the part in full."""
    if type(was) is not type(now):
        return None
    old, new = _numbers(was), _numbers(now)
    if old is None or new is None or len(old) != len(new) or _order(was) != _order(now):
        return None
    return [after - before for before, after in zip(old, new, strict=True)]


def _numbers(part: Any) -> list[int] | None:
    match part:
        case CpuAccounting(taken_at_ns=taken_at_ns, cpus=cpus):
            if any(cpu.steal_ns is None for cpu in cpus):
                return None
            counts = [
                count
                for cpu in cpus
                for count in (cpu.user_ns, cpu.system_ns, cpu.idle_ns, cpu.steal_ns or 0)
            ]
            return [taken_at_ns, *counts] if counts else None
        case RunQueue(taken_at_ns=taken_at_ns, cpus=queues):
            return [taken_at_ns, *(one.wait_ns for one in queues)] if queues else None
        case LockWait(taken_at_ns=taken_at_ns, waits=waits, wait_ns=wait_ns):
            return [taken_at_ns, waits, wait_ns]
        case RunnableTasks(taken_at_ns=taken_at_ns, runnable=runnable):
            return [taken_at_ns, runnable]
        case _:
            return None


def _order(part: Any) -> list[int]:
    return [cpu.index for cpu in getattr(part, "cpus", ())]


# ------------------------------------------------------------------------------------ reading


def changed(was: GuestReading | None, entry: list[Any], shift_ns: int) -> GuestReading:
    """The next reading.

    Args:
        was: The one before.
        entry: What `difference` said, if not 0.
        shift_ns: What is written in full is told as so much later.

    Raises:
        UnreadableError: It does not fit what came before.
    """
    if was is None:
        raise UnreadableError("a change of a guest that never spoke")
    return _guest(
        *(
            old
            if change == 0
            else _part(kind, change[0], shift_ns)
            if len(change) == 1
            else _part_applied(old, change)
            for old, kind, change in zip(_GUEST(was), _KINDS, entry, strict=True)
        )
    )


def later(reading: GuestReading, shift_ns: int) -> GuestReading:
    """The same, told as so much later."""
    return _guest(*[_later_part(part, shift_ns) for part in _GUEST(reading)])


def _part(kind: Any, data: Any, shift_ns: int) -> Any:
    if kind is not None:
        return _later_part(read(kind | None, data), shift_ns)
    if data is not None and type(data) is not int:
        raise UnreadableError("expected a number")
    return data


def _later_part(part: Any, shift_ns: int) -> Any:
    if not shift_ns or part is None or type(part) is int:
        return part
    return dataclasses.replace(part, taken_at_ns=part.taken_at_ns + shift_ns)


def _part_applied(was: Any, change: list[int]) -> Any:
    first = change[0]
    match was:
        case CpuAccounting(taken_at_ns=taken_at_ns, cpus=cpus):
            parts = zip(cpus, change[1::4], change[2::4], change[3::4], change[4::4], strict=True)
            return _accounting(
                taken_at_ns + first,
                tuple(
                    [
                        _times(
                            cpu.index,
                            cpu.user_ns + user,
                            cpu.system_ns + system,
                            cpu.idle_ns + idle,
                            (cpu.steal_ns or 0) + steal,
                        )
                        for cpu, user, system, idle, steal in parts
                    ]
                ),
            )
        case RunQueue(taken_at_ns=taken_at_ns, cpus=queues):
            waits = zip(queues, change[1:], strict=True)
            return _queue(
                taken_at_ns + first,
                tuple([_queue_wait(one.index, one.wait_ns + wait) for one, wait in waits]),
            )
        case LockWait(taken_at_ns=taken_at_ns, waits=count, wait_ns=wait_ns):
            return _locks(taken_at_ns + first, count + change[1], wait_ns + change[2])
        case RunnableTasks(taken_at_ns=taken_at_ns, runnable=runnable):
            return _runnable(taken_at_ns + first, runnable + change[1])
        case _:
            raise UnreadableError("a change of what the guest never said")
