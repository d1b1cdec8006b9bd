"""A real Chromium without a window, spoken to over two pipes: no driver, no port, no network.

The DevTools protocol over `--remote-debugging-pipe` is JSON in both directions, each message ended
by a zero byte; the browser reads descriptor 3 and writes descriptor 4.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first that is installed is used."""
PATIENCE_S = 60.0
_ABOVE_STANDARD = 10
_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def program() -> str | None:
    """The browser of this machine, if it has one."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Page:
    """One tab: what it shows, and what it complained of.

    Attributes:
        complaints: Console messages of level warning or error, uncaught exceptions, log entries.
        requests: Addresses it asked for.
    """

    def __init__(self, pipe: Pipe, session: str) -> None:
        self._pipe = pipe
        self._session = session
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._pipe.call(method, params, self._session, self._hear)

    def _hear(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(params["args"]))
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(json.dumps(params["entry"]))
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])

    def open(self, path: Path, *, width: int, dark: bool = False) -> None:
        """Show a file at a width in CSS pixels, once everything on it is loaded."""
        self.complaints.clear()
        self.requests.clear()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + PATIENCE_S
        while self.evaluate("document.readyState") != "complete":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} does not finish loading")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, or of what it promises.

        Raises:
            RuntimeError: It threw.
        """
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def point_at(self, x: float, y: float) -> None:
        """Move the pointer there."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, clip: dict[str, float] | None = None) -> bytes:
        """What is seen as PNG: all of the page, or a part of it."""
        params: dict[str, Any] = {"format": "png", "captureBeyondViewport": True}
        if clip is not None:
            params["clip"] = {**clip, "scale": 1}
        return base64.b64decode(self.call("Page.captureScreenshot", **params)["data"])


class Pipe:
    """Requests, their answers, and events in between."""

    def __init__(self, read: int, write: int) -> None:
        self._read = read
        self._write = write
        self._rest = b""
        self._last = 0

    def call(
        self,
        method: str,
        params: dict[str, Any],
        session: str | None = None,
        hear: Any = None,
    ) -> dict[str, Any]:
        """Ask, and wait for the answer; events that come first are passed on.

        Raises:
            RuntimeError: The browser refuses.
            TimeoutError: It does not answer, or is gone.
        """
        self._last += 1
        request: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if session is not None:
            request["sessionId"] = session
        os.write(self._write, json.dumps(request).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            message = self._message(deadline)
            if message.get("id") == self._last:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
            if hear is not None and message.get("sessionId") == session:
                hear(message)

    def _message(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select(
                [self._read], [], [], max(0.0, deadline - time.monotonic())
            )
            some = os.read(self._read, 1 << 20) if ready else b""
            if not some:
                raise TimeoutError("the browser does not answer")
            self._rest += some
        first, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A tab of a browser of its own, which keeps its files in that folder and asks no network."""
    found = program()
    if found is None:
        raise FileNotFoundError(f"none of {', '.join(PROGRAMS)} is installed")
    to_browser, from_us = _pipe()
    to_us, from_browser = _pipe()
    words = [
        found,
        "--headless",
        "--remote-debugging-pipe",
        f"--user-data-dir={folder}",
        "--no-first-run",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--hide-scrollbars",
        "about:blank",
    ]
    if os.geteuid() == 0:
        words.insert(1, "--no-sandbox")  # which root cannot have
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(to_browser), str(from_browser), *words],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    os.close(to_browser)
    os.close(from_browser)
    pipe = Pipe(to_us, from_us)
    try:
        target = pipe.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = pipe.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        yield Page(pipe, attached["sessionId"])
        with contextlib.suppress(TimeoutError, OSError):
            pipe.call("Browser.close", {})
    finally:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(from_us)
        os.close(to_us)


def _pipe() -> tuple[int, int]:
    """Both ends of a pipe, at numbers that 3 and 4 do not overwrite."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STANDARD) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
