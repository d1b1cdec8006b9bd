"""Builds the guest image from Debian packages and caches it.

Problem: a guest must run an unmodified distribution kernel and the distribution's agent, boot in seconds, and be the
same on every machine that has the same packages.
Approach: the kernel package is downloaded and unpacked, never installed; an initramfs of a few megabytes holds busybox,
the agent with its libraries, six modules, the script of deploy/guest and the workload. The result is cached under a
hash of recipe and package versions.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lab import cpio
from lab.paths import GUEST, LAB, LOCK_HISTOGRAM_SCRIPT, image_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

KERNEL_METAPACKAGE = "linux-image-cloud-amd64"
BOARD_SOURCE = GUEST / "board_pci.c"
MODULES = (
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "drivers/char/virtio_console",
)
BUSYBOX = Path("/bin/busybox")
AGENT = Path("/usr/sbin/qemu-ga")
KEPT_IMAGES = 2
NEEDED_BYTES = 600 * 1024 * 1024
Built = TypeVar("Built")


class ImageError(Exception):
    """The image cannot be built; the message says what is missing."""


class StaleListsError(ImageError):
    """What the package lists name is not there, or they do not name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestImage:
    """A bootable guest: kernel, initial file system, and what they were made of.

    Attributes:
        kernel: The distribution's kernel.
        initramfs: The guest's whole file system.
        manifest: Kernel release, package versions and cache key.
    """

    kernel: Path
    initramfs: Path
    manifest: Mapping[str, str]


def output(*command: str, cwd: Path | None = None) -> str:
    """Return what a command prints.

    Raises:
        ImageError: It is not installed, or failed.
    """
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd)
    except FileNotFoundError as error:
        message = f"{command[0]} is not installed"
        raise ImageError(message) from error
    except subprocess.CalledProcessError as error:
        message = f"{' '.join(command)} failed: {error.stderr.strip()}"
        raise ImageError(message) from error
    return done.stdout


def kernel_package(metapackage: str = KERNEL_METAPACKAGE) -> tuple[str, str]:
    """Return name and version of the newest kernel of a kind the package lists know.

    Raises:
        StaleListsError: The package lists are missing or do not know it.
    """
    depends = output("apt-cache", "depends", metapackage)
    name = re.search(r"Depends: (linux-image-\S+)", depends)
    if name is None:
        message = f"no {metapackage} in the package lists: run apt-get update first"
        raise StaleListsError(message)
    policy = output("apt-cache", "policy", name[1])
    version = re.search(r"Candidate: (\S+)", policy)
    if version is None or version[1] == "(none)":
        message = f"{name[1]} cannot be downloaded: run apt-get update first"
        raise StaleListsError(message)
    return name[1], version[1]


def libraries(binary: Path) -> tuple[Path, ...]:
    """Return the shared libraries ``binary`` is loaded with, the loader among them."""
    text = output("ldd", str(binary))
    return tuple(Path(found) for found in re.findall(r"(/\S+) \(0x", text))


def _package_versions() -> dict[str, str]:
    versions = {}
    for package in ("qemu-guest-agent", "busybox-static", "libc6", "gcc"):
        versions[package] = output("dpkg-query", "-W", "-f", "${Version}", package)
    return versions


def _host_files() -> tuple[Path, ...]:
    for needed in (BUSYBOX, AGENT):
        if not needed.exists():
            message = f"{needed} is missing: install busybox-static and qemu-guest-agent"
            raise ImageError(message)
    return (BUSYBOX, AGENT, *libraries(AGENT))


def _sources() -> tuple[Path, ...]:
    return (*sorted(GUEST.iterdir()), LOCK_HISTOGRAM_SCRIPT, LAB / "image.py", LAB / "cpio.py")


def _cache_key(versions: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(versions), sort_keys=True).encode())
    for path in (*_sources(), *_host_files()):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def unpacked_kernel(package: str, version: str, scratch: Path) -> Path:
    """Download a kernel package and return the directory below ``scratch`` it is unpacked in.

    Raises:
        StaleListsError: It cannot be downloaded.
    """
    try:
        output("apt-get", "download", f"{package}={version}", cwd=scratch)
    except ImageError as error:
        message = f"{error}: run apt-get update first"
        raise StaleListsError(message) from error
    packages = sorted(scratch.glob("*.deb"))
    output("dpkg-deb", "--extract", str(packages[0]), str(scratch / "kernel"))
    return scratch / "kernel"


def _module(root: Path, name: str) -> bytes:
    for suffix, opened in ((".ko", Path.open), (".ko.xz", lzma.open)):
        found = sorted(root.glob(f"lib/modules/*/kernel/{name}{suffix}")) or sorted(
            root.glob(f"usr/lib/modules/*/kernel/{name}{suffix}")
        )
        if found:
            with opened(found[0], "rb") as stream:
                return bytes(stream.read())
    message = f"the kernel package holds no module {name}"
    raise ImageError(message)


def compiled_workload(board_source: Path, scratch: Path) -> bytes:
    """Return the workload, linked with the source that maps the board on a hypervisor."""
    target = scratch / "workload"
    output(
        "gcc",
        "-static",
        "-pthread",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{GUEST}",
        "-o",
        str(target),
        str(GUEST / "workload.c"),
        str(board_source),
    )
    return target.read_bytes()


