"""How often something may be done that costs processor time of dom0. Pure.

Whoever asks measures how long each question took from the first instruction to the last. It asks one
thing at a time, so this is the most that it and whoever answers can have used together. Waiting for a
pCPU only adds to it, so the lower quarter of what questions took is still no less than they cost. Half
a minute's worth may be spent at once, so that something is known soon after the start.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from vcpud.units import NS_PER_S

_REMEMBERED: Final = 15
_ADVANCE_NS: Final = 30 * NS_PER_S


class Ration:
    """Spacing of questions such that they use no more than their share."""

    __slots__ = ("_advance_ns", "_costs_ns", "_least_ns", "_most_ns", "_ratio")

    def __init__(self, *, ratio: float, least_ns: int, most_ns: int) -> None:
        """Nothing is known of the cost yet.

        Args:
            ratio: Of one pCPU, on average.
            least_ns: Spacing where questions cost next to nothing.
            most_ns: Spacing beyond which they are of no use.
        """
        self._ratio = ratio
        self._least_ns = least_ns
        self._most_ns = most_ns
        self._advance_ns = ratio * _ADVANCE_NS
        self._costs_ns: deque[int] = deque(maxlen=_REMEMBERED)

    def spent(self, cost_ns: int) -> None:
        """One question took so long."""
        self._costs_ns.append(max(cost_ns, 0))
        self._advance_ns = max(self._advance_ns - (self.cost_ns or 0), 0.0)

    @property
    def cost_ns(self) -> int | None:
        """What one question costs, None while none was asked."""
        return sorted(self._costs_ns)[len(self._costs_ns) // 4] if self._costs_ns else None

    @property
    def spacing_ns(self) -> int:
        """From one question to the next, on average."""
        cost_ns = self.cost_ns
        if cost_ns is None or self._advance_ns > 0:
            return self._least_ns
        if self._ratio <= 0:
            return self._most_ns
        return min(max(self._least_ns, round(cost_ns / self._ratio)), self._most_ns)
