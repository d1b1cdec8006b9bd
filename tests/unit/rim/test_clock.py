"""Waiting: deadlines, bells and stops, also from signal handlers and other threads."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from fakes.ports import SimulatedClock
from vcpud.clock import Interruptible, MonotonicClock
from vcpud.ports import Wake
from vcpud.units import NS_PER_MS, NS_PER_S

FAR_NS = 30 * NS_PER_S


@pytest.fixture
def clock() -> Iterator[MonotonicClock]:
    made = MonotonicClock()
    yield made
    made.close()


def test_it_never_wakes_before_the_deadline(clock: MonotonicClock) -> None:
    deadline_ns = clock.now_ns() + 3 * NS_PER_MS
    assert clock.wait_until(deadline_ns) is Wake.TIMER
    assert clock.now_ns() >= deadline_ns


def test_a_deadline_that_has_passed_returns_at_once(clock: MonotonicClock) -> None:
    assert clock.wait_until(0) is Wake.TIMER


def test_bells_before_one_wait_are_one(clock: MonotonicClock) -> None:
    clock.wake()
    clock.wake()
    assert clock.wait_until(clock.now_ns() + FAR_NS) is Wake.EVENT
    assert clock.wait_until(0) is Wake.TIMER


def test_each_request_to_stop_is_reported_once_and_before_bells(clock: MonotonicClock) -> None:
    clock.wake()
    clock.stop()
    clock.stop()
    far_ns = clock.now_ns() + FAR_NS
    assert [clock.wait_until(far_ns) for _ in range(3)] == [Wake.STOP, Wake.STOP, Wake.EVENT]
    assert clock.wait_until(0) is Wake.TIMER


def test_a_bell_is_heard_even_when_the_deadline_has_passed(clock: MonotonicClock) -> None:
    clock.wake()
    assert clock.wait_until(0) is Wake.EVENT


def test_another_thread_ends_a_wait(clock: MonotonicClock) -> None:
    thread = threading.Thread(target=clock.wake)
    thread.start()
    assert clock.wait_until(clock.now_ns() + FAR_NS) is Wake.EVENT
    thread.join()


def test_a_signal_handler_ends_a_wait(clock: MonotonicClock) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: clock.stop())
    try:
        thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1))
        thread.start()
        assert clock.wait_until(clock.now_ns() + FAR_NS) is Wake.STOP
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_simulated_clock_can_be_stopped_too() -> None:
    inner = SimulatedClock()
    clock = Interruptible(inner)
    start_ns = clock.now_ns()
    assert clock.wait_until(start_ns + NS_PER_S) is Wake.TIMER
    clock.stop()
    assert clock.wait_until(start_ns + 2 * NS_PER_S) is Wake.STOP
    assert clock.now_ns() == start_ns + NS_PER_S
    assert clock.wait_until(start_ns + 2 * NS_PER_S) is Wake.TIMER
