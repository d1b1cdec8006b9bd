"""How the demo is seen: a live table in a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from vcpud.commands.common import say
from vcpud.errors import VcpudError
from vcpud.status import columns
from vcpud.text import printable
from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory.demo import SWITCH_NS, Screen, Shown

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from vcpud_simulator.runner import Point
    from vcpud_simulator.scenario import Scenario

SECONDS_PER_SECOND: Final = 5.0
"""Simulated seconds a second in a live table: what happens can then be followed."""
_EVERY_S: Final = 5
"""Simulated seconds between plain lines."""
_EVENTS: Final = 8
_SPARKS: Final = "▁▂▃▄▅▆▇█"
_BARS: Final = 30
"""Bars of a line of them; the whole run fits."""


class Plain:
    """One line every few simulated seconds, and one for each event."""

    def second(self, now_ns: int, points: Mapping[str, Point]) -> None:
        if now_ns % (_EVERY_S * NS_PER_S) == 0:
            words = "; ".join(
                f"{printable(name)} {point.active_vcpus} vCPUs, {rate_text(point.rate)} "
                f"iterations/s, {point.spin_pcpus:.2f} pCPUs spinning"
                for name, point in points.items()
            )
            self.say(now_ns, words)

    def say(self, now_ns: int, text: str) -> None:
        say(f"{now_ns / NS_PER_S:6.1f} s  {printable(text, 400)}")
        sys.stdout.flush()


class Silent:
    """Nothing: the figures at the end are all that is wanted."""

    def second(self, now_ns: int, points: Mapping[str, Point]) -> None:
        pass

    def say(self, now_ns: int, text: str) -> None:
        pass


class Live:
    """A table that is drawn anew every simulated second, and the last events below it."""

    def __init__(self, scenario: Scenario, show: Callable[[RenderableType], None]) -> None:
        self._scenario = scenario
        self._end_ns = scenario.warmup_ns + scenario.duration_ns
        self._show = show
        self._history: dict[str, list[float]] = {}
        self._points: Mapping[str, Point] = {}
        self._events: list[tuple[int, str]] = []
        self._now_ns = 0
        self._began_s = time.monotonic()

    def second(self, now_ns: int, points: Mapping[str, Point]) -> None:
        self._now_ns = now_ns
        self._points = points
        for name, point in points.items():
            self._history.setdefault(name, []).append(point.rate)
        self._draw()
        due_s = self._began_s + now_ns / NS_PER_S / SECONDS_PER_SECOND
        time.sleep(max(0.0, due_s - time.monotonic()))

    def say(self, now_ns: int, text: str) -> None:
        self._events.append((now_ns, text))
        self._draw()

    def _condensed(self, name: str) -> list[float]:
        """The run so far, each bar the mean of an equal part of the whole run."""
        step = max(1, self._end_ns // NS_PER_S // _BARS)
        rates = self._history[name]
        return [fmean(rates[at : at + step]) for at in range(0, len(rates), step)]

    def _draw(self) -> None:
        from rich import box  # noqa: PLC0415 - of an extra
        from rich.console import Group  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        managed = self._now_ns >= SWITCH_NS
        table = Table(box=box.SIMPLE_HEAD, expand=True)
        table.add_column("domain", no_wrap=True)
        for head in ("active vCPUs", "iterations/s", "spinning", "run delay"):
            table.add_column(head, justify="right")
        table.add_column("so far", no_wrap=True)
        for name, point in self._points.items():
            best = max(self._history[name])
            table.add_row(
                Text(printable(name, 24), style="bold"),
                str(point.active_vcpus),
                Text(rate_text(point.rate), style=_colour(point.rate, best)),
                f"{point.spin_pcpus:.2f}",
                f"{point.run_delay_pcpus:.2f}",
                Text(sparks(self._condensed(name), best), style="cyan"),
            )
        title = Text.assemble(
            (printable(self._scenario.title, 80), "bold"),
            f"\n{self._scenario.pcpus} pCPUs, {self._scenario.scheduler}; "
            f"{self._now_ns / NS_PER_S:.0f} of {self._end_ns / NS_PER_S:.0f} simulated seconds; ",
            ("vcpud is on", "bold green") if managed else ("unmanaged", "bold yellow"),
        )
        events = [
            Text(f"{at_ns / NS_PER_S:5.1f} s  {printable(said, 300)}", overflow="ellipsis")
            for at_ns, said in self._events[-_EVENTS:]
        ]
        self._show(Group(title, table, *events))


@contextmanager
def screen(scenario: Scenario, *, silent: bool = False) -> Iterator[Screen]:
    """A live table where standard output is a terminal, else plain lines.

    Args:
        scenario: What is shown.
        silent: Nothing at all instead.

    Raises:
        VcpudError: It is a terminal and rich is missing.
    """
    if silent or not sys.stdout.isatty():
        yield Silent() if silent else Plain()
        return
    try:
        from rich.console import Console  # noqa: PLC0415 - of an extra
        from rich.live import Live as Display  # noqa: PLC0415
    except ImportError as error:
        raise VcpudError("the demo needs rich: pip install 'vcpud[laboratory]'") from error
    console: Console = Console()
    with Display(console=console, auto_refresh=False) as display:
        yield Live(scenario, lambda drawn: display.update(drawn, refresh=True))


def summary(shown: Sequence[Shown]) -> str:
    """Before and after for a terminal."""
    rows: list[tuple[str, ...]] = [
        ("DOMAIN", "BEFORE it/s", "AFTER it/s", "GAIN", "ACTIVE vCPUs", "SPINNING pCPUs")
    ]
    rows += [
        (
            printable(one.name),
            rate_text(one.before.rate),
            rate_text(one.after.rate),
            "-" if one.gain is None else f"{one.gain:,.3g}x",
            f"{one.before.active_vcpus:.3g} to {one.after.active_vcpus:.3g}",
            f"{one.before.spin_pcpus:.2f} to {one.after.spin_pcpus:.2f}",
        )
        for one in shown
    ]
    return "\n".join(columns(rows))


def document(shown: Sequence[Shown]) -> dict[str, Any]:
    """Before and after as JSON."""
    return {
        one.name: {
            "before": _figures(one.before),
            "after": _figures(one.after),
            "gain": None if one.gain is None else round(one.gain, 3),
            "recovered": one.recovered,
        }
        for one in shown
    }


def _figures(means: Any) -> dict[str, float]:
    words = ("rate", "active_vcpus", "spin_pcpus", "run_delay_pcpus")
    return {word: round(getattr(means, word), 4) for word in words}


def rate_text(rate: float) -> str:
    """Three figures."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"  # noqa: PLR2004


def sparks(values: Sequence[float], top: float) -> str:
    """A line of bars of eight heights."""
    if top <= 0:
        return _SPARKS[0] * len(values)
    last = len(_SPARKS) - 1
    return "".join(_SPARKS[min(last, int(value / top * len(_SPARKS)))] for value in values)


def _colour(rate: float, best: float) -> str:
    return "green" if rate > best / 2 else "red"
