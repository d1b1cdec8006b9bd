"""A Xen host as dom0 sees it: libvirt's objects, xl and xenstore, with guests that may misbehave.

Shapes are those of Xen 4.17 with libvirt 9.0: states of vCPUs without a word for "waiting", a count
that repeats what was asked, refusals beyond the pCPUs, scheduler parameters with flags of 0 only. The
link under test is the real one; only what libvirt's library would answer is made up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import libvirt
from vcpud.backend import BackendOptions
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.link import Link, Listener, VcpuState, VcpuWord
from vcpud.hypervisor.xen.host import XenFiles, XenHypervisor
from vcpud.hypervisor.xen.library import ONE_BATCH, XenLink
from vcpud.hypervisor.xen.options import XenOptions
from vcpud.hypervisor.xen.questions import Questions
from vcpud.hypervisor.xen.roll import Roll
from vcpud.model import DomainSample, Mode, Terms
from vcpud.terms import TermsBook
from vcpud.units import NS_PER_S


def refusal(code: int, message: str) -> libvirt.libvirtError:
    """An error as libvirt raises it."""
    error = libvirt.libvirtError(message)
    error.err = (code, 33, message, 2, "", "", "", -1, -1)
    return error


NO_DOMAIN = 42
DOM0 = "00000000-0000-0000-0000-000000000000"
INVALID_ARGUMENT = 8
NO_SUPPORT = 3


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

    def version(self) -> str:
        self._xl()
        return "4.17.7"


class FakeDomain:
    """What libvirt-python gives for one domain."""

    def __init__(self, world: XenWorld, uuid: str) -> None:
        self._world = world
        self._uuid = uuid
        guest = world.guests.get(uuid)
        self._number = -1 if guest is None else guest.number

    @property
    def _guest(self) -> XenGuest:
        if self._world.down:
            raise refusal(38, "Cannot recv data: Connection reset by peer")
        if self._uuid not in self._world.guests:
            raise refusal(NO_DOMAIN, "Domain not found")
        self._world.wait_for(self._world.guests[self._uuid])
        return self._world.guests[self._uuid]

    def ID(self) -> int:  # noqa: N802  libvirt's own name
        return self._number  # as it was when it was looked up

    def UUIDString(self) -> str:  # noqa: N802
        return self._uuid

    def name(self) -> str:
        return f"n-{self._uuid}"

    def info(self) -> list[int]:
        guest = self._guest
        if guest.lost:
            raise refusal(1, f"libxl_domain_info failed for domain '{guest.number}'")
        return [guest.state, 1, 1, guest.count, sum(guest.run_ns)]

    def getCPUStats(self, total: bool) -> list[dict[str, int]]:  # noqa: N802
        assert total is False
        if len(self._guest.run_ns) > ONE_BATCH:
            raise LookupError('Type value "0" not recognized')
        return [{"cpu_time": run_ns} for run_ns in self._guest.run_ns]

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802
        return self._guest.xml()

    def setMetadata(  # noqa: N802  libvirt's own name and order
        self, kind: int, note: str | None, prefix: str | None, namespace: str, flags: int
    ) -> None:
        assert (kind, flags) == (
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
            libvirt.VIR_DOMAIN_AFFECT_LIVE,
        )
        guest = self._guest
        if guest.note_error is not None:
            raise guest.note_error
        guest.notes.append(note)
        opening = f"<{prefix}:owed xmlns:{prefix}='{namespace}'"
        guest.note = "" if note is None else note.replace("<owed", opening)

    def maxVcpus(self) -> int:  # noqa: N802
        return self._guest.vcpus

    def schedulerType(self) -> tuple[str, int]:  # noqa: N802
        return self._world.scheduler, 2

    def schedulerParameters(self) -> dict[str, int]:  # noqa: N802
        if self._world.scheduler not in ("credit", "credit2"):
            raise refusal(1, "Only 'credit' and 'credit2' schedulers are supported")
        return {"weight": self._guest.weight, "cap": self._guest.cap}

    def setSchedulerParameters(self, parameters: dict[str, int]) -> None:  # noqa: N802
        self._guest.weight = parameters["weight"]

    def setVcpusFlags(self, count: int, flags: int) -> None:  # noqa: N802
        assert flags == libvirt.VIR_DOMAIN_AFFECT_LIVE
        if count > self._world.most_cpus:
            raise refusal(
                INVALID_ARGUMENT, "invalid argument: requested vcpus is greater than max"
            )
        self._guest.count = count
        self._guest.ask("libvirt", count)
        self._world.when_asked()

    def vcpusFlags(self, _flags: int) -> int:  # noqa: N802
        return self._guest.count

    def jobStats(self) -> dict[str, int]:  # noqa: N802
        return {"type": self._guest.job, "operation": 5}


class FakeDom0:
    """Domain-0, which is a domain like the others in libvirt's list."""

    def __init__(self, world: XenWorld) -> None:
        self._world = world

    def ID(self) -> int:  # noqa: N802
        return 0

    def UUIDString(self) -> str:  # noqa: N802
        return DOM0

    def info(self) -> list[int]:
        return [1, 1, 1, 1, self._world.dom0_ns]

    def schedulerType(self) -> tuple[str, int]:  # noqa: N802
        return self._world.scheduler, 2

    def schedulerParameters(self) -> dict[str, int]:  # noqa: N802
        return {"weight": 256, "cap": 0}


