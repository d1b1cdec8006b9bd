"""Results of a run: build/lab.json, build/lab.png, and the exit status."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab.host import lasting
from lab.intervals import Verdict
from lab.paths import BUILD, CHECKOUT
from lab.stage import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.cells import Block
    from lab.faults import Finding
    from lab.outcome import Outcome


def commit() -> str:
    """Return the checkout's commit, marked when files differ from it."""

    name = _git("rev-parse", "HEAD") or "unknown"
    return f"{name}-dirty" if _git("status", "--porcelain") else name


def revision(paths: Sequence[str]) -> str:
    """Return what identifies the state of some files and folders of the checkout, marked like a commit."""
    objects = _git("rev-parse", *(f"HEAD:{path}" for path in paths)) or "unknown"
    name = hashlib.sha256(objects.encode()).hexdigest()[:12]
    return f"{name}-dirty" if _git("status", "--porcelain", "--", *paths) else name


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(CHECKOUT), *words], check=False, capture_output=True, text=True
    )
    return done.stdout.strip()


def finite(value: Any) -> Any:
    """Return ``value`` with what JSON has no number for as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return value


@dataclass(slots=True, kw_only=True)
class Results:
    """Everything a run has found so far; written after every scenario.

    Attributes:
        host: Of host and guest.
        scenarios: Outcomes by scenario.
        faults: Findings by fault.
        cost: Figures of the cost.
        quick: Whether only function and a loose factor are judged.
        skipped: What did not fit into the time.
        grid: Static cells by workload and count.
        micro: What each workload costs where nothing contends.
        contest: Every policy on the same guests, by workload.
        kept: An earlier run's document, for what this run does not measure.
    """

    host: dict[str, Any]
    quick: bool = False
    scenarios: dict[str, Outcome] = field(default_factory=dict)
    faults: dict[str, Finding] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    grid: dict[str, Any] = field(default_factory=dict)
    micro: dict[str, Any] = field(default_factory=dict)
    contest: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)

    def keep(self) -> None:
        """Keep what an earlier run of the same commit on the same host has measured."""
        path = BUILD / "lab.json"
        if not path.exists():
            return
        earlier = json.loads(path.read_text())
        if (earlier["commit"], lasting(earlier["host"])) == (commit(), lasting(self.host)):
            self.kept = earlier

    def document(self) -> dict[str, Any]:
        """Return what build/lab.json holds."""
        scenarios: dict[str, Any] = {
            name: {
                **outcome.figures,
                "verdicts": {bound: str(verdict) for bound, verdict in outcome.verdicts.items()},
            }
            for name, outcome in self.scenarios.items()
        }
        variants = {
            name: found
            for name, found in scenarios.items()
            if name.startswith("user_spin") and "managed_over_unmanaged" in found
        }
        if variants:
            worst = min(variants, key=lambda name: variants[name]["managed_over_unmanaged"])
            scenarios["user_spin"] = {**variants[worst], "worst_of": sorted(variants)}
        kept = self.kept
        found = {
            "scenarios": scenarios,
            "faults": {
                name: {"passed": finding.passed, "detail": finding.detail}
                for name, finding in self.faults.items()
            },
            "cost": self.cost,
            "grid": self.grid,
            "micro": self.micro,
            "contest": self.contest,
        }
        return {
            "commit": commit(),
            "quick": kept.get("quick", self.quick),
            "host": self.host,
            **{name: kept.get(name, {}) | part for name, part in found.items()},
            "skipped": [name for name in kept.get("skipped", ()) if name not in scenarios]
            + self.skipped,
            "trust": [row for row in kept.get("trust", ()) if row["scenario"] not in scenarios]
            + self.trust(),
        }

    def trust(self) -> list[dict[str, Any]]:
        """Return J beside the guests' own rates, a row per static cell."""
        rows = []
        for name, outcome in self.scenarios.items():
            rows += [_trust_row(name, block) for block in outcome.trust if block.proxies]
        return rows

    def write(self) -> None:
        """Write build/lab.json."""
        BUILD.mkdir(exist_ok=True)
        text = json.dumps(finite(self.document()), indent=2, allow_nan=False)
        (BUILD / "lab.json").write_text(text + "\n")

    def summarise(self) -> int:
        """Print the trust table and every verdict; returns the exit status."""
        _print_trust(self.trust())
        rows = [
            (str(verdict), f"{name}: {bound}")
            for name, outcome in self.scenarios.items()
            for bound, verdict in outcome.verdicts.items()
        ]
        rows += [
            (str(Verdict.PASS if finding.passed else Verdict.FAIL), f"fault {name}")
            for name, finding in self.faults.items()
        ]
        rows += [
            (verdict, f"contest {name}: {bound} (from {found['commit'][:12]})")
            for name, found in self.contest.items()
            for bound, verdict in found["verdicts"].items()
        ]
        if self.cost:
            rows.append((str(Verdict.PASS if self.cost["passed"] else Verdict.FAIL), "cost"))
        rows += [("not run", name) for name in self.skipped]
        say("")
        for verdict, what in rows:
            say(f"{verdict:<13} {what}")
        say(f"\nwritten: {BUILD / 'lab.json'}")
        # A slow machine leaves parts of the short form out; that must not block a good change.
        wrong = {str(Verdict.FAIL)} if self.quick else {str(Verdict.FAIL), "not run"}
        failed = any(verdict in wrong for verdict, _ in rows)
        return 1 if failed else 0


def _trust_row(scenario: str, block: Block) -> dict[str, Any]:
    proxy = sum(block.proxies.values())
    return {
        "scenario": scenario,
        "active": block.arm,
        "rate": block.rate,
        "proxy_pcpus": proxy,
        "rate_per_proxy": block.rate / proxy if proxy else None,
    }


def _print_trust(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    say("\nhow far the judge can be trusted: J beside the guests' own counters")
    say(f"{'scenario':<26} {'active':>10} {'rate /s':>12} {'J pCPUs':>9} {'rate / J':>12}")
    for row in rows:
        per = row["rate_per_proxy"]
        say(
            f"{row['scenario']:<26} {row['active']:>10} {row['rate']:>12,.1f} "
            f"{row['proxy_pcpus']:>9.4f} {'-' if per is None else format(per, ',.0f'):>12}"
        )
