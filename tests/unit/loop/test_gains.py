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


def windows(
    *rates: float, most: float | None = None, used: float | None = None
) -> tuple[Progress, ...]:
    return tuple(
        Progress(
            began_at_ns=at,
            ended_at_ns=at + 1,
            rate_pcpus=rate,
            active_vcpus=1,
            worth_ratio=None if used is None else rate / used,
            most_pcpus=most,
        )
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


@pytest.mark.parametrize(
    ("used", "most", "gained"),
    [
        (1.7, None, True),
        (1.7, 1.3, False),  # on one vCPU it cannot use so much, and may have made good use of it
        (1.7, 0.5, True),
        (1.0, 1.3, True),  # it has given up nothing
    ],
)
def test_who_gives_up_processor_time_has_gained_only_beyond_the_most_it_may_have_made_of_it(
    used: float, most: float | None, gained: bool
) -> None:
    larger, smaller = windows(0.3, 0.3, most=most, used=used), windows(0.7, 0.7, used=1.0)
    shrunk = compared(larger, smaller, None, 2.0, moved=(8, 1))
    assert shrunk is not None
    assert (shrunk.helped, shrunk.harmed) == (gained, False)
    grown = compared(smaller, larger, None, 2.0, moved=(1, 8))
    assert grown is not None
    assert (grown.helped, grown.harmed) == (False, gained), "nor does it lose by getting it back"


def test_what_it_was_not_due_counts_neither_at_least_nor_at_most() -> None:
    had = windows(2.0, 2.0, most=3.0, used=3.0)
    beyond = compared(had, windows(1.5, 1.5), 1.0, 2.0, moved=(4, 2))
    assert beyond is not None
    assert (beyond.before, beyond.before_most, beyond.harmed) == (1.0, 1.0, False)


@pytest.mark.parametrize(
    ("was", "since", "moved", "told"),
    [
        ([1.0, 1.02, 0.98], [0.8], (2, 1), True),
        ([1.0, 1.02, 0.98], [0.9], (2, 1), False),  # that may be noise
        ([1.3, 1.0, 0.7], [0.6], (2, 1), False),  # and so may this, of one that strays so far
        ([1.3, 1.0, 0.7], [0.55, 0.55], (2, 1), True),
        ([1.0, 1.0], [0.7], (2, 1), False),  # by how much it strays is not known from two
        ([1.0, 1.02, 0.98], [0.7], (1, 2), False),  # nothing was taken from it
        ([1.0, 1.02, 0.98], [0.7], None, False),
        ([1.0, 1.02, 0.98], [1.3], (2, 1), False),  # a gain can wait
    ],
)
def test_a_loss_that_is_clear_in_one_window_after_vcpus_were_taken_need_not_wait_for_the_second(
    was: list[float], since: list[float], moved: tuple[int, int] | None, told: bool
) -> None:
    gain = compared(windows(*was), windows(*since), None, 2.0, moved=moved)
    assert (gain is not None) is told
    assert gain is None or gain.harmed
