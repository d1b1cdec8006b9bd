"""One guest CPU's queue of runnable tasks: stoppers first, then least virtual run time."""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING

from vcpud_simulator.guest.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator


class RunQueue:
    """Tasks that wait for one CPU, the current one excluded.

    Attributes:
        entries: In order: class, virtual run time, sequence, task.
        min_vruntime_ns: Never decreases; where newcomers and sleepers are placed.
    """

    __slots__ = ("_sequence", "entries", "min_vruntime_ns")

    def __init__(self) -> None:
        self.entries: list[tuple[int, int, int, Task]] = []
        self._sequence = 0
        self.min_vruntime_ns = 0

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Task]:
        return (entry[3] for entry in self.entries)

    def add(self, task: Task) -> None:
        self._sequence += 1
        insort(self.entries, (0 if task.stopper else 1, task.vruntime_ns, self._sequence, task))

    def remove(self, task: Task) -> None:
        place = next(place for place, entry in enumerate(self.entries) if entry[3] is task)
        del self.entries[place]

    def first(self) -> Task:
        """Who is next; the queue must not be empty."""
        return self.entries[0][3]

    def pop(self) -> Task:
        return self.entries.pop(0)[3]

    def last_vruntime_ns(self) -> int:
        """The greatest virtual run time waiting; the queue must not be empty."""
        return self.entries[-1][1]

    def advance(self, current: Task | None) -> None:
        """Let `min_vruntime_ns` follow the least of the current and the waiting tasks."""
        least = current.vruntime_ns if current is not None else None
        entries = self.entries
        if entries and entries[0][0] and (least is None or entries[0][1] < least):
            least = entries[0][1]
        if least is not None and least > self.min_vruntime_ns:
            self.min_vruntime_ns = least
