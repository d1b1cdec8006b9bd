"""Figures of the benchmarks, gathered into build/bench.json."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
KEYS = {
    "simpy_cpu_ratio_pure": None,
    "simpy_cpu_ratio_compiled": None,
    "dispatch_cost_scaling": None,
    "study_wall_s": None,
    "rss_mib": None,
}
"""What is always there, null where it was not measured."""


@pytest.fixture(scope="session")
def figures() -> Iterator[dict[str, Any]]:
    """Where tests put what they have measured; written when the last has ended."""
    found: dict[str, Any] = {}
    yield found
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    document = {"commit": commit or None, **KEYS, "study_wall_s": _study_wall_s(), **found}
    path = ROOT / "build" / "bench.json"
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(document, indent=2) + "\n")
    fresh.replace(path)


def _study_wall_s() -> float | None:
    """How long the last whole study took, where there is one."""
    path = ROOT / "build" / "study" / "study.json"
    if not path.exists():
        return None
    study: dict[str, Any] = json.loads(path.read_text())
    whole = study.get("plan") == "full" and not study.get("resumed")
    wall_s: float | None = study.get("wall_s") if whole else None
    return wall_s
