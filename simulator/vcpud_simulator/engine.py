"""Simulated time: a heap of timers in integer nanoseconds. Knows nothing of processors.

Entries are `(when_ns, sequence, timer)`: ties are broken by the order of arming, timers are never
compared, and a timer that was cancelled or armed anew leaves a stale entry that is skipped. Work
that must follow the running callback at the same instant, but not inside it, goes through `soon`:
it is the hypervisor's "softirq", and it keeps the model free of recursion.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

NEVER: Final = 1 << 62
"""An instant (146 years) that no simulation reaches."""

_COMPACT_AT: Final = 4096
_COMPACT_EVERY: Final = 1023


class Timer:
    """Something that will happen once, until armed again.

    Attributes:
        callback: Called without arguments when the time has come.
        sequence: Identity of the live heap entry; 0 when not armed.
    """

    __slots__ = ("callback", "sequence")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.sequence = 0

    @property
    def armed(self) -> bool:
        return self.sequence != 0

    def cancel(self) -> None:
        """Make sure it does not happen; harmless when it is not armed."""
        self.sequence = 0


def _nothing() -> None:
    """It only ends a run."""


class Engine:
    """The event loop.

    Attributes:
        now_ns: The simulated instant.
        fired: Timers that have fired so far.
        soon: Callbacks to run at this instant, after the running one, in order.
        heap: What is armed, and stale entries.
        sequence: Of the last entry.
    """

    __slots__ = ("_compact_at", "fired", "heap", "now_ns", "sequence", "soon")

    def __init__(self) -> None:
        self.now_ns = 0
        self.fired = 0
        self.soon: deque[Callable[[], None]] = deque()
        self.heap: list[tuple[int, int, Timer]] = []
        self.sequence = 0
        self._compact_at = _COMPACT_AT

    def at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        """A new timer, armed for that instant."""
        timer = Timer(callback)
        self.arm(timer, when_ns)
        return timer

    def after(self, delay_ns: int, callback: Callable[[], None]) -> Timer:
        """A new timer, armed for that long from now."""
        return self.at(self.now_ns + delay_ns, callback)

    def arm(self, timer: Timer, when_ns: int) -> None:
        """Arm a timer, replacing what it was armed for.

        Raises:
            ValueError: The instant has passed.
        """
        if when_ns < self.now_ns:
            raise ValueError(f"a timer was armed for {when_ns} ns, but it is {self.now_ns} ns")
        self.sequence = sequence = self.sequence + 1
        timer.sequence = sequence
        heappush(self.heap, (when_ns, sequence, timer))

    def _compact(self) -> None:
        self.heap[:] = [entry for entry in self.heap if entry[1] == entry[2].sequence]
        heapify(self.heap)
        self._compact_at = max(_COMPACT_AT, 2 * len(self.heap))

    def run_until(self, deadline_ns: int) -> None:
        """Let everything up to and including the deadline happen; the clock ends there.

        Raises:
            ValueError: The deadline has passed.
        """
        if deadline_ns < self.now_ns:
            raise ValueError(f"cannot run until {deadline_ns} ns, it is {self.now_ns} ns")
        heap, soon, next_soon, pop = self.heap, self.soon, self.soon.popleft, heappop
        while soon:
            next_soon()()
        end = Timer(_nothing)  # behind whatever else is due at that instant
        end.sequence = NEVER
        heappush(heap, (deadline_ns, NEVER, end))
        fired = 0
        try:
            while True:
                when_ns, sequence, timer = pop(heap)
                if timer.sequence != sequence:
                    continue
                self.now_ns = when_ns
                if timer is end:
                    break
                timer.sequence = 0
                fired += 1
                if not fired & _COMPACT_EVERY and len(heap) > self._compact_at:
                    self._compact()
                timer.callback()
                while soon:
                    next_soon()()
        finally:
            end.sequence = 0
            self.fired += fired
