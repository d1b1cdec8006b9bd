"""What an operator has set for single domains on the command line (`vcpud set`).

It holds at once and after restarts, until the same operator takes it back: a domain that was
told to be left alone must not be taken up again because vcpud was restarted. One small file in
the state folder, replaced whole or not at all.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vcpud.errors import LedgerError, UsageError
from vcpud.ledger import replace_file
from vcpud.model import Mode
from vcpud.terms import TermsBook, Wishes

if TYPE_CHECKING:
    from pathlib import Path

    from vcpud.model import Uuid

_NAME = "terms.json"
_SCHEMA = 1
_MAX_BYTES = 4 * 1024 * 1024
_MAX_DOMAINS = 10_000
_KEYS = {"mode", "min_vcpus", "max_vcpus"}


class Overrides:
    """The file, and what it says."""

    def __init__(self, state_dir: Path) -> None:
        """Read what was set.

        Raises:
            LedgerError: It cannot be read or understood; nothing may be changed on a guess.
        """
        self._path = state_dir / _NAME
        self._wishes: dict[Uuid, Wishes] = {}
        try:
            with self._path.open("rb") as stream:
                raw = stream.read(_MAX_BYTES)
        except FileNotFoundError:
            return
        except OSError as error:
            raise LedgerError(f"{self._path} cannot be read: {error.strerror}") from error
        try:
            self._wishes = _read(json.loads(raw))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise LedgerError(
                f"{self._path} cannot be understood: remove it, and repeat what was set with "
                "`vcpud set`"
            ) from error

    def put(self, uuid: Uuid, wishes: Wishes | None) -> None:
        """Set a domain's terms, or with None take back what was set.

        Raises:
            LedgerError: It could not be made durable; what was set before still holds.
            UsageError: Too many domains.
        """
        wanted = {key: value for key, value in self._wishes.items() if key != uuid}
        if wishes is not None:
            wanted[uuid] = wishes
        if len(wanted) > _MAX_DOMAINS:
            raise UsageError(
                f"`vcpud set` holds for {_MAX_DOMAINS} domains already: reset some (--reset)"
            )
        if wanted == self._wishes:
            return
        domains = {
            key: {
                word: value for word in sorted(_KEYS) if (value := getattr(one, word)) is not None
            }
            for key, one in wanted.items()
        }
        replace_file(self._path, json.dumps({"schema": _SCHEMA, "domains": domains}, indent=1))
        self._wishes = wanted

    def of(self, uuid: Uuid) -> Wishes | None:
        """What was set for a domain."""
        return self._wishes.get(uuid)

    def over(self, book: TermsBook) -> TermsBook:
        """The configured terms with what was set on top."""
        return replace(book, overrides=dict(self._wishes))


def _read(document: dict[str, Any]) -> dict[Uuid, Wishes]:
    if document["schema"] != _SCHEMA:
        raise ValueError("another schema")
    return {str(uuid): _wishes(entry) for uuid, entry in document["domains"].items()}


def _wishes(entry: dict[str, Any]) -> Wishes:
    if set(entry) - _KEYS:
        raise ValueError("a key that is not known")
    counts = [entry.get(word) for word in ("min_vcpus", "max_vcpus")]
    if not all(count is None or (type(count) is int and count > 0) for count in counts):
        raise ValueError("not a number of vCPUs")
    mode = entry.get("mode")
    return Wishes(
        mode=None if mode is None else Mode(mode), min_vcpus=counts[0], max_vcpus=counts[1]
    )
