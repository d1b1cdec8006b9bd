"""Metrics and health over HTTP: what is served, and what no client can do."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from vcpud.errors import VcpudError
from vcpud.settings import Listen
from vcpud.web import Pages, WebServer

pytestmark = pytest.mark.sockets


class Site:
    """A server whose health can be set."""

    def __init__(self) -> None:
        self.wrong: str | None = None
        self.scrapes = 0
        self.server = WebServer(
            Listen("127.0.0.1", 0),
            Pages(metrics=self._metrics, alive=lambda: self.wrong, ready=lambda: self.wrong),
        )
        self.server.serve()

    def _metrics(self) -> bytes:
        self.scrapes += 1
        return b"vcpud_up 1\n"

    def fetch(self, path: str, method: str = "GET") -> tuple[int, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)) as web:
            web.request(method, path)
            answer = web.getresponse()
            return answer.status, answer.read().decode()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.server.close()


def test_metrics_are_computed_when_asked_for(site: Site) -> None:
    assert site.scrapes == 0
    assert site.fetch("/metrics?x=1") == (200, "vcpud_up 1\n")
    assert site.scrapes == 1


def test_health_follows_the_loop(site: Site) -> None:
    assert site.fetch("/health") == (200, "ok\n")
    site.wrong = "the last cycle ended 9 s ago"
    assert site.fetch("/health") == (503, "the last cycle ended 9 s ago\n")
    assert site.fetch("/ready")[0] == 503


def test_other_paths_and_methods_are_refused(site: Site) -> None:
    assert site.fetch("/etc/passwd")[0] == 404
    assert site.fetch("/metrics", "HEAD") == (200, "")
    assert site.fetch("/metrics", "POST")[0] == 501


def test_silent_and_broken_clients_do_not_keep_others_out(site: Site) -> None:
    silent = [socket.create_connection(("127.0.0.1", site.server.port)) for _ in range(3)]
    try:
        silent[0].sendall(b"\x16\x03\x01 not http\r\n\r\n")
        silent[1].close()
        assert site.fetch("/health") == (200, "ok\n")
    finally:
        for one in silent:
            one.close()


def test_closing_is_prompt_and_gives_the_port_back() -> None:
    site = Site()
    port = site.server.port
    site.server.close()
    again = WebServer(
        Listen("127.0.0.1", port), Pages(metrics=bytes, alive=lambda: None, ready=lambda: None)
    )
    again.close()


def test_a_port_that_is_taken_is_a_clear_message(site: Site) -> None:
    with pytest.raises(VcpudError, match=r"cannot serve on 127\.0\.0\.1"):
        WebServer(
            Listen("127.0.0.1", site.server.port),
            Pages(metrics=bytes, alive=lambda: None, ready=lambda: None),
        )


def test_an_address_of_another_machine_is_a_clear_message() -> None:
    with pytest.raises(VcpudError, match="cannot serve on"):
        WebServer(
            Listen("192.0.2.1", 0), Pages(metrics=bytes, alive=lambda: None, ready=lambda: None)
        )
