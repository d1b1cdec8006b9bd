"""The real daemon as a process, over libvirt's own in-process test driver."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.process, pytest.mark.sockets, pytest.mark.libvirt]


class Daemon:
    """A vcpud with folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "vcpud.yaml"
        self.log = folder / "log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.settings: dict[str, Any] = {
            "period": "100ms",
            "libvirt": {"uri": "test:///default"},
            "state_dir": str(folder / "state"),
            "runtime_dir": str(folder / "run"),
            "metrics": {"listen": f"127.0.0.1:{self.port}"},
        }
        for name in ("state", "run"):
            (folder / name).mkdir(mode=0o700)
        self.write()
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, **more: object) -> None:
        self.config.write_text(json.dumps(self.settings | more))
        self.config.chmod(0o600)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "vcpud", "--config", str(self.config), *words],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start(self) -> None:
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vcpud", "--config", str(self.config), "run"],
                stdout=stream,
                stderr=stream,
            )
        self.wait(lambda: self.command("status").returncode == 0)

    def wait(self, reached: Any, within_s: float = 30) -> None:
        deadline_s = time.monotonic() + within_s
        while not reached():
            assert self.process is None or self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline_s, self.log.read_text()
            time.sleep(0.05)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as page:
            text: str = page.read().decode()
            return text

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def test_it_runs_answers_reloads_and_stops(daemon: Daemon) -> None:
    daemon.start()
    daemon.wait(lambda: "vcpud_up 1" in daemon.get("/metrics"))
    assert daemon.get("/health")
    shown = json.loads(daemon.command("status", "-o", "json").stdout)
    assert [domain["name"] for domain in shown["domains"]] == ["test"]
    assert daemon.command("pause").returncode == 0
    assert "paused" in daemon.command("status").stdout
    assert daemon.command("resume").returncode == 0
    unknown = daemon.command("pause", "tset")
    assert unknown.returncode == 2
    assert "did you mean 'test'" in unknown.stderr
    released = daemon.command("release", "test", "--wait")
    assert released.returncode == 0, released.stderr
    daemon.write(period="1parsec")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    name = "vcpud_config_last_reload_successful"
    daemon.wait(lambda: f"{name} 0" in daemon.get("/metrics"))
    daemon.write(period="200ms")
    assert daemon.command("reload").returncode == 0
    daemon.wait(lambda: f"{name} 1" in daemon.get("/metrics"))
    second = daemon.command("run")
    assert second.returncode == 1
    assert "only one may run" in second.stderr
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log.read_text()


def test_every_request_is_logged_with_its_uid(daemon: Daemon) -> None:
    daemon.start()
    daemon.command("pause")
    daemon.stop()
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines() if line[:1] == "{"]
    asked = [line for line in lines if line["event"] == "request"]
    assert [(line["verb"], line["uid"]) for line in asked] == [("pause", os.getuid())]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["status"], 4, "does not run"),
        (["pause"], 4, "does not run"),
        (["release", "x"], 4, "does not run"),
        (["hold", "soon"], 2, "soon"),
        (["hold"], 2, "duration"),
        (["frobnicate"], 2, "frobnicate"),
        ([], 2, ""),
        (["restore"], 0, "nothing was changed"),
        (["check-config"], 0, ""),
        (["--backend", "nowhere", "dry-run", "--cycles", "1"], 2, "no backend 'nowhere'"),
    ],
)
def test_commands_without_a_daemon_say_what_to_do(
    daemon: Daemon, words: list[str], code: int, told: str
) -> None:
    done = daemon.command(*words)
    assert done.returncode == code, done
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_looks_and_changes_nothing(daemon: Daemon) -> None:
    done = daemon.command("dry-run", "--cycles", "3")
    assert done.returncode == 0, done.stderr
    assert not list((daemon.config.parent / "state").iterdir())


def test_a_wrong_configuration_is_exit_3_and_names_the_place(daemon: Daemon) -> None:
    daemon.write(perod="1s")
    for verb in ("run", "check-config"):
        done = daemon.command(verb)
        assert done.returncode == 3
        assert "did you mean 'period'" in done.stderr


def test_a_libvirt_that_is_not_there_is_waited_for(daemon: Daemon) -> None:
    daemon.write(libvirt={"uri": "qemu+unix:///session?socket=/nonexistent/sock"})
    daemon.start()
    daemon.wait(lambda: "vcpud_libvirt_connected 0" in daemon.get("/metrics"))
    assert daemon.stop() == 0


def test_strangers_on_the_socket_are_answered_politely_and_briefly(daemon: Daemon) -> None:
    daemon.start()
    path = daemon.config.parent / "run" / "vcpud.sock"
    for garbage in (b"\n", b"{}\n", b"[]\n", b"\xff\xfe\n", b'{"verb": "nonsense"}\n'):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(10)
            peer.connect(str(path))
            peer.sendall(garbage)
            assert b"error" in peer.recv(4096)
    assert daemon.command("status").returncode == 0
    assert daemon.stop() == 0
