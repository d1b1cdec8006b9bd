"""A Xen host and its guests, which may misbehave; dom0's xl and xenstore see them here (`Toolstack`).

Shapes are those of Xen 4.17: vCPUs that share the pCPUs, guests that do what xenstore asks of them, or
do not. What libvirt makes of it is in `xen_libvirt`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import libvirt
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.units import NS_PER_S


@dataclass
class XenGuest:
    """One domain and the guest in it.

    Attributes:
        follows: Its kernel does what xenstore asks.
        udev: Added CPUs are brought online.
        busy: vCPUs that always have something to run.
        deaf_to: So many requests it is too busy for.
        lost: Xen has torn it down, and libvirt has not noticed yet.
        locked: libvirt answers nobody about it, nor lists it with others, before this is set.
        own_offline: CPUs that somebody in it has taken offline.
        note: The hand-over note in its live metadata, as libvirt gives it back.
        stuck: CPUs it could not bring online; it tries anew once they have been taken away.
    """

    uuid: str
    number: int = 1
    vcpus: int = 4
    weight: int = 256
    cap: int = 0
    os_type: str = "linux"
    state: int = 1
    follows: bool = True
    udev: bool = True
    busy: bool = True
    deaf_to: int = 0
    lost: bool = False
    locked: threading.Event | None = None
    own_offline: frozenset[int] = frozenset()
    stuck: set[int] = field(default_factory=set)
    withheld: set[int] = field(default_factory=set)
    metadata: str = ""
    note: str = ""
    notes: list[str | None] = field(default_factory=list)
    note_error: libvirt.libvirtError | None = None
    report: bytes | None = None
    job: int = 0
    count: int = 0
    online: set[int] = field(default_factory=set)
    asked: int = 0
    run_ns: list[int] = field(default_factory=list)
    requests: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.count = self.count or self.vcpus
        self.asked = self.count
        self.online = self.online or set(range(self.count)) - self.own_offline
        self.run_ns = self.run_ns or [1_000_000_000] * self.vcpus

    def xml(self) -> str:
        return (
            f"<domain type='xen' id='{self.number}'><name>n-{self.uuid}</name>"
            f"<vcpu placement='static' current='{self.count}'>{self.vcpus}</vcpu>"
            f"<os><type>{self.os_type}</type></os>"
            f"<metadata>{self.metadata}{self.note}</metadata></domain>"
        )

    def arrive(self, number: int) -> XenGuest:
        """Another run of it, as a restore or a migration begins it: with its count, and its own weight."""
        return XenGuest(
            self.uuid, number, self.vcpus, os_type=self.os_type, note=self.note, count=self.count
        )

    def ask(self, by: str, count: int) -> None:
        """xenstore says how many CPUs are available; the guest does what it does."""
        self.requests.append((by, count))
        self.asked = count
        self.withheld.clear()
        self.deaf_to -= 1
        if self.deaf_to >= 0:
            return
        if self.os_type == "hvm" and count < len(self.online):
            return
        if self.follows:
            for index in range(count, self.vcpus):
                self._removed(index)
            hindered = self.own_offline | self.stuck
            brought = frozenset(range(count)) - hindered if self.udev else frozenset()
            self.online = {index for index in self.online if index < count} | brought

    def _removed(self, index: int) -> None:
        """A CPU that comes again is new to the guest, whatever was done to it before."""
        self.online.discard(index)
        self.stuck.discard(index)
        self.own_offline -= {index}

    def set_available(self, index: int, *, available: bool) -> None:
        """xenstore says it of one CPU."""
        if not self.follows:
            return
        if not available:
            self.withheld.add(index)
            self._removed(index)
            return
        self.withheld.discard(index)
        if self.udev and index not in self.own_offline | self.stuck:
            self.online.add(index)


class XenWorld:
    """The host, its clock and everything on it."""

    def __init__(self, *guests: XenGuest, pcpus: int = 4, scheduler: str = "credit") -> None:
        self.guests = {guest.uuid: guest for guest in guests}
        self.pcpus = self.most_cpus = pcpus  # online, and those libvirt goes by
        self.scheduler = scheduler
        self.at_ns = 1_000 * NS_PER_S
        self.dom0_ns = 5 * NS_PER_S
        self.xl = True
        self.xl_knows_option = True
        self.xl_calls = 0
        self.rate_limit_us_told: int | None = 1000
        self.strangers: frozenset[int] = frozenset()
        self.down = False
        self.when_asked: Callable[[], object] = lambda: None
        self.lock = threading.Lock()
        self.waiting = 0

    def wait_for(self, guest: XenGuest) -> None:
        """Whoever asks about a domain that is locked waits."""
        if guest.locked is not None:
            self.waiting += 1
            guest.locked.wait(30)
            self.waiting -= 1

    def now_ns(self) -> int:
        return self.at_ns

    def pass_s(self, duration_s: float) -> None:
        """Every busy vCPU online gets its equal part of the pCPUs."""
        with self.lock:
            window_ns = round(duration_s * NS_PER_S)
            self.at_ns += window_ns
            self.dom0_ns += window_ns // 20
            running = [g for g in self.guests.values() if g.state == 1 and g.busy]
            demand = sum(len(guest.online) for guest in running)
            share = min(1.0, self.pcpus / demand) if demand else 0.0
            for guest in running:
                for index in guest.online:
                    guest.run_ns[index] += round(window_ns * share)
            for guest in self.guests.values():
                if guest.state == 1 and not guest.busy:
                    for index in guest.online:
                        guest.run_ns[index] += window_ns // 1000

    # -------------------------------------------------------------------------- Toolstack

    def _xl(self) -> None:
        self.xl_calls += 1
        if not self.xl:
            raise CallFailed(Meaning.UNSUPPORTED, "there is no xl here: install xen-utils")

    def online(self) -> Mapping[int, frozenset[int]]:
        self._xl()
        found = {guest.number: frozenset(guest.online) for guest in self.guests.values()}
        strangers = {number: frozenset({0}) for number in self.strangers}
        return {0: frozenset({0}), **found, **strangers}

    def set_vcpus(self, number: int, count: int) -> None:
        self._xl()
        for guest in self.guests.values():
            if guest.number == number:
                guest.ask("xl", count)

    def can_ignore_host(self) -> bool:
        return self.xl and self.xl_knows_option

    def leaving(self, number: int, most: int) -> frozenset[int]:
        guest = next((g for g in self.guests.values() if g.number == number), None)
        if guest is None:
            return frozenset()
        return frozenset(range(guest.asked, most)) | guest.withheld

    def set_available(self, number: int, index: int, *, available: bool) -> None:
        for guest in self.guests.values():
            if guest.number == number:
                guest.set_available(index, available=available)

    def report(self, number: int) -> bytes | None:
        return next((g.report for g in self.guests.values() if g.number == number), None)

    def rate_limit_us(self) -> int | None:
        self._xl()
        return self.rate_limit_us_told

    def version(self) -> str:
        self._xl()
        return "4.17.7"
