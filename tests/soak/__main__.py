"""`make soak`: the promises on memory, start and cost, measured on this machine.

    cd tests && ../.venv/bin/python -m soak [CYCLES]

A day is 86,400 cycles of 200 domains, played through the replay backend into a real daemon in a
process of its own, with everything attached that watches it. Results go to build/soak.json with
the commit; the exit code is 1 where a bound is broken.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from soak.cost import render_share, replay_hour_s
from soak.daemon import endure, start_cpu_s

CHECKOUT = Path(__file__).resolve().parents[2]
DAY = 86_400
MIB = 1 << 20
BOUNDS = {
    "resident_mib": 80.0,
    "growth_mib": 4.0,
    "start_cpu_s": 1.0,
    "render_share": 0.2,
    "replay_hour_s": 5.0,
}

PACED = frozenset({"start_cpu_s", "render_share", "replay_hour_s"})
LOOSE = 20.0


def main() -> int:
    """Measure, write, judge."""
    cycles = int(sys.argv[1]) if len(sys.argv) > 1 else DAY
    with tempfile.TemporaryDirectory(prefix="vcpud-soak-") as scratch:
        folder = Path(scratch)
        results: dict[str, Any] = {"cycles": cycles, "domains": 200}
        results["start_cpu_s"] = tell("CPU time from start to READY, s", start_cpu_s(folder))
        results["render_share"] = tell(
            "metrics of 1,000 domains, share of a cycle's CPU", render_share()
        )
        results["replay_hour_s"] = tell(
            "an hour of 100 domains, replayed, s", replay_hour_s(folder)
        )
        memory = endure(folder, cycles)
    results["resident_mib"] = tell("resident memory at most, MiB", max(memory) / MIB)
    # The first tenth fills what is kept for a while; after that nothing may grow.
    settled = memory[len(memory) // 10 :]
    half = len(settled) // 2
    growth = max(settled[half:]) - max(settled[:half])
    results["growth_mib"] = tell("growth from the first half to the second, MiB", growth / MIB)
    results["memory_mib"] = [round(one / MIB, 2) for one in memory]
    results["commit"] = commit()
    build = CHECKOUT / "build"
    build.mkdir(exist_ok=True)
    (build / "soak.json").write_text(json.dumps(results, indent=2) + "\n")
    loose = PACED if cycles < DAY else frozenset()
    bounds = {name: bound * (LOOSE if name in loose else 1) for name, bound in BOUNDS.items()}
    broken = [name for name, bound in bounds.items() if results[name] > bound]
    for name in broken:
        sys.stdout.write(f"BROKEN: {name} is {results[name]:.3f}, at most {bounds[name]}\n")
    sys.stdout.write(f"{len(bounds) - len(broken)} passed, {len(broken)} failed\n")
    return int(bool(broken))


def tell(what: str, value: float) -> float:
    sys.stdout.write(f"{what}: {value:.3f}\n")
    sys.stdout.flush()
    return value


def commit() -> str:
    done = subprocess.run(
        ("git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"),
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
