"""The kill switch: a file that an operator creates where vcpud must do nothing more, at once.

While it exists nothing is decided and everything is given back; it outlives restarts and reboots,
and needs neither the control socket nor a healthy vcpud to be created.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import structlog

from vcpud.requests import Asked, KillSwitch, Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vcpud.ports import Inbox


class SwitchedInbox:
    """An `Inbox` that also tells when the kill switch, a file, has appeared or gone."""

    def __init__(self, inner: Inbox, path: Path, now_ns: Callable[[], int]) -> None:
        self._inner = inner
        self._path = path
        self._now_ns = now_ns
        self._thrown = False
        self._log = structlog.get_logger()

    def drain(self) -> tuple[Request, ...]:
        requests = self._inner.drain()
        try:
            uid: int | None = os.lstat(self._path).st_uid
        except (FileNotFoundError, NotADirectoryError):
            uid = None
        except OSError:
            return requests  # whether it is there cannot be told: as before
        if (uid is not None) is self._thrown:
            return requests
        self._thrown = uid is not None
        word = "thrown" if self._thrown else "taken_back"
        self._log.warning(f"kill_switch.{word}", file=str(self._path), uid=uid)
        asked = Asked(uid=0 if uid is None else uid, at_ns=self._now_ns())
        return (*requests, KillSwitch(asked=asked, thrown=self._thrown))
