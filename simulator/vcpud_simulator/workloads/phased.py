"""Phased: a guest that does one thing after the other, as a batch of jobs or a working day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcpud.units import NS_PER_S
from vcpud_simulator.workloads.base import Progress, Workload

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One of the things.

    Attributes:
        workload: What is done.
        duration_ns: For how long; 2 s to 5 min are sensible, from about two periods of a governor
            to longer than all its memory.
    """

    workload: Workload
    duration_ns: int = 30 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Phased:
    """Workloads in turn, over and over; each phase begins afresh and is counted by itself.

    When a phase ends its tasks are killed, as by the end of a login session.

    Attributes:
        phases: What follows what.
    """

    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        if not self.phases or any(phase.duration_ns <= 0 for phase in self.phases):
            raise ValueError("a phased workload needs phases, and each a positive duration")

    def start(self, kernel: GuestKernel) -> Progress:
        progress = Progress()
        engine = kernel.host.engine

        def begin(number: int) -> None:
            phase = self.phases[number % len(self.phases)]
            progress.phases.append(phase.workload.start(kernel))
            engine.after(phase.duration_ns, lambda: end(number))

        def end(number: int) -> None:
            if progress.stopped:
                return
            progress.phases[-1].stop()
            kernel.end_session()
            begin(number + 1)

        begin(0)
        return progress
