from __future__ import annotations

from functools import partial

import pytest

from vcpud_simulator.engine import Engine, Timer


def test_timers_of_one_instant_fire_in_the_order_in_which_they_were_armed() -> None:
    engine = Engine()
    seen: list[int] = []
    for number in range(5):
        engine.at(10, partial(seen.append, number))
    engine.run_until(10)
    assert seen == [0, 1, 2, 3, 4]


def test_a_cancelled_timer_does_not_fire() -> None:
    engine = Engine()
    seen: list[str] = []
    engine.at(5, lambda: seen.append("no")).cancel()
    engine.run_until(100)
    assert seen == []
    assert engine.now_ns == 100


def test_a_timer_armed_anew_fires_once_at_its_new_instant() -> None:
    engine = Engine()
    seen: list[int] = []
    timer = Timer(lambda: seen.append(engine.now_ns))
    engine.arm(timer, 5)
    engine.arm(timer, 9)
    engine.run_until(20)
    assert seen == [9]
    assert not timer.armed


def test_what_is_due_soon_follows_at_the_same_instant_and_before_the_next_timer() -> None:
    engine = Engine()
    seen: list[str] = []

    def first() -> None:
        engine.soon.append(lambda: seen.append("soon"))
        seen.append("first")

    engine.at(1, first)
    engine.at(1, lambda: seen.append("second"))
    engine.run_until(1)
    assert seen == ["first", "soon", "second"]


def test_stale_entries_do_not_pile_up() -> None:
    engine = Engine()
    far = Timer(lambda: None)

    def again() -> None:
        engine.arm(far, 1 << 40)
        engine.after(1, again)

    engine.at(0, again)
    engine.run_until(50_000)
    assert len(engine.heap) < 10_000


def test_time_does_not_go_backwards() -> None:
    engine = Engine()
    engine.run_until(10)
    with pytest.raises(ValueError, match="9"):
        engine.at(9, lambda: None)
    with pytest.raises(ValueError, match="9"):
        engine.run_until(9)
