"""Which vCPUs of each domain are really online. Pure but for the lock.

libvirt's count on Xen is what was asked for, not what came of it: a guest may ignore a request, and
`xl` changes it without libvirt noticing. Xen itself knows. Asking Xen costs a process, so it is asked
when there is a reason to doubt: a domain never asked about, one being changed, one whose run times
contradict what is believed (an offline vCPU ran; an online one has not run for long), and now and
then. Where Xen cannot be asked, libvirt's count holds, corrected by what the run times prove.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from vcpud.model import Uuid

FROZEN_NS: Final = 10 * NS_PER_S
"""A vCPU of a Linux guest runs more often than this while it is online, however idle."""
RECHECK_NS: Final = 60 * NS_PER_S
DOM0: Final = 0
"""dom0's id."""
IGNORED_NS: Final = 60 * NS_PER_S
"""A guest that has not taken a vCPU offline by then will not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing:
    """How the hypervisor weighs a domain.

    Attributes:
        scheduler: Its scheduler's name.
        weight: Its weight there, None where it has none.
        cap_pcpus: Most pCPUs it may use, None without a limit.
    """

    scheduler: str
    weight: int | None = None
    cap_pcpus: float | None = None


@dataclass(slots=True)
class _Entry:
    """One run of a domain."""

    online: frozenset[int] = frozenset()
    leaving: frozenset[int] = frozenset()
    leaving_since_ns: int = 0
    libvirt_count: int = 0
    asked_at_ns: int | None = None
    doubted: bool = True
    run_ns: list[int] = field(default_factory=list)
    moved_at_ns: list[int] = field(default_factory=list)
    weighing: Weighing | None = None


class Roll:
    """All running domains by their ids, and the host; one thread writes, others read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[int, _Entry] = {}
        self._numbers: dict[Uuid, int] = {}
        self.pcpus = 1
        self.strangers: frozenset[int] = frozenset()
        """Domains that Xen has and libvirt does not list."""
        self.silent_until_ns = 0
        """Xen's tools are not asked before: whoever asked last has not come back yet."""
        self._busy_ns: int | None = None
        self._ran_ns: dict[int, int] = {}

    # ------------------------------------------------------------------ what was seen

    def counted(self, number: int, run_ns: Sequence[int], libvirt_count: int, at_ns: int) -> None:
        """A reading of every vCPU's run time.

        Args:
            number: The domain's id.
            run_ns: By vCPU id.
            libvirt_count: What libvirt has asked for last.
            at_ns: When this was read.
        """
        with self._lock:
            entry = self._entries.get(number)
            if entry is None or len(entry.run_ns) != len(run_ns):
                entry = _Entry(
                    online=frozenset(range(libvirt_count)),
                    libvirt_count=libvirt_count,
                    run_ns=list(run_ns),
                    moved_at_ns=[at_ns] * len(run_ns),
                    weighing=None if entry is None else entry.weighing,
                )
                self._entries[number] = entry
                return
            if libvirt_count != entry.libvirt_count:
                entry.libvirt_count = libvirt_count
                entry.doubted = True
                if entry.asked_at_ns is None:
                    entry.online = frozenset(range(libvirt_count))
            for index, (was, now) in enumerate(zip(entry.run_ns, run_ns, strict=True)):
                if now != was:
                    entry.moved_at_ns[index] = at_ns
                    if index not in entry.online:
                        entry.online |= {index}
                        entry.doubted = True
            entry.run_ns = list(run_ns)

    def told(self, online: Mapping[int, frozenset[int]], at_ns: int) -> None:
        """Xen's own word on all domains."""
        with self._lock:
            self.strangers = frozenset(online) - self._entries.keys() - {DOM0}
            for number, entry in self._entries.items():
                if number in online:
                    entry.online = online[number]
                    entry.asked_at_ns = at_ns
                    entry.doubted = False

    def asked_to_go(self, number: int, leaving: frozenset[int], at_ns: int) -> None:
        """Which vCPUs a domain's guest has been asked to take offline, whether it has or not."""
        with self._lock:
            entry = self._entries.get(number)
            if entry is not None and entry.leaving != leaving:
                entry.leaving, entry.leaving_since_ns = leaving, at_ns

    def doubt(self, number: int) -> None:
        """A change is under way or has ended: ask again."""
        with self._lock:
            entry = self._entries.get(number)
            if entry is not None:
                entry.doubted = True

    def doubtful(self, at_ns: int) -> bool:
        """Whether Xen should be asked."""
        with self._lock:
            return any(_doubtful(entry, at_ns) for entry in self._entries.values())

    def weighed(self, uuid: Uuid, number: int, weighing: Weighing) -> None:
        """How a domain is weighed."""
        with self._lock:
            self._numbers[uuid] = number
            self._entries.setdefault(number, _Entry()).weighing = weighing

    def host(self, pcpus: int, ran_ns: Mapping[int, int]) -> None:
        """The host's pCPUs, and what each domain, dom0 among them, has run so far.

        Their sum must not fall when a domain ends, so differences are added up; nor may it leap by all
        that a domain has ever run, because it could not be asked in between.
        """
        self.pcpus = max(pcpus, 1)
        busy_ns = self._busy_ns
        if busy_ns is None:
            self._busy_ns = sum(ran_ns.values())
        else:
            grown = [now - self._ran_ns.get(number, 0) for number, now in ran_ns.items()]
            self._busy_ns = busy_ns + sum(max(one, 0) for one in grown)
        known = {n: ran for n, ran in self._ran_ns.items() if n == DOM0 or n in self._entries}
        self._ran_ns = known | dict(ran_ns)

    def keep(self, numbers: frozenset[int]) -> None:
        """Forget all domains but these."""
        with self._lock:
            for number in self._entries.keys() - numbers:
                del self._entries[number]
            if len(self._numbers) > len(numbers):
                self._numbers = {u: n for u, n in self._numbers.items() if n in numbers}

    # ------------------------------------------------------------------ what is known

    def online(self, number: int) -> frozenset[int]:
        """vCPUs online, empty where the domain is not known."""
        with self._lock:
            entry = self._entries.get(number)
            return frozenset() if entry is None else entry.online

    def live(self, number: int, at_ns: int) -> int:
        """vCPUs that are online and are to stay so: one that was asked to go may go any time.

        One that has not gone for long will not: its guest does not follow.
        """
        with self._lock:
            entry = self._entries.get(number)
            if entry is None:
                return 0
            ignored = at_ns - entry.leaving_since_ns > IGNORED_NS
            return len(entry.online if ignored else entry.online - entry.leaving)

    def size(self, number: int) -> int:
        """vCPUs a domain can have at most."""
        with self._lock:
            entry = self._entries.get(number)
            return 0 if entry is None else len(entry.run_ns)

    def number(self, uuid: Uuid) -> int | None:
        """The id of a domain that was weighed, None where it was not."""
        with self._lock:
            return self._numbers.get(uuid)

    def libvirt_count(self, number: int) -> int:
        """What libvirt asked for last, or what the domain was created with."""
        with self._lock:
            entry = self._entries.get(number)
            return 0 if entry is None else entry.libvirt_count

    def weighing(self, number: int) -> Weighing | None:
        """How a domain is weighed, None where that was never asked."""
        with self._lock:
            entry = self._entries.get(number)
            return None if entry is None else entry.weighing

    @property
    def busy_ns(self) -> int | None:
        """Time all pCPUs have been in use, None while nobody has looked."""
        return self._busy_ns


def _doubtful(entry: _Entry, at_ns: int) -> bool:
    if entry.doubted or entry.asked_at_ns is None:
        return True
    age_ns = at_ns - entry.asked_at_ns
    frozen = any(
        at_ns - moved_ns > FROZEN_NS and index in entry.online
        for index, moved_ns in enumerate(entry.moved_at_ns)
    )
    return age_ns > (FROZEN_NS if frozen else RECHECK_NS)
