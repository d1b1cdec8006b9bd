"""What a guest's kernel writes into files of /proc and /sys -> parts of a reading. Pure; the guest is not trusted.

The agent gives them as they are (`agent.parse_file`, which bounds their size). Each parser accepts
only numbers that a machine can produce, and raises `AbsurdError` otherwise.
References: Linux Documentation/scheduler/sched-stats.rst, Documentation/trace/histogram.rst.
"""

from __future__ import annotations

import re
from typing import Final

from vcpud.guest import CpuAccounting, CpuTimes, LockWait, RunnableTasks, RunQueue, RunQueueWait
from vcpud.hypervisor.agent import AMOUNT_LIMIT, AbsurdError, distinct
from vcpud.hypervisor.cpusets import parse_cpuset
from vcpud.units import NS_PER_MS, NS_PER_US

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


class MissingError(ValueError):
    """The answer is honest and says that the signal is not there."""


class DroppedError(ValueError):
    """The histogram overflowed: its sums are no longer the truth."""


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
    distinct([cpu.index for cpu in cpus])
    return CpuAccounting(taken_at_ns=taken_at_ns, cpus=tuple(cpus))


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
    distinct(indices)
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
    distinct([cpu.index for cpu in cpus])
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
