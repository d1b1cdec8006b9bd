"""Real time: the monotonic clock, and the one place where the daemon waits.

`wake` and `stop` only write to an eventfd, so they may be called from threads and from signal
handlers, at any moment, also while the loop is inside `wait_until`.
"""

from __future__ import annotations

import os
import select
import time

from vcpud.ports import Clock, Wake
from vcpud.units import NS_PER_MS

_TURN_NS = 100 * NS_PER_MS
"""How long a request to stop may have to wait while another clock waits."""


class MonotonicClock:
    """The `Clock` port over CLOCK_MONOTONIC."""

    __slots__ = ("_bell", "_poll", "_stops")

    def __init__(self) -> None:
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # A semaphore: each read takes one, so every request to stop is reported exactly once.
        self._stops = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC | os.EFD_SEMAPHORE)
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)
        self._poll.register(self._stops, select.POLLIN)

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def wait_until(self, deadline_ns: int) -> Wake:
        while True:
            left_ns = deadline_ns - time.monotonic_ns()
            rung = {fd for fd, _ in self._poll.poll(max(0.0, left_ns / NS_PER_MS))}
            if self._stops in rung and _take(self._stops):
                return Wake.STOP
            if self._bell in rung and _take(self._bell):
                return Wake.EVENT
            if time.monotonic_ns() >= deadline_ns:
                return Wake.TIMER

    def wake(self) -> None:
        """Ask for an early cycle; several before the next wait count as one."""
        os.eventfd_write(self._bell, 1)

    def stop(self) -> None:
        """Ask the loop to stop."""
        os.eventfd_write(self._stops, 1)

    def close(self) -> None:
        """Give the descriptors back; the clock cannot be waited on afterwards."""
        for fd in (self._bell, self._stops):
            self._poll.unregister(fd)
            os.close(fd)


class Interruptible:
    """Another clock (a simulated one) that can be asked to stop, or for an early cycle, as well."""

    __slots__ = ("_inner", "_stops", "_woken")

    def __init__(self, inner: Clock) -> None:
        self._inner = inner
        self._stops = 0
        self._woken = False

    def now_ns(self) -> int:
        return self._inner.now_ns()

    def wait_until(self, deadline_ns: int) -> Wake:
        """Wait in short turns: a clock that keeps pace with the wall clock may take its time."""
        while True:
            if self._stops:
                self._stops -= 1
                return Wake.STOP
            if self._woken:
                self._woken = False
                return Wake.EVENT
            turn_ns = min(deadline_ns, self._inner.now_ns() + _TURN_NS)
            wake = self._inner.wait_until(turn_ns)
            if wake is not Wake.TIMER or turn_ns >= deadline_ns:
                return wake

    def wake(self) -> None:
        """Ask for an early cycle; several before the next wait count as one."""
        self._woken = True

    def stop(self) -> None:
        """Ask the loop to stop."""
        self._stops += 1

    def close(self) -> None:
        """Nothing to give back."""


def _take(fd: int) -> bool:
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        return False
    return True
