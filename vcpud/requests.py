"""What an operator can ask of the running loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from vcpud.limits import Foreign
from vcpud.model import Uuid

if TYPE_CHECKING:
    from vcpud.limits import Limits
    from vcpud.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who asked, and when; every request carries it into the log."""

    uid: int
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Decide nothing for a while; `restore` also gives everything back first.

    Attributes:
        uuid: One domain, or None for all.
        until_ns: When to resume by itself, or None.
    """

    asked: Asked
    uuid: Uuid | None = None
    until_ns: int | None = None
    restore: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Decide again; also ends a release and a quarantine."""

    asked: Asked
    uuid: Uuid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """Give everything back now, and go on deciding afterwards."""

    asked: Asked
    uuid: Uuid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Give everything back and keep hands off one domain until resumed."""

    asked: Asked
    uuid: Uuid
    until_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Let the next stop, if it comes in time, keep the counts as they are."""

    asked: Asked
    until_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """A new configuration, already validated: all or nothing."""

    asked: Asked
    settings: LoopSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class KillSwitch:
    """The kill switch was thrown or taken back."""

    asked: Asked
    thrown: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """What of the configuration the loop itself needs.

    Attributes:
        period_ns: Spacing of cycles.
        policy: The policy in force.
        policy_name: Its entry point's name; a reload that keeps it keeps its state.
        limits: What the guard enforces.
        on_stop_keep: True where a stop leaves the counts as they are (`on_stop: keep`).
        foreign: What follows on a change that somebody else made.
    """

    period_ns: int
    policy: Policy[Any]
    policy_name: str
    limits: Limits
    on_stop_keep: bool = False
    policy_options: dict[str, Any] = field(default_factory=dict)
    foreign: Foreign = Foreign.ADOPT


Request: TypeAlias = Pause | Resume | Restore | Release | Hold | Reload | KillSwitch
