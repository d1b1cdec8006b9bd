"""What one decision costs: a thousand domains of eight vCPUs within 50 ms and 50 MiB, n log n on.

The time is the median of fifteen decisions in a row, most of which move somebody; the dearest, in which
Python may have collected garbage, is noted beside it.
"""

from __future__ import annotations

import json
import math
import platform
from pathlib import Path
from typing import Any

import pytest

from bench.crowds import ROUNDS, cost, crowd, one_pool
from vcpud.policy import load, names

RESULTS = Path(__file__).resolve().parents[2] / "build/decision.json"


def noted(key: str, found: dict[str, float]) -> None:
    """Keep a result beside those of the other benchmarks."""
    RESULTS.parent.mkdir(exist_ok=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[key] = found
    results["machine"] = {"python": platform.python_version(), "machine": platform.machine()}
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize(
    "shape", [crowd, lambda n, s: one_pool(crowd(n, s))], ids=["pools", "pool"]
)
def test_a_thousand_domains_take_at_most_fifty_milliseconds_and_mebibytes(
    name: str, shape: Any, request: pytest.FixtureRequest
) -> None:
    demands = [shape(1000, second) for second in range(ROUNDS)]
    found = cost(load(name, {}), demands)
    noted(request.node.name.partition("[")[2].rstrip("]"), found)
    assert found["median_seconds"] <= 0.050
    assert found["peak_bytes"] <= 50 * 2**20
    if name == "adaptive":
        assert found["moves"] > 0, "it was given something to decide"


def test_ten_thousand_domains_cost_no_more_than_n_log_n() -> None:
    policy = load("adaptive", {})
    found = {
        count: cost(policy, [one_pool(crowd(count, second)) for second in range(ROUNDS)])
        for count in (1000, 10_000)
    }
    for count, one in found.items():
        noted(f"adaptive-{count}", one)
        assert one["moves"] > 0, "it was given something to decide"
    allowed = 10 * math.log(10_000) / math.log(1000)
    grown = found[10_000]["median_seconds"] / found[1000]["median_seconds"]
    assert grown <= allowed
