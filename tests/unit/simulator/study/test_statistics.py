from __future__ import annotations

import math
from itertools import pairwise

import pytest

from vcpud_simulator.laboratory.statistics import (
    Interval,
    Side,
    disjoint,
    mean,
    ratio,
    side,
    t_quantile,
)
from vcpud_simulator.rng import Stream


def test_one_value_says_nothing_of_its_error() -> None:
    found = mean([3.0])
    assert (found.value, found.low, found.high) == (3.0, -math.inf, math.inf)
    assert found.pair() == [None, None]
    assert ratio([(1.0, 2.0)]).pair() == [0.0, None]


def test_three_equal_values_have_no_error() -> None:
    assert mean([2.0, 2.0, 2.0]) == Interval(value=2.0, low=2.0, high=2.0)


def test_a_textbook_interval() -> None:
    found = mean([1.0, 2.0, 3.0])
    assert found.high - found.value == pytest.approx(4.303 / math.sqrt(3))


def test_the_interval_of_normal_values_covers_the_truth_as_often_as_it_says() -> None:
    chance = Stream("coverage")
    samples = [
        mean([chance.around_ns(1_000_000, 0.05) / 1e6 for _ in range(3)]) for _ in range(4_000)
    ]
    covered = sum(found.low <= 1.0 <= found.high for found in samples) / len(samples)
    assert covered == pytest.approx(0.95, abs=0.015)


def test_pairing_takes_out_what_both_sides_have_in_common() -> None:
    found = ratio([(2.0, 1.0), (20.0, 10.0), (0.2, 0.1)])
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))


def test_a_rate_of_nothing_is_a_very_small_ratio_and_no_error() -> None:
    found = ratio([(0.0, 5.0), (0.0, 5.0)])
    assert 0 < found.value < 1e-8


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.98, 1.0, Side.WITHIN), (0.9, 0.96, Side.BEYOND), (0.96, 0.98, Side.ACROSS)],
)
def test_a_bound_is_met_or_missed_by_whole_intervals_only(
    low: float, high: float, expected: Side
) -> None:
    found = Interval(value=(low + high) / 2, low=low, high=high)
    assert side(found, at_least=0.97) is expected
    mirrored = Interval(value=-found.value, low=-high, high=-low)
    assert side(mirrored, at_most=-0.97) is expected


def test_two_bounds_must_both_be_met() -> None:
    inside = Interval(value=1.0, low=0.95, high=1.05)
    assert side(inside, at_least=0.9, at_most=1.1) is Side.WITHIN
    assert side(inside, at_least=1.0, at_most=1.1) is Side.ACROSS
    assert side(inside, at_least=0.5, at_most=0.9) is Side.BEYOND


def test_touching_intervals_are_not_disjoint() -> None:
    low, high = Interval(value=1, low=0, high=2), Interval(value=3, low=2, high=4)
    assert not disjoint(low, high)
    assert disjoint(low, Interval(value=3, low=2.1, high=4))


def test_quantiles_shrink_with_the_degrees_of_freedom() -> None:
    quantiles = [t_quantile(degrees) for degrees in range(1, 60)]
    assert all(first >= second for first, second in pairwise(quantiles))
