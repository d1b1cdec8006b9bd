"""How likely an order of windows is where nothing sets those before and after apart."""

from __future__ import annotations

from itertools import combinations

import pytest

from vcpud.demand import Progress
from vcpud.gains import chance, compared, inversions


@pytest.mark.parametrize("before", range(1, 5))
@pytest.mark.parametrize("after", range(1, 6))
def test_the_chance_of_an_order_is_how_many_orders_are_as_good(before: int, after: int) -> None:
    places = range(before + after)
    orders = [(one, [p for p in places if p not in one]) for one in combinations(places, before)]
    for was, since in orders:
        as_good = [o for o in orders if inversions(*o) <= inversions(was, since)]
        assert chance(was, since) == pytest.approx(len(as_good) / len(orders))


def test_equal_windows_speak_against_a_gain_and_none_say_nothing() -> None:
    assert inversions([1.0, 1.0], [1.0, 2.0]) == 2
    assert chance([1.0, 1.0], [1.0, 1.0, 1.0]) == 1.0
    assert chance([], [1.0, 2.0]) == 1.0
    assert chance([1.0, 2.0], []) == 1.0


def windows(*rates: float) -> tuple[Progress, ...]:
    return tuple(
        Progress(began_at_ns=at, ended_at_ns=at + 1, rate_pcpus=rate, active_vcpus=1)
        for at, rate in enumerate(rates)
    )


@pytest.mark.parametrize(
    ("was", "since", "more"),
    [(0.003, 0.005, False), (0.003, 0.03, True), (1.0, 1.04, False), (1.0, 1.06, True)],
)
def test_of_next_to_nothing_a_little_more_is_none(was: float, since: float, more: bool) -> None:
    """However steady both are, and however many times the one is the other."""
    gain = compared(windows(*[was] * 4), windows(*[since] * 8), None, 2.0)
    assert gain is not None
    assert gain.seems_more is more
    assert gain.outranks(last=True)
