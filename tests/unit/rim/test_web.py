"""Metrics and health over HTTP: what is served, and what no client can do."""

from __future__ import annotations

import http.client
import selectors
import shutil
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from vcpud import web
from vcpud.errors import VcpudError
from vcpud.settings import Listen, Tls
from vcpud.web import MAX_CONNECTIONS, MAX_REQUEST_BYTES, Pages, WebServer

pytestmark = pytest.mark.sockets

TLS = Path(__file__).resolve().parents[2] / "data" / "tls"


class Site:
    """A server whose health can be set."""

    def __init__(self, tls: Tls | None = None) -> None:
        self.wrong: str | None = None
        self.text = b"vcpud_up 1\n"
        self.scrapes = 0
        self.server = WebServer(
            Listen("127.0.0.1", 0, tls),
            Pages(metrics=self._metrics, alive=lambda: self.wrong, ready=lambda: self.wrong),
        )
        self.server.serve()

    def _metrics(self) -> bytes:
        self.scrapes += 1
        return self.text

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=10)

    def say(self, words: bytes) -> bytes:
        """Everything the server answers to this until it hangs up."""
        with self.connect() as peer:
            peer.sendall(words)
            return heard(peer)

    def fetch(
        self, path: str, method: str = "GET", context: ssl.SSLContext | None = None
    ) -> tuple[int, str]:
        if context is None:
            peer = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        else:
            peer = http.client.HTTPSConnection(
                "127.0.0.1", self.server.port, timeout=10, context=context
            )
        with closing(peer):
            peer.request(method, path)
            answer = peer.getresponse()
            return answer.status, answer.read().decode()


def heard(peer: socket.socket) -> bytes:
    """Everything that comes until the other side hangs up, politely or not."""
    got = bytearray()
    with suppress(ConnectionResetError):
        while piece := peer.recv(1 << 20):
            got += piece
    return bytes(got)


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
    assert site.fetch("/metrics", "POST")[0] == 405


@pytest.mark.parametrize(
    "words", [b"\x16\x03\x01 not http\r\n\r\n", b"\n\n", b"GET /metrics\r\n\r\n", b"\0\0\n\n"]
)
def test_what_is_no_http_is_answered_politely(site: Site, words: bytes) -> None:
    assert site.say(words).startswith(b"HTTP/1.1 400 ")


def test_a_request_may_come_in_pieces(site: Site) -> None:
    with site.connect() as peer:
        for piece in (b"GET /met", b"rics HTTP/1.1\r\nHo", b"st: x\r\n\r", b"\n"):
            peer.sendall(piece)
            time.sleep(0.01)
        assert heard(peer).endswith(b"vcpud_up 1\n")


