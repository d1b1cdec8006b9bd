"""A real systemd to install into: a cached Debian root, booted in a container of its own.

Problem: what a unit file or a maintainer script promises shows only under a real systemd, and the
tests must not touch the one of the machine they run on.
Approach: `deploy/debian/root` makes a bare Debian root once. systemd-nspawn boots it without
registering it anywhere; what is written there goes into memory, so that a boot costs no copy and
leaves nothing behind. Commands enter by the process id of its init.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

RECIPES = Path(__file__).resolve().parents[1] / "deploy" / "debian"
TOOLS = ("mmdebstrap", "systemd-nspawn", "nsenter", "unshare", "lintian", "make")
SUITE = "bookworm"
BOOT_S = 60.0
_NUMBERS = itertools.count(1)


def missing() -> str | None:
    """Return why no systemd can be booted here, or None when one can."""
    if os.geteuid() != 0:
        return "needs root to boot a systemd in a container"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"not installed: {' '.join(absent)} (make test-root installs them)"
    return None


def cached_root(*more: str) -> Path:
    """Return a Debian 12 that nobody may change, made when it is not in the cache.

    Args:
        more: Packages beside those that vcpud needs.
    """
    making = begin_root(*more)
    path, said = making.communicate()
    assert making.returncode == 0, said[-2000:]
    return Path(path.strip())


def begin_root(*more: str) -> subprocess.Popen[str]:
    """Begin to make that root; whoever needs it before it is finished waits for it."""
    lines = (RECIPES / "root-packages").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    return subprocess.Popen(
        (str(RECIPES / "root"), SUITE, *packages, *more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Machine:
    """One booted container, and how to run commands in it."""

    def __init__(self, root: Path, scratch: Path) -> None:
        """Boot ``root`` and wait until its systemd has reached its default target.

        Args:
            root: What to boot; it is not changed.
            scratch: An empty folder for what the console shows.
        """
        self.console = scratch / "console"
        with self.console.open("wb") as console:
            self._nspawn = subprocess.Popen(
                (
                    *("systemd-nspawn", "--quiet", "--boot", f"--directory={root}"),
                    *("--volatile=overlay", "--register=no", "--keep-unit", "--private-network"),
                    f"--machine=vcpud-{os.getpid()}-{next(_NUMBERS)}",
                ),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        self.init_pid = 0
        self._cursor = ""
        try:
            self.wait("systemd to come up", self._is_up, timeout_s=BOOT_S)
        except BaseException:
            self.close()
            raise

    @property
    def root(self) -> Path:
        """Its root, as this machine sees it."""
        return Path(f"/proc/{self.init_pid}/root")

    def _is_up(self) -> bool:
        assert self._nspawn.poll() is None, (
            f"systemd-nspawn ended: {self.console.read_text()[-2000:]}"
        )
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            return False
        # First it is nspawn's own helper, which is still in this machine's namespaces.
        try:
            status = Path(f"/proc/{children[0]}/status").read_text()
        except OSError:
            return False
        if not re.search(r"^NSpid:\t\d+.*\t1$", status, re.MULTILINE):
            return False
        self.init_pid = int(children[0])
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in {"running", "degraded"}

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``command`` inside, as root, and return what it said."""
        done = subprocess.run(
            ("nsenter", f"--target={self.init_pid}", "--all", "--", *command),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL": "C.UTF-8",
                "SYSTEMD_PAGER": "",
            },
        )
        if check:
            assert done.returncode == 0, (
                f"{' '.join(command)}: {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done

    def wait(self, what: str, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait until ``condition`` holds, and fail naming ``what`` when it does not in time."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, (
                f"waited {timeout_s} s for {what}\n{self.story()}"
            )
            time.sleep(0.05)

    def show(self, unit: str, name: str) -> str:
        """Return one property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def mark(self) -> None:
        """From here on `journal` tells only what is logged from now on."""
        said = self.run("journalctl", "--no-pager", "--lines=1", "--show-cursor").stdout
        self._cursor = said.rpartition("-- cursor: ")[2].strip()

    def journal(self, *matches: str) -> str:
        """Return what was logged since the mark, or what the console shows of a failed boot."""
        if not self.init_pid:
            return self.console.read_text()[-2000:]
        since = [f"--after-cursor={self._cursor}"] if self._cursor else []
        command = ("journalctl", "--no-pager", "--quiet", "--output=short-monotonic", *since)
        return self.run(*command, *matches, check=False).stdout

    def story(self) -> str:
        """Return the journal without what systemd only says at its debug level."""
        return self.journal("--priority=info")

    def install(self, package: Path) -> str:
        """Install a Debian package as an operator does, and return what was said."""
        shutil.copyfile(package, self.root / "root" / package.name)
        done = self.run("dpkg", "--install", f"/root/{package.name}")
        return done.stdout + done.stderr

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside, owned by root."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def close(self) -> None:
        """Power it off in an orderly way, and by force when that takes too long."""
        self._nspawn.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._nspawn.wait(timeout=30)
        if self._nspawn.poll() is None:
            self._nspawn.kill()
            self._nspawn.wait()
