"""Metrics and health over HTTP, for scrapers on this host; with TLS for those on others.

Problem: whoever can reach the port may be slow, broken or hostile, and must neither keep others
out nor cost the daemon more than a little. Approach: one thread, non-blocking sockets, and bounds
on everything: connections, bytes of a request, time for asking, time for listening to the answer.
Where all places are taken the one who has been asking for longest makes room, so a scraper that
says at once what it wants is always served. Nothing is computed before somebody asks.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING

from vcpud.errors import VcpudError
from vcpud.text import printable

if TYPE_CHECKING:
    import ssl

    from vcpud.settings import Listen, Tls

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_CONNECTIONS = 64
MAX_REQUEST_BYTES = 8192
ASKING_S = 5.0
"""How long a client may take to shake hands and say what it wants."""
LISTENING_S = 10.0
"""How long it may take to read the answer."""
LEAVING_S = 1.0
"""How long it may take to hang up afterwards."""
_TEXT = "text/plain; charset=utf-8"
_READS = 32
"""So often what a client still sends is read before the others have their turn."""
_REST_S = 0.1
"""A pause where the process is out of descriptors: accepting would only fail again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """What is served.

    Attributes:
        metrics: The exposition text.
        alive: None while the loop turns, else what is wrong.
        ready: None when the daemon does its job, else why not yet or not now.
    """

    metrics: Callable[[], bytes]
    alive: Callable[[], str | None]
    ready: Callable[[], str | None]


