"""What Linux tells of the host and of the QEMU processes, read from /proc and /sys.

All of it is readable without privileges. Where something cannot be read (a hidden /proc, another
kernel) the answer is None or UNKNOWN, never a guess.
References: proc(5); Linux kernel/sched/autogroup.c, Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vcpud.hypervisor.cpusets import parse_cpuset
from vcpud.model import ShareUnit, Uuid
from vcpud.units import NS_PER_S

_STARTTIME_FIELD: Final = 22
_DOMAIN_SCOPE: Final = re.compile(r"machine-qemu.*\.scope|qemu-\d+-.+|.+\.libvirt-qemu")
_IDLE_FIELDS: Final = slice(3, 5)
_GUEST_FIELDS: Final = 8
"""Where time of guests begins, which is part of user time already."""
_CMDLINE_LIMIT: Final = 256 * 1024
_VCPU_THREAD: Final = re.compile(r"CPU (\d{1,5})/(?:KVM|TCG)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A domain's QEMU.

    Attributes:
        pid: Its process id.
        start_ticks: When it started, in clock ticks since the host's boot: with the pid's
            domain it names this run of the domain and no other.
        age_ns: How long it has been running.
    """

    pid: int
    start_ticks: int
    age_ns: int


class ProcFiles:
    """The host's /proc and /sys."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Look below `root`, which tests replace."""
        self._proc = root / "proc"
        self._sys = root / "sys"
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._stat = str(self._proc / "stat")
        self._busy_ticks: dict[str, int] = {}
        self._busy_ns: int | None = None

    def boot_id(self) -> str:
        """The kernel's random name of this boot; empty when it cannot be read."""
        return (_text(self._proc / "sys/kernel/random/boot_id") or "").strip()

    def online_pcpus(self) -> frozenset[int]:
        """pCPUs that the kernel schedules on; at least pCPU 0."""
        try:
            return parse_cpuset(_text(self._sys / "devices/system/cpu/online") or "")
        except ValueError:
            return frozenset(range(os.cpu_count() or 1))

    def busy_ns(self, pcpus: frozenset[int]) -> int | None:
        """Time pCPUs have been in use, stolen by an outer hypervisor or not.

        It goes on from where it was when it is asked of others than before.
        """
        ticks: dict[str, int] = {}
        try:
            with open(self._stat, buffering=16384) as stream:  # noqa: PTH123  every cycle
                stream.readline()  # all of them together
                for line in stream:
                    if not line.startswith("cpu"):
                        break
                    name, *fields = line.split()
                    ticks[name] = sum(map(int, fields[:_GUEST_FIELDS])) - sum(
                        map(int, fields[_IDLE_FIELDS])
                    )
        except (OSError, ValueError):
            return None
        if not ticks:
            return None
        before, self._busy_ticks = self._busy_ticks, ticks
        grown = [
            ticks[name] - before.get(name, 0)
            for name in map("cpu{}".format, pcpus)
            if name in ticks and (name in before or not before)
        ]
        self._busy_ns = (self._busy_ns or 0) + sum(grown) * (NS_PER_S // self._ticks_per_s)
        return self._busy_ns

    def qemu_pids(self) -> dict[Uuid, int]:
        """The process of every running domain, by the UUID on its command line.

        Of two, as while a domain is migrated from a libvirt to another one on this host, the elder
        counts until it ends.
        """
        found: dict[Uuid, int] = {}
        try:
            names = os.listdir(self._proc)  # noqa: PTH208  names only, hundreds of them
        except OSError:
            return found
        for name in names:
            if not name.isdigit():
                continue
            arguments = _arguments(self._proc / name / "cmdline")
            if "-uuid" in arguments[:-1] and any(a.startswith("guest=") for a in arguments):
                uuid, pid = arguments[arguments.index("-uuid") + 1], int(name)
                found[uuid] = self._elder(found[uuid], pid) if uuid in found else pid
        return found

    def _elder(self, one: int, other: int) -> int:
        first, second = self.process(one), self.process(other)
        if first is None or second is None:
            return other if first is None else one
        return one if first.start_ticks <= second.start_ticks else other

    def process(self, pid: int) -> Process | None:
        """Start time and age of a process; None when it is gone or hidden."""
        text = _text(self._proc / str(pid) / "stat")
        if text is None:
            return None
        # The second field is a name in parentheses that may hold anything, spaces included.
        fields = text.rpartition(")")[2].split()
        try:
            start_ticks = int(fields[_STARTTIME_FIELD - 3])
        except (IndexError, ValueError):
            return None
        started_ns = start_ticks * (NS_PER_S // self._ticks_per_s)
        age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - started_ns
        return Process(pid=pid, start_ticks=start_ticks, age_ns=max(0, age_ns))

    def cpusets(self, pid: int) -> tuple[frozenset[int], ...]:
        """The pCPUs that each vCPU of a QEMU has by its cgroup; none where one cannot be told.

        A domain's description knows nothing of what a slice above it may use, nor of numad's advice.
        """
        tasks = self._proc / str(pid) / "task"
        found: dict[int, frozenset[int]] = {}
        try:
            for name in os.listdir(tasks):  # noqa: PTH208  names only
                thread = _VCPU_THREAD.fullmatch((_text(tasks / name / "comm") or "").strip())
                if thread is not None:
                    found[int(thread[1])] = parse_cpuset(self._cpuset(tasks / name) or "")
        except (OSError, ValueError):
            return ()
        return tuple(found[index] for index in sorted(found))

    def _cpuset(self, task: Path) -> str | None:
        """What is effective in the nearest cgroup that has the controller."""
        mounted = self._sys / "fs/cgroup"
        groups = _cgroups(task)
        if "cpuset" in groups:
            return _text(mounted / "cpuset" / groups["cpuset"] / "cpuset.effective_cpus")
        unified = groups.get("", Path())
        places = (
            mounted / place / "cpuset.cpus.effective" for place in (unified, *unified.parents)
        )
        return next(filter(None, map(_text, places)), None)

    def share_unit(self, pid: int) -> ShareUnit:
        """What the host scheduler's weights count for this QEMU.

        With a cgroup of its own in the cpu controller a domain keeps its share however many
        vCPUs it has. Without one, threads compete in the group they are in, which is the
        session's when the kernel groups by session and the process has one of its own.
        """
        path = self._cpu_cgroup(pid)
        if path is None:
            return ShareUnit.UNKNOWN
        if any(_DOMAIN_SCOPE.fullmatch(name) for name in path.parts):
            return ShareUnit.DOMAIN
        if path == Path() and self._grouped_by_session(pid):
            return ShareUnit.SESSION
        return ShareUnit.VCPU

    def _grouped_by_session(self, pid: int) -> bool:
        enabled = _text(self._proc / "sys/kernel/sched_autogroup_enabled")
        group = _text(self._proc / str(pid) / "autogroup")
        return (enabled or "").strip() == "1" and (group or "").startswith("/autogroup-")

    def _cpu_cgroup(self, pid: int) -> Path | None:
        """The cgroup whose cpu weight holds for the process, relative to the root of cgroups."""
        groups = _cgroups(self._proc / str(pid))
        if "cpu" in groups:
            return groups["cpu"]
        unified = groups.get("")
        if unified is None:
            return None
        mounted = self._sys / "fs/cgroup"
        for candidate in (unified, *unified.parents):
            if candidate != Path() and (mounted / candidate / "cpu.weight").exists():
                return candidate
        return Path()


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _cgroups(task: Path) -> dict[str, Path]:
    """A task's cgroup by controller, relative to the root; that of version 2 has no name."""
    found: dict[str, Path] = {}
    for line in (_text(task / "cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        found |= dict.fromkeys(controllers.split(","), Path(path.strip("/")))
    return found


def _arguments(path: Path) -> list[str]:
    try:
        with path.open("rb") as stream:
            return stream.read(_CMDLINE_LIMIT).decode(errors="replace").split("\0")
    except OSError:
        return []
