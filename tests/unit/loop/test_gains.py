"""How likely an order of windows is where nothing sets those before and after apart."""

from __future__ import annotations

from itertools import combinations

import pytest

from vcpud.demand import Progress
from vcpud.gains import chance, compared, inversions
from vcpud.units import NS_PER_S


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


def windows(*rates: float, most: float | None = None) -> tuple[Progress, ...]:
    return tuple(
        Progress(
            began_at_ns=place * 5 * NS_PER_S,
            ended_at_ns=(place + 1) * 5 * NS_PER_S,
            rate_pcpus=rate,
            active_vcpus=4,
            most_pcpus=most,
        )
        for place, rate in enumerate(rates)
    )


def test_a_gain_is_one_over_what_progress_was_at_most_and_a_loss_one_of_what_was_seen() -> None:
    after = windows(1.5, 1.5)
    for most, helped in ((None, True), (1.1, True), (1.5, False), (3.0, False)):
        gain = compared(windows(1.0, 1.0, most=most), after, None, 2.0)
        assert gain is not None
        assert (gain.helped, gain.harmed) == (helped, False)
    lost = compared(windows(1.0, 1.0, most=3.0), windows(0.5, 0.5), None, 2.0)
    assert lost is not None
    assert lost.harmed
    beyond = compared(windows(2.0, 2.0, most=3.0), windows(1.5, 1.5), 1.0, 2.0)
    assert beyond is not None
    assert (beyond.before_most, beyond.harmed) == (1.0, False), (
        "what it was not due does not count"
    )