class WebServer:
    """Serves until closed, on a thread of its own."""

    def __init__(self, listen: Listen, pages: Pages) -> None:
        """Bind.

        Raises:
            VcpudError: The address cannot be bound, or the certificates are of no use.
        """
        self._pages = pages
        self._certificates = None if listen.tls is None else _Certificates(listen.tls)
        try:
            self._door = _bound(listen)
        except OSError as error:
            raise VcpudError(
                f"metrics.listen: cannot serve on {listen.host}:{listen.port}: {error.strerror}"
            ) from error
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._door, selectors.EVENT_READ)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._visits: dict[socket.socket, _Visit] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="web", daemon=True)

    @property
    def port(self) -> int:
        """The port in use; of interest where port 0 was asked for."""
        return int(self._door.getsockname()[1])

    def serve(self) -> None:
        """Start answering."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering, and give the port back."""
        self._closing = True
        os.eventfd_write(self._bell, 1)
        if self._thread.is_alive():
            self._thread.join(1.0)
        for visit in list(self._visits.values()):
            self._leave(visit)
        self._selector.close()
        self._door.close()
        os.close(self._bell)

    # ------------------------------------------------------------------------- the one thread

    def _serve(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select(self._patience_s()):
                if key.fileobj is self._door:
                    self._welcome()
                elif isinstance(key.data, _Visit) and key.data.socket in self._visits:
                    self._attend(key.data)
            now_s = time.monotonic()
            for visit in [one for one in self._visits.values() if one.until_s <= now_s]:
                self._leave(visit)

    def _patience_s(self) -> float | None:
        if not self._visits:
            return None
        first_s = min(visit.until_s for visit in self._visits.values())
        return max(0.0, first_s - time.monotonic())

    def _welcome(self) -> None:
        try:
            connection, _ = self._door.accept()
        except BlockingIOError:
            return
        except OSError:
            time.sleep(_REST_S)
            return
        connection.setblocking(False)
        if self._certificates is not None:
            try:
                connection = self._certificates.wrapped(connection)
            except (OSError, ValueError):  # reset before its turn came
                connection.close()
                return
        if len(self._visits) >= MAX_CONNECTIONS:
            self._leave(min(self._visits.values(), key=_Visit.standing))
        visit = _Visit(connection, time.monotonic() + ASKING_S)
        self._visits[connection] = visit
        self._selector.register(connection, selectors.EVENT_READ, visit)

    def _attend(self, visit: _Visit) -> None:
        """Get on with one client as far as it goes without waiting."""
        try:
            wants = visit.go_on(self._answer)
        except OSError:  # hung up, reset, or no TLS: SSLError is one of them
            wants = None
        if wants is None:
            self._leave(visit)
        else:
            self._selector.modify(visit.socket, wants, visit)

    def _leave(self, visit: _Visit) -> None:
        self._visits.pop(visit.socket, None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(visit.socket)
        visit.socket.close()

    # -------------------------------------------------------------------------------- answers

    def _answer(self, request: bytes) -> bytes:
        line, _, _ = request.partition(b"\n")
        words = line.decode("latin-1").split()
        if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004
            return _response(HTTPStatus.BAD_REQUEST, b"this is an HTTP/1.1 server\n")
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return _response(
                HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD\n", more="Allow: GET, HEAD\r\n"
            )
        path = target.partition("?")[0]
        kind = _TEXT
        if path == "/metrics":
            status, body, kind = HTTPStatus.OK, self._pages.metrics(), METRICS_TYPE
        elif path in ("/health", "/ready"):
            wrong = self._pages.alive() if path == "/health" else self._pages.ready()
            status = HTTPStatus.OK if wrong is None else HTTPStatus.SERVICE_UNAVAILABLE
            body = f"{wrong or 'ok'}\n".encode()
        else:
            status, body = HTTPStatus.NOT_FOUND, b"try /metrics, /health or /ready\n"
        return _response(status, body, kind=kind, with_body=method == "GET")


class _Stage(Enum):
    ASKING = 0
    LISTENING = 1
    LEAVING = 2


class _Visit:
    """One client, from its first byte to its last."""

    __slots__ = ("_asked", "_left", "_shaken", "_stage", "socket", "until_s")

    def __init__(self, connection: socket.socket, until_s: float) -> None:
        self.socket = connection
        self.until_s = until_s
        self._stage = _Stage.ASKING
        self._shaken = not hasattr(connection, "do_handshake")
        self._asked = b""
        self._left = memoryview(b"")

    def standing(self) -> tuple[bool, float]:
        """Who goes first where there is no room: those who do not ask, the oldest first."""
        return self._stage is _Stage.LISTENING, self.until_s

    def go_on(self, answer: Callable[[bytes], bytes]) -> int | None:
        """Do what can be done now.

        Args:
            answer: The response to a whole request.

        Returns:
            The selector's event to wait for, or None when all is done.

        Raises:
            OSError: The client is gone.
        """
        try:
            if not self._shaken:
                self.socket.do_handshake()  # type: ignore[attr-defined]
                self._shaken = True
            if self._stage is _Stage.ASKING and not self._heard(answer):
                return None
            if self._stage is _Stage.LISTENING:
                self._tell()
            # What a client still sends is read, for closing on it would take the answer away.
            for _ in range(_READS):
                if not self.socket.recv(MAX_REQUEST_BYTES):
                    return None
        except BlockingIOError:
            return selectors.EVENT_READ if not self._left else selectors.EVENT_WRITE
        except OSError as error:
            # TLS may want to read in order to write, and the reverse.
            if type(error).__name__ == "SSLWantReadError":
                return selectors.EVENT_READ
            if type(error).__name__ == "SSLWantWriteError":
                return selectors.EVENT_WRITE
            raise
        return selectors.EVENT_READ

    def _heard(self, answer: Callable[[bytes], bytes]) -> bool:
        """Read the request to its end; False where the client hung up before."""
        while b"\r\n\r\n" not in self._asked and b"\n\n" not in self._asked:
            got = self.socket.recv(MAX_REQUEST_BYTES + 1 - len(self._asked))
            if not got:
                return False
            self._asked += got
            if len(self._asked) > MAX_REQUEST_BYTES:
                status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                self._turn_to(_Stage.LISTENING, LISTENING_S)
                self._left = memoryview(_response(status, b"too much\n"))
                return True
        self._left = memoryview(answer(self._asked))
        self._turn_to(_Stage.LISTENING, LISTENING_S)
        return True

    def _tell(self) -> None:
        while self._left:
            self._left = self._left[self.socket.send(self._left) :]
        self._asked = b""
        self._turn_to(_Stage.LEAVING, LEAVING_S)
        self.socket.shutdown(socket.SHUT_WR)

    def _turn_to(self, stage: _Stage, for_s: float) -> None:
        self._stage = stage
        self.until_s = time.monotonic() + for_s


class _Certificates:
    """The server's side of TLS; files that are renewed come into force with the next client."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._files = [
            file for file in (tls.certificate, tls.key, tls.client_ca) if file is not None
        ]
        try:
            self._stamps = self._look()
            self._context = self._made()
        except (OSError, ValueError) as error:
            files = ", ".join(str(file) for file in self._files)
            reason = printable(str(error), 300)
            raise VcpudError(f"metrics: no TLS with {files}: {reason}") from error

    def wrapped(self, connection: socket.socket) -> ssl.SSLSocket:
        """Speak TLS on a connection; the handshake is still to come."""
        # A certificate half renewed is not worth a scrape: the old one serves until it is whole.
        with contextlib.suppress(OSError, ValueError):
            stamps = self._look()
            if stamps != self._stamps:
                self._context, self._stamps = self._made(), stamps
        return self._context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )

    def _look(self) -> list[tuple[int, int]]:
        return [(stat.st_mtime_ns, stat.st_ino) for stat in map(os.stat, self._files)]

    def _made(self) -> ssl.SSLContext:
        import ssl  # noqa: PLC0415  most daemons never need it, and all would pay

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._tls.certificate, self._tls.key)
        if self._tls.client_ca is not None:
            context.load_verify_locations(self._tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _bound(listen: Listen) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((listen.host, listen.port))
        door.listen(MAX_CONNECTIONS)
        door.setblocking(False)
    except BaseException:
        door.close()
        raise
    return door


def _response(
    status: HTTPStatus,
    body: bytes,
    *,
    kind: str = _TEXT,
    more: str = "",
    with_body: bool = True,
) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nServer: vcpud\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n"
    ).encode()
    return head + body if with_body else head
