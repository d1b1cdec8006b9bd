"""What a guest's agent answers -> parts of a reading. Pure; the guest is not trusted.

A guest may lie, and a broken one may answer anything. Every parser bounds the size before it
reads, accepts only numbers that a machine can produce, and raises `AbsurdError` otherwise: an
absurd part is not used at all. Differences over time are judged in `vcpud.heard`; only growth faster
than any clock is refused here (`reader`).
References: QEMU qga/qapi-schema.json; Linux Documentation/scheduler/sched-stats.rst,
Documentation/trace/histogram.rst.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, Final, NamedTuple

from vcpud.guest import CpuAccounting, CpuTimes, LockWait, RunnableTasks, RunQueue, RunQueueWait
from vcpud.hypervisor.cpusets import parse_cpuset
from vcpud.units import NS_PER_MS, NS_PER_US

REPLY_LIMIT: Final = 2 * 1024 * 1024
"""Characters of one answer; the largest honest one is some 100 KiB."""
FILE_LIMIT: Final = 256 * 1024
"""Bytes asked for of one file."""
AMOUNT_LIMIT: Final = 2**62
"""Nanoseconds, milliseconds or counts: more than the life of a machine."""
TASK_LIMIT: Final = 2**22
"""Linux has no more processes."""

LOCK_HISTOGRAMS: Final = (
    "/sys/kernel/tracing/events/synthetic/lock_spin/hist",
    "/sys/kernel/debug/tracing/events/synthetic/lock_spin/hist",
)

_SHOWN: Final = 60
_HISTOGRAM_LINE: Final = re.compile(
    r"^\{ common_cpu: +(\d{1,6}) \} hitcount: +(\d{1,20}) +lat: +(\d{1,20}) *$", re.MULTILINE
)
# Blanks, not white space: a run of line ends would be tried from each of them anew.
_DROPPED: Final = re.compile(r"^ *Dropped: +(\d{1,20}) *$", re.MULTILINE)
_STAT_CPU: Final = re.compile(r"^cpu(\d{1,6}) ([\d ]{7,220})$", re.MULTILINE)
_STAT_FIELDS: Final = 8
_TICK_NS: Final = 10 * NS_PER_MS
"""What Linux counts in for programs, whatever its own clock is."""
_SCHEDSTAT_CPU: Final = re.compile(r"^cpu(\d{1,6}) ([\d ]{17,400})$", re.MULTILINE)
_SCHEDSTAT_FIELDS: Final = 9
_LOADAVG: Final = re.compile(r"^[\d.]+ [\d.]+ [\d.]+ (\d{1,8})/(\d{1,8}) \d+\s*$")
_OWN_SCHEDSTAT: Final = re.compile(r"^(\d{1,20}) (\d{1,20}) (\d{1,20})\s*$")


class AbsurdError(ValueError):
    """The answer is nothing that an honest agent on a working machine would send."""


class MissingError(ValueError):
    """The answer is honest and says that the signal is not there."""


class DroppedError(ValueError):
    """The histogram overflowed: its sums are no longer the truth."""


class GuestVcpu(NamedTuple):
    """One CPU as `guest-get-vcpus` lists it."""

    number: int
    online: bool
    can_offline: bool


def command(name: str, **arguments: Any) -> str:
    """The text of one agent command; underscores stand for the dashes of its arguments."""
    request: dict[str, Any] = {"execute": name}
    if arguments:
        request["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
    return json.dumps(request)


def answer(text: str) -> Any:
    """The `return` member of an answer.

    Raises:
        AbsurdError: Too large, not JSON, or without one.
    """
    if len(text) > REPLY_LIMIT:
        raise AbsurdError(f"an answer of {len(text)} characters")
    try:
        reply = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AbsurdError(f"not JSON: {text[:_SHOWN]!r}") from error
    if not isinstance(reply, dict) or "return" not in reply:
        raise AbsurdError(f"no answer: {text[:_SHOWN]!r}")
    return reply["return"]


def parse_cpustats(text: str, *, taken_at_ns: int, max_vcpus: int) -> CpuAccounting:
    """Read the answer to `guest-get-cpustats`: milliseconds per online CPU.

    Nice time counts as user, interrupts as system, waiting for I/O as idle. Time that the guest
    in turn gives to guests of its own is part of user already.

    Args:
        text: The answer.
        taken_at_ns: Midpoint of the call.
        max_vcpus: The domain's maximum: more CPUs, or other ids, cannot be.

    Raises:
        AbsurdError: It cannot be true.
    """
    cpus = []
    for entry in _entries(answer(text), max_vcpus):
        index = _amount(entry, "cpu", max_vcpus)
        steal = entry.get("steal")
        cpus.append(
            CpuTimes(
                index=index,
                user_ns=_sum_ms(entry, "user", "nice"),
                system_ns=_sum_ms(entry, "system", "irq", "softirq"),
                idle_ns=_sum_ms(entry, "idle", "iowait"),
                steal_ns=None if steal is None else _sum_ms(entry, "steal"),
            )
        )
    cpus.sort(key=lambda cpu: cpu.index)
    _distinct([cpu.index for cpu in cpus])
    return CpuAccounting(taken_at_ns=taken_at_ns, cpus=tuple(cpus))


def parse_stat(content: str, *, taken_at_ns: int, max_vcpus: int) -> CpuAccounting:
    """Read `/proc/stat`, from which `guest-get-cpustats` has what it tells: ticks per online CPU.

    Raises:
        AbsurdError: It cannot be true.
    """
    cpus = []
    for number, rest in _STAT_CPU.findall(content):
        ticks = [int(word) for word in rest.split()]
        if int(number) >= max_vcpus or len(ticks) < _STAT_FIELDS:
            raise AbsurdError("a line of /proc/stat that cannot be")
        if max(ticks) >= AMOUNT_LIMIT // _TICK_NS // _STAT_FIELDS:
            raise AbsurdError("times in /proc/stat beyond any machine's life")
        user, nice, system, idle, waiting, interrupts, softly, steal = ticks[:_STAT_FIELDS]
        cpus.append(
            CpuTimes(
                index=int(number),
                user_ns=(user + nice) * _TICK_NS,
                system_ns=(system + interrupts + softly) * _TICK_NS,
                idle_ns=(idle + waiting) * _TICK_NS,
                steal_ns=steal * _TICK_NS,
            )
        )
    if not cpus:
        raise AbsurdError("no CPU in /proc/stat")
    cpus.sort(key=lambda cpu: cpu.index)
    _distinct([cpu.index for cpu in cpus])
    return CpuAccounting(taken_at_ns=taken_at_ns, cpus=tuple(cpus))


def parse_vcpus(text: str, *, max_vcpus: int) -> tuple[GuestVcpu, ...]:
    """Read the answer to `guest-get-vcpus`.

    Raises:
        AbsurdError: It cannot be true.
    """
    found = []
    for entry in _entries(answer(text), max_vcpus):
        online, can_offline = entry.get("online"), entry.get("can-offline", False)
        if not isinstance(online, bool) or not isinstance(can_offline, bool):
            raise AbsurdError("a CPU neither online nor offline")
        index = _amount(entry, "logical-id", max_vcpus)
        found.append(GuestVcpu(index, online, can_offline))
    if not any(vcpu.online for vcpu in found):
        raise AbsurdError("no CPU online")
    found.sort()
    _distinct([vcpu.number for vcpu in found])
    return tuple(found)


def parse_set_vcpus(text: str) -> int:
    """Read the answer to `guest-set-vcpus`: how many of the list were processed.

    Raises:
        AbsurdError: It is not a count.
    """
    value = answer(text)
    if type(value) is not int or not 0 <= value < AMOUNT_LIMIT:
        raise AbsurdError("not a count of CPUs")
    return value


def parse_disabled(text: str) -> frozenset[str]:
    """Read the answer to `guest-info`: names of the commands that are switched off.

    Raises:
        AbsurdError: It is not a list of commands.
    """
    value = answer(text)
    commands = value.get("supported_commands") if isinstance(value, dict) else None
    if not isinstance(commands, list):
        raise AbsurdError("no list of commands")
    return frozenset(
        str(entry.get("name"))[:_SHOWN]
        for entry in commands
        if isinstance(entry, dict) and entry.get("enabled") is False
    )


def parse_handle(text: str) -> int:
    """Read the answer to `guest-file-open`.

    Raises:
        AbsurdError: It is not a handle.
    """
    value = answer(text)
    if type(value) is not int or not 0 <= value < AMOUNT_LIMIT:
        raise AbsurdError("not a handle")
    return value


def parse_file(text: str) -> str:
    """Read the answer to `guest-file-read`.

    Raises:
        AbsurdError: Not text, not whole, or larger than was asked for.
    """
    value = answer(text)
    encoded = value.get("buf-b64") if isinstance(value, dict) else None
    if not isinstance(encoded, str):
        raise AbsurdError("no content")
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise AbsurdError("content that is not base64") from error
    if len(content) > FILE_LIMIT:
        raise AbsurdError(f"{len(content)} bytes where {FILE_LIMIT} were asked for")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AbsurdError("content that is not text") from error


def parse_lock_histogram(content: str, *, taken_at_ns: int, max_vcpus: int) -> LockWait:
    """Sum the lock histogram over CPUs: hits, and microseconds waited.

    Raises:
        AbsurdError: It cannot be true.
        DroppedError: Entries were lost, so the sums are not the truth.
        MissingError: It holds no histogram.
    """
    dropped = _DROPPED.search(content)
    if dropped is None:
        raise MissingError("no lock histogram is armed")
    if int(dropped.group(1)):
        raise DroppedError(f"{dropped.group(1)} entries of the lock histogram were dropped")
    lines = _HISTOGRAM_LINE.findall(content)
    indices = [int(cpu) for cpu, _, _ in lines]
    _distinct(indices)
    if any(index >= max_vcpus for index in indices):
        raise AbsurdError("a lock histogram of CPUs that do not exist")
    waits = sum(int(hits) for _, hits, _ in lines)
    wait_ns = sum(int(waited) for _, _, waited in lines) * NS_PER_US
    if max(waits, wait_ns) >= AMOUNT_LIMIT:
        raise AbsurdError("a lock histogram with sums beyond any machine's life")
    return LockWait(taken_at_ns=taken_at_ns, waits=waits, wait_ns=wait_ns)


def parse_run_queue(content: str, *, taken_at_ns: int, max_vcpus: int) -> RunQueue:
    """Read `/proc/schedstat`: the last but one number of a `cpuN` line is time waited.

    Raises:
        AbsurdError: It cannot be true.
        MissingError: The kernel keeps no such statistics.
    """
    cpus = []
    for number, rest in _SCHEDSTAT_CPU.findall(content):
        fields = rest.split()
        if len(fields) < _SCHEDSTAT_FIELDS or len(fields[-2]) > len(str(AMOUNT_LIMIT)):
            raise AbsurdError("a schedstat line of another form")
        wait_ns = int(fields[-2])
        if int(number) >= max_vcpus or wait_ns >= AMOUNT_LIMIT:
            raise AbsurdError("a schedstat line that cannot be")
        cpus.append(RunQueueWait(index=int(number), wait_ns=wait_ns))
    if not cpus:
        raise MissingError("no CPU in /proc/schedstat")
    cpus.sort(key=lambda cpu: cpu.index)
    _distinct([cpu.index for cpu in cpus])
    return RunQueue(taken_at_ns=taken_at_ns, cpus=tuple(cpus))


def parse_runnable(content: str, *, taken_at_ns: int) -> RunnableTasks:
    """Read `/proc/loadavg`: runnable tasks, without the agent, which runs while it reads.

    Raises:
        AbsurdError: It cannot be true.
    """
    found = _LOADAVG.match(content)
    if found is None:
        raise AbsurdError(f"a load average of another form: {content[:_SHOWN]!r}")
    runnable, tasks = int(found.group(1)), int(found.group(2))
    if not runnable <= tasks < TASK_LIMIT:
        raise AbsurdError(f"{runnable} of {tasks} tasks runnable")
    return RunnableTasks(taken_at_ns=taken_at_ns, runnable=max(0, runnable - 1))


def parse_preferred(content: str, *, max_vcpus: int) -> frozenset[int]:
    """Read `/sys/devices/system/cpu/preferred`: CPUs that the guest's kernel keeps work on.

    Raises:
        AbsurdError: It cannot be true.
    """
    text = content.strip()
    try:
        found = parse_cpuset(text) if text else frozenset()
    except ValueError as error:
        raise AbsurdError(f"a list of CPUs of another form: {text[:_SHOWN]!r}") from error
    if max(found, default=0) >= max_vcpus:
        raise AbsurdError(f"CPU {max(found)} of a guest of {max_vcpus}")
    return found


def parse_own_cost(content: str) -> int:
    """Read the agent's `/proc/self/schedstat`: nanoseconds it has run.

    Raises:
        AbsurdError: It cannot be true.
    """
    found = _OWN_SCHEDSTAT.match(content)
    if found is None or int(found.group(1)) >= AMOUNT_LIMIT:
        raise AbsurdError("a schedstat of the agent that cannot be")
    return int(found.group(1))


def _entries(value: Any, limit: int) -> list[dict[str, Any]]:
    """A list of one to `limit` objects; those of another type (`linux` or nothing) are refused."""
    if not isinstance(value, list) or not 1 <= len(value) <= limit:
        raise AbsurdError(f"not a list of 1 to {limit} CPUs")
    for entry in value:
        if not isinstance(entry, dict):
            raise AbsurdError("a CPU that is not an object")
    return value


def _amount(entry: dict[str, Any], key: str, limit: int = AMOUNT_LIMIT) -> int:
    value = entry.get(key)
    if type(value) is not int or not 0 <= value < limit:
        raise AbsurdError(f"{key} is {str(value)[:_SHOWN]}")
    return value


def _sum_ms(entry: dict[str, Any], first: str, *more: str) -> int:
    total = _amount(entry, first) + sum(_amount(entry, key) for key in more if key in entry)
    if total * NS_PER_MS >= AMOUNT_LIMIT:
        raise AbsurdError(f"{first} is {total} ms")
    return total * NS_PER_MS


def _distinct(indices: list[int]) -> None:
    if len(set(indices)) != len(indices):
        raise AbsurdError("the same CPU twice")
