"""Trains: a task that enters the same short lock section again and again, batched while it may be.

Problem: real sections last 16 ns to 2 us, and a busy guest enters a million a second. One event
for each would make the simulator useless; longer sections would falsify what it shows.

Approach: a train is `rounds` times a gap (exponential, its mean given) and a hold. While nobody
contends, its rounds are drawn ahead and merged with those of the other trains that execute on the
same lock (`platform`), in a plain loop without events, up to the first attempt that would find the
lock held: only that instant, and the end, become events. From there on each acquisition is exact,
until the lock is quiet again. Whatever interrupts a train (preemption, a tick, another kind of
user) finds out where in its rounds it is: in a gap, or holding the lock. A train alone on its lock
has no round to compare with, so its gaps are the mean.

References: the method is the usual one of hybrid simulation: skip ahead to the next interaction.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from vcpud_simulator.engine import NEVER
from vcpud_simulator.guest.platform import CHUNK_ROUNDS

if TYPE_CHECKING:
    from vcpud_simulator.guest.cpu import GuestCpu
    from vcpud_simulator.guest.locks import Spinlock
    from vcpud_simulator.guest.task import Task


class Train:
    """`rounds` times: a gap, then a section under a lock. An operation of a task's program.

    Attributes:
        lock: The lock.
        gap_ns: Mean time between sections.
        hold_ns: Length of a section.
        in_kernel: In which mode it is between sections.
        rounds_left: Sections not yet finished.
        task: Who does it.
        joined: Whether it is batched now.
        in_gap: Whether, when not batched, it is between sections and not waiting.
        alone: Whether, batched, its gaps are the mean.
    """

    __slots__ = (
        "_acquires", "_first_ns", "_seen", "alone", "gap_ns", "hold_ns", "in_gap", "in_kernel",
        "joined", "lock", "rounds_left", "task",
    )  # fmt: skip

    task: Task

    def __init__(
        self, lock: Spinlock, *, rounds: int, gap_ns: int, hold_ns: int, in_kernel: bool = True
    ) -> None:
        self.lock = lock
        self.in_kernel = in_kernel
        self.rounds_left = rounds
        self.gap_ns = gap_ns
        self.hold_ns = hold_ns
        self.joined = False
        self.in_gap = False
        self.alone = False
        self._acquires: list[int] = []
        self._first_ns = 0
        self._seen = 0

    # ------------------------------------------------------------------ exact rounds

    def begin(self, cpu: GuestCpu, task: Task) -> None:
        """The task has come to it (`task.Operation`)."""
        self.task = task
        task.train = self
        self.lock.enrol(self)
        self._next_round(cpu, task)

    def _next_round(self, cpu: GuestCpu, task: Task) -> None:  # noqa: ARG002
        if self.rounds_left <= 0:
            self.in_gap = False
            task.train = None
            self.lock.dismiss(self)
            return
        self.in_gap = True
        task.in_kernel = self.in_kernel
        task.left_ns = self._gap()
        task.then = self._attempt

    def _gap(self) -> int:
        return self.lock.kernel.chance.exponential_ns(self.gap_ns)

    def _attempt(self, cpu: GuestCpu, task: Task) -> None:
        self.in_gap = False
        if self.lock.acquire(cpu, task):
            self._hold(cpu, task)
        else:
            task.then = self._hold

    def _hold(self, cpu: GuestCpu, task: Task) -> None:  # noqa: ARG002
        task.left_ns = self.hold_ns
        task.then = self._release

    def _release(self, cpu: GuestCpu, task: Task) -> None:
        self.rounds_left -= 1
        task.left_ns = 0
        self.lock.release(cpu, task)
        self._next_round(cpu, task)

    # ------------------------------------------------------------------ batched rounds

    def join(self, begin_ns: int) -> None:
        """Go on batched from that instant, where that is possible."""
        if self.in_gap:
            self.lock.board(self, begin_ns)

    def draw_alone(self, begin_ns: int) -> None:
        """All rounds that are left, with mean gaps after the present one."""
        self.alone = True
        self._first_ns = begin_ns + self.task.left_ns
        period_ns = self.gap_ns + self.hold_ns
        self._plan(begin_ns, self._first_ns + (self.rounds_left - 1) * period_ns + self.hold_ns)

    def draw(self, begin_ns: int) -> None:
        """A chunk of rounds with random gaps after the present one."""
        self.alone = False
        acquires = [begin_ns + self.task.left_ns]
        hold_ns = self.hold_ns
        for _ in range(min(self.rounds_left, self.lock.chunk_rounds) - 1):
            acquires.append(acquires[-1] + hold_ns + self._gap())
        self._acquires = acquires
        self._plan(begin_ns, acquires[-1] + hold_ns)

    def _plan(self, begin_ns: int, ends_ns: int) -> None:
        self.task.left_ns = ends_ns - begin_ns
        self.task.then = self._chunk_done

    def _chunk_done(self, cpu: GuestCpu, task: Task) -> None:
        rounds = self.rounds_left if self.alone else len(self._acquires)
        if not self.alone:
            self.lock.chunk_rounds = min(CHUNK_ROUNDS, 2 * self.lock.chunk_rounds)
        self.joined = False
        self.lock.leave(self)
        self.lock.acquisitions += rounds
        self.rounds_left -= rounds
        self._next_round(cpu, task)

    def cut_short(self) -> None:
        """End with the section it is in or comes to next."""
        self.leave(self.lock.kernel.host.engine.now_ns)
        self.rounds_left = min(self.rounds_left, 1)

    def leave(self, now_ns: int) -> None:
        """Stop being batched, wherever it is; if it holds the lock, nobody else is batched then."""
        if not self.joined:
            return
        if self.holds(now_ns):
            self.lock.unbatch()
        else:
            self.task.cpu.advance()
            self.lock.leave(self)
            self.alight(now_ns)

    def alight(self, now_ns: int) -> None:
        """Become exact at this instant; the lock has already forgotten it."""
        task = self.task
        self.joined = False
        held_ns: int | None = None
        if self.alone:
            period_ns = self.gap_ns + self.hold_ns
            if now_ns < self._first_ns:
                done, left_ns = 0, max(0, self._first_ns - now_ns - task.cpu.overhead_ns)
            else:
                done, into_ns = divmod(now_ns - self._first_ns, period_ns)
                left_ns = period_ns - into_ns
                if into_ns < self.hold_ns:
                    held_ns = into_ns
                else:
                    done += 1
        else:
            acquires = self._acquires
            done = bisect_left(acquires, now_ns)
            left_ns = acquires[done] - now_ns if done < len(acquires) else 0
            if not done:  # it may still have overhead to do before it begins
                left_ns = max(0, left_ns - task.cpu.overhead_ns)
            if done and now_ns < acquires[done - 1] + self.hold_ns:
                done -= 1
                held_ns = now_ns - acquires[done]
            elif done and done == len(acquires):
                left_ns = self._gap()
        self.lock.acquisitions += done
        self.rounds_left -= done
        if held_ns is not None:
            self.in_gap = False
            task.in_kernel = True
            self.lock.adopt(task)
            task.left_ns = self.hold_ns - held_ns
            task.then = self._release
        elif self.rounds_left <= 0:
            self.in_gap = False
            task.left_ns = 0
            task.then = self._next_round
        else:
            self.in_gap = True
            task.left_ns = left_ns
            task.then = self._attempt

    def holds(self, now_ns: int) -> bool:
        """Whether, batched, it is inside a section."""
        return self.joined and self.holds_until_ns(now_ns) > now_ns

    def holds_until_ns(self, now_ns: int) -> int:
        """When the section it is in ends; 0 when it is in none."""
        if self.alone:
            if now_ns < self._first_ns:
                return 0
            into_ns = (now_ns - self._first_ns) % (self.gap_ns + self.hold_ns)
            return now_ns - into_ns + self.hold_ns if into_ns < self.hold_ns else 0
        done = bisect_left(self._acquires, now_ns)
        if not done:
            return 0
        ends_ns = self._acquires[done - 1] + self.hold_ns
        return ends_ns if ends_ns > now_ns else 0

    @property
    def drawn_until_ns(self) -> int:
        """When the last of the rounds that are drawn ends."""
        return self._acquires[-1] + self.hold_ns

    def look_ahead(self, from_ns: int) -> int:
        """The first instant, then or later, at which it will attempt to enter; NEVER of none that is drawn."""
        self._seen = bisect_left(self._acquires, from_ns) - 1
        return self.look_on()

    def look_on(self) -> int:
        """The one after that which was told last."""
        self._seen = seen = self._seen + 1
        acquires = self._acquires
        return acquires[seen] if seen < len(acquires) else NEVER
