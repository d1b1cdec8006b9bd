"""What has happened to each domain lately, in the words in which it is told.

Pure but for what it remembers. Everything comes from finished cycles, so that a recording tells the
same as a running host.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcpud.events import EventKind
from vcpud.model import Accepted
from vcpud.units import seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vcpud.model import Uuid
    from vcpud.record import ChangeRecord, CycleRecord

REMEMBERED = 24
"""Happenings kept of each domain."""

_TOLD = {
    EventKind.REBOOTED: "the guest rebooted: every CPU came back online",
    EventKind.JOB_BEGUN: "a job began",
    EventKind.JOB_ENDED: "a job ended",
    EventKind.AGENT_UP: "its agent came back",
    EventKind.AGENT_DOWN: "its agent went away",
    EventKind.STARTED: "it started",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One thing that happened to a domain."""

    at_ns: int
    kind: str
    text: str


class History:
    """A `Recorder` that remembers the last happenings of every domain that is there."""

    def __init__(self) -> None:
        self._kept: dict[Uuid, deque[Happening]] = {}
        self._blocked: dict[Uuid, str] = {}
        self._decided: dict[Uuid, str] = {}

    def record(self, record: CycleRecord) -> None:
        happened = tuple(_happened(record, self._news(record)))
        if not happened and len(self._kept) <= len(record.sample.domains):
            return
        present = {domain.uuid for domain in record.sample.domains}
        for uuid, kind, text in happened:
            if uuid in present:
                kept = self._kept.setdefault(uuid, deque(maxlen=REMEMBERED))
                kept.append(Happening(at_ns=record.began_ns, kind=kind, text=text))
        if len(self._kept) > len(present):
            for notes in (self._kept, self._blocked, self._decided):
                for uuid in [uuid for uuid in notes if uuid not in present]:
                    del notes[uuid]

    def of(self, uuid: Uuid) -> tuple[Happening, ...]:
        """What happened to a domain, oldest first."""
        return tuple(self._kept.get(uuid, ()))

    def _news(self, record: CycleRecord) -> list[tuple[Uuid, str, str]]:
        """Changes once per decision, and a guard once until another one or a change follows."""
        news = []
        for change in record.changes:
            if self._decided.get(change.uuid) != change.decision_id:
                self._decided[change.uuid] = change.decision_id
                self._blocked.pop(change.uuid, None)
                news.append((change.uuid, str(change.purpose), _change_text(change)))
        for block in record.blocked:
            if self._blocked.get(block.uuid) != block.guard:
                self._blocked[block.uuid] = block.guard
                news.append((block.uuid, "blocked", f"{block.guard}: {block.detail}"))
        return news


def _happened(
    record: CycleRecord, news: list[tuple[Uuid, str, str]]
) -> Iterator[tuple[Uuid, str, str]]:
    for event in record.events:
        if event.uuid is not None and event.kind in _TOLD:
            detail = f": {event.detail}" if event.detail else ""
            yield event.uuid, "event", f"{_TOLD[event.kind]}{detail}"
    for one in record.received:
        yield one.uuid, "received", "what a vcpud elsewhere had parked is given back"
    for foreign in record.foreign:
        owed = "" if foreign.owed_vcpus is None else f", still owed {foreign.owed_vcpus}"
        yield (
            foreign.uuid,
            "foreign",
            f"{foreign.from_vcpus} -> {foreign.to_vcpus}: {foreign.detail}{owed}",
        )
    for done in record.completed:
        state = "reached" if done.reached else "not reached"
        detail = f": {done.detail}" if done.detail and not done.reached else ""
        yield (
            done.uuid,
            "done" if done.reached else "failed",
            (
                f"{done.from_vcpus} -> {done.to_vcpus} {state} after {seconds(done.took_ns):.1f} s"
                f"{detail}"
            ),
        )
    for verdict in record.verdicts:
        kept = "kept" if verdict.kept else "undone"
        for resize in verdict.move.resizes:
            yield (
                resize.uuid,
                "verdict",
                (
                    f"{resize.from_vcpus} -> {resize.to_vcpus} {verdict.outcome}, {kept}: "
                    f"{verdict.detail}"
                ),
            )
    yield from news


def _change_text(change: ChangeRecord) -> str:
    asked = f"{change.from_vcpus} -> {change.to_vcpus} ({change.method})"
    if not isinstance(change.effect, Accepted):
        asked += f", refused: {change.effect.reason} {change.effect.detail}".rstrip()
    return f"{asked}: {change.reason}"
