"""Writes the one archive format the kernel unpacks its initial file system from ("newc" cpio, gzipped).

Problem: an initramfs needs files owned by root with chosen modes, and the lab must build it without being root.
Approach: write the archive directly; the same input always gives the same bytes.
References: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import gzip
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_ALIGNMENT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file, directory or symbolic link of an archive.

    Attributes:
        name: Path inside the archive, without a leading slash.
        mode: File type and permission bits as in ``stat.st_mode``.
        content: Bytes of a file or target of a link; empty for a directory.
    """

    name: str
    mode: int
    content: bytes = b""


def directory(name: str) -> Entry:
    """Return a directory everybody may enter."""
    return Entry(name=name, mode=stat.S_IFDIR | 0o755)


def file(name: str, content: bytes, *, executable: bool = False) -> Entry:
    """Return a regular file with ``content``."""
    return Entry(name=name, mode=stat.S_IFREG | (0o755 if executable else 0o644), content=content)


def link(name: str, target: str) -> Entry:
    """Return a symbolic link called ``name`` that points to ``target``."""
    return Entry(name=name, mode=stat.S_IFLNK | 0o777, content=target.encode())


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGNMENT)


def _record(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    fields = (number, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(f"{value:08x}".encode() for value in fields)
    return _padded(header + name) + _padded(entry.content)


def archive(entries: Iterable[Entry]) -> bytes:
    """Return the archive of ``entries`` in their order, with the closing record."""
    records = [_record(number, entry) for number, entry in enumerate(entries, start=1)]
    records.append(_record(0, Entry(name="TRAILER!!!", mode=0)))
    return b"".join(records)


def write_initramfs(path: Path, entries: Iterable[Entry]) -> None:
    """Write the gzipped archive of ``entries`` to ``path``."""
    path.write_bytes(gzip.compress(archive(entries), compresslevel=6, mtime=0))
