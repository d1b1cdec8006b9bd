"""What every workload is: parameters with units, and a `start` that puts its tasks into a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel


class Progress:
    """What a workload has got done: for the laboratory only, never shown to a policy.

    Attributes:
        iterations: Units of work finished, in the workload's own unit, its phases' excluded.
        responses_ns: Response times of requests, where there are any.
        phases: What each phase has got done, in order, for a workload of phases.
        stopped: Whether the world outside should leave it alone.
    """

    __slots__ = ("iterations", "phases", "responses_ns", "stopped")

    def __init__(self) -> None:
        self.iterations = 0
        self.responses_ns: list[int] = []
        self.phases: list[Progress] = []
        self.stopped = False

    @property
    def total(self) -> int:
        """Units of work finished, those of all phases included."""
        return self.iterations + sum(phase.total for phase in self.phases)

    def stop(self) -> None:
        """Its guest does something else from now on."""
        self.stopped = True
        for phase in self.phases:
            phase.stop()


class Workload(Protocol):
    """Something a guest does."""

    def start(self, kernel: GuestKernel) -> Progress:
        """Put its tasks into a guest, and return where their progress is counted."""
