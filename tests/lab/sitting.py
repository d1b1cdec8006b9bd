"""Sittings of the contest: whole rounds in which all who are judged take a turn, until they say enough.

vcpud's own policy and what it is compared with take a turn in every round, a few of the other policies with them; each
round goes in the reverse order of the one before. A sitting is long enough for one verdict, six rounds as they are
expected to last; the rounds of several add up (`turns`).
"""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import TYPE_CHECKING, Any, Final

from lab.contest import PARTS
from lab.host import lasting
from lab.paths import BUILD
from lab.results import commit, revision
from lab.stage import say
from lab.standings import LEAST_ROUNDS, OWN, enough, standing
from lab.turns import Turn, opened, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lab.contest import Part
    from lab.stage import Stage
    from lab.standings import Claim
    from lab.turns import Book

OTHERS: Final = ("spin_feedback", "extendability", "steal_governor", "folding", "rules")
"""With the parameters of their sources (policies/presets); ``static`` is what is called unmanaged here."""
POLICIES: Final = (OWN, *OTHERS)
SITTING_S: Final = {name: (LEAST_ROUNDS + 1) * entry.round_s for name, entry in PARTS.items()}
"""By part: one round more than a verdict takes, for guests that start and rounds that last longer."""
LIMIT_S: Final = sum(SITTING_S.values())
MEASURED: Final = ("vcpud", "policies", "deploy/guest", "tests/lab/guest", "tests/lab/contest.py")
"""What the figures depend on: turns of one state of these may be put together."""
SHELF: Final = BUILD / "contest"


def others(number: int, a_round: int) -> tuple[str, ...]:
    """Return which of the other policies take a turn in one round; over many, everybody does as often."""
    return tuple(OTHERS[(number * a_round + place) % len(OTHERS)] for place in range(a_round))


def run_part(stage: Stage, name: str, host: Mapping[str, Any]) -> dict[str, Any]:
    """Let everybody take turns for one sitting; returns where they stand, earlier sittings included."""
    until_s = min(time.monotonic() + SITTING_S[name], stage.ends_s)
    entry = PARTS[name]
    part, claims = entry.part(stage), entry.claims
    path = _shelved(name)
    book = opened(path, code=revision(MEASURED), commit=commit(), host=lasting(host))
    if book.turns:
        say(f"  {book.rounds} rounds from earlier sittings")
    part.begin(book)
    sit(part, book, claims, path, until_s, expected_s=entry.round_s)
    stage.end_vcpud()
    found = standing(book, claims, POLICIES)
    _tell(found)
    return found


def kept(host: Mapping[str, Any]) -> dict[str, Any]:
    """Return where everybody stands in the parts that were ever played on this host, each with its own commit."""
    found = {}
    for name, entry in PARTS.items():
        book = read(_shelved(name))
        if book is not None and book.host == lasting(host):
            found[name] = standing(book, entry.claims, POLICIES)
    return found


def _shelved(name: str) -> Path:
    return SHELF / f"{name}.json"


def sit(  # noqa: PLR0913 - each a word of one sentence
    part: Part,
    book: Book,
    claims: Sequence[Claim],
    path: Path,
    until_s: float,
    *,
    expected_s: float,
) -> None:
    """Play rounds until they say enough, or the next would last too long."""
    last_s = expected_s
    while not enough(book, claims):
        if time.monotonic() + last_s > until_s:
            say("  the sitting is over; another one goes on from here")
            return
        number, began_s = book.rounds, time.monotonic()
        turns = part.yardsticks(book) | {
            name: functools.partial(part.policy, name)
            for name in (OWN, *others(number, part.others_a_round))
        }
        played = []
        for arm in list(turns)[:: 1 if number % 2 == 0 else -1]:
            seen = turns[arm]()
            played.append(Turn(round=number, arm=arm, **dataclasses.asdict(seen)))
            say(f"  {number + 1:>2} {_described(played[-1])}")
        book.turns += played
        book.save(path)
        last_s = time.monotonic() - began_s


def _described(turn: Turn) -> str:
    rates = "; ".join(f"{name} {rate:,.1f}/s" for name, rate in turn.rates.items())
    active = " ".join(map(str, turn.active.values()))
    after = f", {turn.changes} changes, after {turn.waited_s:.0f} s" if turn.waited_s else ""
    return f"{turn.arm:<15} {rates} on {active}{after}"


def _tell(found: Mapping[str, Any]) -> None:
    """Print where everybody stands."""
    say(
        f"  {found['rounds']} rounds at {found['commit'][:12]}, best static {found['best_static']}"
    )
    for policy, row in found["policies"].items():
        figures = [
            f"{name.removesuffix('_ci')} {row[name.removesuffix('_ci')]:.3f} [{low:.3f}, {high:.3f}]"
            for name, (low, high) in ((key, row[key]) for key in row if key.endswith("_ci"))
        ]
        said = ", ".join(f"{bound}: {verdict}" for bound, verdict in row.get("says", {}).items())
        say(f"  {policy:<15} {row['turns']} turns  {'; '.join(figures)}  {said}")
