"""A guest that keeps its work on fewer CPUs by itself while time is stolen from it.

Problem: whoever sizes guests from outside meets guests that do it from inside; two that integrate
one signal fight.

Approach: as Linux's steal governor and its mask of preferred CPUs (7.4). Once a second the stolen
part of the time of all CPUs in use decides: above 5 % the last preferred CPU is given up, at most 2 %
the next one is taken again, in between nothing changes. Tasks are neither woken on CPUs that are not
preferred nor pulled there, and a stopper pushes those away that run there. CPUs stay online, bound
tasks stay where they are.

References: the driver's documentation and the cover letters of its series (S. Hegde, 2025 and 2026).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud.units import NS_PER_S
from vcpud_simulator.guest.task import Call

if TYPE_CHECKING:
    from vcpud_simulator.guest.cpu import GuestCpu
    from vcpud_simulator.guest.kernel import GuestKernel
    from vcpud_simulator.guest.task import Program, Task

INTERVAL_NS: Final = NS_PER_S
STEAL_HIGH: Final = 0.05
STEAL_LOW: Final = 0.02


class StealGovernor:
    """One guest's, from when it is made.

    Attributes:
        kernel: Its guest.
        stopped: Whether the guest is gone.
    """

    def __init__(self, kernel: GuestKernel) -> None:
        self.kernel = kernel
        self.stopped = False
        self._stolen_ns = 0
        self._later()

    def _later(self) -> None:
        self.kernel.host.engine.after(INTERVAL_NS, self._look)

    def _look(self) -> None:
        if self.stopped:
            return
        kernel = self.kernel
        online, preferred = kernel.online_cpus, kernel.preferred_cpus
        stolen_ns = sum(cpu.stolen_ns() for cpu in kernel.cpus)
        steal_ratio = (stolen_ns - self._stolen_ns) / (INTERVAL_NS * len(online))
        self._stolen_ns = stolen_ns
        if steal_ratio > STEAL_HIGH and len(preferred) > 1:
            self._give_up(preferred[-1])
        elif steal_ratio <= STEAL_LOW:
            for cpu in online:
                if not cpu.preferred:
                    cpu.preferred = True
                    break
        self._later()

    def _give_up(self, cpu: GuestCpu) -> None:
        cpu.preferred = False
        self.kernel.spawn(
            f"migration/{cpu.index}", _push(), on=cpu.index, stopper=True, system=True
        )


def _push() -> Program:
    yield Call(_empty)


def _empty(cpu: GuestCpu, task: Task) -> None:  # noqa: ARG001 - what an operation is called with
    cpu.kernel.spread([one for one in cpu.queue if not one.pinned])
