# ruff: noqa: INP001, S603 - a script beside the pictures it makes, starting what it pictures
"""Makes docs/top.svg and docs/top-closely.svg: `vcpud top` in tmux, over a simulated host.

Two guests that synchronise through a kernel lock collapse on two pCPUs and are recovered. Nothing
is drawn by hand: the daemon is `vcpud run --backend simulated`, the picture what tmux shows.

.venv/bin/python docs/screenshot_top.py        (needs tmux; takes about half a minute)
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
WIDTH, HEIGHT = 120, 22
WITHIN_S = 120.0


class Stage:
    """A daemon, a terminal, and folders of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tmux = ["tmux", "-f", "/dev/null", "-S", str(folder / "tmux")]
        for name in ("state", "run"):
            (folder / name).mkdir(mode=0o700)
        config = folder / "vcpud.yaml"
        settings = {
            "metrics": {"enabled": False},
            "state_dir": str(folder / "state"),
            "runtime_dir": str(folder / "run"),
            "kill_switch": str(folder / "disabled"),
        }
        config.write_text(json.dumps(settings))
        config.chmod(0o600)
        self._vcpud = [sys.executable, "-m", "vcpud", "--config", str(config)]

    def play(self) -> dict[str, str]:
        """What is on the screen, by the name of the picture."""
        with (self._folder / "log").open("wb") as log:
            command = [*self._vcpud, "run", "--backend", "simulated"]
            daemon = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            self._wait(lambda: self._status() is not None)
            words = " ".join([*self._vcpud, "top", "--interval", "500ms"])
            size = ["-x", str(WIDTH), "-y", str(HEIGHT)]
            environment = ["-e", "COLORTERM=truecolor"]
            self._run("new-session", "-d", *size, *environment, words)
            self._wait(lambda: "parked" in self._screen() and self._recovered())
            time.sleep(4.0)  # so that the recovery has a past, too
            shown = {"top": self._screen()}
            self._run("send-keys", "Enter")
            self._wait(lambda: "figures that the decision is based on" in self._screen())
            shown["top-closely"] = self._screen()
        finally:
            subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)
            daemon.terminate()
            daemon.wait(60)
        return shown

    def _recovered(self) -> bool:
        document = self._status() or {"domains": []}
        return bool(document["domains"]) and all(
            domain["last_verdict"] is not None and domain["phase"] == "idle"
            for domain in document["domains"]
        )

    def _status(self) -> dict[str, Any] | None:
        command = [*self._vcpud, "status", "-o", "json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        found: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
        return found if found and found["cycle"] else None

    def _screen(self) -> str:
        return self._run("capture-pane", "-e", "-p")

    def _run(self, *words: str) -> str:
        done = subprocess.run([*self._tmux, *words], check=True, capture_output=True, text=True)
        return done.stdout

    def _wait(self, reached: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + WITHIN_S
        while not reached():
            if time.monotonic() > deadline_s:
                raise SystemExit(f"not reached:\n{(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.5)


def picture(screen: str, name: str) -> str:
    """What a terminal shows, as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen), soft_wrap=True)
    return console.export_svg(title="vcpud top", unique_id=name)


def main() -> int:
    """Make both pictures."""
    if shutil.which("tmux") is None:
        sys.stderr.write("tmux is missing\n")
        return 1
    os.environ.pop("TMUX", None)
    folder = Path(tempfile.mkdtemp(prefix="vcpud-top-"))
    try:
        for name, screen in Stage(folder).play().items():
            (HERE / f"{name}.svg").write_text(picture(screen, name))
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
