"""libvirt's objects over a made-up Xen host, and a hypervisor over those.

Shapes are those of Xen 4.17 with libvirt 9.0: states of vCPUs without a word for "waiting", a count
that repeats what was asked, refusals beyond the pCPUs, scheduler parameters with flags of 0 only. The
link under test is the real one; only what libvirt's library would answer is made up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import libvirt
from fakes.xen import XenGuest, XenWorld
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
