"""Interleaved comparison of arms: blocks in an order that cancels drift, until the intervals are narrow enough."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.cells import Block, describe, mean_rate, measure
from lab.intervals import Interval, ratio
from lab.stage import say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.domain import Guest

HALF_WIDTH = 0.04
BLOCKS_A_TURN = 2
"""Entering an arm costs more than measuring it: two shorter blocks each time say more of the error than one."""
TURN_BLOCK_S = 6.0


@dataclass(slots=True, kw_only=True)
class Comparison:
    """Blocks of several arms, the same number of each per round.

    Attributes:
        blocks: By arm, in the order of the rounds.
    """

    blocks: dict[str, list[Block]] = field(default_factory=lambda: defaultdict(list))

    def rate(self, arm: str) -> float:
        """Return the mean rate of an arm."""
        return mean_rate(self.blocks[arm])

    def over(
        self, numerator: str, denominator: str, part: Callable[[Block], float] | None = None
    ) -> Interval:
        """Return the ratio of two arms, pairing the blocks of each round in their order.

        Args:
            numerator: One arm.
            denominator: Another.
            part: What of a block counts; all guests together if left out.
        """
        chosen = part or (lambda block: block.rate)
        pairs = zip(self.blocks[numerator], self.blocks[denominator], strict=False)
        return ratio([(chosen(first), chosen(second)) for first, second in pairs])


def interleave(  # noqa: PLR0913  each is a fact of the comparison
    comparison: Comparison,
    guests: Sequence[Guest],
    arms: Mapping[str, Callable[[], None]],
    *,
    until_s: float,
    enough: Callable[[], bool],
    least_rounds: int = 2,
    block_s: float = TURN_BLOCK_S,
    blocks_a_turn: int = BLOCKS_A_TURN,
) -> None:
    """Give every arm one turn per round, each round in the reverse order of the one before.

    Args:
        comparison: Takes the blocks; it may hold those of earlier rounds.
        guests: The guests that work.
        arms: Puts the guests into a state, by name.
        until_s: When no further round may begin, on the monotonic clock; a round is expected to
            last as long as the longest so far.
        enough: Whether the comparison is precise enough.
        least_rounds: Rounds to make in any case.
        block_s: Duration of a block.
        blocks_a_turn: Blocks each time an arm has been entered.
    """
    longest_s = 0.0
    done = len(next(iter(comparison.blocks.values()), ())) // blocks_a_turn
    while True:
        if done >= least_rounds and (enough() or time.monotonic() + longest_s > until_s):
            return
        began_s = time.monotonic()
        order = list(arms)[:: 1 if done % 2 == 0 else -1]
        for name in order:
            arms[name]()
            for _ in range(blocks_a_turn):
                block = measure(guests, name, block_s)
                comparison.blocks[name].append(block)
                say(f"  {describe(block)}")
        longest_s = max(longest_s, time.monotonic() - began_s)
        done += 1
