"""What the commands of the laboratory that run many simulations have in common."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from vcpud.errors import UsageError

MOST_SEEDS: Final = 30
_MOST_JOBS: Final = 1024


def number(fewest: int, most: int) -> Callable[[str], int]:
    """For argparse: a whole number within bounds."""

    def parse(text: str) -> int:
        if text.isascii() and text.isdigit() and fewest <= int(text[:6]) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"expected a number from {fewest} to {most}")

    return parse


def many_runs(parser: argparse.ArgumentParser, *, out: Path, what: str) -> None:
    """Add the options on how many runs go on at a time, where results go, and going on later.

    Args:
        parser: To add them to.
        out: Where results go by default.
        what: What may be interrupted.
    """
    parser.add_argument(
        "--jobs",
        type=number(1, _MOST_JOBS),
        metavar="N",
        help="make N runs at a time (default: one per core)",
    )
    parser.add_argument(
        "--out", type=Path, default=out, metavar="DIR", help=f"folder for results (default: {out})"
    )
    parser.add_argument(
        "--resume", action="store_true", help=f"continue an interrupted {what} where it stopped"
    )


def report_path(path: Path) -> Path:
    """Where a report goes; that it cannot go there is told before anything runs.

    Raises:
        UsageError: There is no such folder, or nothing may be written there.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"--report: there is no folder {str(folder)!r}")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--report: no right to write in {str(folder)!r}")
    return folder / path.name


@contextmanager
def resumable() -> Iterator[None]:
    """Whoever interrupts it is told how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("vcpud: interrupted; to go on from here, run it again with --resume\n")
        raise
