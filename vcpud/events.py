"""The vocabulary of the one pass: what happens, as a hypervisor tells it unasked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vcpud.model import Reason, Uuid


class EventKind(StrEnum):
    """What a hypervisor can tell unasked."""

    STARTED = "started"
    GONE = "gone"
    REBOOTED = "rebooted"
    JOB_BEGUN = "job_begun"
    JOB_ENDED = "job_ended"
    METADATA = "metadata"
    AGENT_UP = "agent_up"
    AGENT_DOWN = "agent_down"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    CHANGE_DONE = "change_done"
    CHANGE_FAILED = "change_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEvent:
    """Something that happened; `uuid` is None for events of the host itself.

    CHANGE_FAILED carries the reason; the guest's true state is read back all the same.
    """

    kind: EventKind
    at_ns: int
    uuid: Uuid | None = None
    name: str = ""
    reason: Reason | None = None
    detail: str = ""
