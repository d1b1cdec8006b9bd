"""A libvirt that misbehaves on request: what real drivers cannot be made to do at will.

It implements the backend's own narrow `Link`. Guests are dictionaries of facts; a domain named
in `stopped` never answers a call that needs its QEMU until it is released. One worker thread at
a time is let through, and `settle` waits until every thread is idle or blocked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vcpud.backend import BackendOptions
from vcpud.hypervisor.failures import CallFailed, Meaning, meaning_of
from vcpud.hypervisor.kvm import KvmHypervisor
from vcpud.hypervisor.link import (
    Control,
    ControlState,
    Happening,
    Listener,
    RawEvent,
    Row,
    VcpuState,
    VcpuWord,
)
from vcpud.hypervisor.options import LibvirtOptions
from vcpud.hypervisor.proc import ProcFiles
from vcpud.model import Mode, Terms
from vcpud.terms import NOTE_NAMESPACE, TermsBook
from vcpud.units import NS_PER_MS, NS_PER_S

FREE = ControlState(Control.FREE, 0)


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_ns = 1_000 * NS_PER_S

    def now_ns(self) -> int:
        return self.at_ns

    def pass_s(self, duration_s: float) -> None:
        self.at_ns += round(duration_s * NS_PER_S)


@dataclass
class Guest:
    """One domain and the guest in it."""

    uuid: str
    number: int = 1
    vcpus: int = 4
    kvm: bool = True
    state: int = 1
    online: set[int] = field(default_factory=lambda: {0, 1, 2, 3})
    agent: str = "connected"
    hotplug: bool = True
    live: int = 4
    metadata: str = ""
    job: str | None = None
    blocked: frozenset[str] = frozenset()
    frozen: bool = False
    late: bool = False
    owed: list[dict[str, Any]] = field(default_factory=list)
    silent: bool = False
    refuses: frozenset[int] = frozenset()
    unplug_error: CallFailed | None = None
    weight: int = 1024
    global_quota: int = -1
    tune: str = ""
    stuck: bool = False
    control: ControlState = FREE
    run_ns: int = 1_000_000_000
    used_ms: int = 5
    perf: dict[str, int] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    note: str = ""
    note_error: CallFailed | None = None
    notes: list[str | None] = field(default_factory=list)
    handles: set[int] = field(default_factory=set)
    next_handle: int = 1000

    def xml(self) -> str:
        entries = "".join(
            f"<vcpu id='{n}' enabled='{'yes' if n < self.live else 'no'}' "
            f"hotpluggable='{'yes' if n and self.hotplug else 'no'}'/>"
            for n in range(self.vcpus)
        )
        state = f"state='{self.agent}'"
        port = f"<channel><target name='org.qemu.guest_agent.0' {state}/></channel>"
        devices = f"<devices>{port}</devices>" if self.agent else ""
        kind = "kvm" if self.kvm else "qemu"
        return (
            f"<domain type='{kind}'><name>n-{self.uuid}</name>"
            f"<vcpu current='{self.live}'>{self.vcpus}</vcpu>"
            f"<vcpus>{entries}</vcpus>{self.tune}{devices}<metadata>{self.metadata}{self.note}</metadata></domain>"
        )

    def row(self, *, counters: bool) -> Row:
        raw: dict[str, Any] = {"state.state": self.state, "state.reason": 1}
        if counters:
            raw |= {"vcpu.current": self.live, "vcpu.maximum": self.vcpus, **self.perf}
            for n in range(self.live):
                raw |= {f"vcpu.{n}.time": self.run_ns, f"vcpu.{n}.delay": self.run_ns // 2}
        return Row(self.uuid, self.number, raw)

    def answer(self, command: str) -> str:
        request = json.loads(command)
        name, arguments = request["execute"], request.get("arguments", {})
        self.commands.append(name)
        if name in self.blocked:
            raise CallFailed(Meaning.AGENT_BLOCKED, f"{name} has been disabled")
        if self.frozen:
            text = (
                f"unable to execute QEMU agent command '{name}': Command {name} has been disabled"
            )
            text += ": the agent is in frozen state"
            raise CallFailed(meaning_of(1, 10, text), text)
        if self.silent:
            raise CallFailed(Meaning.AGENT_SILENT, "not available for now")
        if self.late and name == "guest-set-vcpus":
            self.owed.append(arguments)
            self.silent = True
            raise CallFailed(Meaning.AGENT_SILENT, "Guest agent command timed out")
        self.catch_up()
        handler: Callable[[dict[str, Any]], Any] = {
            "guest-get-cpustats": lambda _: [
                {"cpu": n, "user": self.used_ms, "system": 5, "idle": 5}
                for n in sorted(self.online)
            ],
            "guest-get-vcpus": lambda _: [
                {"logical-id": n, "online": n in self.online, "can-offline": n > 0}
                for n in range(self.vcpus)
            ],
            "guest-set-vcpus": self._set,
            "guest-file-open": self._open,
            "guest-file-read": lambda _: {"buf-b64": "", "count": 0, "eof": True},
            "guest-file-close": self._close,
            "guest-info": lambda _: {"supported_commands": []},
            "guest-get-osinfo": lambda _: {"id": "debian"},
        }[name]
        return json.dumps({"return": handler(arguments)})

    def catch_up(self) -> None:
        """The agent carries out one command after the other, also those that were given up."""
        while self.owed:
            self._set(self.owed.pop(0))

    def _set(self, arguments: dict[str, Any]) -> int:
        done = 0
        for wanted in arguments["vcpus"]:
            if wanted["logical-id"] in self.refuses:
                if not done:
                    raise CallFailed(Meaning.AGENT_FAILED, "failed to write to online")
                break
            (self.online.add if wanted["online"] else self.online.discard)(wanted["logical-id"])
            done += 1
        return done

    def _open(self, arguments: dict[str, Any]) -> int:
        if arguments["path"].endswith("/preferred"):  # as nearly all kernels answer
            raise CallFailed(Meaning.AGENT_FAILED, "No such file or directory")
        self.next_handle += 1
        self.handles.add(self.next_handle)
        return self.next_handle

    def _close(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self.handles.discard(arguments["handle"])
        return {}


class StandIn:
    """The library, and all connections to it."""

    def __init__(self, *guests: Guest) -> None:
        self.guests = {guest.uuid: guest for guest in guests}
        self.stopped: set[str] = set()
        self.release = threading.Event()
        self.down = False
        self.version = 10_000_000
        self.listener: Listener | None = None
        self.opened = 0
        self.polls: list[bool] = []
        self.job_of_lost_call: set[str] = set()

    def open(self, *, writable: bool) -> StandInLink:
        self.opened += 1
        if self.down:
            raise CallFailed(Meaning.LOST, "Failed to connect socket")
        return StandInLink(self, writable=writable)

    def listen(self, listener: Listener) -> StandInLink:
        link = self.open(writable=False)
        self.listener = listener
        return link

    def close(self) -> None:
        self.release.set()

    def tell(self, event: RawEvent) -> None:
        assert self.listener is not None
        self.listener(event)

    def block(self, uuids: Iterable[str]) -> None:
        """Block while one of these is stopped and nobody else's call holds its job."""
        for uuid in uuids:
            if uuid in self.stopped and uuid not in self.job_of_lost_call:
                self.job_of_lost_call.add(uuid)
                self.release.wait()
                self.job_of_lost_call.discard(uuid)


