"""What a guest's kernel says of the CPUs that it prefers, look by look: whether it manages itself. Pure."""

from __future__ import annotations

from typing import Final

LOOKS_STEERED: Final = 2
"""So many looks in a row that show work kept off CPUs tell that this is how the kernel goes about it."""


class SelfManagement:
    """Whether one kernel keeps work off some of its CPUs, by what it has said."""

    def __init__(self) -> None:
        self._steered = 0

    @property
    def seen(self) -> bool:
        """Whether it does, and so manages itself.

        Two controllers of the same CPUs, both moved by the same steal, do harm. A kernel that was seen
        to do it twice in a row may do it again whenever something is stolen from it; seen once, it may
        have been in the middle of a change of its CPUs.
        """
        return self._steered > 0

    def looked(self, preferred: frozenset[int], online: frozenset[int]) -> None:
        """Take in what the kernel prefers, and which CPUs are online."""
        if self._steered < LOOKS_STEERED:
            self._steered = 0 if online <= preferred else self._steered + 1
