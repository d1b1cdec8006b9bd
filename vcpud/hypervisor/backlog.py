"""Errands that wait: at once, the urgent first, or not before their time. Pure."""

from __future__ import annotations

import bisect
import heapq
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from vcpud.hypervisor.errands import Errand
    from vcpud.model import Uuid


class Backlog:
    """What there is to do, in the order in which it should be done."""

    def __init__(self) -> None:
        self._order = itertools.count()
        self._ready: list[tuple[bool, int, Errand]] = []
        self._later: list[tuple[int, int, Errand]] = []

    @property
    def ready(self) -> int:
        """How many errands could be run now, but for those whose domain is busy."""
        return len(self._ready)

    @property
    def next_ns(self) -> int | None:
        """When the next of those that wait for their time is due, None where none waits."""
        return self._later[0][0] if self._later else None

    def add(self, errand: Errand) -> None:
        """To be run as soon as somebody is free."""
        bisect.insort(self._ready, (not errand.urgent, next(self._order), errand))

    def postpone(self, errand: Errand, at_ns: int) -> None:
        """To be run no earlier than at this time."""
        heapq.heappush(self._later, (at_ns, next(self._order), errand))

    def take(self, busy: Collection[Uuid], *, only_urgent: bool) -> Errand | None:
        """The first errand whose domain is not busy."""
        for place, (later, _, errand) in enumerate(self._ready):
            if errand.uuid not in busy and not (later and only_urgent):
                del self._ready[place]
                return errand
        return None

    def take_due(self, now_ns: int) -> list[Errand]:
        """Those whose time has come."""
        due = []
        while self._later and self._later[0][0] <= now_ns:
            due.append(heapq.heappop(self._later)[2])
        return due

    def take_ready_of(self, uuid: Uuid) -> list[Errand]:
        """All of a domain that could be run now."""
        taken = [errand for _, _, errand in self._ready if errand.uuid == uuid]
        if taken:
            self._ready = [entry for entry in self._ready if entry[2].uuid != uuid]
        return taken

    def take_later_of(self, uuid: Uuid) -> list[Errand]:
        """All of a domain that wait for their time, the earliest first."""
        taken = [errand for _, _, errand in sorted(self._later) if errand.uuid == uuid]
        if taken:
            self._later = [entry for entry in self._later if entry[2].uuid != uuid]
            heapq.heapify(self._later)
        return taken

    def has_urgent(self, uuid: Uuid) -> bool:
        """Whether something urgent waits for this domain."""
        return any(not later and errand.uuid == uuid for later, _, errand in self._ready)

    def clear(self) -> None:
        """Nothing is to be done any more."""
        self._ready.clear()
        self._later.clear()
