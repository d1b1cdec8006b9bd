"""A sitting plays whole rounds, keeps each, and stops when they say enough or the time is over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from lab.contest import Part, Seen
from lab.sitting import sit
from lab.standings import BEST, LEAST_ROUNDS, OWN, UNMANAGED, Claim
from lab.turns import Book, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLAIMS = (Claim(figure="over_best_static", against=(BEST,), limit=0.90),)


class Played(Part):
    """A part whose guests are as fast as is said."""

    def __init__(self, rates: dict[str, float]) -> None:
        self.rates = rates
        self.order: list[str] = []

    def begin(self, book: Book) -> None:
        raise NotImplementedError

    def yardsticks(self, book: Book) -> dict[str, Callable[[], Seen]]:  # noqa: ARG002
        return {UNMANAGED: lambda: self.policy(UNMANAGED), BEST: lambda: self.policy(BEST)}

    def policy(self, name: str) -> Seen:
        self.order.append(name)
        if name not in self.rates:
            raise RuntimeError(name)
        return Seen(rates={"g1": self.rates[name]}, active={"g1": 1})


def everybody(rate: float) -> dict[str, float]:
    names = ("spin_feedback", "extendability", "steal_governor", "folding", "rules")
    return dict.fromkeys((OWN, UNMANAGED, BEST, *names), rate)


def empty() -> Book:
    return Book(code="c", commit="1234", host={})


def test_rounds_are_played_until_they_say_enough_in_turns_of_order(tmp_path: Path) -> None:
    part, book, path = Played(everybody(2.0)), empty(), tmp_path / "kernel_lock.json"
    sit(part, book, CLAIMS, path, time.monotonic() + 60, expected_s=0.0)
    assert book.rounds == LEAST_ROUNDS
    assert read(path) == book
    assert part.order[:5] == [UNMANAGED, BEST, OWN, "spin_feedback", "extendability"]
    assert part.order[5:10] == ["folding", "steal_governor", OWN, BEST, UNMANAGED]
    before = len(part.order)
    sit(part, book, CLAIMS, path, time.monotonic() + 60, expected_s=0.0)
    assert len(part.order) == before, "enough is enough in another sitting, too"


def test_no_round_is_begun_that_cannot_be_finished(tmp_path: Path) -> None:
    part = Played(everybody(2.0))
    sit(part, empty(), CLAIMS, tmp_path / "x.json", time.monotonic() + 60, expected_s=100.0)
    assert part.order == []


def test_a_round_that_breaks_is_not_kept_and_those_before_it_are(tmp_path: Path) -> None:
    rates = everybody(2.0)
    del rates["rules"]  # its turn is in the third round
    book, path = empty(), tmp_path / "x.json"
    with pytest.raises(RuntimeError, match="rules"):
        sit(Played(rates), book, CLAIMS, path, time.monotonic() + 60, expected_s=0.0)
    kept = read(path)
    assert kept is not None
    assert kept.rounds == 2
