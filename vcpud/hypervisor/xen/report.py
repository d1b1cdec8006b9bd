"""What a guest on Xen publishes of itself -> parts of a reading. Pure; the guest is not trusted.

One line of text, at most 2,048 bytes, in one key of xenstore that the guest may write:

    vcpud1 up=12345 hz=100 run=3 lock=17,42 c0=100,20,5000,7,900 c1=... end

`up`: hundredths of a second since the guest booted. `hz`: ticks per second of the four times that
follow. `run`: runnable tasks. `lock`: waits for spinlocks that have ended, and microseconds waited
in them. `cN`, for every CPU online: ticks of user, system, idle and stolen time, and microseconds
tasks waited on its run queue. What a kernel does not tell is `-`. A line that was cut has no `end`.
The whole line is used or none of it. `deploy/guest/vcpud-xen-report` writes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from vcpud.guest import (
    CpuAccounting,
    CpuTimes,
    GuestReading,
    LockWait,
    RunnableTasks,
    RunQueue,
    RunQueueWait,
)
from vcpud.hypervisor.agent import AMOUNT_LIMIT, AbsurdError
from vcpud.hypervisor.guestfiles import TASK_LIMIT
from vcpud.units import NS_PER_S, NS_PER_US

LINE_LIMIT: Final = 2048
_NS_PER_CENTISECOND: Final = NS_PER_S // 100
_HZ: Final = range(100, 10_001)
_SHOWN: Final = 60
_NUMBER: Final = r"\d{1,19}"
_MAYBE: Final = rf"(?:-|{_NUMBER})"
_LINE: Final = re.compile(
    rf"vcpud1 up=(?P<up>{_NUMBER}) hz=(?P<hz>\d{{1,5}}) run=(?P<run>{_MAYBE}) "
    rf"lock=(?P<lock>-|{_NUMBER},{_NUMBER})"
    rf"(?P<cpus>(?: c\d{{1,5}}={_NUMBER},{_NUMBER},{_NUMBER},{_MAYBE},{_MAYBE})+) end"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One line read.

    Attributes:
        up_ns: Time since the guest booted: says which of two lines is the newer.
        reading: Its parts, as of `taken_at_ns`.
    """

    up_ns: int
    reading: GuestReading


def parse_up(line: bytes) -> int | None:
    """How long the guest had been up when it wrote this, None where that cannot be read."""
    found = re.match(rb"vcpud1 up=(\d{1,19}) ", line[:LINE_LIMIT])
    return None if found is None else int(found.group(1)) * _NS_PER_CENTISECOND


def parse_report(line: bytes, *, taken_at_ns: int, max_vcpus: int) -> Report:
    """Read what a guest has published.

    Args:
        line: As it came.
        taken_at_ns: The instant that it counts as.
        max_vcpus: The domain's maximum: more CPUs, or other ids, cannot be.

    Raises:
        AbsurdError: It is nothing that an honest reporter on a working machine would write.
    """
    if len(line) > LINE_LIMIT:
        raise AbsurdError(f"a report of more than {LINE_LIMIT} bytes")
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError as error:
        raise AbsurdError("a report that is not text") from error
    found = _LINE.fullmatch(text.strip())
    if found is None:
        raise AbsurdError(f"a report of another form: {text[:_SHOWN]!r}")
    hz = int(found["hz"])
    if hz not in _HZ:
        raise AbsurdError(f"{hz} ticks a second")
    times, waits = _cpus(found["cpus"], hz, max_vcpus)
    return Report(
        up_ns=_within(int(found["up"]) * _NS_PER_CENTISECOND),
        reading=GuestReading(
            accounting=CpuAccounting(taken_at_ns=taken_at_ns, cpus=times),
            locks=_locks(found["lock"], taken_at_ns),
            run_queue=RunQueue(taken_at_ns=taken_at_ns, cpus=waits) if waits else None,
            runnable=_runnable(found["run"], taken_at_ns),
        ),
    )


def _cpus(
    text: str, hz: int, max_vcpus: int
) -> tuple[tuple[CpuTimes, ...], tuple[RunQueueWait, ...]]:
    times: dict[int, CpuTimes] = {}
    waits = []
    for word in text.split():
        name, _, values = word.partition("=")
        index = int(name[1:])
        if index >= max_vcpus or index in times:
            raise AbsurdError(f"CPU {index} of {max_vcpus}, or twice")
        user, system, idle, steal, wait_us = values.split(",")
        times[index] = CpuTimes(
            index=index,
            user_ns=_ticks(user, hz),
            system_ns=_ticks(system, hz),
            idle_ns=_ticks(idle, hz),
            steal_ns=None if steal == "-" else _ticks(steal, hz),
        )
        if wait_us != "-":
            wait_ns = _within(int(wait_us) * NS_PER_US)
            waits.append(RunQueueWait(index=index, wait_ns=wait_ns))
    return (
        tuple(times[index] for index in sorted(times)),
        tuple(sorted(waits, key=lambda one: one.index)),
    )


def _locks(text: str, taken_at_ns: int) -> LockWait | None:
    if text == "-":
        return None
    waits, wait_us = text.split(",")
    return LockWait(
        taken_at_ns=taken_at_ns,
        waits=_within(int(waits)),
        wait_ns=_within(int(wait_us) * NS_PER_US),
    )


def _runnable(text: str, taken_at_ns: int) -> RunnableTasks | None:
    if text == "-":
        return None
    if int(text) >= TASK_LIMIT:
        raise AbsurdError(f"{text} tasks runnable")
    return RunnableTasks(taken_at_ns=taken_at_ns, runnable=int(text))


def _ticks(text: str, hz: int) -> int:
    return _within(int(text) * NS_PER_S // hz)


def _within(amount: int) -> int:
    if amount >= AMOUNT_LIMIT:
        raise AbsurdError(f"{amount} is beyond any machine's life")
    return amount
