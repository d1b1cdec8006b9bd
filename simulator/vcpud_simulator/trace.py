"""What happened, event by event: typed, with the instant first; sinks for hashing and keeping.

An event is four integers: the instant in ns, the kind, whom it concerns (a vCPU's number) and
where (a pCPU's index, or a second figure). Tracing is off unless a sink is given.
"""

from __future__ import annotations

import hashlib
from array import array
from enum import IntEnum
from typing import NamedTuple, Protocol


class Kind(IntEnum):
    """What an event says; the place is a pCPU's index unless stated."""

    WAKE = 1
    DISPATCH = 2
    PREEMPT = 3
    BLOCK = 4
    YIELD = 5
    MIGRATE = 6
    CO_STOP = 7
    CO_START = 8
    OFFLINE = 9
    ONLINE = 10
    IDLE = 11
    PAUSE_EXIT = 12
    SPIN_BEGIN = 13
    """A guest task began to wait on the processor; place: 1 in its kernel, 0 in user mode."""
    SPIN_END = 14
    """It stopped waiting on the processor."""


class Event(NamedTuple):
    """One event."""

    when_ns: int
    kind: int
    vcpu: int
    place: int


class Sink(Protocol):
    """Where events go."""

    def record(self, when_ns: int, kind: int, vcpu: int, place: int) -> None:
        """Take note of one event."""


class Digest:
    """A running hash of the whole trace: same seed, same hash."""

    __slots__ = ("_hash", "_pending", "events")

    _FLUSH_AT = 16_384

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._pending: list[int] = []
        self.events = 0

    def record(self, when_ns: int, kind: int, vcpu: int, place: int) -> None:
        pending = self._pending
        pending += (when_ns, kind, vcpu, place)
        self.events += 1
        if len(pending) >= self._FLUSH_AT:
            self._flush()

    def _flush(self) -> None:
        self._hash.update(array("q", self._pending).tobytes())
        self._pending.clear()

    def hexdigest(self) -> str:
        """The hash of everything recorded so far."""
        self._flush()
        return self._hash.copy().hexdigest()


class Recording:
    """Keeps the events of a window, for pictures and tests.

    Attributes:
        events: Those kept, in order.
        from_ns: First instant kept.
        until_ns: First instant no longer kept.
        limit: No more than this many are kept.
    """

    __slots__ = ("events", "from_ns", "limit", "until_ns")

    def __init__(self, from_ns: int = 0, until_ns: int = 1 << 62, limit: int = 1_000_000) -> None:
        self.events: list[Event] = []
        self.from_ns = from_ns
        self.until_ns = until_ns
        self.limit = limit

    def record(self, when_ns: int, kind: int, vcpu: int, place: int) -> None:
        if self.from_ns <= when_ns < self.until_ns and len(self.events) < self.limit:
            self.events.append(Event(when_ns, kind, vcpu, place))


class Tee:
    """Passes each event to several sinks."""

    __slots__ = ("sinks",)

    def __init__(self, *sinks: Sink) -> None:
        self.sinks = sinks

    def record(self, when_ns: int, kind: int, vcpu: int, place: int) -> None:
        for sink in self.sinks:
            sink.record(when_ns, kind, vcpu, place)
