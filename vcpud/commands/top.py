"""`top`: the running daemon at a glance."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from vcpud.client import ask
from vcpud.commands.ask import CHANGE_S, READ_S
from vcpud.commands.common import duration, folders
from vcpud.errors import UsageError, VcpudError
from vcpud.top.board import SORTS
from vcpud.units import NS_PER_MS, NS_PER_S, seconds

_PAUSE_NS = 3600 * NS_PER_S
_SHORTEST_NS = 100 * NS_PER_MS


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the command."""
    top = subparsers.add_parser(
        "top",
        parents=[parent],
        help="watch the domains in the terminal",
        description="Watch the domains in the terminal: sort and filter them, look at one closely, "
        "pause and resume them. The keys are shown at the bottom. NO_COLOR switches colours off.",
    )
    top.add_argument("--interval", type=duration, default=NS_PER_S, help="refresh this often (1s)")
    top.add_argument(
        "--sort",
        choices=SORTS,
        default="delay",
        help="sort by this column (delay)",
    )
    top.set_defaults(handler=_top)


def _top(options: argparse.Namespace) -> None:
    if getattr(options, "backend", None) is not None:
        raise UsageError("top shows the running vcpud, so it takes no --backend")
    if not _on_a_terminal():
        raise UsageError("top needs a terminal; without one, use `vcpud status`")
    try:
        from vcpud.top.app import Daemon, Top  # noqa: PLC0415  an extra, and slow to import
    except ImportError as error:
        raise VcpudError(f"top needs textual ({error}): pip install 'vcpud[top]'") from error
    _, runtime_dir = folders(options)
    # Whoever may not ask, or asks nobody, is told so before the screen is taken over.
    ask(runtime_dir, "status", timeout_s=READ_S)

    def pause(uuid: str, wanted: bool) -> None:
        verb = "pause" if wanted else "resume"
        for_ns = _PAUSE_NS if wanted else None
        ask(runtime_dir, verb, timeout_s=CHANGE_S, domain=uuid, for_ns=for_ns)

    daemon = Daemon(
        status=lambda: dict(ask(runtime_dir, "status", timeout_s=READ_S)["status"]),
        explain=lambda uuid: dict(
            ask(runtime_dir, "explain", timeout_s=READ_S, domain=uuid)["explanation"]
        ),
        pause=pause,
    )
    Top(daemon, interval_s=seconds(max(options.interval, _SHORTEST_NS)), sort=options.sort).run()


def _on_a_terminal() -> bool:
    dumb = os.environ.get("TERM") in (None, "", "dumb")
    return sys.stdin.isatty() and sys.stdout.isatty() and not dumb
