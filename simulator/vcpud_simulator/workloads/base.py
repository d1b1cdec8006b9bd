"""What every workload is: parameters with units, and a `start` that puts its tasks into a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel


class Progress:
    """What a workload has got done: for the laboratory only, never shown to a policy.

    Attributes:
        iterations: Units of work finished, in the workload's own unit.
        responses_ns: Response times of requests, where there are any.
    """

    __slots__ = ("iterations", "responses_ns")

    def __init__(self) -> None:
        self.iterations = 0
        self.responses_ns: list[int] = []


class Workload(Protocol):
    """Something a guest does."""

    def start(self, kernel: GuestKernel) -> Progress:
        """Put its tasks into a guest, and return where their progress is counted."""
