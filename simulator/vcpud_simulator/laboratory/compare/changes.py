"""Changes that a policy had begun, and how often one domain was changed. Pure.

A *turn*, one domain giving another what it gets because it is the other's turn, is a rotation and
counts apart: whole vCPUs do not divide evenly, and only going round gives everybody the same. What a
decision is the policy says, by what it wants it to be judged by; that as many vCPUs are given as taken
does not make a rotation of a pool brought together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from vcpud.units import NS_PER_S

TEN_MINUTES_NS: Final = 600 * NS_PER_S
MOST_CHANGES: Final = 2.0
"""Of a domain in ten minutes of constant load: an attempt, and its undoing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of one domain that was begun.

    Attributes:
        at_ns: When.
        domain: Of whom.
        decision_id: What it belongs to.
        from_vcpus: Active vCPUs before.
        to_vcpus: Active vCPUs wanted.
        entitled_pcpus: Of that domain, then; None where nobody noted it.
        undoes: It takes something back.
        turns: The decision it belongs to is a rotation.
    """

    at_ns: int
    domain: str
    decision_id: str
    from_vcpus: int
    to_vcpus: int
    entitled_pcpus: float | None = None
    undoes: bool = False
    turns: bool = False


def rotations(changes: Iterable[Change]) -> list[Change]:
    """Changes of decisions in which domains take turns; what undoes one is a change like others."""
    return [change for change in changes if change.turns and not change.undoes]


def most_in_ten_minutes(changes: Sequence[Change]) -> Counter[str]:
    """For each domain its changes in the busiest ten minutes, rotations apart."""
    rotated = {id(change) for change in rotations(changes)}
    begun: defaultdict[str, list[int]] = defaultdict(list)
    for change in changes:
        if id(change) not in rotated:
            begun[change.domain].append(change.at_ns)
    return Counter(
        {
            domain: max(
                sum(from_ns <= one < from_ns + TEN_MINUTES_NS for one in at_ns)
                for from_ns in at_ns
            )
            for domain, at_ns in begun.items()
        }
    )
