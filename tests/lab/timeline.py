"""What every guest did over time, sampled from the boards by a thread of the lab's own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.domain import Guest

PERIOD_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """All guests at one moment.

    Attributes:
        at_ns: Host's monotonic clock.
        iterations: Work done so far, by guest.
        active: Online CPUs, by guest.
    """

    at_ns: int
    iterations: Mapping[str, int]
    active: Mapping[str, int]


class Timeline(Sampler):
    """Samples guests from entering to leaving its context."""

    def __init__(self, guests: Sequence[Guest]) -> None:
        """Take the guests to sample."""
        super().__init__(PERIOD_S)
        self._guests = tuple(guests)
        self.moments: list[Moment] = []

    def look(self) -> None:
        """Note what every guest has done by now."""
        self.moments.append(
            Moment(
                at_ns=time.monotonic_ns(),
                iterations={g.name: g.board.progress().iterations for g in self._guests},
                active={g.name: len(g.board.online) for g in self._guests},
            )
        )


def rates(moments: Sequence[Moment], window_s: float = 2.0) -> list[tuple[int, float]]:
    """Return (time in ns, iterations per second of all guests over the window before it)."""
    found = []
    first = 0
    for last, moment in enumerate(moments):
        while first + 1 < last and (moment.at_ns - moments[first + 1].at_ns) / 1e9 >= window_s:
            first += 1
        elapsed_s = (moment.at_ns - moments[first].at_ns) / 1e9
        if elapsed_s > window_s / 2:
            done = sum(moment.iterations.values()) - sum(moments[first].iterations.values())
            found.append((moment.at_ns, done / elapsed_s))
    return found


def settle_s(moments: Sequence[Moment], started_ns: int, steady_s: float = 20.0) -> float | None:
    """Return how long after ``started_ns`` 90 % of the steady rate was first reached.

    The steady rate is the mean over the last ``steady_s`` of the timeline. None if never.
    """
    after = [pair for pair in rates(moments) if pair[0] >= started_ns]
    if not after:
        return None
    end_ns = moments[-1].at_ns
    late = [moment for moment in moments if moment.at_ns >= end_ns - steady_s * 1e9]
    done = sum(late[-1].iterations.values()) - sum(late[0].iterations.values())
    steady = done / max((late[-1].at_ns - late[0].at_ns) / 1e9, 1e-9)
    for at_ns, rate in after:
        if rate >= 0.9 * steady:
            return (at_ns - started_ns) / 1e9
    return None
