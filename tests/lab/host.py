"""What the host is, and which accelerator its guests can use."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.plan import HostPart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.bench import Bench
    from lab.image import GuestImage

PCPUS = 2
_PROBE_S = 15.0


def host_part(accelerator: str) -> HostPart:
    """Return the part of the host to use: two CPUs, all of them where there are no more."""
    cpus = sorted(os.sched_getaffinity(0))
    some = cpus[:PCPUS]
    cpuset = ",".join(map(str, some)) if len(cpus) > PCPUS else ""
    return HostPart(pcpus=len(some), cpuset=cpuset, accelerator=accelerator)


def accelerator(wanted: str, image: GuestImage) -> str:
    """Return libvirt's domain type for ACCEL: tcg, kvm, or auto, which boots a guest to find out.

    A /dev/kvm that exists may still be unable to boot a stock kernel, so only a boot is proof.
    """
    if wanted == "tcg":
        return "qemu"
    if wanted == "kvm" or _kvm_boots(image):
        return "kvm"
    return "qemu"


def _kvm_boots(image: GuestImage) -> bool:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    command = [
        "qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults",
        "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", str(image.kernel),
        "-initrd", str(image.initramfs), "-append", "console=ttyS0",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, timeout=_PROBE_S, stdin=subprocess.DEVNULL
        )
        text = done.stdout
    except subprocess.TimeoutExpired as error:
        text = error.stdout or b""
    except OSError:
        return False
    return b"lab: " in text  # the guest's first process spoke


def _read(path: str) -> str | None:
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return None


_PASSING = ("qemu_autogroups", "qemu_cgroups")
"""Facts with numbers and names of one run in them."""


def lasting(host: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a host's description says whether two runs were on the same one."""
    return {name: fact for name, fact in host.items() if name not in _PASSING}


def describe_host(bench: Bench, part: HostPart) -> dict[str, Any]:
    """Return what a reader of the results needs to know of host and guest."""
    kernel_config = _read(f"/boot/config-{platform.release()}") or ""
    hertz = re.search(r"^CONFIG_HZ=(\d+)", kernel_config, re.MULTILINE)
    group = _read("/proc/self/cgroup") or ""
    pids = [guest.pid() for guest in bench.guests.values()]
    return {
        "kernel": platform.release(),
        "hz": int(hertz[1]) if hertz else None,
        "cpus": os.cpu_count(),
        "model": next(
            iter(re.findall(r"model name\s*: (.*)", _read("/proc/cpuinfo") or "")), None
        ),
        "pcpus": part.pcpus,
        "cpuset": part.cpuset,
        "accelerator": part.accelerator,
        "sched_base_slice_ns": _read("/sys/kernel/debug/sched/base_slice_ns"),
        "sched_autogroup": _read("/proc/sys/kernel/sched_autogroup_enabled"),
        "cgroups": "v2" if group.startswith("0::") and "\n" not in group else "v1 or hybrid",
        "qemu_autogroups": [_read(f"/proc/{pid}/autogroup") for pid in pids],
        "qemu_cgroups": sorted({_read(f"/proc/{pid}/cgroup") or "" for pid in pids}),
        "share_unit": "autogroup: one share per session, hence per QEMU process"
        if _read("/proc/sys/kernel/sched_autogroup_enabled") == "1"
        else "thread, unless a cgroup per domain exists",
        "libvirt": bench.connection.getLibVersion(),
        "qemu": bench.connection.getVersion(),
        "guest": dict(bench.image.manifest),
    }
