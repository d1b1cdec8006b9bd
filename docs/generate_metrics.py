# ruff: noqa: INP001 - a script, beside the page it writes
"""Writes the table of docs/metrics.md anew from the metrics' catalogue; `--check` only compares.

.venv/bin/python docs/generate_metrics.py [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

from generating import written

from vcpud.metrics.catalogue import CATALOGUE

PAGE = Path(__file__).with_name("metrics.md")
BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"


def table() -> str:
    """The catalogue as a table."""
    lines = ["| metric | type | labels | what it says |", "|---|---|---|---|"]
    for family in CATALOGUE:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.name}` | {family.kind} | {labels} | {family.text} |")
    return "\n".join(lines)


def renewed(page: str) -> str:
    """The page with the table as it is now."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE}: the marks {BEGIN} and {END} are gone")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    sys.exit(written(PAGE, renewed(PAGE.read_text())))
