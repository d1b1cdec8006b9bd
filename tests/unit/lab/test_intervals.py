"""What may be concluded from a few noisy pairs."""

import math

import pytest

from lab.intervals import Bound, Interval, Verdict, median_interval, ratio


def interval(low: float, high: float) -> Interval:
    return Interval(value=(low + high) / 2, low=low, high=high)


def test_equal_pairs_have_no_width() -> None:
    found = ratio([(2.0, 4.0), (3.0, 6.0), (1.0, 2.0)])
    assert found.value == pytest.approx(0.5)
    assert found.half_width == pytest.approx(0.0, abs=1e-12)


def test_the_interval_is_students_on_the_logarithms() -> None:
    found = ratio([(math.e, 1.0), (1.0, 1.0), (math.exp(0.5), 1.0)])
    assert found.value == pytest.approx(math.exp(0.5))
    assert math.log(found.high) == pytest.approx(0.5 + 4.303 * 0.5 / math.sqrt(3), rel=1e-3)


def test_one_pair_says_nothing_about_its_error() -> None:
    found = ratio([(1.0, 2.0)])
    assert (found.low, found.high) == (0.0, math.inf)


def test_a_block_without_one_iteration_is_a_very_small_rate() -> None:
    assert ratio([(0.0, 100.0), (0.0, 100.0)]).value < 1e-9


def test_pairs_as_far_apart_as_floats_go_stay_finite() -> None:
    found = ratio([(0.0, 1e12), (1e12, 0.0)])
    assert 0.0 <= found.low <= found.high < math.inf


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.81, 0.99, Verdict.PASS),
        (0.80, 0.99, Verdict.PASS),
        (0.50, 0.79, Verdict.FAIL),
        (0.50, 0.90, Verdict.INCONCLUSIVE),
    ],
)
def test_a_bound_fails_only_when_the_whole_interval_is_below(
    low: float, high: float, verdict: Verdict
) -> None:
    assert Bound(figure="x", limit=0.8).verdict(interval(low, high)) is verdict


def test_an_upper_bound_is_the_mirror_image() -> None:
    bound = Bound(figure="x", limit=30.0, at_least=False)
    assert bound.verdict(interval(10.0, 29.0)) is Verdict.PASS
    assert bound.verdict(interval(31.0, 40.0)) is Verdict.FAIL
    assert bound.verdict(interval(29.0, 31.0)) is Verdict.INCONCLUSIVE


def test_a_bound_that_decides_nothing_is_never_failed() -> None:
    bound = Bound(figure="x", limit=0.02, at_least=False, decisive=False)
    assert bound.verdict(interval(0.1, 0.2)) is Verdict.INCONCLUSIVE


def test_the_median_of_five_runs_has_their_extremes_as_its_interval() -> None:
    found = median_interval([3.0, 1.0, 2.0, 9.0, 4.0])
    assert (found.value, found.low, found.high) == (3.0, 1.0, 9.0)


def test_the_median_of_many_runs_leaves_the_outermost_out() -> None:
    found = median_interval([float(value) for value in range(1, 21)])
    assert (found.value, found.low, found.high) == (10.5, 6.0, 15.0)


def test_the_median_of_a_few_runs_says_nothing_of_its_error() -> None:
    found = median_interval([1.0, 2.0, 3.0])
    assert (found.low, found.high) == (0.0, math.inf)