class StandInLink:
    """One connection."""

    def __init__(self, library: StandIn, *, writable: bool) -> None:
        self._library = library
        self._writable = writable

    def _guest(self, uuid: str) -> Guest:
        if self._library.down:
            raise CallFailed(Meaning.LOST, "Connection reset by peer")
        if uuid not in self._library.guests:
            raise CallFailed(Meaning.GONE, "no domain with matching uuid")
        return self._library.guests[uuid]

    def alive(self) -> bool:
        return not self._library.down

    def close(self) -> None:
        return

    def hypervisor_version(self) -> int:
        return self._library.version

    def library_version(self) -> int:
        return 9_000_000

    def driver(self) -> str:
        return "QEMU"

    def bulk(self, *, counters: bool) -> list[Row]:
        if self._library.down:
            raise CallFailed(Meaning.LOST, "Connection reset by peer")
        self._library.polls.append(counters)
        if counters:
            self._library.block(self._library.guests)
        return [guest.row(counters=counters) for guest in self._library.guests.values()]

    def some(self, uuids: tuple[str, ...]) -> list[Row]:
        return [self._guest(uuid).row(counters=True) for uuid in uuids]

    def name(self, uuid: str) -> str:
        return f"n-{uuid}"

    def xml(self, uuid: str) -> str:
        return self._guest(uuid).xml()

    def scheduler(self, uuid: str) -> dict[str, Any]:
        guest = self._guest(uuid)
        return {
            "cpu_shares": guest.weight,
            "vcpu_quota": -1,
            "vcpu_period": 100_000,
            "global_quota": guest.global_quota,
            "global_period": 100_000,
        }

    def control(self, uuid: str) -> ControlState:
        guest = self._guest(uuid)
        if uuid in self._library.job_of_lost_call:
            return ControlState(Control.OCCUPIED, 5_000)
        return guest.control

    def job(self, uuid: str) -> str | None:
        self._library.block([uuid])
        return self._guest(uuid).job

    def ping(self, uuid: str) -> None:
        self._library.block([uuid])
        self._guest(uuid)

    def agent(self, uuid: str, command: str, timeout_s: int) -> str:
        assert self._writable
        assert timeout_s >= 1
        return self._guest(uuid).answer(command)

    def states(self, uuid: str, most: int) -> tuple[VcpuState, ...]:
        guest = self._guest(uuid)
        count = min(guest.live, most)
        return tuple(VcpuState(n, VcpuWord.RUNNING, guest.run_ns) for n in range(count))

    def live_vcpus(self, uuid: str) -> int:
        return self._guest(uuid).live

    def set_live_vcpus(self, uuid: str, count: int) -> None:
        guest = self._guest(uuid)
        if guest.unplug_error is not None and count < guest.live:
            raise guest.unplug_error
        if not guest.stuck:
            guest.live = count

    def set_note(self, uuid: str, note: str | None) -> None:
        assert self._writable
        guest = self._guest(uuid)
        if guest.note_error is not None:
            raise guest.note_error
        space = f"<vcpud-note:owed xmlns:vcpud-note='{NOTE_NAMESPACE}'"
        guest.note = (note or "").replace("<owed", space)
        guest.notes.append(note)
        self._library.tell(RawEvent(Happening.METADATA, uuid))

    def set_weight(self, uuid: str, weight: int) -> None:
        self._guest(uuid).weight = weight


ENFORCE = Terms(mode=Mode.ENFORCE)


class Rig:
    """A hypervisor over a stand-in, its clock, and how often it asked to be woken."""

    def __init__(
        self,
        *guests: Guest,
        root: Path,
        writable: bool = True,
        terms: TermsBook | None = None,
        period_ms: int = 60_000,
        **options: Any,
    ) -> None:
        self.clock = HandClock()
        self.library = StandIn(*guests)
        self.woken = threading.Event()
        self.hypervisor = KvmHypervisor(
            self.library,
            ProcFiles(root),
            BackendOptions(
                terms=terms or TermsBook(default=ENFORCE),
                writable=writable,
                now_ns=self.clock.now_ns,
                wake=self.woken.set,
                period_ns=period_ms * NS_PER_MS,
            ),
            LibvirtOptions(**options),
            supervised=False,
        )

    def close(self) -> None:
        self.library.release.set()
        self.hypervisor.close()
