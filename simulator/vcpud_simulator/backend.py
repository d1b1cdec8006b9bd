"""The simulated host for the daemon, in step with the wall clock: `--backend simulated[:SCENARIO]`.

Simulated time never runs ahead of the wall clock. Where the machine cannot keep up it falls behind,
and is not made up for: a second of the host then takes longer than a second, every instant and rate
stays one of the host's own time, and `status` says how slow it is.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Final

from vcpud.ports import Wake
from vcpud.units import NS_PER_MS, NS_PER_S
from vcpud_simulator.hypervisor import STEP_NS, SimulatedClock, SimulatedHypervisor
from vcpud_simulator.reading import read_scenario
from vcpud_simulator.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcpud.backend import Backend, BackendOptions
    from vcpud.ports import Clock, Hypervisor
    from vcpud.terms import TermsBook

DEFAULT_SCENARIO: Final = "kernel_lock"
SLOW_RATIO: Final = 0.95
"""Below this part of real time it is said how slow it is."""
_SLOWEST: Final = 1 << 20
_BEHIND_NS: Final = 20 * NS_PER_MS
_LOOKED_BACK_NS: Final = 10 * NS_PER_S
_TIDY_NS: Final = 60 * NS_PER_S
_LEAST_SPAN_NS: Final = NS_PER_S


class PacedClock:
    """A simulated clock that waits for the wall clock.

    Attributes:
        speed_ratio: Simulated time per real time over the last seconds.
    """

    def __init__(
        self,
        inner: SimulatedClock,
        *,
        now_ns: Callable[[], int],
        sleep: Callable[[float], None],
    ) -> None:
        """Begin now.

        Args:
            inner: The clock that lets simulated time pass.
            now_ns: The wall clock.
            sleep: Waits for so many seconds of it.
        """
        self.speed_ratio = 1.0
        self._inner = inner
        self._wall_ns = now_ns
        self._sleep = sleep
        self._ahead_ns = now_ns() - inner.now_ns()
        self._seen: deque[tuple[int, int]] = deque([(now_ns(), inner.now_ns())])

    def now_ns(self) -> int:
        return self._inner.now_ns()

    @property
    def slowness(self) -> int:
        """How many times slower than real time, as a power of two; 1 while it keeps up.

        As coarse as that because it is shown as a note, and every new note is logged.
        """
        slowness = 1
        while self.speed_ratio * slowness < SLOW_RATIO and slowness < _SLOWEST:
            slowness *= 2
        return slowness

    def wait_until(self, deadline_ns: int) -> Wake:
        inner = self._inner
        while True:
            wake = inner.wait_until(min(deadline_ns, inner.now_ns() + STEP_NS))
            self._keep_pace()
            if inner.now_ns() >= deadline_ns or wake is not Wake.TIMER:
                self._judge_speed()
                return wake

    def _keep_pace(self) -> None:
        """Sleep while ahead; give up what has been lost while behind."""
        due_ns = self._inner.now_ns() + self._ahead_ns
        wall_ns = self._wall_ns()
        if wall_ns < due_ns:
            self._sleep((due_ns - wall_ns) / NS_PER_S)
        elif wall_ns > due_ns + _BEHIND_NS:
            self._ahead_ns = wall_ns - self._inner.now_ns()

    def _judge_speed(self) -> None:
        wall_ns, now_ns = self._wall_ns(), self._inner.now_ns()
        seen = self._seen
        seen.append((wall_ns, now_ns))
        while wall_ns - seen[1][0] > _LOOKED_BACK_NS:
            seen.popleft()
        span_ns = wall_ns - seen[0][0]
        if span_ns >= _LEAST_SPAN_NS:
            self.speed_ratio = (now_ns - seen[0][1]) / span_ns


class SimulatedBackend:
    """An opened simulated host."""

    def __init__(self, options: BackendOptions) -> None:
        scenario = read_scenario(options.argument or DEFAULT_SCENARIO)
        self._world = World(scenario)
        self._hypervisor = SimulatedHypervisor(
            self._world,
            terms=options.terms,
            boot_id=str(uuid.uuid4()),  # a host that begins anew owes nothing to an earlier one
            writable=options.writable,
            notes=self._notes,
        )
        self._name = scenario.name
        self._tidy()
        self._clock = PacedClock(
            SimulatedClock(self._hypervisor), now_ns=options.now_ns, sleep=time.sleep
        )

    @property
    def hypervisor(self) -> Hypervisor:
        return self._hypervisor

    @property
    def clock(self) -> Clock:
        return self._clock

    def adopt(self, terms: TermsBook) -> None:
        self._hypervisor.adopt(terms)

    def close(self) -> None:
        """There is nothing to let go of."""

    def _tidy(self) -> None:
        """Nobody asks a daemon's host for response times, and it runs for days."""
        for resident in self._world.residents.values():
            resident.inhabitant.progress.forget_responses()
        self._world.engine.after(_TIDY_NS, self._tidy)

    def _notes(self) -> tuple[str, ...]:
        """What an operator must know before believing a figure."""
        what = f"a simulated host ({self._name}): no real domain is seen or changed"
        slowness = self._clock.slowness
        if slowness == 1:
            return (what,)
        return (what, f"simulated time passes slower than real time, up to {slowness} times")


def open_backend(options: BackendOptions) -> Backend:
    """Open a simulated host.

    Args:
        options: The daemon around it; `options.argument` names the scenario, a file or one of
            vcpud's own.

    Raises:
        ConfigError: The scenario cannot be read, or is wrong.
    """
    return SimulatedBackend(options)
