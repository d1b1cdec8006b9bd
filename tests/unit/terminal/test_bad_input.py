"""Every command there is, given what it cannot work with: a message, the documented exit code."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vcpud import cli
from vcpud.commands import ask as ask_commands
from vcpud.commands.common import EXIT_CODES

pytestmark = pytest.mark.sockets

ENOUGH: dict[str, list[str]] = {
    "run": [],
    "dry-run": ["--cycles", "1"],
    "check-config": [],
    "status": [],
    "list": [],
    "set": ["db", "--min", "1"],
    "pause": [],
    "resume": [],
    "release": ["db"],
    "hold": ["5s"],
    "reload": [],
    "top": [],
    "explain": ["db"],
    "doctor": [],
    "restore": [],
    "deadman": [],
    "enable-enforce": [],
    "disable-enforce": [],
    "record": ["folder"],
    "replay": ["file"],
    "report": ["file"],
    "version": [],
    "compare": [],
    "demo": [],
    "simulate": ["scenario"],
    "study": [],
    "sweep": ["static"],
}
"""For each command, arguments that are right, so that one more or another one is what is wrong."""
ASKING = ("status", "list", "set", "pause", "resume", "release", "hold", "reload", "explain")
"""Commands that cannot do without a running vcpud."""
READING_CONFIG = ("run", "dry-run", "check-config", "doctor", *ASKING)


def commands() -> dict[str, argparse.ArgumentParser]:
    for action in cli._parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("no commands")


COMMANDS = commands()
Give = Callable[..., tuple[int, str, str]]


@pytest.fixture
def give(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Give:
    """Give a command; exit code, output and complaint."""
    folders = ["--state-dir", str(tmp_path / "state"), "--runtime-dir", str(tmp_path)]

    def give(name: str, *words: str, config: Path | None = None) -> tuple[int, str, str]:
        before = [] if config is None else ["--config", str(config)]
        where = [] if config is not None else folders
        try:
            code = cli.main([name, *where, *before, *words])
        except SystemExit as stop:
            code = int(str(stop.code))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return give


def test_every_command_is_tried() -> None:
    assert set(ENOUGH) == set(COMMANDS)
    known = {
        name
        for name, parser in COMMANDS.items()
        if any("--output" in action.option_strings for action in parser._actions)
    }
    changing_nothing = {"run", "top", "deadman", "enable-enforce", "disable-enforce"}
    assert set(COMMANDS) - known == changing_nothing


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_that_does_not_exist_is_wrong_usage(give: Give, name: str) -> None:
    code, _, err = give(name, *ENOUGH[name], "--frobnicate")
    assert code == 2
    assert "--frobnicate" in err


@pytest.mark.parametrize("name", COMMANDS)
def test_an_argument_too_many_is_wrong_usage(give: Give, name: str) -> None:
    if any(action.nargs in {"+", "*"} for action in COMMANDS[name]._get_positional_actions()):
        pytest.skip("takes any number")
    code, _, err = give(name, *ENOUGH[name], "one", "two", "three")
    assert code == 2
    assert "usage:" in err


@pytest.mark.parametrize("name", [name for name in COMMANDS if ENOUGH[name]])
def test_an_argument_too_few_is_wrong_usage(give: Give, name: str) -> None:
    needed = [a for a in COMMANDS[name]._get_positional_actions() if a.nargs is None]
    if needed:
        assert give(name)[0] == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_is_for(give: Give, name: str) -> None:
    code, out, _ = give(name, "--help")
    assert code == 0
    assert len(out.split("\n\n")[1]) > 10


@pytest.mark.parametrize("name", COMMANDS)
def test_values_that_an_option_does_not_know_are_wrong_usage(give: Give, name: str) -> None:
    for action in COMMANDS[name]._actions:
        if action.choices is not None and action.option_strings:
            code, _, err = give(name, *ENOUGH[name], action.option_strings[-1], "nonsense")
            assert code == 2
            assert "nonsense" in err
        if getattr(action.type, "__name__", "") in {"duration", "count", "_cycles"}:
            words = [action.option_strings[-1], "-7x"] if action.option_strings else ["-7x"]
            assert give(name, *(ENOUGH[name] if action.option_strings else []), *words)[0] == 2


@pytest.mark.parametrize("name", READING_CONFIG)
def test_a_named_configuration_that_is_not_there_is_told(
    give: Give, tmp_path: Path, name: str
) -> None:
    missing = tmp_path / "missing.yaml"
    code, _, err = give(name, *ENOUGH[name], config=missing)
    assert code == 3
    assert str(missing) in err


@pytest.mark.parametrize("content", ["{", "period: soon", "a: &a [*a]", "\0", "x: 1\nx: 2"])
def test_a_configuration_without_sense_is_told_with_file_and_line(
    give: Give, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "vcpud.yaml"
    path.write_text(content)
    path.chmod(0o600)
    for name in ("check-config", "run", "dry-run"):
        code, _, err = give(name, config=path)
        assert code == 3
        assert str(path) in err


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """As somebody who may read nothing, where the tests run as root."""
    if os.geteuid():
        yield
        return
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_a_configuration_that_may_not_be_read_is_told(give: Give, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    path = tmp_path / "vcpud.yaml"
    path.write_text("period: 1s")
    path.chmod(0)
    with as_nobody():
        code, _, err = give("check-config", config=path)
        assert code == 3
        assert "ermission denied" in err


@pytest.mark.parametrize("name", ASKING)
def test_without_a_daemon_the_exit_code_is_4_and_the_way_out_is_named(
    give: Give, name: str
) -> None:
    code, _, err = give(name, *ENOUGH[name])
    assert code == 4
    assert "vcpud does not run" in err
    assert "systemctl start vcpud" in err


def test_a_state_folder_that_cannot_be_used_is_told(give: Give, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    code, _, err = give("restore")
    assert code in {0, 1}
    assert "Traceback" not in err


class Socket:
    """A vcpud that behaves badly."""

    def __init__(self, folder: Path, behave: Callable[[socket.socket], None] | None) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "vcpud.sock"))
        self.listener.listen(1)
        self.peers: list[socket.socket] = []
        self.behave = behave
        if behave is not None:
            threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.peers.append(peer)
            with contextlib.suppress(OSError):
                assert self.behave is not None
                self.behave(peer)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for peer in self.peers:
            peer.close()


def say(text: bytes) -> Callable[[socket.socket], None]:
    def behave(peer: socket.socket) -> None:
        peer.recv(4096)
        peer.sendall(text)
        peer.close()

    return behave


def trickle(peer: socket.socket) -> None:
    peer.recv(4096)
    for _ in range(200):
        peer.sendall(b" ")
        threading.Event().wait(0.02)


BEHAVIOURS: dict[str, Callable[[socket.socket], None] | None] = {
    "accepts nobody": None,
    "says nothing": lambda _peer: None,
    "hangs up": lambda peer: peer.close(),
    "says nonsense": say(b"Internal Server Error\n"),
    "says a list": say(b"[]\n"),
    "breaks off": say(b'{"ok": true, "status": {"cyc'),
    "trickles": trickle,
    "refuses without a word": say(b'{"ok": false}\n'),
    "refuses with a strange code": say(b'{"ok": false, "code": 77, "error": "no"}\n'),
}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_daemon_that_behaves_badly_is_told_in_time(
    give: Give, tmp_path: Path, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask_commands, "READ_S", 0.15)
    monkeypatch.setattr(ask_commands, "CHANGE_S", 0.15)
    monkeypatch.setattr("vcpud.commands.explain.READ_S", 0.15)
    server = Socket(tmp_path, BEHAVIOURS[behaviour])
    try:
        for name in ("status", "pause", "explain"):
            code, out, err = give(name, *ENOUGH[name])
            assert code == (1 if behaviour.startswith("refuses") else 4), (name, out, err)
            assert err.startswith("vcpud: ")
    finally:
        server.close()


def test_who_may_not_talk_to_the_daemon_is_told_how_he_may(give: Give, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith("pytest-") or folder == tmp_path:
            folder.chmod(0o755)
    server = Socket(tmp_path, lambda _peer: None)
    (tmp_path / "vcpud.sock").chmod(0)
    try:
        with as_nobody():
            code, _, err = give("status")
    finally:
        server.close()
    assert code == 4
    assert "join its group, or run this as root" in err


@pytest.mark.parametrize("name", ["replay", "report", "simulate"])
def test_a_file_that_is_not_there_is_told(give: Give, tmp_path: Path, name: str) -> None:
    code, _, err = give(name, str(tmp_path / "nothing.here"))
    assert code in {1, 2, 3}
    assert "nothing.here" in err


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "--policy", "nope"),
        ("demo", "--policy", "nope"),
        ("simulate", "demo", "--policy", "nope"),
        ("study", "--policy", "nope"),
        ("sweep", "nope"),
    ],
)
def test_a_policy_that_is_not_there_is_wrong_usage(give: Give, words: tuple[str, ...]) -> None:
    code, _, err = give(*words)
    assert code == 2
    assert "there is no policy 'nope'" in err


@pytest.mark.parametrize("content", [b"", b"\0\1\2", b"not what was expected\n" * 10])
@pytest.mark.parametrize("name", ["replay", "report", "simulate"])
def test_a_file_of_another_kind_is_told(
    give: Give, tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    code, _, err = give(name, str(path))
    assert code in {1, 2, 3}
    assert "file.yaml" in err


def test_output_that_nobody_reads_any_more_is_no_traceback() -> None:
    command = f"{sys.executable} -m vcpud check-config --print -o json | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.stdout == "{"


@pytest.mark.parametrize(
    ("name", "without", "remedy"),
    [
        ("top", "textual", "pip install 'vcpud[top]'"),
        ("doctor", "libvirt", "install python3-libvirt"),
    ],
)
def test_what_is_not_installed_is_named_with_the_way_to_it(
    give: Give, monkeypatch: pytest.MonkeyPatch, name: str, without: str, remedy: str
) -> None:
    for module in ("vcpud.top.app", "vcpud.hypervisor.connection"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    for module in [one for one in sys.modules if one.partition(".")[0] == without]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, without, None)
    monkeypatch.setattr("vcpud.commands.top._on_a_terminal", lambda: True)
    code, _, err = give(name)
    assert code == 1
    assert remedy in err


def test_the_exit_codes_are_documented(give: Give) -> None:
    code = give("version", "-o", "json")
    assert code[0] == 0
    json.loads(code[1])
    assert all(f"{number} " in EXIT_CODES for number in range(6))
