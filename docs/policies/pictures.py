#!/usr/bin/env python3
"""Makes the pictures of docs/policies.md: every policy on four scenarios, second by second.

    .venv/bin/python docs/policies/pictures.py [--duration SECONDS]

One run each, the scenario's own seed, policies with their published presets. Also writes what was
measured to docs/policies/pictures.json. Takes a few minutes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

from vcpud import config
from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory.pace import limits_of
from vcpud_simulator.reading import find_scenario, read_scenario
from vcpud_simulator.runner import RunResult, run

HERE = Path(__file__).resolve().parent
UNMANAGED = "static (unmanaged)"
PRESETS = HERE.parents[1] / "policies/presets"
POLICIES = ("extendability", "steal_governor", "folding", "rules", "spin_feedback", "adaptive")
SCENARIOS = {
    "kernel_lock": "compare_kernel_lock_pair",
    "blocking": "compare_user_sync_blocking",
    "insensitive": "compare_insensitive_pair",
    "phases": "compare_dynamic_slow_bursts",
}


def main() -> None:
    """Run everything and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=int, default=120, help="seconds measured of each run")
    parser.add_argument("--only", choices=SCENARIOS, help="one of the scenarios")
    options = parser.parse_args()
    path = HERE / "pictures.json"
    for name in SCENARIOS if options.only is None else [options.only]:
        results = runs(SCENARIOS[name], options.duration)
        draw(name, results)
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        found[name] = figures(results)
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def runs(name: str, seconds: int) -> dict[str, RunResult]:
    """The unmanaged host, which is what `static` makes of it, then each other policy."""
    scenario = read_scenario(find_scenario(name))
    found = {UNMANAGED: run(scenario, duration_ns=seconds * NS_PER_S)}
    for policy in POLICIES:
        loop = config.load(PRESETS / f"{policy}-published.yaml", explicit=True).loop
        found[policy] = run(
            scenario,
            policy=loop.policy,
            limits=limits_of(loop.policy),
            duration_ns=seconds * NS_PER_S,
        )
    return found


def figures(results: dict[str, RunResult]) -> dict[str, Any]:
    """Progress of each domain over that of the unmanaged host, and what it took."""
    before = results[UNMANAGED].domains
    return {
        policy: {
            "progress_over_unmanaged": {
                name: round(domain.rate / before[name].rate, 3)
                for name, domain in result.domains.items()
                if before[name].rate > 0
            },
            "changes": sum(one.accepted for one in result.changes),
            "undone": sum(not verdict.kept for verdict in result.verdicts),
        }
        for policy, result in results.items()
    }


def draw(name: str, results: dict[str, RunResult]) -> None:
    """A row a policy: progress of each domain on the left, its active vCPUs on the right."""
    domains = list(results[UNMANAGED].domains)[:4]
    figure, axes = plt.subplots(
        len(results), 2, figsize=(10, 1.35 * len(results)), sharex=True, squeeze=False
    )
    most = {
        domain: max(point.rate for result in results.values() for point in line(result, domain))
        for domain in domains
    }
    for (policy, result), (left, right) in zip(results.items(), axes, strict=True):
        for number, domain in enumerate(domains):
            points = line(result, domain)
            seconds = [point.t_ns / NS_PER_S for point in points]
            colour = f"C{number}"
            left.plot(
                seconds,
                [point.rate / max(most[domain], 1e-9) for point in points],
                colour,
                linewidth=1,
                label=domain,
            )
            right.step(
                seconds, [point.active_vcpus for point in points], colour, where="post", alpha=0.8
            )
        left.set_ylim(-0.05, 1.1)
        left.set_ylabel(policy, rotation=0, ha="right", va="center")
        right.set_ylim(bottom=0)
    axes[0][0].set_title("progress, best second of any policy = 1")
    axes[0][1].set_title("active vCPUs")
    axes[0][0].legend(loc="upper right", fontsize="small", ncols=len(domains))
    for axis in axes[-1]:
        axis.set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(HERE / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def line(result: RunResult, domain: str) -> tuple[Any, ...]:
    """A domain's seconds."""
    return result.timeline.get(domain, ())


if __name__ == "__main__":
    main()
