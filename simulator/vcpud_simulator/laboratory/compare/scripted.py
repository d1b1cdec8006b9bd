"""Policies that only the instrument has: one that follows a script, one that leaves somebody be.

Who takes turns follows a script, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vcpud.demand import HostDemand
from vcpud.plan import Move, Plan, Proof, Resize, Verdict
from vcpud.policy import Policy
from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory.compare.tasks import Script

TURN_NS: Final = 120 * NS_PER_S
"""How long the oracle leaves those who take turns where they are: no shorter than policies do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """Brings domains to the counts written down for the moment; knows the future, sees nothing."""

    script: Script

    def initial(self) -> None:
        return None

    def decide(
        self,
        state: None,
        demand: HostDemand,
        verdicts: tuple[Verdict, ...],  # noqa: ARG002 - the contract of a policy
        now_ns: int,
    ) -> tuple[None, Plan]:
        wanted: dict[str, int] = {}
        for from_ns, counts in self.script:
            if from_ns <= now_ns:
                wanted = dict(counts)
        moves = [
            Move(
                resizes=(
                    Resize(
                        uuid=domain.uuid,
                        from_vcpus=domain.active_vcpus,
                        to_vcpus=wanted[domain.name],
                        step_vcpus=domain.max_vcpus,
                    ),
                ),
                reason="as written down",
                proof=Proof.NONE,
            )
            for domain in demand.domains
            # Before anything was read of it, nobody knows what it would have to be given back.
            if domain.used_pcpus is not None
            and wanted.get(domain.name, domain.active_vcpus) != domain.active_vcpus
        ]
        return state, Plan(moves=tuple(moves))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """A policy, but for a while nothing it wants of some domains is done: what if it had not?

    Attributes:
        policy: The policy.
        names: Domains left as they are.
        from_ns: From when on.
        until_ns: Until when.
    """

    policy: Policy[Any]
    names: frozenset[str]
    from_ns: int
    until_ns: int

    def initial(self) -> Any:
        return self.policy.initial()

    def decide(
        self, state: Any, demand: HostDemand, verdicts: tuple[Verdict, ...], now_ns: int
    ) -> tuple[Any, Plan]:
        state, plan = self.policy.decide(state, demand, verdicts, now_ns)
        if not self.from_ns <= now_ns < self.until_ns:
            return state, plan
        held = {domain.uuid for domain in demand.domains if domain.name in self.names}
        moves = tuple(
            move for move in plan.moves if not any(one.uuid in held for one in move.resizes)
        )
        return state, Plan(moves=moves, outlooks=plan.outlooks)


def in_turn(counts: Mapping[str, int], groups: Sequence[Sequence[str]], until_ns: int) -> Script:
    """A script in which those of a group have each other's counts in turn.

    Each has each of the counts for as long, if turns of `TURN_NS` are short enough for as many as
    the groups' sizes have as least common multiple. If not, that holds only in groups whose size
    divides the largest, and where not even the largest gets round once in such turns, turns are
    shorter, so that it does.

    Args:
        counts: How many every domain has to begin with.
        groups: Who takes turns with whom; at least one.
        until_ns: How long that goes on.
    """
    sizes = [len(group) for group in groups]
    fair = math.lcm(*sizes)
    once_round = fair if fair * TURN_NS <= until_ns else max(sizes)
    number = once_round * max(1, until_ns // (once_round * TURN_NS))
    script = []
    for turn in range(number):
        now = dict(counts)
        for group in groups:
            for place, name in enumerate(group):
                now[name] = counts[group[(place + turn) % len(group)]]
        script.append((turn * until_ns // number, tuple(now.items())))
    return tuple(script)
