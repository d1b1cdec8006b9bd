"""What systemd is told: ready, reloading, stopping, alive.

Protocol of sd_notify(3): one datagram of KEY=VALUE lines to $NOTIFY_SOCKET, a leading "@" meaning
the abstract namespace. The watchdog is fed by finished cycles only, so a stuck loop is noticed.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from vcpud.model import Mode
from vcpud.units import NS_PER_US

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vcpud.record import CycleRecord

_EXTEND_US = 15_000_000
_STATUS_CHARACTERS = 200
_BARRIER_MS = 2_000


class Notifier:
    """A `Recorder` that speaks to the service manager; silent where there is none."""

    __slots__ = ("_address", "_ready", "_socket", "_status", "_watchdog")

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID from `environ`."""
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket: socket.socket | None = None
        if path.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        pid = environ.get("WATCHDOG_PID", "")
        self._watchdog = bool(environ.get("WATCHDOG_USEC")) and pid in {"", str(os.getpid())}
        self._ready = False
        self._status = ""

    def record(self, record: CycleRecord) -> None:
        if self._socket is None:
            return
        lines = []
        if self._watchdog:
            lines.append("WATCHDOG=1")
        if not self._ready and not record.stopping:
            self._ready = True
            lines.append("READY=1")
        if record.stopping:
            lines.append(f"EXTEND_TIMEOUT_USEC={_EXTEND_US}")
        status = _status(record)
        if status != self._status:
            self._status = status
            lines.append(f"STATUS={status}")
        if lines:
            self._send(*lines)

    def reloading(self) -> None:
        """A reload begins; `reloaded` must follow."""
        if self._ready:
            self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // NS_PER_US}")

    def reloaded(self) -> None:
        """The reload ended, well or not: the daemon serves."""
        if self._ready:
            self._send("READY=1")

    def stopping(self) -> None:
        """The daemon is on its way out, and restoring may take a moment; signal-safe."""
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={_EXTEND_US}")

    def close(self) -> None:
        """Wait until everything said was heard, then close; nothing is sent afterwards.

        A service manager cannot tell whose message it is once the sender has ended, and drops it
        (sd_notify_barrier(3)).
        """
        if self._socket is not None:
            self._barrier(self._socket)
            self._socket.close()
            self._socket = None

    def _barrier(self, end: socket.socket) -> None:
        heard, theirs = os.pipe()
        try:
            with contextlib.suppress(OSError):
                # Not socket.send_fds, which leaves out the address.
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", theirs))
                end.sendmsg([b"BARRIER=1"], [rights], 0, self._address)
                os.close(theirs)
                theirs = -1
                waiting = select.poll()
                waiting.register(heard, 0)
                waiting.poll(_BARRIER_MS)
        finally:
            os.close(heard)
            if theirs >= 0:
                os.close(theirs)

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        # A service manager that is busy or gone is no reason to stop serving guests.
        with contextlib.suppress(OSError):
            self._socket.sendto("\n".join(lines).encode(), self._address)


def _status(record: CycleRecord) -> str:
    """One line for `systemctl status`."""
    domains = record.sample.domains
    enforced = [domain.terms.mode for domain in domains].count(Mode.ENFORCE)
    parts = [f"{len(domains)} domains, {enforced} enforced, {len(record.outstanding)} changed"]
    if record.stopping:
        parts.insert(0, "stopping, restoring")
    elif record.paused:
        parts.insert(0, "paused")
    if not record.sample.connected:
        parts.insert(0, "hypervisor not connected")
    parts.extend(
        f"{what}: {error}"
        for what, error in (("ledger", record.ledger_error), ("policy", record.policy_error))
        if error
    )
    return " ".join("; ".join(parts).split())[:_STATUS_CHARACTERS]
