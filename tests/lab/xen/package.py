"""What installing vcpud's own Debian package into dom0 changes there: a disk and an archive.

Problem: dpkg compiles a thousand Python files after unpacking them, which takes minutes under an emulator; unpacking
alone takes one.
Approach: the package is installed natively, into a copy of the root dom0's disk was made of. The program's own tree
becomes a disk, to be mounted where it belongs; the archive holds every other file that changed. Both together are what
dpkg would have left in dom0, its records and units included.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.image import ImageError, cached, output
from lab.paths import CHECKOUT
from lab.xen.commands import TREE
from lab.xen.image import XEN
from lab.xen.machine import TREE_MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCES = ("vcpud", "policies", "simulator", "systemd", "deploy", "docs")
_FILES = ("pyproject.toml", "requirements/dev.txt", "README.md", "CHANGELOG.md", "Makefile")
_NEEDED_BYTES = 1_500_000_000
_ARCHIVE = "vcpud.tar"
_DISK = "tree"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What vcpud's package leaves in dom0.

    Attributes:
        tree: A file system to be mounted on ``TREE``.
        archive: All else.
    """

    tree: Path
    archive: Path


def installed_vcpud(root: Path) -> Installed:
    """Return what vcpud's package, installed, changes in ``root``; cached by its sources.

    Raises:
        ImageError: The package cannot be built or installed.
    """
    digest = hashlib.sha256(root.name.encode())
    for path in sorted(_sources()):
        digest.update(str(path.relative_to(CHECKOUT)).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    folder = cached(
        "xen-vcpud",
        digest.hexdigest()[:16],
        _NEEDED_BYTES,
        lambda target, scratch: _build(target, scratch, root),
    )
    return Installed(tree=folder / _DISK, archive=folder / _ARCHIVE)


def _sources() -> Iterator[Path]:
    yield XEN / "package.py"
    yield from (CHECKOUT / name for name in _FILES)
    for name in _SOURCES:
        for path in (CHECKOUT / name).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def _build(target: Path, scratch: Path, root: Path) -> None:
    words = output(str(CHECKOUT / "deploy" / "debian" / "build"), cwd=CHECKOUT).split()
    if not words:
        raise ImageError("deploy/debian/build did not say which package it has built")
    package = CHECKOUT / words[-1]
    stage = scratch / "stage"
    output("cp", "-a", "--reflink=auto", str(root), str(stage))
    (stage / "vcpud.deb").write_bytes(package.read_bytes())
    copied_ns = (stage / "vcpud.deb").stat().st_ctime_ns
    environment = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    output(
        "chroot", str(stage), "env", "-i", environment, "LC_ALL=C.UTF-8",
        "DEBIAN_FRONTEND=noninteractive", "dpkg", "--install", "/vcpud.deb",
    )  # fmt: skip
    (stage / "vcpud.deb").unlink()
    tree = stage / TREE.relative_to("/")
    output(
        "mke2fs", "-q", "-t", "ext4", "-Elazy_itable_init=0,root_owner=0:0", "-O", "^has_journal",
        "-d", str(tree), str(target / _DISK), f"{TREE_MIB}M",
    )  # fmt: skip
    shutil.rmtree(tree)
    tree.mkdir()
    names = scratch / "names"
    names.write_text("".join(f"{path}\0" for path in _changed(stage, copied_ns)))
    output(
        "tar", "--create", "--file", str(target / _ARCHIVE), "--directory", str(stage),
        "--no-recursion", "--null", "--files-from", str(names),
    )  # fmt: skip


def _changed(stage: Path, since_ns: int) -> Iterator[str]:
    """Yield, relative to ``stage``, what has been made or changed there after ``since_ns``."""
    for folder, _, files in os.walk(stage):
        for path in (Path(folder), *(Path(folder) / name for name in files)):
            if path != stage and path.lstat().st_ctime_ns > since_ns:
                yield str(path.relative_to(stage))
