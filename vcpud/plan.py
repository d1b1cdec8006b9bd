"""What a policy wants, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import starmap
from typing import Any

from vcpud.model import Uuid


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """Bring one domain from one number of active vCPUs to another.

    Attributes:
        uuid: Which domain.
        from_vcpus: Active vCPUs the decision was made on.
        to_vcpus: Active vCPUs wanted.
        step_vcpus: How many may change in one actuation; more than one only on strong evidence.
        due_pcpus: Progress the domain has a right to; what it made beyond that it made of what
            others left, and losing it is no harm. None where all it made counts.
    """

    uuid: Uuid
    from_vcpus: int
    to_vcpus: int
    step_vcpus: int = 1
    due_pcpus: float | None = None


class Proof(StrEnum):
    """What a move must show to be kept; one that only gives back is kept unless it harms.

    GAIN: progress that is clearly better, of at least one domain, and clearly worse of none.
    NO_HARM: it helped under like conditions before, so it is undone only when it harms now.
    SUM: what one domain gives another gets; undone only when both together lose.
    NONE: nothing: it is never undone and nothing waits for how it ends; the policy's own feedback is
        all there is, as in its source. How it ended is told all the same.
    """

    GAIN = "gain"
    NO_HARM = "no_harm"
    SUM = "sum"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Resizes that belong together: actuated step by step, judged and undone as one.

    Attributes:
        resizes: One or more domains; a domain is in one move at a time.
        reason: For people and logs: the evidence with its figures.
        proof: What it must show to be kept.
        comparable_from_ns: Progress made before this says nothing of the conditions the move
            meets, and is not compared with; None when all that was seen is comparable.
    """

    resizes: tuple[Resize, ...]
    reason: str
    proof: Proof = Proof.GAIN
    comparable_from_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """One number of active vCPUs that a policy weighed for a domain.

    Attributes:
        vcpus: The number.
        gain_ratio: Predicted progress over today's, minus 1; None where nothing is predicted.
        note: What speaks for or against it, for people; may be empty.
    """

    vcpus: int
    gain_ratio: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """How a policy sees one domain now: all that `vcpud explain` says of the decision.

    Attributes:
        uuid: Which domain.
        wanted_vcpus: The number it would have now; the one it has when nothing is to change.
        inputs: What the decision was made on, by name; names carry their unit as metrics do
            (`lock_wait_ratio`, `entitled_pcpus`), None is "not reported".
        prospects: The numbers that competed, fewest first, the present one among them.
        why_not_more: Why it is not given more, empty when it is.
        why_not_fewer: Why it is not given fewer, empty when it is.
        would_change: What would have to change for another decision.
        waits_for: What must come true before it gets the number it would have; empty where
            nothing is missing.
    """

    uuid: Uuid
    wanted_vcpus: int
    inputs: tuple[tuple[str, float | None], ...] = ()
    prospects: tuple[Prospect, ...] = ()
    why_not_more: str = ""
    why_not_fewer: str = ""
    would_change: str = ""
    waits_for: str = ""


class Outlooks(Collection[Outlook]):
    """Outlooks that are written when somebody looks at them: in most cycles nobody does."""

    __slots__ = ("_seen", "_write")

    def __init__(self, seen: Sequence[tuple[Any, ...]], write: Callable[..., Outlook]) -> None:
        """Keep what is needed.

        Args:
            seen: Of each domain, what `write` takes.
            write: Makes the outlook of it; pure.
        """
        self._seen = seen
        self._write = write

    def __iter__(self) -> Iterator[Outlook]:
        return starmap(self._write, self._seen)

    def __len__(self) -> int:
        return len(self._seen)

    def __contains__(self, outlook: object) -> bool:
        return outlook in tuple(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outlooks | tuple) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a policy wants now; without moves everything is left as it is.

    Attributes:
        moves: What should change.
        outlooks: How each domain is seen, for people; a policy may leave some or all out.
    """

    moves: tuple[Move, ...] = ()
    outlooks: Collection[Outlook] = ()


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
        gain_ratio: Progress after over progress before, minus 1, at most 1,000; None when unknown.
        kept: False when the move is being undone.
        at_ns: When it was judged.
        detail: The evidence, for people.
        beside: Of those who are not in the move and were harmed by it, their progress before.
        gains: Of those who are in it, where that is known, progress after over progress before,
            minus 1, as far as it is more than noise.
    """

    decision_id: str
    move: Move
    outcome: Outcome
    gain_ratio: float | None
    kept: bool
    at_ns: int
    detail: str
    beside: Mapping[Uuid, float] = field(default_factory=dict)
    gains: Mapping[Uuid, float] = field(default_factory=dict)
