"""A unix socket that speaks JSON, one object a line, with whoever the kernel says may ask.

Who asks is known from SO_PEERCRED and SO_PEERGROUPS, never from what is said: root, the daemon's own
user, and members of one group. Size, number and time of everything a peer may do are bounded.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from vcpud.errors import UnreachableError, UsageError, VcpudError

if TYPE_CHECKING:
    from pathlib import Path

_MAX_LINE: Final = 16 * 1024
_MAX_LINES: Final = 64
_MAX_PEERS: Final = 16
_READ_S: Final = 5.0
_SO_PEERGROUPS: Final = 59
_MAX_GROUPS: Final = 4096
_PEERCRED: Final = struct.Struct("3i")


class Obey(Protocol):
    """Does what a peer asks, on that peer's own thread."""

    def __call__(self, ask: dict[str, Any], uid: int) -> dict[str, Any]:
        """Answer.

        Raises:
            VcpudError: Why not.
        """


class Peers:
    """The socket and whoever is connected to it."""

    def __init__(self, path: Path, group: str, obey: Obey) -> None:
        """Open the socket; nobody is answered before `serve`.

        Args:
            path: Of the socket.
            group: Whose members may ask.
            obey: Is called with what they ask, on several threads at once.

        Raises:
            VcpudError: The socket cannot be made.
        """
        self._path = path
        self._obey = obey
        self._log = structlog.get_logger()
        self._closing = False
        self._seats = threading.BoundedSemaphore(_MAX_PEERS)
        self._gid = _gid(group)
        try:
            self._socket = _listener(path, self._gid)
        except OSError as error:
            raise VcpudError(f"the control socket {path} cannot be made: {error}") from error
        self._thread = threading.Thread(target=self._accept, name="inbox", daemon=True)

    def serve(self) -> None:
        """Start answering."""
        self._thread.start()

    def close(self) -> None:
        """Take the socket away."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join(1.0)
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while not self._closing:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                # Shut down, or out of descriptors for a moment.
                if not self._closing:
                    time.sleep(0.05)
                continue
            if not self._seats.acquire(blocking=False):
                with peer, contextlib.suppress(OSError):
                    peer.setblocking(False)
                    peer.sendall(_line(_refusal(UnreachableError("too many connections"))))
                continue
            threading.Thread(target=self._talk, args=(peer,), name="peer", daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        try:
            with peer, contextlib.suppress(OSError):
                uid = self._admitted(peer)
                if uid is None:
                    _read_line(peer, b"")  # or the refusal is lost with what was not read
                    error = UnreachableError(
                        "you may not talk to vcpud: join its group, or be root"
                    )
                    peer.sendall(_line(_refusal(error)))
                    return
                rest = b""
                for _ in range(_MAX_LINES):
                    line, rest = _read_line(peer, rest)
                    if line is None:
                        return
                    answer = self._answer(line, uid)
                    peer.settimeout(_READ_S)
                    peer.sendall(_line(answer))
        finally:
            self._seats.release()

    def _admitted(self, peer: socket.socket) -> int | None:
        """The peer's uid, or None where it may not ask."""
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
        pid, uid, gid = _PEERCRED.unpack(raw)
        groups = {gid, *_peer_groups(peer)}
        if uid in (0, os.geteuid()) or (self._gid is not None and self._gid in groups):
            return int(uid)
        self._log.warning("request.denied", uid=uid, pid=pid)
        return None

    def _answer(self, line: bytes, uid: int) -> dict[str, Any]:
        try:
            ask = json.loads(line)
            if not isinstance(ask, dict):
                raise UsageError("expected a JSON object")
            answer = self._obey(ask, uid)
        except VcpudError as error:
            return _refusal(error)
        except (ValueError, RecursionError):
            return _refusal(UsageError("not JSON"))
        return {"ok": True, **answer}


def _refusal(error: VcpudError) -> dict[str, Any]:
    return {"ok": False, "error": str(error), "code": error.exit_code}


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"


def _read_line(peer: socket.socket, rest: bytes) -> tuple[bytes | None, bytes]:
    """One line within the time and size a peer is given, and what came after it."""
    deadline_s = time.monotonic() + _READ_S
    while b"\n" not in rest:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or len(rest) > _MAX_LINE:
            return None, b""
        peer.settimeout(left_s)
        got = peer.recv(4096)
        if not got:
            return None, b""
        rest += got
    line, _, rest = rest.partition(b"\n")
    return (line, rest) if len(line) <= _MAX_LINE else (None, b"")


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


def _peer_groups(peer: socket.socket) -> tuple[int, ...]:
    """The peer's supplementary groups, as the kernel knows them (Linux 4.13 and later)."""
    try:
        raw = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MAX_GROUPS)
    except (OSError, ValueError):
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw[: len(raw) // 4 * 4])


def _listener(path: Path, gid: int | None) -> socket.socket:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    # The host's lock is held: what lies there was left by a vcpud that died.
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(str(path))
        path.chmod(0o660)
        if gid is not None and path.stat().st_gid != gid:
            with contextlib.suppress(PermissionError):
                os.chown(path, -1, gid)
        listener.listen(_MAX_PEERS)
    except BaseException:
        listener.close()
        raise
    return listener
