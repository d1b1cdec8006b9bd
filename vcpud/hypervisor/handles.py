"""Files that are open in a guest, so that each is closed again whatever gets lost on the way. Pure.

An open whose answer got lost may have been carried out all the same. The agent numbers handles one
after the other, so a gap no larger than what got lost is ours to close.
"""

from __future__ import annotations


class Handles:
    """What one agent process has open for us."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._last: int | None = None
        self._lost = 0

    @property
    def left(self) -> tuple[int, ...]:
        """Those still to be closed."""
        return tuple(sorted(self._open))

    def opened(self, handle: int) -> tuple[int, ...]:
        """A file is open; which were opened before it without our having heard of it."""
        strays: tuple[int, ...] = ()
        if self._lost and self._last is not None and handle - self._last - 1 <= self._lost:
            strays = tuple(range(self._last + 1, handle))
        self._open.update((handle, *strays))
        self._last, self._lost = handle, 0
        return strays

    def unanswered(self) -> None:
        """An open was not answered."""
        self._lost += 1

    def closed(self, handle: int) -> None:
        """A file is closed, or the agent that had it is another now."""
        self._open.discard(handle)
