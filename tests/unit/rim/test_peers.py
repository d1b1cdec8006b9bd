"""Who may talk over the control socket, how much and for how long; what is asked means nothing here."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vcpud.client import ask
from vcpud.errors import UnreachableError, UsageError, VcpudError
from vcpud.peers import Peers

pytestmark = pytest.mark.sockets


class Door:
    """A socket behind which everything but "no" is granted."""

    def __init__(self, folder: Path, group: str = "no-such-group") -> None:
        self.path = folder / "vcpud.sock"
        self.asked: list[int] = []
        self.peers = Peers(self.path, group, self._obey)

    def _obey(self, ask: dict[str, Any], uid: int) -> dict[str, Any]:
        self.asked.append(uid)
        if ask["verb"] == "no":
            raise UsageError("no")
        return {"heard": ask}

    def ask(self) -> bool:
        return bool(ask(self.path.parent, "status")["ok"])

    def raw(self, *lines: bytes) -> list[bytes]:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(10)
            peer.connect(str(self.path))
            for line in lines:
                peer.sendall(line)
            peer.shutdown(socket.SHUT_WR)
            answer = b""
            while part := peer.recv(65536):
                answer += part
        return answer.splitlines()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path)
    made.peers.serve()
    yield made
    made.peers.close()


def test_who_asks_is_what_the_kernel_says(door: Door) -> None:
    (answer,) = door.raw(b'{"verb": "status", "uid": 12345}\n')
    assert json.loads(answer) == {"ok": True, "heard": {"verb": "status", "uid": 12345}}
    assert door.asked == [os.geteuid()]


def test_a_line_without_end_is_cut_off(door: Door) -> None:
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        assert door.raw(b"x" * 100_000) == []
    assert door.ask()


def test_who_goes_on_with_a_line_is_cut_off_by_its_length_and_not_by_time(door: Door) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(3)  # less than a line may take
        peer.connect(str(door.path))
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            peer.sendall(b"x" * 40_000)
            assert peer.recv(1) == b""


def test_a_connection_is_good_for_so_many_lines(door: Door) -> None:
    line = b'{"verb": "status"}\n'
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(str(door.path))
        heard = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            peer.sendall(100 * line)
            while part := peer.recv(65536):
                heard += part
    assert 0 < len(door.asked) <= 64
    assert heard.count(b"\n") <= 64


@pytest.mark.parametrize("line", [b"nonsense\n", b"[]\n", b"[" * 9000 + b"\n", b"\xff\xfe\n"])
def test_what_is_no_object_is_refused_before_anybody_hears_of_it(door: Door, line: bytes) -> None:
    (answer,) = door.raw(line)
    refusal = json.loads(answer)
    assert (refusal["ok"], refusal["code"]) == (False, 2)
    assert door.asked == []


def test_several_lines_in_one_connection_are_answered_in_turn(door: Door) -> None:
    answers = door.raw(b'{"verb": "status"}\n{"verb": "no"}\n', b'{"verb": "status"}\n')
    assert [json.loads(answer)["ok"] for answer in answers] == [True, False, True]


def test_more_peers_than_seats_are_turned_away_and_the_seats_come_back(door: Door) -> None:
    peers = []
    try:
        for _ in range(16):
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(str(door.path))
            peer.sendall(b'{"verb": "status"}\n')
            assert json.loads(peer.recv(4096))["ok"]
            peers.append(peer)
        with pytest.raises(UnreachableError, match=r"too many connections|turned .* away"):
            door.ask()
    finally:
        for peer in peers:
            peer.close()
    for _ in range(200):
        try:
            assert door.ask()
            break
        except UnreachableError:
            threading.Event().wait(0.01)
    else:
        pytest.fail("the seats did not come back")


def test_a_socket_left_by_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "vcpud.sock"))
    dead.close()
    door = Door(tmp_path)
    door.peers.serve()
    assert door.ask()
    assert door.path.stat().st_mode & 0o777 == 0o660
    door.peers.close()
    assert not door.path.exists()


def stranger(
    door: Door, monkeypatch: pytest.MonkeyPatch, say: Callable[[socket.socket], Any]
) -> Any:
    """Ask as a user who is neither root nor the daemon's own."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        if os.geteuid() == 0:
            door.path.chmod(0o666)
            os.seteuid(65534)
            try:
                # The backlog takes it; who it was is fixed now, and looked at below.
                peer.connect("vcpud.sock")
            finally:
                os.seteuid(0)
        else:
            peer.connect(str(door.path))
            own = os.geteuid()
            monkeypatch.setattr(os, "geteuid", lambda: own + 1)
        door.peers.serve()
        return say(peer)


def exchange(peer: socket.socket) -> dict[str, Any]:
    with contextlib.suppress(BrokenPipeError):  # turned away before anything was asked
        peer.sendall(b'{"verb": "status"}\n')
    answer: dict[str, Any] = json.loads(peer.recv(4096))
    return answer


@pytest.fixture
def open_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # so that a stranger need not walk through pytest's own folders
    return tmp_path


def test_a_stranger_is_turned_away_whatever_the_file_says(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Door(open_folder)
    try:
        answer = stranger(door, monkeypatch, exchange)
    finally:
        door.peers.close()
    assert (answer["ok"], answer["code"]) == (False, 4)
    assert door.asked == []


def test_a_member_of_the_socket_group_is_served(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Door(open_folder, group=grp.getgrgid(os.getegid()).gr_name)
    try:
        answer = stranger(door, monkeypatch, exchange)
    finally:
        door.peers.close()
    assert answer["ok"] is True


def test_a_path_too_long_for_a_socket_is_a_clear_message(tmp_path: Path) -> None:
    with pytest.raises(VcpudError, match=r"the control socket .* cannot be made"):
        Door(tmp_path / ("x" * 120))
