"""Turns of a contest, kept on disk so that a later sitting can go on.

Problem: all policies beside unmanaged and static guests take longer than a shared machine is quiet. Approach: a round,
in which everyone who is judged takes a turn, is complete in itself: drift from one round to the next touches no ratio.
Whole rounds are kept, and another sitting of the same code on the same host adds to them.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one arm did in one round.

    Attributes:
        round: Which, from 0.
        arm: A policy, ``unmanaged``, ``best_static``, or what else the part measures.
        rates: Iterations per second, by guest or by kind of phase.
        active: Online CPUs at the end, by guest.
        waited_s: From the start of vcpud until it was measured.
        changes: Changes of active vCPUs that vcpud has carried out by the end.
    """

    round: int
    arm: str
    rates: Mapping[str, float]
    active: Mapping[str, int]
    waited_s: float = 0.0
    changes: int = 0


@dataclass(slots=True, kw_only=True)
class Book:
    """All that is known of one part of the contest.

    Attributes:
        code: Of what was measured: turns of other code are never put beside these.
        commit: At which the first of them was taken.
        host: That they were taken on.
        best: The best static count, by guest set or kind of phase.
        static: What it was chosen by: rates by count, measured before the first round and in none.
        turns: Whole rounds.
    """

    code: str
    commit: str
    host: Mapping[str, Any]
    best: dict[str, str] = field(default_factory=dict)
    static: dict[str, float] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        """How many rounds there are."""
        return 1 + max((turn.round for turn in self.turns), default=-1)

    def of(self, arm: str) -> dict[int, Turn]:
        """The turns of one arm by round."""
        return {turn.round: turn for turn in self.turns if turn.arm == arm}

    def save(self, path: Path) -> None:
        """Replace the file as a whole: a sitting may be ended at any moment."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")
        fresh.replace(path)


def read(path: Path) -> Book | None:
    """Return the book that was saved there, if any."""
    if not path.exists():
        return None
    kept = json.loads(path.read_text())
    return Book(**kept | {"turns": [Turn(**turn) for turn in kept["turns"]]})


def opened(path: Path, *, code: str, commit: str, host: Mapping[str, Any]) -> Book:
    """Return what earlier sittings have kept, or an empty book where that was other code, another host or nothing.

    What differs from its commit is like nothing else: it is never gone on with.
    """
    book = None if code.endswith("-dirty") else read(path)
    if book is not None and (book.code, book.host) == (code, host):
        return book
    return Book(code=code, commit=commit, host=host)
