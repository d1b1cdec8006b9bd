"""What a scenario found: figures with their intervals, and the verdicts on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab.compare import HALF_WIDTH
from lab.intervals import Interval, Verdict
from lab.stage import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.cells import Block
    from lab.intervals import Bound
    from lab.timeline import Moment


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a scenario found.

    Attributes:
        figures: Written to the results.
        intervals: Of the figures that have one.
        verdicts: By bound.
        trust: J beside the rates, for every static cell.
        moments: The timeline from the start of vcpud, where it was watched.
        started_ns: When vcpud was started on that timeline.
        blocks: What was compared, by arm.
    """

    figures: dict[str, Any] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    trust: list[Block] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    started_ns: int = 0
    blocks: Mapping[str, Sequence[Block]] = field(default_factory=dict)

    def record(self, name: str, interval: Interval) -> None:
        """Record a figure and its interval."""
        self.figures[name] = interval.value
        self.figures[f"{name}_ci"] = interval.pair()
        self.intervals[name] = interval

    def record_exact(self, name: str, value: float) -> None:
        """Record a figure that was observed once."""
        self.figures[name] = value
        self.intervals[name] = Interval(value=value, low=value, high=value)

    def record_domains(self, blocks: Mapping[str, Sequence[Block]]) -> None:
        """Record every domain's rates without and with vcpud, and what it had at the end."""
        last = blocks["managed"][-1]
        self.figures["domains"] = {
            name: {
                "unmanaged": _mean(blocks["unmanaged"], name),
                "managed": _mean(blocks["managed"], name),
                "active": last.active[name],
            }
            for name in last.rates
        }

    def judge(self, bounds: Sequence[Bound]) -> None:
        """Judge every bound by the interval of its figure; a missing figure fails."""
        for bound in bounds:
            interval = self.intervals.get(bound.figure)
            self.verdicts[str(bound)] = bound.verdict(interval) if interval else Verdict.FAIL

    def narrow(self) -> bool:
        """Whether every interval is narrow."""
        return all(interval.half_width <= HALF_WIDTH for interval in self.intervals.values())


def report(outcome: Outcome) -> None:
    """Print the verdicts of a scenario."""
    for bound, verdict in outcome.verdicts.items():
        figure = bound.split(" ", 1)[0]
        interval = outcome.intervals.get(figure)
        seen = (
            f"{interval.value:.4g} [{interval.low:.4g}, {interval.high:.4g}]" if interval else "-"
        )
        say(f"  {verdict:<13} {bound:<40} {seen}")


def _mean(blocks: Sequence[Block], name: str) -> float:
    return sum(block.rates[name] for block in blocks) / len(blocks)
