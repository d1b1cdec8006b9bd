"""What a backend is given and gives: libvirt, the simulated host and a recording alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Protocol

from vcpud.errors import UsageError
from vcpud.ports import Clock, Hypervisor
from vcpud.terms import TermsBook

GROUP = "vcpud.backends"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """What a backend needs to know of the daemon around it.

    Attributes:
        argument: What stood behind the colon of `--backend NAME:ARGUMENT`, or "".
        terms: The operator's terms at the start; replaced by `Backend.adopt`.
        writable: False for observing, dry runs and status: only read-only access is opened.
        now_ns: The monotonic clock that every timestamp is taken from.
        wake: Called (from any thread) when something happened that is worth an early cycle.
        period_ns: Spacing of samples.
        options: The backend's own section of the configuration (e.g. `libvirt:`).
    """

    terms: TermsBook
    writable: bool
    now_ns: Callable[[], int]
    wake: Callable[[], None]
    period_ns: int
    argument: str = ""
    options: dict[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """An opened backend."""

    @property
    def hypervisor(self) -> Hypervisor:
        """The port that the loop drives."""

    @property
    def clock(self) -> Clock | None:
        """A clock of its own (a simulated one), or None for the real one."""

    def adopt(self, terms: TermsBook) -> None:
        """Use these terms from the next sample on."""

    def close(self) -> None:
        """Let go of connections and threads; bounded in time, never raises."""


def open_backend(spec: str, options: BackendOptions) -> Backend:
    """Open the backend named by `NAME` or `NAME:ARGUMENT`.

    Raises:
        UsageError: There is no such backend.
        UnreachableError: It cannot be opened at all (an unreachable libvirt is retried instead).
    """
    name, _, argument = spec.partition(":")
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise UsageError(f"there is no backend {name!r}; there are: {', '.join(sorted(found))}")
    opener: Callable[[BackendOptions], Backend] = found[name].load()
    return opener(
        BackendOptions(
            terms=options.terms,
            writable=options.writable,
            now_ns=options.now_ns,
            wake=options.wake,
            period_ns=options.period_ns,
            argument=argument,
            options=options.options,
        )
    )
