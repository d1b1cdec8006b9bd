"""Something is looked at again and again while other things are measured."""

from __future__ import annotations

import threading

from lab.sampler import Sampler


class Counted(Sampler):
    def __init__(self, period_s: float) -> None:
        super().__init__(period_s)
        self.looks = 0
        self.thrice = threading.Event()

    def look(self) -> None:
        self.looks += 1
        if self.looks == 3:
            self.thrice.set()


def test_it_goes_on_until_it_is_left_and_no_longer() -> None:
    with Counted(0.001) as sampler:
        assert sampler.thrice.wait(10)
    seen = sampler.looks
    sampler.thrice.clear()
    assert not sampler.thrice.wait(0.02)
    assert sampler.looks == seen >= 3


def test_it_looks_once_at_least() -> None:
    with Counted(3600.0) as sampler:
        pass
    assert sampler.looks == 1
