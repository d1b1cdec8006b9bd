"""Who ran where: a window of the trace as bars on lanes, for SVG that stretches to any width.

One lane a pCPU shows which domain had it; one lane a vCPU shows whether it ran, spun, waited for a
pCPU, was co-stopped or offline. What is narrower than a hair is put together with its neighbours,
so that a picture has a bounded number of bars whatever the window holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vcpud.units import NS_PER_MS
from vcpud_simulator.entities import RunState
from vcpud_simulator.laboratory.report.window import Stay, Window

WIDTH = 1000
"""Units of a picture from side to side; it is stretched to the space there is."""
LANE = 16
"""Height of a lane in units, which are pixels."""
MOST_LANES = 64
"""Lanes drawn; how many are left out is said."""
_MOST_BARS = 6_000
_HAIRS = 2_000
"""The narrowest bar is this part of a window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vcpu:
    """Whose a vCPU is.

    Attributes:
        colour: Of its domain, 0 to 7.
        name: For people: "web.3".
    """

    colour: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A rectangle on a lane.

    Attributes:
        css: Its classes: what it stands for, and whose it is.
        x: Left edge.
        width: Its width.
        text: What it says when pointed at.
        spins: The parts of it spent spinning, as an SVG path; empty for none.
    """

    css: str
    x: float
    width: float
    text: str
    spins: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A row of bars with its name, and its domain's colour where it belongs to one."""

    name: str
    bars: tuple[Bar, ...]
    colour: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gantt:
    """A window as a picture.

    Attributes:
        title: Which window.
        from_ns: Its beginning.
        until_ns: Its end.
        pcpus: Who had each pCPU.
        vcpus: What each vCPU did.
        hidden_pcpus: pCPUs for which there was no lane.
        hidden_vcpus: vCPUs for which there was no lane.
        full: Whether it ends early because too much happened.
    """

    title: str
    from_ns: int
    until_ns: int
    pcpus: tuple[Lane, ...]
    vcpus: tuple[Lane, ...]
    hidden_pcpus: int
    hidden_vcpus: int
    full: bool


def gantt(window: Window, pcpus: int, vcpus: Sequence[Vcpu]) -> Gantt:
    """Draw a window.

    Args:
        window: What was kept of the trace.
        pcpus: How many the host has.
        vcpus: Whose each vCPU of the host is, by its number.
    """
    lanes = window.stays(len(vcpus))
    runs: list[list[_Held]] = [[] for _ in range(pcpus)]
    for number, lane in enumerate(lanes):
        for stay in lane:
            if stay.pcpu is not None:
                runs[stay.pcpu].append((number, stay))
    for held in runs:
        held.sort(key=lambda one: one[1].begin_ns)
    pen = _Pen(
        window,
        lanes=max(1, min(MOST_LANES, max(len(runs), len(lanes)))),
        stays=sum(map(len, lanes)),
    )
    return Gantt(
        title=window.title,
        from_ns=window.from_ns,
        until_ns=window.seen_until_ns,
        pcpus=tuple(
            Lane(name=f"pCPU {index}", bars=tuple(pen.pcpu_bars(held, vcpus)))
            for index, held in enumerate(runs[:MOST_LANES])
        ),
        vcpus=tuple(
            Lane(name=vcpu.name, colour=vcpu.colour, bars=tuple(pen.vcpu_bars(number, lane, vcpu)))
            for number, (lane, vcpu) in enumerate(zip(lanes[:MOST_LANES], vcpus, strict=False))
        ),
        hidden_pcpus=max(0, len(runs) - MOST_LANES),
        hidden_vcpus=max(0, len(lanes) - MOST_LANES),
        full=window.full,
    )


_Held = tuple[int, Stay]
"""A vCPU's number, and one of its stays."""
_CSS = {
    RunState.RUNNING: "run",
    RunState.RUNNABLE: "ready",
    RunState.CO_STOPPED: "costop",
    RunState.OFFLINE: "off",
}
_WORDS = {
    RunState.RUNNING: "runs",
    RunState.RUNNABLE: "waits for a pCPU",
    RunState.CO_STOPPED: "co-stopped",
    RunState.OFFLINE: "offline",
}


