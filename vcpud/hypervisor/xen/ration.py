"""How often something may be done that costs processor time of dom0. Pure.

Whoever asks measures how long each question took from the first instruction to the last. It asks one
thing at a time, so this is the most that it and whoever answers can have used together. Waiting for a
pCPU only adds to it, so the lower quarter of what questions took is still no less than they cost. Half
a minute's worth may be spent in advance, at ten times the usual rate, so that something is known soon
after the start and nobody is held up by that.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from vcpud.units import NS_PER_S

_REMEMBERED: Final = 15
_ADVANCE_NS: Final = 30 * NS_PER_S
_HASTE: Final = 10
"""So many times its share may be used while something is left of the advance."""


class Ration:
    """Spacing of questions such that they use no more than their share."""

    __slots__ = ("_advance_ns", "_costs_ns", "_least_ns", "_most_ns", "_ratio")

    def __init__(self, *, ratio: float, least_ns: int, most_ns: int) -> None:
        """Nothing is known of the cost yet.

        Args:
            ratio: Of one pCPU, on average.
            least_ns: Spacing of questions about one and the same, where they cost next to nothing.
            most_ns: Spacing of any two beyond which they are of no use.
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

    def spacing_ns(self, among: int) -> int:
        """From one question to the next, on average.

        Args:
            among: Who take turns in being asked about: each may be as often as if it were alone, as
                far as that is within the share.
        """
        least_ns = self._least_ns // max(among, 1)
        cost_ns = self.cost_ns
        if cost_ns is None:
            return least_ns
        rate = self._ratio * (_HASTE if self._advance_ns > 0 else 1)
        if rate <= 0:
            return self._most_ns
        return min(max(least_ns, round(cost_ns / rate)), self._most_ns)
