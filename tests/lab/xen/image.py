"""Builds the disk of dom0, the guest it starts, and what boots both, from Debian packages, and caches them.

Problem: Xen needs a dom0 with its tools and a libvirtd, guests need a kernel, and under an emulator every byte that is
unpacked at boot costs. Nothing may be installed on the machine the lab runs on.
Approach: the root is one of deploy/debian/root's. The kernel package is unpacked, not installed, so that no initial
file system of a hundred modules is made. Hypervisor and kernel are unpacked beforehand. vcpud is not part of the disk:
it changes more often than anything else here.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab import cpio
from lab.image import (
    ImageError,
    cached,
    compiled_workload,
    kernel_package,
    output,
    unpacked_kernel,
    with_fresh_lists,
)
from lab.paths import CHECKOUT, GUEST, LAB, LOCK_HISTOGRAM_SCRIPT
from lab.xen.domain import PAIR, domain_xml
from lab.xen.kernel import Module, modules, uncompressed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

XEN = LAB / "xen"
SUITE = "bookworm"
KERNEL_METAPACKAGE = "linux-image-amd64"
ROOT_PACKAGES = (
    "busybox-static",
    "dbus",
    "init",
    "init-system-helpers",
    "kmod",
    "libgcc-s1",
    "libvirt-clients",
    "libvirt-daemon-driver-xen",
    "libvirt-daemon-system",
    "procps",
    "python3",
    "python3-libvirt",
    "udev",
    "xen-hypervisor-4.17-amd64",
    "xen-utils-4.17",
    "xenstore-utils",
)
# ext4 asks for crc32c by a name that only modprobe could resolve.
BOOT_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
DOM0_MODULES = ("9p", "9pnet_virtio", "xen-evtchn", "xen-gntdev", "xen-privcmd", "xenfs")
GUEST_MODULES = ("xen-gntalloc",)
REPORTER = CHECKOUT / "deploy" / "guest" / "vcpud-xen-report"
XENSTORE = Path("/usr/bin/xenstore")
# What only costs time: nobody logs in, nothing is to be kept up to date, no guest is to be suspended.
MASKED_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "libvirt-guests.service",
    "logrotate.timer",
    "serial-getty@hvc0.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "xendomains.service",
)
NEEDED_BYTES = 3_000_000_000
DISK_MIB = 1400
MACHINE_ID = "5ca1ab1e0000000000000000000000d0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dom0Image:
    """A bootable Xen host.

    Attributes:
        root: The Debian root the disk was made of, as a directory nobody changes.
        disk: Its file system, a raw image.
        xen: The hypervisor, a multiboot kernel.
        kernel: Kernel of dom0 and of the guests.
        initrd: First file system of dom0.
        manifest: Versions and cache key.
    """

    root: Path
    disk: Path
    xen: Path
    kernel: Path
    initrd: Path
    manifest: Mapping[str, str]


def debian_root(*packages: str) -> Path:
    """Return a bare Debian root with ``packages`` in it, from the cache where it is there.

    Raises:
        ImageError: It cannot be made; only root can.
    """
    return Path(output(str(CHECKOUT / "deploy" / "debian" / "root"), SUITE, *packages).strip())


def dom0_image() -> Dom0Image:
    """Return the image for this checkout and these packages, built when it is not cached.

    Raises:
        ImageError: A package is missing, a download failed, or the disk is nearly full.
    """
    return with_fresh_lists(_dom0_image)


def _dom0_image() -> Dom0Image:
    package, version = kernel_package(KERNEL_METAPACKAGE)
    root = debian_root(*ROOT_PACKAGES)
    digest = hashlib.sha256(f"{root.name} {package} {version}".encode())
    sources = (
        XEN / "image.py",
        XEN / "kernel.py",
        LAB / "cpio.py",
        LOCK_HISTOGRAM_SCRIPT,
        REPORTER,
    )
    for path in (*sources, *sorted(_below(GUEST, XEN / "guest", XEN / "dom0"))):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    for shape in PAIR:
        digest.update(domain_xml(shape).encode())
    key = digest.hexdigest()[:16]
    folder = cached(
        "xen-image",
        key,
        NEEDED_BYTES,
        lambda target, scratch: _build(target, scratch, root, package, version, key),
    )
    return Dom0Image(
        root=root,
        disk=folder / "disk",
        xen=folder / "xen",
        kernel=folder / "vmlinux",
        initrd=folder / "initrd",
        manifest=json.loads((folder / "manifest.json").read_text()),
    )


def _below(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.iterdir() if path.is_file())


def _build(  # noqa: PLR0913, PLR0917  what an image is made of
    target: Path, scratch: Path, root: Path, package: str, version: str, key: str
) -> None:
    unpacked = unpacked_kernel(package, version, scratch)
    kernels = sorted(unpacked.glob("boot/vmlinuz-*"))
    hypervisors = sorted(root.glob("boot/xen-*-amd64.gz"))
    if not kernels or not hypervisors:
        raise ImageError(f"{package} holds no /boot/vmlinuz, or {root} no /boot/xen-*-amd64.gz")
    release = kernels[0].name.removeprefix("vmlinuz-")
    (target / "vmlinux").write_bytes(uncompressed(kernels[0].read_bytes()))
    (target / "xen").write_bytes(gzip.decompress(hypervisors[-1].read_bytes()))
    folder = unpacked / "lib" / "modules" / release
    if not folder.exists():
        folder = unpacked / "usr" / "lib" / "modules" / release
    busybox = root / "bin" / "busybox"
    init = (XEN / "dom0" / "initrd-init").read_bytes()
    cpio.write_initramfs(
        target / "initrd", _small_root(busybox, init, modules(folder, BOOT_MODULES))
    )
    stage = scratch / "stage"
    output("cp", "-a", "--reflink=auto", str(root), str(stage))
    _furnish(stage, release, folder)
    served = stage / "srv" / "lab"
    served.mkdir(parents=True)
    shutil.copyfile(target / "vmlinux", served / "vmlinux")
    cpio.write_initramfs(served / "guest", _guest_entries(root, folder, scratch))
    for shape in PAIR:
        (served / f"{shape.name}.xml").write_text(domain_xml(shape))
    disk = target / "disk"
    options = "-Elazy_itable_init=0,lazy_journal_init=0,root_owner=0:0"
    output("mke2fs", "-q", "-t", "ext4", options, "-d", str(stage), str(disk), f"{DISK_MIB}M")
    manifest = {
        "kernel_release": release,
        package: version,
        "xen": hypervisors[-1].name.removesuffix(".gz"),
        "root": root.name,
        "key": key,
    }
    (target / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def _small_root(
    busybox: Path, init: bytes, loaded: Iterable[Module], *more: cpio.Entry
) -> Iterator[cpio.Entry]:
    """Yield an initial file system: busybox, an init, modules and the order they are loaded in."""
    folders = ("bin", "sbin", "dev", "proc", "sys", "run", "tmp", "root", "lib", "lib/modules")
    yield from (cpio.directory(folder) for folder in folders)
    yield cpio.file("init", init, executable=True)
    yield cpio.file("bin/busybox", busybox.read_bytes(), executable=True)
    applets = set(output(str(busybox), "--list").split()) - {"busybox"}
    yield from (cpio.link(f"bin/{applet}", "busybox") for applet in sorted(applets))
    names = []
    for module in loaded:
        names.append(f"{module.name}.ko\n")
        yield cpio.file(f"lib/modules/{module.name}.ko", module.content)
    yield cpio.file("lib/modules/order", "".join(names).encode())
    yield from more


def _guest_entries(root: Path, folder: Path, scratch: Path) -> Iterator[cpio.Entry]:
    workload = compiled_workload(XEN / "guest" / "board_grant.c", scratch)
    programs = {
        "bin/workload": workload,
        "bin/vcpud-lock-histogram": LOCK_HISTOGRAM_SCRIPT.read_bytes(),
        "bin/vcpud-xen-report": REPORTER.read_bytes(),
        "bin/xenstore": (root / XENSTORE.relative_to("/")).read_bytes(),
        "sbin/online-new-cpu": (GUEST / "online-new-cpu").read_bytes(),
    }
    folders = set()
    shared = re.findall(r"(/\S+) \(0x", output("chroot", str(root), "ldd", str(XENSTORE)))
    for library in shared:
        folders |= {str(parent)[1:] for parent in Path(library).parents if parent != Path("/")}
        programs[library[1:]] = (root / library[1:]).read_bytes()
    return _small_root(
        root / "bin" / "busybox",
        (XEN / "guest" / "init").read_bytes(),
        modules(folder, GUEST_MODULES),
        *(cpio.directory(name) for name in sorted(folders - {"lib"})),
        *(cpio.file(name, content, executable=True) for name, content in programs.items()),
        *(cpio.link(f"bin/xenstore-{word}", "xenstore") for word in ("rm", "write")),
    )


def _furnish(stage: Path, release: str, folder: Path) -> None:
    """Put into dom0's root what makes it one: modules, the lab's service, no units that only cost time."""
    for name in ("modules.builtin", "modules.order", "modules.builtin.modinfo"):
        if (folder / name).exists():
            _write(stage / "lib" / "modules" / release / name, (folder / name).read_bytes())
    for module in modules(folder, (*BOOT_MODULES, *DOM0_MODULES)):
        _write(stage / "lib" / "modules" / release / module.path, module.content)
    output("chroot", str(stage), "depmod", release)
    units = stage / "etc" / "systemd" / "system"
    for unit in MASKED_UNITS:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    dom0 = XEN / "dom0"
    _write(stage / "usr/local/sbin/lab-job", (dom0 / "lab-job").read_bytes(), mode=0o755)
    _write(units / "lab-job.service", (dom0 / "lab-job.service").read_bytes())
    wants = units / "multi-user.target.wants" / "lab-job.service"
    wants.parent.mkdir(parents=True, exist_ok=True)
    wants.symlink_to("../lab-job.service")
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    _write(stage / "etc/hostname", b"dom0\n")
    _write(stage / "etc/hosts", b"127.0.0.1 localhost dom0\n")
    _write(stage / "etc/machine-id", f"{MACHINE_ID}\n".encode())
    _write(stage / "etc/fstab", b"")
    # What the guests write on their consoles is kept, for the day one does not boot.
    (stage / "var/log/xen/console").mkdir(parents=True)
    settings = stage / "etc" / "default" / "xen"
    text = settings.read_text() if settings.exists() else ""
    _write(settings, f'{text}\nXENCONSOLED_ARGS="--log=guest"\n'.encode())


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    os.chmod(path, mode)  # noqa: PTH101  chmod of a file this process has just made
