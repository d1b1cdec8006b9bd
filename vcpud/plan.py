"""What a policy wants, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vcpud.model import Uuid


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """Bring one domain from one number of active vCPUs to another.

    Attributes:
        uuid: Which domain.
        from_vcpus: Active vCPUs the decision was made on.
        to_vcpus: Active vCPUs wanted.
        step_vcpus: How many may change in one actuation; more than one only on strong evidence.
    """

    uuid: Uuid
    from_vcpus: int
    to_vcpus: int
    step_vcpus: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Resizes that belong together: actuated step by step, judged and undone as one.

    Attributes:
        resizes: One or more domains; a domain is in one move at a time.
        reason: For people and logs: the evidence with its figures.
    """

    resizes: tuple[Resize, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a policy wants now; empty means leave everything as it is."""

    moves: tuple[Move, ...] = ()


class Outcome(StrEnum):
    """How a move ended, by the progress proxy and never by the signal that triggered it."""

    HELPED = "helped"
    NEUTRAL = "neutral"
    HARMED = "harmed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judge's word on one move.

    Attributes:
        decision_id: Which move.
        move: What was asked.
        outcome: How it ended.
        gain_ratio: Progress after over progress before, minus 1; None when unknown.
        kept: False when the move is being undone.
        at_ns: When it was judged.
        detail: The evidence, for people.
    """

    decision_id: str
    move: Move
    outcome: Outcome
    gain_ratio: float | None
    kept: bool
    at_ns: int
    detail: str
