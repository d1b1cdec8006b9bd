"""No change at all: the yardstick, and the way to run vcpud as an observer only.

Problem: every comparison needs the host as it would have been.
Approach: decide nothing.
References: none.
"""

from __future__ import annotations

from dataclasses import dataclass

from vcpud.demand import HostDemand
from vcpud.plan import Plan, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Static:
    """Leaves every domain as it is."""

    def initial(self) -> None:
        return None

    def decide(
        self,
        state: None,
        demand: HostDemand,  # noqa: ARG002 - the contract of a policy
        verdicts: tuple[Verdict, ...],  # noqa: ARG002
        now_ns: int,  # noqa: ARG002
    ) -> tuple[None, Plan]:
        return state, Plan()
