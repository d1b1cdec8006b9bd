"""What the lab asks dom0's tools: xenstore, and the CPU time Xen has accounted.

vcpud has ways of its own to learn this; the lab must not judge it by them.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOOL_S = 60.0


class ToolError(Exception):
    """A tool of dom0 failed; the message holds what it said."""


def tool(*words: str) -> str:
    """Return what a tool prints.

    Raises:
        ToolError: It failed.
    """
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=_TOOL_S)
    if done.returncode != 0:
        raise ToolError(f"{' '.join(words)}: {done.returncode}, {done.stderr.strip()}")
    return done.stdout


def xl_info() -> dict[str, str]:
    """Return what Xen says of itself, by the names `xl info` has for it."""
    lines = (line.partition(":") for line in tool("xl", "info").splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}


def read_key(path: str) -> str | None:
    """Return the value of a xenstore key, None where there is none."""
    try:
        return tool("xenstore-read", path).strip()
    except ToolError:
        return None


def write_keys(values: Mapping[str, str]) -> None:
    """Write xenstore keys, all in one go."""
    words = [word for pair in values.items() for word in pair]
    tool("xenstore-write", *words)


class Xen:
    """Xen's own accounts, through the binding in Debian's xen-utils."""

    def __init__(self) -> None:
        """Open the hypervisor's control interface."""
        for folder in sorted(Path("/usr/lib").glob("xen-*/lib/python")):
            sys.path.append(str(folder))
        self._control: Any = importlib.import_module("xen.lowlevel.xc").xc()

    def cpu_ns(self) -> dict[int | str, int]:
        """Return the CPU time every domain has used so far, by domain id."""
        return {int(one["domid"]): int(one["cpu_time"]) for one in self._control.domain_getinfo()}
