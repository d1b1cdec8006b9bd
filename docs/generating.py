# ruff: noqa: INP001 - beside the scripts that use it
"""What all generators of pages do in the end: write the page, or with `--check` compare it."""

from __future__ import annotations

import sys
from pathlib import Path


def written(page: Path, fresh: str) -> int:
    """Write a page, or compare it with what is there; returns the exit code."""
    if sys.argv[1:] != ["--check"]:
        page.write_text(fresh)
        return 0
    if page.exists() and page.read_text() == fresh:
        return 0
    sys.stderr.write(f"{page} is not what {Path(sys.argv[0]).name} writes: run it\n")
    return 1
