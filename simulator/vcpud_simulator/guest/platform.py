"""Where trains meet: the part of a lock on which they run in batches, and when they may not.

Problem: rounds of several trains that are drawn ahead are true only up to the first attempt that
would find the lock held by another of them.

Approach: that instant is found by merging their rounds, and is the platform's one event. How far
trains draw ahead follows how far they came; where they meet all the time, drawing ahead is given up
for a while. See `train` for what a train is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud_simulator.engine import NEVER, Timer

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel
    from vcpud_simulator.guest.train import Train

CHUNK_ROUNDS: Final = 64
"""Most rounds drawn ahead when several trains share a lock; fewer where they meet sooner."""
WORTHWHILE_ROUNDS: Final = 4
"""Where trains meet within fewer rounds than this, drawing ahead costs more than events."""
EXACT_ROUNDS: Final = 500
"""How long drawing ahead is then given up before it is tried again."""


class Platform:
    """The part of a lock on which trains run in batches.

    Attributes:
        kernel: Whose it is.
        name: For people.
        members: Trains under way, batched or not.
        batched: Those that are batched now.
        chunk_rounds: Rounds drawn ahead at present.
        closed: Whether somebody is entering by an event, so that no train may board.
    """

    def __init__(self, kernel: GuestKernel, name: str) -> None:
        self.kernel = kernel
        self.name = name
        self.members: dict[Train, None] = {}
        self.batched: dict[Train, None] = {}
        self._conflict = Timer(self._conflicts)
        self._exact_until = 0
        self.closed = False
        self.chunk_rounds = CHUNK_ROUNDS // 4

    acquisitions: int

    @property
    def quiet(self) -> bool:
        """Nobody holds it by an event, nobody waits."""
        raise NotImplementedError

    def enrol(self, train: Train) -> None:
        """A train has begun."""
        self.members[train] = None

    def dismiss(self, train: Train) -> None:
        """A train has ended."""
        del self.members[train]

    def board(self, train: Train, begin_ns: int) -> bool:
        """Batch a train from that instant on, if the lock is quiet."""
        if self.closed or not self.quiet or not self.kernel.config.batch_locks:
            return False
        batched = self.batched
        if self.acquisitions < self._exact_until and self._company(train):
            return False
        alone = next((other for other in batched if other.alone), None)
        if alone is not None:
            batched.clear()
            alone.task.cpu.advance()
            alone.alight(self.kernel.host.engine.now_ns)
            if not self.quiet:
                alone.task.cpu.refresh()
                return False
        batched[train] = None
        train.joined = True
        if alone is not None:
            train.draw(begin_ns)
            alone.task.cpu.refresh()
        elif len(batched) > 1:
            train.draw(begin_ns)
            self._foresee()
        else:
            train.draw_alone(begin_ns)
        return True

    def _company(self, train: Train) -> bool:
        """Whether another train executes."""
        return any(
            other is not train and other.task.cpu.executes(other.task) for other in self.members
        )

    def _conflicts(self) -> None:
        self.chunk_rounds //= 2
        if self.chunk_rounds < WORTHWHILE_ROUNDS:
            self.chunk_rounds = 2 * WORTHWHILE_ROUNDS
            self._exact_until = self.acquisitions + EXACT_ROUNDS
        self.unbatch()

    def leave(self, train: Train) -> None:
        """A train is no longer batched."""
        del self.batched[train]
        if len(self.batched) < 2:  # noqa: PLR2004 - one alone meets nobody
            self._conflict.cancel()
        else:
            self._foresee()

    def unbatch(self) -> None:
        """Make every batched train exact, and let each go on from where it is."""
        self._conflict.cancel()
        if not self.batched:
            return
        now_ns = self.kernel.host.engine.now_ns
        trains = list(self.batched)
        self.batched.clear()
        for train in trains:
            train.task.cpu.advance()
            train.alight(now_ns)
        for train in trains:
            train.task.cpu.refresh()

    def rebatch(self) -> None:
        """The lock is quiet again: trains that are in a gap and execute go on in batches."""
        for train in self.members:
            cpu = train.task.cpu
            if cpu.executes(train.task) and not train.joined and train.in_gap:
                cpu.advance()
                cpu.refresh()

    def _foresee(self) -> None:
        """Find the first attempt that would find the lock held, and make it an event.

        Whoever comes to the end of what it has drawn leaves, and this is asked again: what would be after
        the first end of all need not be known now.
        """
        trains = list(self.batched)
        if len(trains) < 2:  # noqa: PLR2004
            return
        now_ns = free_ns = self.kernel.host.engine.now_ns
        until_ns = NEVER
        coming: list[int] = []
        for train in trains:
            free_ns = max(free_ns, train.holds_until_ns(now_ns))
            until_ns = min(until_ns, train.drawn_until_ns)
            coming.append(train.look_ahead(now_ns))
        # Trains are few, and most look no further than the next attempt: neither heap nor sort is worth it.
        while True:
            at_ns, first = until_ns + 1, -1
            for number, when_ns in enumerate(coming):
                if when_ns < at_ns:
                    at_ns, first = when_ns, number
            if first < 0:
                self._conflict.cancel()
                return
            if at_ns < free_ns:
                self.kernel.host.engine.arm(self._conflict, max(now_ns, at_ns))
                return
            train = trains[first]
            free_ns = at_ns + train.hold_ns
            coming[first] = train.look_on()