def test_a_request_has_a_largest_size(site: Site) -> None:
    answer = site.say(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * (MAX_REQUEST_BYTES // 6 + 9))
    assert answer.startswith(b"HTTP/1.1 431 ")
    endless = site.say(b"GET /" + b"a" * 10 * MAX_REQUEST_BYTES)
    assert endless.startswith(b"HTTP/1.1 431 ")


def test_silent_and_broken_clients_do_not_keep_others_out(site: Site) -> None:
    silent = [site.connect() for _ in range(3)]
    try:
        silent[0].sendall(b"GET /metr")
        silent[1].close()
        assert site.fetch("/health") == (200, "ok\n")
    finally:
        for one in silent:
            one.close()


def test_a_crowd_that_asks_for_nothing_makes_room_oldest_first(site: Site) -> None:
    with ExitStack() as stack:
        crowd = [stack.enter_context(site.connect()) for _ in range(MAX_CONNECTIONS + 8)]
        assert site.fetch("/health") == (200, "ok\n")
        assert heard(crowd[0]) == b""
        crowd[-1].sendall(b"GET /health HTTP/1.1\r\n\r\n")
        assert heard(crowd[-1]).endswith(b"ok\n")


def test_who_asks_byte_by_byte_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "ASKING_S", 0.3)
    with site.connect() as peer:
        began_s = time.monotonic()
        with suppress(OSError):
            while time.monotonic() < began_s + 5:
                peer.sendall(b"G")
                time.sleep(0.05)
    assert time.monotonic() - began_s < 3
    assert site.fetch("/health")[0] == 200


def test_who_does_not_read_the_answer_is_cut_off(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "LISTENING_S", 0.3)
    site.text = b"#" * (64 << 20)
    with site.connect() as peer:
        peer.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        time.sleep(0.8)
        site.text = b"vcpud_up 1\n"
        assert site.fetch("/metrics") == (200, "vcpud_up 1\n")
        assert len(heard(peer)) < 64 << 20


def test_who_does_not_stop_sending_does_not_hold_the_others_up() -> None:
    class Endless(socket.socket):
        def recv(self, size: int, _flags: int = 0, /) -> bytes:
            return b"\n" * size

        def send(self, data: Any, _flags: int = 0, /) -> int:
            return len(data)

        def shutdown(self, how: int, /) -> None:
            pass

    with Endless() as peer:
        visit = web._Visit(peer, 0.0)
        assert visit.go_on(lambda _: b"answer") == selectors.EVENT_READ


def test_closing_is_prompt_and_gives_the_port_back() -> None:
    site = Site()
    port = site.server.port
    with site.connect():
        site.server.close()
        again = WebServer(
            Listen("127.0.0.1", port),
            Pages(metrics=bytes, alive=lambda: None, ready=lambda: None),
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


# ---------------------------------------------------------------------------------------- TLS


def trusting(client: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=TLS / "ca.pem")
    if client is not None:
        context.load_cert_chain(TLS / f"{client}.pem", TLS / f"{client}.key")
    return context


def tls(folder: Path = TLS, *, clients: bool = True) -> Tls:
    return Tls(
        certificate=folder / "server.pem",
        key=folder / "server.key",
        client_ca=folder / "ca.pem" if clients else None,
    )


@pytest.fixture
def safe_site() -> Iterator[Site]:
    made = Site(tls())
    yield made
    made.server.close()


@pytest.mark.parametrize(
    ("host", "clients", "exposed"),
    [
        ("127.0.0.1", None, False),
        ("::1", None, False),
        ("0.0.0.0", None, True),  # noqa: S104  that is what the warning is for
        ("192.0.2.1", False, True),
        ("192.0.2.1", True, False),
    ],
)
def test_what_strangers_can_read_is_known(host: str, clients: bool | None, exposed: bool) -> None:
    found = None if clients is None else tls(clients=clients)
    assert Listen(host, 1, found).exposed is exposed


def test_a_client_with_the_right_certificate_is_served(safe_site: Site) -> None:
    assert safe_site.fetch("/metrics", context=trusting("client")) == (200, "vcpud_up 1\n")


def test_a_large_answer_passes_through_tls_whole(safe_site: Site) -> None:
    safe_site.text = b"vcpud_up 1\n" * 300_000
    status, text = safe_site.fetch("/metrics", context=trusting("client"))
    assert (status, len(text)) == (200, len(safe_site.text))


@pytest.mark.parametrize("client", [None, "stranger"])
def test_a_client_without_it_is_not(safe_site: Site, client: str | None) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        safe_site.fetch("/metrics", context=trusting(client))
    assert safe_site.scrapes == 0
    assert safe_site.fetch("/health", context=trusting("client"))[0] == 200


def test_plain_http_and_silence_do_not_disturb_tls(safe_site: Site) -> None:
    with safe_site.connect(), safe_site.connect() as plain:
        plain.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert b"vcpud_up" not in heard(plain)
        assert safe_site.fetch("/health", context=trusting("client"))[0] == 200


def test_clients_that_reset_before_their_turn_do_not_end_tls(safe_site: Site) -> None:
    for _ in range(50):
        with safe_site.connect() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sendall(b"x")
    assert safe_site.fetch("/health", context=trusting("client"))[0] == 200


def test_tls_need_not_ask_clients_who_they_are() -> None:
    site = Site(tls(clients=False))
    try:
        assert site.fetch("/metrics", context=trusting()) == (200, "vcpud_up 1\n")
    finally:
        site.server.close()


def test_a_renewed_certificate_comes_into_force_and_a_broken_one_does_not(tmp_path: Path) -> None:
    for file in TLS.glob("*.*"):
        shutil.copy(file, tmp_path)
    site = Site(tls(tmp_path, clients=False))
    try:
        (tmp_path / "server.pem").write_text("half a certif")
        assert site.fetch("/health", context=trusting())[0] == 200
        for end in ("pem", "key"):
            shutil.copy(TLS / f"client.{end}", tmp_path / f"server.{end}")
        with (
            site.connect() as peer,
            trusting().wrap_socket(peer, server_hostname="127.0.0.1") as shown,
        ):
            subject = dict(shown.getpeercert() or {})["subject"]
        assert subject == ((("commonName", "client"),),)
    finally:
        site.server.close()


def test_certificates_that_are_missing_or_broken_are_a_clear_message(tmp_path: Path) -> None:
    shutil.copy(TLS / "server.pem", tmp_path)
    (tmp_path / "server.key").write_text("no key")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(VcpudError, match=r"metrics: no TLS with .*server\.pem"):
            Site(tls(folder, clients=False))
