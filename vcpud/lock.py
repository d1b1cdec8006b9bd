"""One vcpud per host: its lock, and where the last one that held it kept its ledger.

A configuration may come to name another state folder while something is owed by the ledger in the
old one. That ledger then stays in charge until it is empty: nothing is moved, so nothing is lost.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from vcpud.errors import VcpudError
from vcpud.ledger import FileLedger, hand_over

if TYPE_CHECKING:
    from types import TracebackType

_NAME = "lock"
_TRIES = 20
_PAUSE_S = 0.05
_MOST = 8192
"""Bytes; a path has 4096 at most."""


class HostLock:
    """One vcpud per host: an flock on `lock` in the runtime folder, held while it is open.

    The file says which process holds it, and on a second line in which folder the ledger is.
    """

    def __init__(self, runtime_dir: Path) -> None:
        """Take it.

        Raises:
            VcpudError: Another vcpud holds it, or it cannot be made.
        """
        self._path = runtime_dir / _NAME
        try:
            runtime_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except PermissionError as error:
            raise VcpudError(
                f"{self._path}: not permitted: run this as root or the user vcpud, or name folders "
                "of your own with --runtime-dir and --state-dir"
            ) from error
        for left in reversed(range(_TRIES)):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # A `vcpud status` or deadman looks for a moment; a daemon holds on.
                if left:
                    time.sleep(_PAUSE_S)
                    continue
                holder, _ = _read(self._fd)
                os.close(self._fd)
                raise VcpudError(
                    f"another vcpud{f' (process {holder})' if holder.isdigit() else ''} holds "
                    f"{self._path}; only one may run on a host"
                ) from None
            break
        hand_over(self._fd, runtime_dir)
        self._write(_read(self._fd)[1])

    def keep(self, folder: Path) -> None:
        """Note where the ledger is, also for whoever comes after this process."""
        self._write(str(folder))

    def _write(self, folder: str) -> None:
        old = _read(self._fd)
        if old != (str(os.getpid()), folder):
            line = f"{os.getpid()}\n{folder}\n".encode(errors="surrogateescape")
            os.pwrite(self._fd, line, 0)
            os.ftruncate(self._fd, len(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._fd)


def locked(runtime_dir: Path) -> bool:
    """Whether a vcpud holds the host's lock right now."""
    try:
        fd = os.open(runtime_dir / _NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def ledger_folder(state_dir: Path, runtime_dir: Path) -> Path:
    """Where the ledger and the hold are: in the state folder, unless something is owed elsewhere.

    Args:
        state_dir: What the configuration names now.
        runtime_dir: Where the lock is.
    """
    try:
        fd = os.open(runtime_dir / _NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return state_dir
    try:
        folder = Path(_read(fd)[1])
    finally:
        os.close(fd)
    if folder == state_dir or not folder.is_absolute():
        return state_dir
    ledger = FileLedger(folder, read_only=True)
    return folder if ledger.outstanding() or ledger.fault else state_dir


def _read(fd: int) -> tuple[str, str]:
    """The process and the folder, each "" where it is not told."""
    lines = os.pread(fd, _MOST, 0).decode(errors="surrogateescape").splitlines()
    holder, folder, *_ = (*lines, "", "")
    return holder.strip(), folder
