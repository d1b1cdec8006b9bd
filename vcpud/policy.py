"""The contract of an allocation policy, and how one is found."""

from __future__ import annotations

import dataclasses
import difflib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from vcpud.errors import ConfigError

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
        ConfigError: No such policy, or an option it does not have or accept.
    """
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise ConfigError(f"policy.name: there is no policy {name!r}{_meant(name, found)}")
    factory = found[name].load()
    known = {field.name for field in dataclasses.fields(factory)}
    mistakes = [
        f"policy.{key}: {name} has no such option{_meant(key, known)}"
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


def _meant(word: str, known: Mapping[str, object] | set[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are: {', '.join(sorted(known))}" if known else ""
