"""Changes that are refused before anything is begun. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vcpud.hypervisor.xml import AgentPort
from vcpud.model import Change, Method, Reason, Refused, SetLive, SetOnline

if TYPE_CHECKING:
    from vcpud.hypervisor.book import Book

EMULATED: Final = "QEMU's emulation never finishes an unplug, and dies of the next plug"
_WEIGHTS: Final = range(1, 262_145)
"""Smallest and largest `cpu_shares` of either kind of cgroup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stance:
    """Where the backend stands when a change is asked for.

    Attributes:
        writable: False when opened for observing.
        why_not_connected: None while connected.
        why_hung: Empty unless calls for the domain are held back.
        now_ns: The instant.
    """

    writable: bool
    why_not_connected: str | None
    why_hung: str
    now_ns: int


def hindered(book: Book, stance: Stance, *, gives: bool = False) -> Refused | None:
    """What stands in the way of any change, on every platform.

    Args:
        book: Of which domain.
        stance: Where the backend stands.
        gives: A job does not stand in the way of what only gives back.
    """
    job = book.job or book.view.job
    obstacles = (
        (not stance.writable, Reason.DENIED, "opened read-only"),
        (
            stance.why_not_connected is not None,
            Reason.NOT_CONNECTED,
            stance.why_not_connected or "",
        ),
        (book.in_flight is not None, Reason.IN_FLIGHT, "another change is under way"),
        (bool(stance.why_hung), Reason.HUNG, stance.why_hung),
        (bool(job) and not gives, Reason.JOB, f"busy with {job}"),
    )
    return next((Refused(reason, why) for is_so, reason, why in obstacles if is_so), None)


def refuse(book: Book, change: Change, stance: Stance) -> Refused | None:
    """Why a change cannot be begun; None when it can."""
    # What only gives back goes through the agent, which a job leaves free.
    hindrance = hindered(book, stance, gives=_gives(book, change))
    if hindrance is not None:
        return hindrance
    if isinstance(change, SetOnline):
        return _refuse_online(book, change, stance.now_ns)
    if isinstance(change, SetLive):
        return _refuse_live(book, change, stance.now_ns)
    if change.weight not in _WEIGHTS:
        return Refused(Reason.OUT_OF_BOUNDS, f"a weight of {change.weight}")
    return None


def _gives(book: Book, change: Change) -> bool:
    online = book.view.online
    return isinstance(change, SetOnline) and online is not None and change.online >= online


def _refuse_online(book: Book, change: SetOnline, now_ns: int) -> Refused | None:
    within = all(0 <= index < book.max_vcpus for index in change.online)
    obstacles = (
        (0 not in change.online, Reason.OUT_OF_BOUNDS, "CPU 0 is never taken offline"),
        (not within, Reason.OUT_OF_BOUNDS, f"the domain has {book.max_vcpus} vCPUs at most"),
        (
            book.method(now_ns) is not Method.AGENT,
            Reason.NO_ACTUATOR,
            "its agent cannot be used",
        ),
        (
            book.agent is not AgentPort.CONNECTED,
            Reason.AGENT_SILENT,
            "its agent is not connected",
        ),
        (not book.running, Reason.AGENT_SILENT, "it is paused"),
    )
    return next((Refused(reason, why) for is_so, reason, why in obstacles if is_so), None)


def _owed(change: SetLive) -> bool:
    return change.original is not None and change.count <= change.original.live_vcpus


def _refuse_live(book: Book, change: SetLive, now_ns: int) -> Refused | None:
    description = book.facts.description
    if description is None:
        return Refused(Reason.NO_ACTUATOR, "its description cannot be read")
    floor = book.live_vcpus - len(description.unpluggable)
    growing = change.count > book.live_vcpus
    within = 1 <= change.count <= book.max_vcpus
    obstacles = (
        (not within, Reason.OUT_OF_BOUNDS, f"the domain has {book.max_vcpus} vCPUs at most"),
        (not book.has_devices, Reason.UNSUPPORTED, EMULATED),
        (
            change.count < min(floor, book.live_vcpus),
            Reason.UNSUPPORTED,
            f"{floor} of its vCPUs cannot be unplugged",
        ),
        (
            # Plugging picks another id, and the one being waited for may still vanish: who gives
            # back has written that down, and gives back once more.
            growing and book.unplug_pending(now_ns) and not _owed(change),
            Reason.TIMEOUT,
            "an unplug has timed out and may still come",
        ),
    )
    return next((Refused(reason, why) for is_so, reason, why in obstacles if is_so), None)
