"""What the operator allows on this host; durations in ns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vcpud.units import NS_PER_S

MAX_WEIGHT = 65_535
"""Of Xen's schedulers; Linux allows more."""


class Foreign(StrEnum):
    """What to do after somebody else changed a domain's vCPUs; theirs stand either way."""

    ADOPT = "adopt"
    STAND_DOWN = "stand_down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the operator allows on this host.

    Attributes:
        shrink_cooldown_ns: Least time between the end of a domain's last change and a shrink.
        grow_cooldown_ns: The same before a grow: grow fast, shrink with patience.
        max_step_vcpus: Most vCPUs of one domain changed in one actuation.
        max_changes_per_minute: Most resizes begun on the host in any minute, but for a single
            larger move, which waits until none was.
        max_parked_ratio: Most of the host's managed vCPUs that may be parked at once.
    """

    shrink_cooldown_ns: int = 5 * NS_PER_S
    grow_cooldown_ns: int = 1 * NS_PER_S
    max_step_vcpus: int = 64
    max_changes_per_minute: int = 60
    max_parked_ratio: float = 0.9
