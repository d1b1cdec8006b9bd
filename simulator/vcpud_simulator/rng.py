"""Chance: the only place where random numbers are made.

One seed feeds any number of named streams. Each consumer owns a stream, so a change of scheduler
does not change what the workloads draw (common random numbers), and adding a domain does not
disturb the others.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


class Stream:
    """Random numbers of one consumer; durations are whole nanoseconds."""

    __slots__ = ("_gauss", "_random")

    def __init__(self, name: str) -> None:
        source = random.Random(name)  # noqa: S311 - a simulation, not a secret
        self._random = source.random
        self._gauss = source.gauss

    def unit(self) -> float:
        """Uniform in [0, 1)."""
        return self._random()

    def below(self, bound: int) -> int:
        """Uniform integer in [0, bound)."""
        return int(self._random() * bound)

    def choose(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[int(self._random() * len(items))]

    def uniform_ns(self, low_ns: int, high_ns: int) -> int:
        """Uniform in [low_ns, high_ns)."""
        return low_ns + int(self._random() * (high_ns - low_ns))

    def exponential_ns(self, mean_ns: int) -> int:
        """Exponential with that mean: memoryless gaps."""
        return int(-mean_ns * math.log(1.0 - self._random()))

    def around_ns(self, mean_ns: int, cv_ratio: float) -> int:
        """Normal around the mean, cut at a tenth and at twice of it; exact when cv_ratio is 0."""
        if cv_ratio == 0:
            return mean_ns
        drawn = mean_ns * (1.0 + cv_ratio * self._gauss(0.0, 1.0))
        return int(min(2.0 * mean_ns, max(0.1 * mean_ns, drawn)))


class Chance:
    """The one seeded source.

    Attributes:
        seed: Same seed, same run.
    """

    __slots__ = ("seed",)

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def stream(self, *name: object) -> Stream:
        """The stream of that name; the same name gives the same numbers again."""
        return Stream("/".join(str(part) for part in (self.seed, *name)))
