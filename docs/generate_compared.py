# ruff: noqa: INP001 - a script, beside the page it writes
"""Writes docs/compared.md: what `vcpud compare` has measured, from the results kept beside it.

    .venv/bin/python docs/generate_compared.py [--check]

docs/policies/compare.json is build/compare/compare.json of a whole `vcpud compare`, without the figures
of every domain (`details.scenarios`); drawn.json beside it, of `vcpud compare --random`, may be missing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from generating import written

PAGE: Final = Path(__file__).with_name("compared.md")
RESULTS: Final = Path(__file__).with_name("policies")
OWN: Final = "adaptive"
IDLE: Final = "static"
CLASSES: Final = {
    "kernel_lock": "kernel locks",
    "user_sync": "user-space and blocking synchronisation",
    "dynamic": "dynamic",
    "insensitive": "insensitive",
    "uncontended": "uncontended",
}
TOLD: Final = ("blind", "stuck", "unweighted")
HEAD: Final = """\
# What the comparison has measured

Written by `docs/generate_compared.py` from the results in `docs/policies/`. [comparing.md](comparing.md) defines every
figure and says how to repeat the run; [policies.md](policies.md) explains the results and what is not modelled. All of
it is simulated; [what real guests did](policies.md#on-real-guests) is measured in the lab.
"""


def page() -> str:
    """The whole page."""
    whole = json.loads((RESULTS / "compare.json").read_text())
    lines = [HEAD, *_heading(whole, "The suite", "vcpud compare"), *_claims(whole)]
    lines += ["", "## Policies", "", *_policies(whole)]
    lines += ["", f"## Scenarios, under `{OWN}`", "", *_scenarios(whole)]
    lines += ["", f"## Where `{OWN}` is furthest from the oracle", "", *_worst(whole)]
    drawn = RESULTS / "drawn.json"
    if drawn.exists():
        found = json.loads(drawn.read_text())
        count = len(found["scenarios"])
        command = f"vcpud compare --random {count}"
        lines += ["", *_heading(found, f"{count} drawn scenarios", command), *_claims(found)]
        lines += ["", *_worst(found)]
    return "\n".join(lines) + "\n"


def _heading(found: dict[str, Any], title: str, command: str) -> Iterator[str]:
    details = found["details"]
    yield f"## {title}"
    yield ""
    if list(found["summary"]) == [OWN]:
        command += f" --policy {OWN}"
    if any(label.endswith("-best") for label in found["summary"]):
        command += " --best"
    count, commit = len(found["scenarios"]), found["commit"][:7]
    yield f"`{command} --seeds {details['seeds']}`, {count} scenarios, commit {commit}."
    yield ""


def _claims(found: dict[str, Any]) -> Iterator[str]:
    yield f"| claim of `{OWN}` | measured | bound | verdict |"
    yield "|---|---|---|---|"
    for one in found["details"]["claims"]:
        text = one["text"].removeprefix(f"{OWN}: ")
        bound = f"at {one['bound_is']} {_figure(one['bound'])}"
        yield f"| {text} | {_figure(one['measured'])} | {bound} | {one['verdict']} |"
    for one in found["details"]["oracle_too_weak"]:
        yield ""
        yield f"The oracle is too weak in `{one['scenario']}`: `{one['policy']}` beats it there, so the run fails."


def _policies(found: dict[str, Any]) -> Iterator[str]:
    yield "Share of the oracle's progress, scenarios tagged blind or stuck apart; floors and changes of all scenarios."
    yield ""
    names = [kind for kind in CLASSES if any(one["class"] == kind for one in found["scenarios"])]
    yield _row("policy", "mean", "least", *(CLASSES[kind] for kind in names), *_ASIDE)
    yield _row(*["---"] * (len(names) + 6))
    for label, one in found["summary"].items():
        classes = [_figure(one["by_class"].get(kind)) for kind in names]
        mean, least = _figure(one["oracle_geomean"]), _figure(one["oracle_min"])
        aside = (one["worst_domain_over_floor"], one["changes"], one["harmed"])
        yield _row(f"`{label}`", mean, least, *classes, *(_figure(value) for value in aside))


_ASIDE: Final = ("worst domain over its floor", "changes a run", "of them harmed")


def _scenarios(found: dict[str, Any]) -> Iterator[str]:
    rivals = [label for label in found["summary"] if label not in {OWN, IDLE}]
    yield (
        f"`{OWN}`, *unmanaged* (doing nothing) and *best other* (of the other policies) are shares of the oracle's "
        f"progress; *times unmanaged* is progress under `{OWN}` over that of the unmanaged host, geometric mean of all "
        "domains; *over its floor* is that of the domain that comes off worst."
    )
    for kind, title in CLASSES.items():
        cards = [one for one in found["scenarios"] if one["class"] == kind]
        if not cards:
            continue
        yield ""
        yield f"### {title[0].upper()}{title[1:]}"
        yield ""
        yield _row(
            "scenario",
            "scheduler",
            OWN,
            "unmanaged",
            "best other",
            "times unmanaged",
            "over its floor",
            "changes",
        )
        yield _row(*["---"] * 8)
        yield from (_scenario(card, rivals) for card in cards)


def _scenario(card: dict[str, Any], rivals: Sequence[str]) -> str:
    own = card["policies"][OWN]
    tags = ", ".join(tag for tag in card["tags"] if tag in TOLD)
    name = f"`{card['name'].removeprefix('compare_')}`" + (f" ({tags})" if tags else "")
    best = max(rivals, key=lambda label: card["policies"][label]["over_oracle"], default=None)
    idle = card["policies"].get(IDLE)
    return _row(
        name,
        card["scheduler"],
        _figure(own["over_oracle"]),
        "" if idle is None else _figure(idle["over_oracle"]),
        "" if best is None else f"{_figure(card['policies'][best]['over_oracle'])} ({best})",
        _figure(own["over_unmanaged"]),
        _figure(own["worst_domain_over_floor"]),
        f"{own['changes']:.0f}",
    )


def _worst(found: dict[str, Any]) -> Iterator[str]:
    yield _row("share", "scenario", "domain", "why")
    yield _row(*["---"] * 4)
    for one in found["details"]["worst"]["over_oracle"]:
        yield _row(_figure(one["share"]), f"`{one['scenario']}`", one["domain"], one["cause"])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(value: float | None) -> str:
    """Three digits after the point below ten, none above a hundred."""
    if value is None:
        return ""
    digits = 3 if abs(value) < 10 else 1 if abs(value) < 100 else 0  # noqa: PLR2004
    return f"{value:,.{digits}f}"


if __name__ == "__main__":
    sys.exit(written(PAGE, page()))
