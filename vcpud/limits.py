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
        shrink_cooldown_ns: Least time from the end of a domain's last change until vcpud shrinks it.
        grow_cooldown_ns: Least time from the end of a domain's last change until vcpud grows it:
            shorter, because growing is urgent and shrinking is not.
        max_step_vcpus: Most vCPUs of one domain that one actuation may change.
        max_changes_per_minute: Most resizes that may begin on the host in any minute. A single move
            of more resizes waits until a minute has passed without any.
        max_parked_ratio: Largest share of the host's managed vCPUs that may be parked at once.
    """

    shrink_cooldown_ns: int = 5 * NS_PER_S
    grow_cooldown_ns: int = 1 * NS_PER_S
    max_step_vcpus: int = 64
    max_changes_per_minute: int = 60
    max_parked_ratio: float = 0.9
