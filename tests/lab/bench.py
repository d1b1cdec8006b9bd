"""The bench: one private libvirtd with the guests of a run on it, torn down whatever happens.

A run leaves a note in its scratch directory, so that ``python -m lab down`` can end a run that is still up and clear
away one that was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import libvirt
from lab.board import SHARED_MEMORY
from lab.daemon import SCRATCH_PARENT, SCRATCH_PREFIX, PrivateLibvirt
from lab.domain import Guest, Shape
from lab.image import guest_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

_NOTE = "lab.json"
_DOWN_S = 30.0


class Bench:
    """A private libvirtd, a connection of the lab's own to it, and guests by name."""

    def __init__(self) -> None:
        """Build or find the image and start libvirtd."""
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        self.image = guest_image()
        self.lab = PrivateLibvirt(self.image)
        self.guests: dict[str, Guest] = {}
        self.write_note()
        self.connection = self.lab.connect()

    def __enter__(self) -> Self:
        """Return the bench."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every guest, libvirtd, and remove what they left."""
        for name in tuple(self.guests):
            self.destroy(name)
        with contextlib.suppress(libvirt.libvirtError):
            self.connection.close()
        self.lab.stop()
        _end_recorded_processes(self.lab.root)
        self.lab.remove()

    def write_note(self) -> None:
        """Write down what runs, for ``down`` and for whoever wants to use the guests."""
        write_note(self.lab, {name: guest.board.path for name, guest in self.guests.items()})

    def start(self, shapes: Iterable[Shape]) -> list[Guest]:
        """Start guests side by side and wait until all have booted and, where they have one, their agents answer."""
        started = []
        for shape in shapes:
            guest = Guest(self.connection, self.lab, shape)
            self.guests[shape.name] = guest
            started.append(guest)
        self.write_note()
        for guest in started:
            guest.wait_until_booted()
        for guest in started:
            if guest.shape.agent:
                guest.wait_until_agent()
        return started

    def destroy(self, name: str) -> None:
        """End one guest."""
        self.guests.pop(name).destroy()
        self.write_note()

    def restart_libvirtd(self) -> None:
        """Stop libvirtd, start it again and reconnect; the guests run on meanwhile."""
        with contextlib.suppress(libvirt.libvirtError):
            self.connection.close()
        self.lab.stop()
        self.lab.start()
        self.connection = libvirt.open(self.lab.uri)
        for guest in self.guests.values():
            guest.rebind(self.connection)
        self.write_note()


def write_note(lab: PrivateLibvirt, boards: Mapping[str, Path]) -> None:
    """Write down what runs in a scratch directory of this process."""
    leave_note(
        lab.root,
        libvirtd_pid=lab.pid,
        uri=lab.uri,
        environment=dict(lab.environment),
        boards={name: str(path) for name, path in boards.items()},
    )


def leave_note(root: Path, **facts: object) -> None:
    """Write down whose scratch directory this is; processes that name it on their command lines go with it."""
    note = {"pid": os.getpid(), "boards": {}, **facts}
    (root / _NOTE).write_text(json.dumps(note, indent=2) + "\n")


def _belongs(pid: int, root: Path) -> bool:
    """Whether process ``pid`` names the scratch directory in its command line: a number alone may have been reused."""
    try:
        return str(root).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _end(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _end_recorded_processes(root: Path) -> None:
    """End the QEMU processes whose pid libvirt wrote down below ``root``."""
    for found in (root / "run" / "libvirt" / "qemu" / "run").glob("*.pid"):
        with contextlib.suppress(ValueError, OSError):
            pid = int(found.read_text())
            if _belongs(pid, root):
                _end(pid)


def notes() -> list[tuple[Path, dict[str, object]]]:
    """Return scratch directory and note of every lab run of this user."""
    found = []
    for path in SCRATCH_PARENT.glob(f"{SCRATCH_PREFIX}*/{_NOTE}"):
        with contextlib.suppress(OSError, ValueError):
            if path.stat().st_uid == os.geteuid():
                found.append((path.parent, json.loads(path.read_text())))
    return found


def _is_lab(pid: int) -> bool:
    try:
        return b"lab" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def down() -> int:
    """End every lab run of this user, and clear away what a killed one left. Returns the number of runs ended."""
    runs = notes()
    for root, note in runs:
        pid = int(str(note["pid"]))
        if _is_lab(pid):
            _end(pid, signal.SIGTERM)
            deadline_s = time.monotonic() + _DOWN_S
            while root.exists() and time.monotonic() < deadline_s:
                time.sleep(0.1)
        if not root.exists():
            continue
        for process in Path("/proc").glob("[0-9]*"):
            if _belongs(int(process.name), root):  # libvirtd, the guests, vcpud
                _end(int(process.name))
        for path in SHARED_MEMORY.glob(f"vcpud-lab-{pid}-*"):
            path.unlink(missing_ok=True)
        shutil.rmtree(root, ignore_errors=True)
    return len(runs)
