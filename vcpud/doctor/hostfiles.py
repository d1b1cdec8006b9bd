"""What /proc and /sys tell of the host that only a doctor asks for."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from vcpud.hypervisor.cpusets import parse_cpuset
from vcpud.hypervisor.proc import ProcFiles

_POLICY_FIELD: Final = 41
_REALTIME_POLICIES: Final = frozenset({1, 2})
_CMDLINE_SHOWN: Final = 4096
_CONTROLLERS: Final = {
    "momd": "oVirt MOM (momd)",
    "numad": "numad",
    "cpuplugd": "cpuplugd",
    "virt-handler": "KubeVirt (virt-handler)",
    "autoscale.py": "a Proxmox autoscaler (autoscale.py)",
    "vm_autoscale.py": "a Proxmox autoscaler (vm_autoscale.py)",
}


class HostFiles(ProcFiles):
    """The host's /proc and /sys, read once more closely."""

    def cgroup_unified(self) -> bool | None:
        """Whether cgroups are of the second kind only; None where there are none."""
        mounted = self._sys / "fs/cgroup"
        if not mounted.is_dir() or not any(mounted.iterdir()):
            return None
        return (mounted / "cgroup.controllers").exists()

    def isolated(self) -> frozenset[int]:
        """pCPUs that the scheduler balances nothing onto."""
        return self._cpus("devices/system/cpu/isolated")

    def nohz_full(self) -> frozenset[int]:
        """pCPUs without a tick while one task runs."""
        return self._cpus("devices/system/cpu/nohz_full")

    def numa(self) -> tuple[frozenset[int], ...]:
        """pCPUs of each node that has any."""
        nodes = sorted((self._sys / "devices/system/node").glob("node[0-9]*"))
        cells = [self._cpus(f"devices/system/node/{node.name}/cpulist") for node in nodes]
        return tuple(cell for cell in cells if cell)

    def ple_gap(self) -> int | None:
        """`ple_gap` of KVM on Intel; None where it is not loaded."""
        text = self._text("module/kvm_intel/parameters/ple_gap") or ""
        return int(text) if text.isascii() and text.isdigit() else None

    def controllers(self) -> tuple[str, ...]:
        """Others here that change vCPUs or where they run."""
        found = set()
        for path in self._proc.glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                text = path.read_bytes()[:_CMDLINE_SHOWN].decode(errors="replace")
                found |= {Path(word).name for word in text.split("\0")[:3]} & set(_CONTROLLERS)
        return tuple(sorted(_CONTROLLERS[name] for name in found))

    def realtime(self, pid: int) -> bool | None:
        """Whether any thread of a process has a real-time policy; None when it cannot be told."""
        policies = set()
        for path in (self._proc / str(pid) / "task").glob("*/stat"):
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = path.read_text(errors="replace").rpartition(")")[2].split()
                policies.add(int(fields[_POLICY_FIELD - 3]))
        return bool(policies & _REALTIME_POLICIES) if policies else None

    def _cpus(self, path: str) -> frozenset[int]:
        text = self._text(path)
        try:
            return parse_cpuset(text) if text else frozenset()
        except ValueError:
            return frozenset()

    def _text(self, path: str) -> str | None:
        try:
            return (self._sys / path).read_text(errors="replace").strip()
        except OSError:
            return None
