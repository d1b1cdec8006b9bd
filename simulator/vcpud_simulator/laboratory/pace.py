"""How fast a policy may act in the laboratory: at its own pace where nothing of vcpud's judges it.

What the guard allows is vcpud's own caution, like the judge. A policy that is run as published does
without both: its source steps once an interval of its own, and that interval is an option of it. Only
the guests' own time to change stands in its way.
"""

from __future__ import annotations

from typing import Any, Final

from vcpud.limits import Limits
from vcpud.policy import Policy

UNBOUND: Final = Limits(
    shrink_cooldown_ns=0, grow_cooldown_ns=0, max_changes_per_minute=100_000, max_parked_ratio=1.0
)
"""Nothing but the guests' own time to change."""


def limits_of(policy: Policy[Any] | None) -> Limits:
    """What the guard allows a policy: as vcpud ships, but nothing beside one that is not judged."""
    return Limits() if getattr(policy, "judged", True) else UNBOUND
