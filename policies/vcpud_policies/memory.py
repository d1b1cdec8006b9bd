"""What `adaptive` remembers from one decision to the next: its state, a value like any other.

Units: durations and instants ns; amounts of processor are pCPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vcpud.model import Uuid
from vcpud.units import NS_PER_S
from vcpud_policies.belief import Belief, Sought

GROW_PATIENCE_NS = 3 * NS_PER_S
"""The time constant of the host's smoothed figures: what has lasted so long is no jump of one reading."""
GROW_PATIENCE_MAX_NS = 600 * NS_PER_S
"""To give vCPUs back and take them away again are two changes of a domain, and in ten minutes of constant
load two is the most that is promised."""
WORTH_NS = 20 * NS_PER_S
"""vCPUs given back for less long than this were not worth two changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolMemory:
    """What is remembered of a pool.

    Attributes:
        runnable: vCPUs that ran or wanted to a cycle ago, by domain.
        entitled: Entitlements then.
        looked_at_ns: When that was.
        steady_cycles: Cycles in a row in which they hardly moved.
        patience_ns: How long there must be room before vCPUs are given back.
        grown_at_ns: When vCPUs were last given back.
        rotated_at_ns: When vCPUs last changed hands, or the pool was first looked at.
    """

    runnable: Mapping[Uuid, float] = field(default_factory=dict)
    entitled: Mapping[Uuid, float] = field(default_factory=dict)
    looked_at_ns: int = 0
    steady_cycles: int = 0
    patience_ns: int = GROW_PATIENCE_NS
    grown_at_ns: int | None = None
    rotated_at_ns: int = 0

    def patience_after(self, now_ns: int) -> int:
        """How long there must be room from now on, when vCPUs have to be taken away again now."""
        if self.grown_at_ns is None:
            return self.patience_ns
        short = now_ns - self.grown_at_ns < WORTH_NS
        patience_ns = self.patience_ns * 2 if short else self.patience_ns // 2
        return min(max(patience_ns, GROW_PATIENCE_NS), GROW_PATIENCE_MAX_NS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The policy's state.

    Attributes:
        domains: What is believed of each.
        pools: What is remembered of each.
        sought: Domains of moves not yet judged that were made for their own sake.
    """

    domains: Mapping[Uuid, Belief] = field(default_factory=dict)
    pools: Mapping[str, PoolMemory] = field(default_factory=dict)
    sought: Mapping[Uuid, Sought] = field(default_factory=dict)
