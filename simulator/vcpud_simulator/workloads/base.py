"""What every workload is: parameters with units, and a `start` that puts its tasks into a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel
    from vcpud_simulator.guest.task import Task


class Progress:
    """What a workload has got done: for the laboratory only, never shown to a policy.

    Attributes:
        iterations: Units of work counted one by one, in the workload's own unit.
        metered: Tasks whose CPU time is progress by itself, and how much of it is a unit.
        responses_ns: Response times of requests, where there are any.
        phases: What each phase has got done, in order, for a workload of phases.
        stopped: Whether the world outside should leave it alone.
    """

    __slots__ = ("iterations", "metered", "phases", "responses_ns", "stopped")

    def __init__(self) -> None:
        self.iterations = 0
        self.metered: list[tuple[Task, int]] = []
        self.responses_ns: list[int] = []
        self.phases: list[Progress] = []
        self.stopped = False

    @property
    def total(self) -> int:
        """Units of work finished, metered ones and those of all phases included."""
        metered = sum(task.work_ns // unit_ns for task, unit_ns in self.metered)
        return self.iterations + metered + sum(phase.total for phase in self.phases)

    def forget_responses(self) -> None:
        """Keep no response times, those of phases neither."""
        self.responses_ns.clear()
        for phase in self.phases:
            phase.forget_responses()

    def stop(self) -> None:
        """Its guest does something else from now on."""
        self.stopped = True
        for phase in self.phases:
            phase.stop()


class Workload(Protocol):
    """Something a guest does."""

    def start(self, kernel: GuestKernel) -> Progress:
        """Put its tasks into a guest, and return where their progress is counted."""
