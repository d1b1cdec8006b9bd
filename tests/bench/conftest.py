"""Figures of the benchmarks, gathered into build/bench.json."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.studies import whole_study

ROOT = Path(__file__).parents[2]
KEYS = {
    "simpy_cpu_ratio_pure": None,
    "simpy_cpu_ratio_compiled": None,
    "dispatch_cost_scaling": None,
    "study_wall_s": None,
    "study_commit": None,
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
    study = whole_study() or {}
    of_study = {"study_wall_s": study.get("wall_s"), "study_commit": study.get("commit")}
    document = {"commit": commit or None, **KEYS, **of_study, **found}
    path = ROOT / "build" / "bench.json"
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(document, indent=2) + "\n")
    fresh.replace(path)