class FakeConnection:
    """What libvirt-python gives for one connection."""

    def __init__(self, world: XenWorld) -> None:
        self._world = world

    def _up(self) -> None:
        if self._world.down:
            raise refusal(38, "Cannot recv data: Connection reset by peer")

    def setKeepAlive(self, _interval: int, _count: int) -> int:  # noqa: N802
        return 0

    def isAlive(self) -> bool:  # noqa: N802
        return not self._world.down

    def close(self) -> int:
        return 0

    def getType(self) -> str:  # noqa: N802
        return "Xen"

    def getVersion(self) -> int:  # noqa: N802
        return 4_017_000

    def getLibVersion(self) -> int:  # noqa: N802
        return 9_000_000

    def getInfo(self) -> list[Any]:  # noqa: N802
        self._up()
        return ["x86_64", 2560, self._world.pcpus, 2400, 1, 1, self._world.pcpus, 1]

    def listAllDomains(self, flags: int) -> list[Any]:  # noqa: N802
        self._up()
        assert flags == libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
        for guest in tuple(self._world.guests.values()):
            self._world.wait_for(guest)
        found = [FakeDomain(self._world, uuid) for uuid in self._world.guests]
        return [FakeDom0(self._world), *found]

    def lookupByUUIDString(self, uuid: str) -> FakeDomain | FakeDom0:  # noqa: N802
        self._up()
        if uuid == DOM0:
            return FakeDom0(self._world)
        if uuid not in self._world.guests:
            raise refusal(NO_DOMAIN, "Domain not found")
        self._world.wait_for(self._world.guests[uuid])
        return FakeDomain(self._world, uuid)


class FakeXenLink(XenLink):
    """The real link, but for what is read past libvirt-python."""

    def __init__(
        self,
        world: XenWorld,
        roll: Roll,
        questions: Questions,
        cost_ns: int,
        told: Callable[[], None],
    ) -> None:
        connection = cast("libvirt.virConnect", FakeConnection(world))
        super().__init__(connection, roll, world, questions, world.now_ns)
        self._world = world
        self._cost_ns = cost_ns
        self._told = told

    def listen(self, listener: Listener) -> None:  # noqa: ARG002  nothing happens unasked
        return

    def states(self, uuid: str, most: int) -> tuple[VcpuState, ...]:
        self._world.pass_s(self._cost_ns / NS_PER_S)
        self._told()
        guest = self._world.guests.get(uuid)
        if guest is not None:
            self._world.wait_for(guest)
        if guest is None:
            raise CallFailed(Meaning.GONE, "Domain not found")
        idle = VcpuWord.OTHER if guest.busy else VcpuWord.BLOCKED
        return tuple(
            VcpuState(index, idle if index in guest.online else VcpuWord.OTHER, run_ns)
            for index, run_ns in enumerate(guest.run_ns[:most])
        )


class FakeXenLibrary:
    """Where connections come from; each look at vCPUs costs the clock so much."""

    def __init__(
        self,
        world: XenWorld,
        roll: Roll,
        *,
        cost_ns: int = 0,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self._world = world
        self._roll = roll
        self._cost_ns = cost_ns
        self._told = told
        self.tries = 0
        self._questions = Questions()

    def open(self, *, writable: bool) -> Link:  # noqa: ARG002
        self.tries += 1
        if self._world.down:
            raise CallFailed(Meaning.LOST, "Failed to connect socket")
        return FakeXenLink(self._world, self._roll, self._questions, self._cost_ns, self._told)

    def listen(self, listener: Listener) -> Link:  # noqa: ARG002
        return self.open(writable=False)

    def close(self) -> None:
        return


class XenRig:
    """A Xen hypervisor over a world of its own."""

    def __init__(  # noqa: PLR0913  each is a fact of the world around it
        self,
        world: XenWorld,
        root: Path,
        *,
        terms: TermsBook | None = None,
        writable: bool = True,
        xl_knows_option: bool = True,
        period_ns: int = 60 * NS_PER_S,
        **options: Any,
    ) -> None:
        self.world = world
        world.xl_knows_option = xl_knows_option
        self.roll = Roll()
        self.woken = threading.Event()
        self.hypervisor = XenHypervisor(
            FakeXenLibrary(world, self.roll),
            world,
            XenFiles(self.roll, root),
            BackendOptions(
                terms=terms or TermsBook(default=Terms(mode=Mode.ENFORCE)),
                writable=writable,
                now_ns=world.now_ns,
                wake=self.woken.set,
                period_ns=period_ns,
            ),
            XenOptions(**options),
            supervised=False,
            pause=world.pass_s,
        )

    def domains(self) -> tuple[DomainSample, ...]:
        """All of them, as the loop would see them now."""
        return self.hypervisor.sample().domains

    def notes(self) -> tuple[str, ...]:
        """What an operator is told."""
        return self.hypervisor.sample().notes

    def seconds(self, count: int) -> None:
        """Let time pass, with a sample and whatever is due in each quarter of a second."""
        for _ in range(4 * count):
            self.world.pass_s(0.25)
            self.hypervisor.supervise()
            self.woken.wait(0.002)
            self.hypervisor.sample()

    def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until it is so; the workers are real threads."""
        for _ in range(200):
            if condition():
                return
            self.seconds(1)
        raise AssertionError("never so")

    def close(self) -> None:
        self.hypervisor.close()