def _entries(kernel_root: Path, workload: bytes) -> Iterator[cpio.Entry]:
    names = [f"{Path(module).name}.ko" for module in MODULES]
    folders = {
        "bin",
        "sbin",
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "etc",
        "root",
        "lib",
        "lib/modules",
    }
    shared = libraries(AGENT)
    for library in shared:
        folders.update(str(parent)[1:] for parent in library.parents if parent != Path("/"))
    yield from (cpio.directory(folder) for folder in sorted(folders))
    yield cpio.file("init", (GUEST / "init").read_bytes(), executable=True)
    yield cpio.file("bin/busybox", BUSYBOX.read_bytes(), executable=True)
    applets = set(output(str(BUSYBOX), "--list").split()) - {"busybox"}
    yield from (cpio.link(f"bin/{applet}", "busybox") for applet in sorted(applets))
    yield cpio.file("bin/workload", workload, executable=True)
    yield cpio.file(
        "bin/vcpud-lock-histogram", LOCK_HISTOGRAM_SCRIPT.read_bytes(), executable=True
    )
    yield cpio.file(
        "sbin/online-new-cpu", (GUEST / "online-new-cpu").read_bytes(), executable=True
    )
    yield cpio.file("bin/qemu-ga", AGENT.read_bytes(), executable=True)
    for library in shared:
        yield cpio.file(str(library)[1:], library.read_bytes(), executable=True)
    for module, name in zip(MODULES, names, strict=True):
        yield cpio.file(f"lib/modules/{name}", _module(kernel_root, module))
    yield cpio.file("lib/modules/order", "".join(f"{name}\n" for name in names).encode())


def _build(target: Path, scratch: Path, versions: Mapping[str, str], key: str) -> None:
    package = next(name for name in versions if name.startswith("linux-image-"))
    root = unpacked_kernel(package, versions[package], scratch)
    kernels = sorted(root.glob("boot/vmlinuz-*"))
    if not kernels:
        message = f"{package} holds no /boot/vmlinuz"
        raise ImageError(message)
    shutil.copyfile(kernels[0], target / "kernel")
    cpio.write_initramfs(
        target / "initramfs", _entries(root, compiled_workload(BOARD_SOURCE, scratch))
    )
    release = kernels[0].name.removeprefix("vmlinuz-")
    config = (root / "boot" / f"config-{release}").read_text()
    hertz = re.search(r"^CONFIG_HZ=(\d+)", config, re.MULTILINE)
    manifest = {
        **versions,
        "kernel_release": release,
        "hz": hertz[1] if hertz else "unknown",
        "key": key,
    }
    (target / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def prune(cache: Path, kind: str, keep: Path) -> None:
    """Remove what is cached of a kind but ``keep`` and the newest of the others."""
    others = [path for path in cache.glob(f"{kind}-*") if path != keep and path.is_dir()]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[KEPT_IMAGES - 1 :]:
        shutil.rmtree(old, ignore_errors=True)


def cached(kind: str, key: str, needed_bytes: int, build: Callable[[Path, Path], None]) -> Path:
    """Return the cached directory for ``key``, built when there is none.

    Args:
        kind: First part of its name; of every kind only the newest few are kept.
        key: What it is made of, as a hash.
        needed_bytes: Free space that building it needs.
        build: Fills the directory it is given first; the second is for scratch files.

    Raises:
        ImageError: The disk is nearly full, or building it failed.
    """
    cache = image_cache()
    cache.mkdir(parents=True, exist_ok=True)
    final = cache / f"{kind}-{key}"
    if not final.exists():
        free = shutil.disk_usage(cache).free
        if free < needed_bytes:
            message = f"{cache} has {free >> 20} MiB free; building an image needs {needed_bytes >> 20} MiB"
            raise ImageError(message)
        with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as scratch:
            target = Path(scratch) / kind
            target.mkdir()
            build(target, Path(scratch))
            if not final.exists():  # another run may have finished the same meanwhile
                target.rename(final)
    now = time.time()
    os.utime(final, (now, now))
    prune(cache, kind, final)
    return final


def with_fresh_lists(build: Callable[[], Built]) -> Built:
    """Return what ``build`` builds; root fetches package lists that are too old anew, once.

    Raises:
        ImageError: A package is missing, a download failed, or the disk is nearly full.
    """
    try:
        return build()
    except StaleListsError:
        if os.geteuid() != 0:
            raise
    output("apt-get", "-q", "update")
    return build()


def guest_image() -> GuestImage:
    """Return the guest image for this checkout and these packages, building it when it is not cached.

    Raises:
        ImageError: A package is missing, a download failed, or the disk is nearly full.
    """
    return with_fresh_lists(_guest_image)


def _guest_image() -> GuestImage:
    package, version = kernel_package()
    versions = {package: version, **_package_versions()}
    key = _cache_key(versions)
    folder = cached(
        "image",
        key,
        NEEDED_BYTES,
        lambda target, scratch: _build(target, scratch, versions, key),
    )
    manifest: dict[str, str] = json.loads((folder / "manifest.json").read_text())
    return GuestImage(kernel=folder / "kernel", initramfs=folder / "initramfs", manifest=manifest)
