"""The narrow part of libvirt that the backend uses: what `connection` implements and tests fake.

Every method may raise `CallFailed`, and every method may block for as long as the hypervisor
pleases: only supervised threads (`workers`) call them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, TypeAlias

from vcpud.model import Uuid


class Row(NamedTuple):
    """One domain of the bulk statistics.

    Attributes:
        uuid: Its key.
        number: libvirt's id of the running domain.
        raw: The dictionary as it came.
    """

    uuid: Uuid
    number: int
    raw: dict[str, Any]


class Control(StrEnum):
    """What libvirt's connection to a domain's QEMU is doing (`virDomainGetControlInfo`)."""

    FREE = "free"
    JOB = "job"
    OCCUPIED = "occupied"
    ERROR = "error"


class ControlState(NamedTuple):
    """The control interface of one domain, and for how long it has been so."""

    control: Control
    for_ms: int


class VcpuWord(StrEnum):
    """What a vCPU is doing, in libvirt's words.

    On Xen OTHER stands for runnable as well as for offline and paused: libvirt has no word for
    "waits for a pCPU" and calls all of them offline.
    """

    RUNNING = "running"
    BLOCKED = "blocked"
    OTHER = "other"


class VcpuState(NamedTuple):
    """One vCPU at one instant (`virDomainGetVcpus`)."""

    number: int
    word: VcpuWord
    run_ns: int


class Happening(StrEnum):
    """Kinds of raw events."""

    STARTED = "started"
    STOPPED = "stopped"
    STATE = "state"
    REBOOT = "reboot"
    JOB_PROGRESS = "job_progress"
    JOB_COMPLETED = "job_completed"
    METADATA = "metadata"
    AGENT_UP = "agent_up"
    AGENT_DOWN = "agent_down"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class RawEvent:
    """Something libvirt told; `uuid` and `name` are empty where it concerns the connection."""

    happening: Happening
    uuid: Uuid = ""
    name: str = ""
    detail: str = ""


Listener: TypeAlias = Callable[[RawEvent], None]


class Link(Protocol):
    """One connection."""

    def alive(self) -> bool:
        """Whether the connection still stands, as far as can be told without asking."""

    def close(self) -> None:
        """Let go of it; never raises."""

    def hypervisor_version(self) -> int:
        """QEMU's version, 1000000 * major + 1000 * minor + micro; 0 when it has none."""

    def library_version(self) -> int:
        """libvirt's own version, spelt the same way."""

    def driver(self) -> str:
        """What libvirt calls this kind of hypervisor: QEMU, Xen, TEST."""

    def bulk(self, *, counters: bool) -> list[Row]:
        """States of all running and paused domains, and with `counters` their vCPUs'."""

    def some(self, uuids: tuple[Uuid, ...]) -> list[Row]:
        """States and counters of these domains only; those that are gone are left out."""

    def name(self, uuid: Uuid) -> str:
        """The domain's name."""

    def xml(self, uuid: Uuid) -> str:
        """The live description."""

    def scheduler(self, uuid: Uuid) -> dict[str, Any]:
        """`cpu_shares`, `vcpu_period`, `vcpu_quota` and others, as far as there are any."""

    def control(self, uuid: Uuid) -> ControlState:
        """What the control interface does; waits for nothing."""

    def job(self, uuid: Uuid) -> str | None:
        """The migration, save, dump, snapshot or backup in progress, or None."""

    def ping(self, uuid: Uuid) -> None:
        """Make the domain's QEMU answer something."""

    def agent(self, uuid: Uuid, command: str, timeout_s: int) -> str:
        """Send a command to the guest's agent and return the text of its answer."""

    def states(self, uuid: Uuid, most: int) -> tuple[VcpuState, ...]:
        """What each of its vCPUs, `most` at most, is doing at this instant."""

    def live_vcpus(self, uuid: Uuid) -> int:
        """vCPUs present."""

    def set_live_vcpus(self, uuid: Uuid, count: int) -> None:
        """Plug or unplug vCPUs in the live domain."""

    def set_note(self, uuid: Uuid, note: str | None) -> None:
        """Write vcpud's hand-over note into the live domain's metadata, or with None remove it."""

    def set_weight(self, uuid: Uuid, weight: int) -> None:
        """Set the live domain's `cpu_shares`."""


class Library(Protocol):
    """Where connections come from."""

    def open(self, *, writable: bool) -> Link:
        """Open a connection."""

    def listen(self, listener: Listener) -> Link:
        """Open a read-only connection that reports events until it is closed.

        The listener is called on the library's own thread and must return at once.
        """

    def close(self) -> None:
        """Stop the library's own thread; bounded in time."""
