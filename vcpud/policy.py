"""The contract of an allocation policy, and how one is found."""

from __future__ import annotations

import dataclasses
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from vcpud.errors import ConfigError
from vcpud.text import meant, raised

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vcpud.demand import HostDemand
    from vcpud.plan import Plan, Verdict

GROUP = "vcpud.policies"

State = TypeVar("State")


class Policy(Protocol[State]):
    """A pure decision: no clock, no I/O, no clamping for safety (the guard does that).

    State is a value that is passed in and out, so that replay, property tests and fuzzing need
    no set-up.
    """

    def initial(self) -> State:
        """The state before the first decision."""

    def decide(
        self, state: State, demand: HostDemand, verdicts: tuple[Verdict, ...], now_ns: int
    ) -> tuple[State, Plan]:
        """What should change now.

        Args:
            state: As returned by the last call.
            demand: What each domain uses, waits for and is entitled to.
            verdicts: How moves ended since the last call.
            now_ns: The instant of the decision.
        """


def names() -> tuple[str, ...]:
    """Policies installed on this machine."""
    return tuple(sorted(entry.name for entry in entry_points(group=GROUP)))


def load(name: str, options: Mapping[str, Any]) -> Policy[Any]:
    """Build the policy of that name.

    Args:
        name: Entry point in the group `vcpud.policies`.
        options: Keyword arguments for it: the fields of its dataclass.

    Raises:
        ConfigError: No such policy, one that cannot be loaded, or an option it does not have or
            accept.
    """
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise ConfigError(f"policy.name: there is no policy {name!r}{meant(name, found)}")
    try:
        factory = found[name].load()
    except Exception as error:
        # Somebody else's module: anything may happen in it.
        where = f"{name} ({found[name].value})"
        raise ConfigError(f"policy.name: {where} cannot be loaded: {raised(error)}") from error
    try:
        known = {field.name for field in dataclasses.fields(factory)}
    except TypeError as error:
        where = f"{name} ({found[name].value})"
        raise ConfigError(f"policy.name: {where} is no dataclass") from error
    mistakes = [
        f"policy.{key}: {name} has no such option{meant(key, known)}"
        for key in options
        if key not in known
    ]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    try:
        policy: Policy[Any] = factory(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"policy: {name}: {error}") from error
    return policy
