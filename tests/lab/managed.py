"""The real ``vcpud`` as a process of its own, reached as an operator would: commands, log, metrics."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lab.paths import PRESETS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.daemon import PrivateLibvirt

START_S = 30.0
COMMAND_S = 90.0
STOP_S = 15.0
MOVES: Final = frozenset({"changing", "settling", "judging", "undoing"})
"""Phases of `status`. Nothing of vcpud is imported: Xen's dom0 has it for the package's own python only."""
_SAMPLE_LINE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')


class VcpudError(Exception):
    """The vcpud under test did not do what it was told; the message holds its last words."""


def _free_port() -> int:
    """Return a loopback port nobody listens on; vcpud serves its metrics over TCP only."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Vcpud:
    """One vcpud: its files, its process, and what it says."""

    def __init__(
        self,
        lab: PrivateLibvirt,
        name: str,
        *,
        small_disk: bool = False,
        libvirt_options: Mapping[str, object] | None = None,
        policy: str | None = None,
    ) -> None:
        """Write the configuration; nothing runs yet.

        Args:
            lab: The private libvirtd it shall manage.
            name: Of its directory, so that runs do not share a ledger.
            small_disk: Put the ledger on a file system of its own of 64 KiB.
            libvirt_options: Added to the ``libvirt`` section of the configuration.
            policy: Instead of the default one, with the parameters of its source.
        """
        self._lab = lab
        self._small_disk = small_disk
        self.root = lab.root / name
        self.state_dir = self.root / "state"
        self.runtime_dir = self.root / "run"
        for folder in (self.root, self.state_dir, self.runtime_dir):
            folder.mkdir(mode=0o700)
        self.log = self.root / "vcpud.log"
        self.log.touch()
        self.config = self.root / "vcpud.yaml"
        self._port = _free_port()
        settings: dict[str, object] = {
            "period": "1s",
            "libvirt": {"uri": lab.uri, **(libvirt_options or {})},
            "defaults": {"mode": "enforce"},
            "state_dir": str(self.state_dir),
            "runtime_dir": str(self.runtime_dir),
            "log": {"format": "json"},
            "metrics": {"listen": f"127.0.0.1:{self._port}"},
        }
        if policy is not None:
            import yaml  # noqa: PLC0415  dom0 lacks it, too

            settings |= yaml.safe_load((PRESETS / f"{policy}-published.yaml").read_text())
        self.config.write_text(json.dumps(settings, indent=1) + "\n")  # JSON is YAML
        self.config.chmod(0o600)
        self._as_lab_user = _runs_as_lab_user(lab)
        if self._as_lab_user:
            lab.hand_over(self.root)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id, 0 when it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.pid != 0

    def _arguments(self, *words: str) -> list[str]:
        command = [sys.executable, "-m", "vcpud", "--config", str(self.config), *words]
        return self._lab.account.command(*command) if self._as_lab_user else command

    @property
    def _environment(self) -> Mapping[str, str]:
        return {**self._lab.environment, "PYTHONDONTWRITEBYTECODE": "1"}

    def start(self) -> None:
        """Start it and wait until it has finished a cycle.

        Raises:
            VcpudError: It ended, or did not come up in time.
        """
        command = self._arguments("run")
        if self._small_disk:
            owner = self.state_dir.stat()
            options = f"size=64k,mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
            if os.geteuid() != 0:
                options = "size=64k,mode=0700"  # one's own user is the only one mapped
            mount = f"mount -t tmpfs -o {options} lab '{self.state_dir}' && exec \"$@\""
            command = ["unshare", "--mount", *_unshare_user(), "sh", "-c", mount, "sh", *command]
        with self.log.open("ab") as stream:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=dict(self._environment),
                cwd=self._lab.root,
                start_new_session=True,
            )
        self.wait_for(lambda: bool(self.metrics("vcpud_up")), START_S, "its first cycle")

    def wait_for(self, reached: Callable[[], bool], within_s: float, what: str) -> float:
        """Wait until ``reached``; returns the seconds it took.

        Raises:
            VcpudError: Not within ``within_s``, or vcpud has ended.
        """
        began_s = time.monotonic()
        while not reached():
            if not self.alive:
                raise VcpudError(f"vcpud ended before {what}: {self.last_words()}")
            if time.monotonic() - began_s > within_s:
                raise VcpudError(f"no {what} within {within_s:g} s: {self.last_words()}")
            time.sleep(0.1)
        return time.monotonic() - began_s

    def last_words(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-700:]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one vcpud command to its end."""
        return subprocess.run(
            self._arguments(*words),
            check=False,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            env=dict(self._environment),
            cwd=self._lab.root,
        )

    def told(self, *words: str) -> str:
        """Run one command that must succeed; returns its output.

        Raises:
            VcpudError: It did not.
        """
        done = self.command(*words)
        if done.returncode != 0:
            raise VcpudError(f"vcpud {' '.join(words)}: {done.returncode}, {done.stderr.strip()}")
        return done.stdout

    def pause(self) -> None:
        """Make it give everything back and decide nothing."""
        self.told("pause", "--restore")

    def resume(self) -> None:
        """Let it decide again."""
        self.told("resume")

    def status(self) -> dict[str, Any]:
        """Return what it says of itself."""
        document: dict[str, Any] = json.loads(self.told("status", "-o", "json"))
        return document

    def phases(self) -> set[str]:
        """Return what its domains are at; asked as the command does, but without its CPU time."""
        from vcpud import client  # noqa: PLC0415

        document = client.ask(self.runtime_dir, "status", timeout_s=COMMAND_S)["status"]
        return {domain["phase"] for domain in document["domains"]}

    def amid_a_move(self) -> bool:
        """Whether a domain is being changed or judged."""
        return not MOVES.isdisjoint(self.phases())

    def stop(
        self, number: signal.Signals = signal.SIGTERM, within_s: float = STOP_S
    ) -> int | None:
        """Send a signal and wait for the end; returns the exit code, None if it goes on."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(within_s)
        return None

    def end(self) -> None:
        """End it for good, by force if need be."""
        if self.stop() is None:
            self.stop(signal.SIGKILL)

    def log_position(self) -> int:
        """Return where its log ends now, for ``events``."""
        return self.log.stat().st_size

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """Return the log lines written since ``since`` that are JSON objects."""
        found = []
        with self.log.open("rb") as stream:
            stream.seek(since)
            for line in stream.read().splitlines():
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
                    if isinstance(entry, dict):
                        found.append(entry)
        return found

    def named(self, names: Sequence[str], since: int = 0) -> list[dict[str, Any]]:
        """Return the events of these names."""
        return [entry for entry in self.events(since) if entry.get("event") in names]

    def metrics(self, name: str, **labels: str) -> list[float]:
        """Return the values of a metric whose labels include ``labels``; empty when unreachable."""
        url = f"http://127.0.0.1:{self._port}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                text = answer.read().decode()
        except (urllib.error.URLError, OSError):
            return []
        found = []
        for metric, label_text, value in _SAMPLE_LINE.findall(text):
            if metric == name and labels.items() <= dict(_LABEL.findall(label_text)).items():
                found.append(float(value))
        return found

    def filler(self) -> Path:
        """Return the path, seen from here, of a file that can fill the small disk."""
        return Path(f"/proc/{self.pid}/root{self.state_dir}/filler")


def _unshare_user() -> list[str]:
    return [] if os.geteuid() == 0 else ["--map-root-user"]


def _runs_as_lab_user(lab: PrivateLibvirt) -> bool:
    """Whether the user libvirtd runs as can run this Python and this vcpud at all.

    Where the checkout or the interpreter lies in root's home it cannot; then vcpud runs as root,
    which the private libvirtd lets in as well.
    """
    if not lab.account.drop:
        return False
    probe = subprocess.run(
        lab.account.command(sys.executable, "-m", "vcpud", "version"),
        check=False,
        capture_output=True,
        cwd=lab.root,
        env={**lab.environment, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return probe.returncode == 0
