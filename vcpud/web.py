"""Metrics and health over HTTP, for scrapers on this host.

A few threads of the standard library's server, bounded in number and time. Nothing is computed
before somebody asks.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

from vcpud.errors import VcpudError

if TYPE_CHECKING:
    from vcpud.settings import Listen

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MAX_REQUESTS = 8
_TIMEOUT_S = 5.0


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
            VcpudError: The address cannot be bound.
        """
        try:
            self._server = _Server(listen, pages)
        except OSError as error:
            raise VcpudError(
                f"metrics.listen: cannot serve on {listen.host}:{listen.port}: {error.strerror}"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 3600},
            name="web",
            daemon=True,
        )

    @property
    def port(self) -> int:
        """The port in use; of interest where port 0 was asked for."""
        return int(self._server.server_address[1])

    def serve(self) -> None:
        """Start answering."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering, and give the port back."""
        self._server.closing = True
        if self._thread.is_alive():
            self._server.wake()
            self._thread.join(1.0)
        self._server.server_close()


class _Server(HTTPServer):
    request_queue_size = _MAX_REQUESTS

    def __init__(self, listen: Listen, pages: Pages) -> None:
        self.pages = pages
        self.closing = False
        self._seats = threading.BoundedSemaphore(_MAX_REQUESTS)
        self.address_family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        super().__init__((listen.host, listen.port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own would look up the host's name, which may take as long as DNS likes.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def serve_forever(self, poll_interval: float = 0) -> None:
        del poll_interval
        while not self.closing:
            with contextlib.suppress(OSError):
                self.handle_request()

    def wake(self) -> None:
        """Get `serve_forever` to look at `closing`."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._seats.acquire(blocking=False):
            self.shutdown_request(request)
            return
        threading.Thread(
            target=self._serve_one, args=(request, client_address), name="scrape", daemon=True
        ).start()

    def _serve_one(self, request: Any, client_address: Any) -> None:
        try:
            with contextlib.suppress(OSError):
                self.finish_request(request, client_address)
        finally:
            self.shutdown_request(request)
            self._seats.release()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _TIMEOUT_S
    server_version = "vcpud"
    sys_version = ""

    def do_GET(self) -> None:
        pages = self.server.pages
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._send(HTTPStatus.OK, pages.metrics(), METRICS_TYPE)
        elif path in ("/health", "/ready"):
            wrong = pages.alive() if path == "/health" else pages.ready()
            status = HTTPStatus.OK if wrong is None else HTTPStatus.SERVICE_UNAVAILABLE
            self._send(status, f"{wrong or 'ok'}\n".encode())
        else:
            self._send(HTTPStatus.NOT_FOUND, b"try /metrics, /health or /ready\n")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send(
        self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Scrapes are not news."""
