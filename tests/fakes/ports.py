"""The other ports of the loop, beside the host: a clock, a ledger, an inbox and a recorder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from vcpud.model import Original, Uuid
from vcpud.ports import Wake
from vcpud.record import CycleRecord
from vcpud.requests import Request
from vcpud.units import NS_PER_S


class SimulatedClock:
    """Time that moves only when somebody waits; everything scheduled happens on the way."""

    def __init__(
        self, *, start_ns: int = 1000 * NS_PER_S, stop_after_ns: int | None = None
    ) -> None:
        self.start_ns = self._now_ns = start_ns
        self._stop_at_ns = None if stop_after_ns is None else start_ns + stop_after_ns
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._wakes: deque[Wake] = deque()
        self.advance: Callable[[int, int], None] = lambda _before, _after: None

    def now_ns(self) -> int:
        return self._now_ns

    def after(self, delay_ns: int, action: Callable[[], None]) -> None:
        """Have something happen later."""
        self._sequence += 1
        self._events.append((self._now_ns + delay_ns, self._sequence, action))
        self._events.sort(key=lambda event: event[:2])

    def stop_at(self, at_ns: int) -> None:
        """Report STOP once when this instant comes."""
        self._stop_at_ns = at_ns

    def wake(self) -> None:
        self._wakes.append(Wake.EVENT)

    def stop(self) -> None:
        self._wakes.appendleft(Wake.STOP)

    def close(self) -> None:
        """Nothing to give back."""

    def wait_until(self, deadline_ns: int) -> Wake:
        while True:
            if self._wakes:
                wake = self._wakes.popleft()
                if wake is Wake.EVENT:  # several bells before one wait are one
                    self._wakes = deque(w for w in self._wakes if w is not Wake.EVENT)
                return wake
            if self._stop_at_ns is not None and self._now_ns >= self._stop_at_ns:
                self._stop_at_ns = None
                return Wake.STOP
            if self._now_ns >= deadline_ns:
                return Wake.TIMER
            limits = [deadline_ns]
            if self._events:
                limits.append(self._events[0][0])
            if self._stop_at_ns is not None:
                limits.append(self._stop_at_ns)
            self._move_to(max(self._now_ns, min(limits)))

    def _move_to(self, at_ns: int) -> None:
        if at_ns > self._now_ns:
            before, self._now_ns = self._now_ns, at_ns
            self.advance(before, at_ns)
        while self._events and self._events[0][0] <= self._now_ns:
            _, _, action = self._events.pop(0)
            action()


class MemoryLedger:
    """The `Ledger` port in memory, with settable failure."""

    def __init__(self, *originals: Original) -> None:
        self.kept: dict[Uuid, Original] = {original.uuid: original for original in originals}
        self.lost = False
        self.error: Exception | None = None

    def remember(self, *originals: Original) -> None:
        if self.error is not None:
            raise self.error
        for original in originals:
            self.kept.setdefault(original.uuid, original)

    def amend(self, original: Original) -> None:
        if self.error is not None:
            raise self.error
        self.kept[original.uuid] = original

    def forget(self, *uuids: Uuid) -> None:
        if self.error is not None:
            raise self.error
        for uuid in uuids:
            self.kept.pop(uuid, None)

    def outstanding(self) -> tuple[Original, ...]:
        return tuple(self.kept.values())


class ListInbox:
    """The `Inbox` port over a list."""

    def __init__(self) -> None:
        self.pending: list[Request] = []

    def drain(self) -> tuple[Request, ...]:
        taken, self.pending = tuple(self.pending), []
        return taken


class ListRecorder:
    """The `Recorder` port over a list."""

    def __init__(self) -> None:
        self.records: list[CycleRecord] = []

    def record(self, record: CycleRecord) -> None:
        self.records.append(record)

    @property
    def last(self) -> CycleRecord:
        return self.records[-1]
