"""A stretch of a trace, and who was where in it: exact from its first instant on.

A vCPU that neither loses its pCPU nor blocks causes no event, so a window alone does not say what
was going on when it opened. `Window` therefore follows every vCPU up to there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcpud_simulator.entities import RunState
from vcpud_simulator.trace import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPIN_BEGIN = int(Kind.SPIN_BEGIN)
_SPIN_END = int(Kind.SPIN_END)
_SPIN = (_SPIN_BEGIN, _SPIN_END)
_BECOMES = {
    int(Kind.WAKE): RunState.RUNNABLE,
    int(Kind.DISPATCH): RunState.RUNNING,
    int(Kind.PREEMPT): RunState.RUNNABLE,
    int(Kind.BLOCK): RunState.BLOCKED,
    int(Kind.CO_STOP): RunState.CO_STOPPED,
    int(Kind.CO_START): RunState.RUNNABLE,
    int(Kind.OFFLINE): RunState.OFFLINE,
    int(Kind.ONLINE): RunState.BLOCKED,
}
_MATTERS = frozenset((*_BECOMES, *_SPIN))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """A vCPU in one run state for a while.

    Attributes:
        begin_ns: From when.
        end_ns: Until when.
        state: In which state.
        pcpu: Where it ran; None in every other state.
        spins: Parts of a run spent waiting on the processor inside the guest's kernel, in order.
    """

    begin_ns: int
    end_ns: int
    state: RunState
    pcpu: int | None = None
    spins: tuple[tuple[int, int], ...] = ()

    @property
    def length_ns(self) -> int:
        return self.end_ns - self.begin_ns

    @property
    def spin_ns(self) -> int:
        return sum(end_ns - begin_ns for begin_ns, end_ns in self.spins)


class Window:
    """A `trace.Sink` that keeps what happens from one instant to another.

    Of the waiting on the processor only that in the kernel is kept: there a guest does not switch
    tasks, so it is the vCPU that waits. In user mode it is a task, and the trace does not say when
    its guest switches to another.

    Attributes:
        from_ns: Its first instant.
        until_ns: Its end.
        title: What it shows, for people.
        full: Whether there was more than `limit` events: it then ends early, at `seen_until_ns`.
    """

    __slots__ = ("_at_opening", "_events", "_limit", "from_ns", "full", "title", "until_ns")

    def __init__(
        self, from_ns: int, until_ns: int, *, title: str = "", limit: int = 1_000_000
    ) -> None:
        if not 0 <= from_ns < until_ns:
            raise ValueError("a window ends after it begins")
        self.from_ns = from_ns
        self.until_ns = until_ns
        self.title = title
        self.full = False
        self._limit = limit
        self._events: list[Event] = []
        self._at_opening: dict[int, tuple[RunState, int, bool]] = {}

    def record(self, when_ns: int, kind: int, vcpu: int, place: int) -> None:
        if when_ns >= self.until_ns or kind not in _MATTERS or (kind in _SPIN and not place):
            return
        if when_ns < self.from_ns:
            self._follow(kind, vcpu, place)
        elif len(self._events) < self._limit:
            self._events.append(Event(when_ns, kind, vcpu, place))
        else:
            self.full = True

    def _follow(self, kind: int, vcpu: int, place: int) -> None:
        state, where, spinning = self._at_opening.get(vcpu, (RunState.BLOCKED, -1, False))
        if kind in _BECOMES:
            self._at_opening[vcpu] = (_BECOMES[kind], place, spinning)
        else:
            self._at_opening[vcpu] = (state, where, kind == _SPIN_BEGIN)

    @property
    def seen_until_ns(self) -> int:
        """How far it is complete."""
        return self._events[-1].when_ns if self.full else self.until_ns

    def stays(self, vcpus: int) -> list[list[Stay]]:
        """What each of the host's first `vcpus` vCPUs did, without gaps, by number."""
        events: list[list[Event]] = [[] for _ in range(vcpus)]
        for event in self._events:
            if 0 <= event.vcpu < vcpus:
                events[event.vcpu].append(event)
        return [list(self._stays_of(number, events[number])) for number in range(vcpus)]

    def _stays_of(self, number: int, events: list[Event]) -> Iterator[Stay]:
        state, place, spinning = self._at_opening.get(number, (RunState.BLOCKED, -1, False))
        begin_ns = spin_from_ns = self.from_ns
        spins: list[tuple[int, int]] = []
        end = Event(self.seen_until_ns, int(Kind.IDLE), number, -1)
        for when_ns, kind, _, where in (*events, end):
            if kind == _SPIN_BEGIN:
                spinning, spin_from_ns = True, when_ns
                continue
            if spinning and spin_from_ns < when_ns:
                spins.append((max(spin_from_ns, begin_ns), when_ns))
            if kind == _SPIN_END:
                spinning = False
                continue
            if begin_ns < when_ns:
                runs = state is RunState.RUNNING
                yield Stay(
                    begin_ns=begin_ns,
                    end_ns=when_ns,
                    state=state,
                    pcpu=place if runs else None,
                    spins=tuple(spins) if runs else (),
                )
            spins.clear()
            begin_ns = spin_from_ns = when_ns
            state, place = _BECOMES.get(kind, state), where
