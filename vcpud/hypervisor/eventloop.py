"""libvirt's event loop, on a thread of its own while anybody needs it.

Without it there are no events, and no keep-alive that finds out that a libvirt has gone. It must be
registered before the first connection is opened, and once per process.
"""

from __future__ import annotations

import threading
from typing import Final

import libvirt

_STOP_S: Final = 1.0


class EventLoop:
    """Runs from the first `acquire` to the last `release`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._registered = False
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def acquire(self) -> None:
        """It is needed from now on."""
        with self._lock:
            self._users += 1
            if not self._registered:
                # libvirt prints errors to stderr unless somebody else takes them.
                libvirt.registerErrorHandler(_ignore_error, None)
                libvirt.virEventRegisterDefaultImpl()
                self._registered = True
            if self._thread is None:
                self._stopping = threading.Event()
                self._thread = threading.Thread(
                    target=_run, args=(self._stopping,), name="libvirt-events", daemon=True
                )
                self._thread.start()

    def release(self) -> None:
        """One needs it no more; bounded in time."""
        with self._lock:
            self._users -= 1
            thread = self._thread
            if self._users or thread is None:
                return
            self._stopping.set()
            self._thread = None
            # The loop sleeps in poll(2); only a timer of its own ends that.
            libvirt.virEventAddTimeout(0, _expire, None)
        thread.join(_STOP_S)


def _run(stopping: threading.Event) -> None:
    while not stopping.is_set():
        libvirt.virEventRunDefaultImpl()


def _expire(timer: int, _opaque: object) -> None:
    libvirt.virEventRemoveTimeout(timer)


def _ignore_error(_context: object, _error: object) -> None:
    return


LOOP: Final = EventLoop()
