"""What the turns of a contest say: ratios with intervals, and which bound each policy meets.

A turn is one observation, however long it was measured: what differs from start to start of a policy is most of the
error, and two blocks of one turn share it. Ratios are between turns of the same round.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lab.compare import HALF_WIDTH
from lab.intervals import Bound, Interval, Verdict, median_interval, ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.turns import Book, Turn

OWN: Final = "adaptive"
"""Whose bounds decide."""
LEAST_ROUNDS: Final = 5
"""Fewer decide no bound of vcpud's own policy: the least from which a median has an interval, too."""
UNMANAGED: Final = "unmanaged"
BEST: Final = "best_static"


def together(rates: Mapping[str, float]) -> float:
    """What all guests get done."""
    return sum(rates.values())


def geometric(rates: Mapping[str, float]) -> float:
    """The geometric mean over kinds of phases, whose rates are too far apart to be added."""
    return math.prod(rates.values()) ** (1 / len(rates)) if rates else 0.0


def only(key: str) -> Callable[[Mapping[str, float]], float]:
    """What one guest gets done, or what is done in one kind of phase."""
    return lambda rates: rates[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A ratio that is taken of every policy.

    Attributes:
        figure: Its name in the results.
        against: The arms to compare with; of several the slowest, over all rounds.
        limit: What vcpud's own policy has to reach, None where nothing is asked.
        score: What of a turn counts.
    """

    figure: str
    against: tuple[str, ...]
    limit: float | None = None
    score: Callable[[Mapping[str, float]], float] = together

    @property
    def bound(self) -> Bound | None:
        """The bound, if there is one."""
        return None if self.limit is None else Bound(figure=self.figure, limit=self.limit)

    def interval(self, book: Book, policy: str) -> Interval | None:
        """Return this ratio of a policy; None where no round has both sides."""
        ratios = []
        for arm in self.against:
            # Where all vCPUs are the best static count there is no other turn for it.
            yardstick = book.of(arm) or (book.of(UNMANAGED) if arm == BEST else {})
            pairs = [
                (self.score(turn.rates), self.score(yardstick[number].rates))
                for number, turn in book.of(policy).items()
                if number in yardstick
            ]
            if pairs:
                ratios.append(ratio(pairs))
        return max(ratios, key=lambda found: found.value, default=None)

    def verdict(self, book: Book, policy: str) -> Verdict | None:
        """Return what may be said of the bound, None where there is none."""
        bound, interval = self.bound, self.interval(book, policy)
        if bound is None:
            return None
        few = policy == OWN and len(book.of(policy)) < LEAST_ROUNDS
        if interval is None or few:
            return Verdict.INCONCLUSIVE
        return bound.verdict(interval)

    def narrow(self, book: Book) -> bool:
        """Whether more rounds would tell no more of the own policy.

        The verdict does not matter here: who goes on until it is a pleasant one proves nothing.
        """
        interval = self.interval(book, OWN)
        if self.limit is None or self.limit >= 1.0:
            return True
        return interval is not None and interval.half_width <= min(HALF_WIDTH, 1.0 - self.limit)


def enough(book: Book, claims: Sequence[Claim]) -> bool:
    """Whether a part needs no further rounds."""
    return book.rounds >= LEAST_ROUNDS and all(claim.narrow(book) for claim in claims)


def standing(book: Book, claims: Sequence[Claim], policies: Sequence[str]) -> dict[str, Any]:
    """Return what the results hold of a part.

    Returns:
        ``rates`` by arm (median over its turns, interval, turns), by policy its ratios with intervals, what is to be
        said of each bound and how its turns went, and ``verdicts`` on the own policy.
    """
    arms = list(dict.fromkeys(turn.arm for turn in book.turns))
    found: dict[str, Any] = {
        "commit": book.commit,
        "code": book.code,
        "rounds": book.rounds,
        "best_static": book.best,
        "static": book.static,
        "rates": {arm: _rates(tuple(book.of(arm).values())) for arm in arms},
        "policies": {policy: _policy(book, claims, policy) for policy in policies},
        "verdicts": {},
    }
    for claim in claims:
        verdict = claim.verdict(book, OWN)
        if verdict is not None:
            found["verdicts"][str(claim.bound)] = str(verdict)
    return found


def _rates(turns: Sequence[Turn]) -> dict[str, Any]:
    found: dict[str, Any] = {"turns": len(turns)}
    for key in turns[0].rates:
        values = [turn.rates[key] for turn in turns]
        found[key] = {
            "median": statistics.median(values),
            "ci": median_interval(values).pair(),
        }
    return found


def _policy(book: Book, claims: Sequence[Claim], policy: str) -> dict[str, Any]:
    turns = tuple(book.of(policy).values())
    found: dict[str, Any] = {"turns": len(turns)}
    if not turns:
        return found
    found |= {
        "active": dict(turns[-1].active),
        "waited_s": [round(turn.waited_s, 1) for turn in turns],
        "changes": [turn.changes for turn in turns],
        "says": {},
    }
    for claim in claims:
        interval = claim.interval(book, policy)
        if interval is not None:
            found |= {claim.figure: interval.value, f"{claim.figure}_ci": interval.pair()}
        verdict = claim.verdict(book, policy)
        if verdict is not None:
            found["says"][str(claim.bound)] = str(verdict)
    return found
