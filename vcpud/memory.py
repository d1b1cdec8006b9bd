"""Ports of a world that ends with its loop: nothing outlives it, and nobody asks for anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcpud.model import Original, Uuid
    from vcpud.requests import Request


class MemoryLedger:
    """A `Ledger` that is not durable."""

    lost = False

    def __init__(self) -> None:
        self._originals: dict[Uuid, Original] = {}

    def remember(self, *originals: Original) -> None:
        for original in originals:
            self._originals.setdefault(original.uuid, original)

    def amend(self, original: Original) -> None:
        self._originals[original.uuid] = original

    def forget(self, *uuids: Uuid) -> None:
        for uuid in uuids:
            self._originals.pop(uuid, None)

    def outstanding(self) -> tuple[Original, ...]:
        return tuple(self._originals.values())


class NoRequests:
    """An `Inbox` nobody can write to."""

    def drain(self) -> tuple[Request, ...]:
        return ()