class _Pen:
    """Draws one window: knows its scale, and how narrow a bar may be."""

    def __init__(self, window: Window, *, lanes: int, stays: int) -> None:
        self._from_ns = window.from_ns
        length_ns = max(1, window.seen_until_ns - window.from_ns)
        self._units_per_ns = WIDTH / length_ns
        hairs = _HAIRS if stays <= _MOST_BARS else min(_HAIRS, _MOST_BARS // lanes)
        self._hair_ns = max(1, length_ns // hairs)

    def pcpu_bars(self, held: Sequence[_Held], vcpus: Sequence[Vcpu]) -> Iterator[Bar]:
        """Who had a pCPU."""
        for group in self._together(held):
            had: Counter[int] = Counter()
            for number, stay in group:
                had[number] += stay.length_ns
            most = vcpus[had.most_common(1)[0][0]]
            name = most.name if len(had) == 1 else f"{len(had)} vCPUs, most of it {most.name}"
            yield self._bar(f"run d{most.colour}", name, [stay for _, stay in group])

    def vcpu_bars(self, number: int, lane: Sequence[Stay], vcpu: Vcpu) -> Iterator[Bar]:
        """What a vCPU did; blocked is blank."""
        for group in self._together([(number, stay) for stay in lane]):
            stays = [stay for _, stay in group]
            spent: Counter[RunState] = Counter()
            for stay in stays:
                spent[stay.state] += stay.length_ns
            state = spent.most_common(1)[0][0]
            if state is RunState.BLOCKED:
                continue
            places = {stay.pcpu for stay in stays if stay.pcpu is not None}
            one_place = state is RunState.RUNNING and len(places) == 1
            where = f" on pCPU {places.pop()}" if one_place else ""
            text = f"{vcpu.name} {_WORDS[state]}{where}"
            yield self._bar(f"{_CSS[state]} d{vcpu.colour}", text, stays)

    def _together(self, lane: Sequence[_Held]) -> Iterator[list[_Held]]:
        """Each stay by itself, but those narrower than a hair with their neighbours."""
        group: list[_Held] = []
        for held in lane:
            stay = held[1]
            if group and stay.end_ns - group[0][1].begin_ns > self._hair_ns:
                yield group
                group = []
            group.append(held)
        if group:
            yield group

    def _bar(self, css: str, name: str, stays: Sequence[Stay]) -> Bar:
        begin_ns, end_ns = stays[0].begin_ns, stays[-1].end_ns
        ran_ns = sum(stay.length_ns for stay in stays if stay.pcpu is not None)
        spin_ns = sum(stay.spin_ns for stay in stays)
        text = (
            f"{name}, {(begin_ns - self._from_ns) / NS_PER_MS:.2f} to "
            f"{(end_ns - self._from_ns) / NS_PER_MS:.2f} ms"
        )
        if spin_ns:
            text += f", {spin_ns / ran_ns:.0%} of it spinning"
        return Bar(
            css=css,
            x=self._x(begin_ns),
            width=self._width(end_ns - begin_ns),
            text=text,
            spins="".join(self._spins(stays)),
        )

    def _spins(self, stays: Sequence[Stay]) -> Iterator[str]:
        """Hairs of which more than half was spent spinning, as rectangles along the middle."""
        spun: Counter[int] = Counter()
        hair_ns = self._hair_ns
        for begin_ns, end_ns in (spin for stay in stays for spin in stay.spins):
            for hair in range(begin_ns // hair_ns, (end_ns - 1) // hair_ns + 1):
                spun[hair] += min(end_ns, (hair + 1) * hair_ns) - max(begin_ns, hair * hair_ns)
        first_ns, last_ns = stays[0].begin_ns, stays[-1].end_ns
        stretch: list[int] = []
        for hair in (*sorted(spun), -1):
            begin_ns, end_ns = max(first_ns, hair * hair_ns), min(last_ns, (hair + 1) * hair_ns)
            spins = hair >= 0 and 2 * spun[hair] > end_ns - begin_ns
            if spins and stretch and stretch[1] == begin_ns:
                stretch[1] = end_ns
                continue
            if stretch and (spins or hair < 0):
                width = self._width(stretch[1] - stretch[0])
                top, height = LANE * 3 // 8, LANE // 4
                yield f"M{self._x(stretch[0]):g} {top}h{width:g}v{height}h-{width:g}z"
                stretch = []
            if spins:
                stretch = [begin_ns, end_ns]

    def _x(self, when_ns: int) -> float:
        return round((when_ns - self._from_ns) * self._units_per_ns, 2)

    def _width(self, length_ns: int) -> float:
        return max(0.2, round(length_ns * self._units_per_ns, 2))
