"""`vcpud study`: the seed study on simulated hosts, its claims judged."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcpud.commands.common import output_option, say, say_json
from vcpud.errors import ConfigError, UsageError
from vcpud_simulator.laboratory.commands.common import MOST_SEEDS, many_runs, number, resumable

if TYPE_CHECKING:
    from vcpud_simulator.laboratory.study.grid import Plan
    from vcpud_simulator.laboratory.study.reality import Lab

_OUT = Path("build/study")
_FEWEST_SEEDS = 2
_MOST_FIGURE = 1000
_LITERATURE_SEEDS = 3
_OF_THE_GRID = ("quick", "widths", "overcommits", "grains", "policy", "against", "reality_only")
_DESCRIPTION = """\
Compares Xen's credit scheduler, ESX's strict and relaxed co-scheduling, and Xen with vcpud, on
simulated hosts of 8 pCPUs, for independent and for synchronising work. The thesis that vcpud is
based on did the same. Prints every cell, says for each claim whether it holds, and writes study.json
and pictures. The whole study takes tens of minutes on two cores. --quick runs a smaller grid, which
still gives a verdict on every claim.
"""


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the command."""
    study = subparsers.add_parser(
        "study",
        parents=[parent],
        help="repeat the seed study on simulated hosts and judge its claims",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    study.add_argument(
        "--quick", action="store_true", help="run a smaller grid: at most 3 minutes"
    )
    study.add_argument(
        "--seeds",
        type=number(_FEWEST_SEEDS, MOST_SEEDS),
        metavar="N",
        help="number of runs of each cell (default: 3)",
    )
    for word, what in (
        ("widths", "numbers of vCPUs of a domain"),
        ("overcommits", "numbers of vCPUs per pCPU"),
        ("grains", "grains of ammp-like, in ms"),
    ):
        study.add_argument(
            f"--{word}", type=_figures, metavar="N,N", help=f"{what} (default: the study's own)"
        )
    study.add_argument(
        "--policy", metavar="NAME", help="policy of vcpud (default: the one it is shipped with)"
    )
    study.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="also simulate the cells of the lab's results (lab.json), and compare them with these",
    )
    study.add_argument(
        "--reality-only", action="store_true", help="with --against: make only that comparison"
    )
    study.add_argument(
        "--literature",
        action="store_true",
        help="instead of the study, judge what others published, on the scenarios literature_*",
    )
    study.add_argument(
        "--only", type=_words, metavar="L3,L11", help="with --literature: judge only these claims"
    )
    many_runs(study, out=_OUT, what="study")
    output_option(study)
    study.set_defaults(handler=_study)


def _figures(text: str) -> tuple[int, ...]:
    one = number(1, _MOST_FIGURE)
    return tuple(sorted({one(part) for part in text.split(",")}))


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",")))


def plan_of(options: argparse.Namespace) -> Plan:
    """The study that is asked for."""
    from vcpud_simulator.laboratory.study.grid import FULL, QUICK  # noqa: PLC0415 - slow to load

    plan = (QUICK if options.quick else FULL).only(
        widths=options.widths, overcommits=options.overcommits, grains_ms=options.grains
    )
    if options.seeds is None:
        return plan
    return replace(plan, seeds=options.seeds, most_seeds=max(options.seeds, plan.most_seeds))


def _study(options: argparse.Namespace) -> None:
    if options.literature:
        _literature(options)
        return
    if options.only is not None:
        raise UsageError("--only needs --literature")
    from vcpud import config  # noqa: PLC0415
    from vcpud import policy as policies  # noqa: PLC0415
    from vcpud_simulator.laboratory.provenance import commit, compiled  # noqa: PLC0415
    from vcpud_simulator.laboratory.study import reality  # noqa: PLC0415

    # Mistakes are found before an hour of work.
    options.policy = options.policy or config.defaults().loop.policy_name
    try:
        policies.load(options.policy, {})
    except ConfigError as error:
        raise UsageError(f"--policy: {error}") from error
    lab = None if options.against is None else reality.read(options.against)
    if lab is None and options.reality_only:
        raise UsageError("--reality-only needs --against FILE")
    found: dict[str, Any] = {"commit": commit(), "compiled": compiled()}
    texts: list[str] = []
    with resumable():
        if not options.reality_only:
            _grid(options, found, texts)
        if lab is not None:
            _reality(options, lab, found, texts)
    name = "reality.json" if options.reality_only else "study.json"
    _tell(options, name, found, texts, beside=" and pictures")


def _tell(
    options: argparse.Namespace,
    name: str,
    found: dict[str, Any],
    texts: list[str],
    beside: str = "",
) -> None:
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    (out / name).write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")
    if options.output == "json":
        say_json(found)
    else:
        say("\n\n".join([*texts, f"written to {out}: {name}{beside}"]))


def _literature(options: argparse.Namespace) -> None:
    from vcpud_simulator.laboratory.parallel import Cache, run_all  # noqa: PLC0415
    from vcpud_simulator.laboratory.provenance import commit, compiled  # noqa: PLC0415
    from vcpud_simulator.laboratory.study import literature, literature_runs  # noqa: PLC0415
    from vcpud_simulator.laboratory.study.literature_claims import CLAIMS  # noqa: PLC0415

    for word in _OF_THE_GRID:
        if getattr(options, word):
            raise UsageError(f"--{word.replace('_', '-')} has no meaning with --literature")
    known = {claim.id: claim for claim in CLAIMS}
    chosen = tuple(known) if options.only is None else options.only
    unknown = [word for word in chosen if word not in known]
    if unknown:
        raise UsageError(f"--only: there is no {unknown[0]!r}: {', '.join(known)}")
    claims = [claim for claim in CLAIMS if claim.id in chosen]
    seeds = options.seeds or _LITERATURE_SEEDS
    tasks = literature_runs.tasks(claims, seeds)
    with resumable():
        seen = run_all(
            literature_runs.simulate,
            tasks,
            jobs=options.jobs,
            cache=Cache(options.out / "cache"),
            resume=options.resume,
            label="runs of the literature",
        )
    runs: dict[literature.Case, list[literature.Seen]] = {}
    for task in tasks:
        runs.setdefault(task.case, []).append(seen[task])
    judged = [literature.judge(claim, runs) for claim in claims]
    found = {
        "commit": commit(),
        "compiled": compiled(),
        "seeds": seeds,
        "claims": [one.document() for one in judged],
    }
    _tell(options, "literature.json", found, [literature.text(judged)])


def _grid(options: argparse.Namespace, found: dict[str, Any], texts: list[str]) -> None:
    from vcpud_simulator.laboratory.parallel import Cache  # noqa: PLC0415
    from vcpud_simulator.laboratory.study import document, picture  # noqa: PLC0415
    from vcpud_simulator.laboratory.study.campaign import Campaign  # noqa: PLC0415

    plan = plan_of(options)
    campaign = Campaign(
        plan=plan,
        policy=options.policy,
        jobs=options.jobs,
        cache=Cache(options.out / "cache"),
        resume=options.resume,
    )
    began_s = time.monotonic()
    table, claims = campaign.run()
    outcome = document.Outcome(
        plan=plan,
        policy=options.policy,
        table=table,
        claims=claims,
        wall_s=time.monotonic() - began_s,
        cost=campaign.cost,
        resumed=options.resume,
    )
    found |= document.document(outcome)
    texts.append(document.text(outcome))
    picture.draw(table, plan, options.out)


def _reality(
    options: argparse.Namespace, lab: Lab, found: dict[str, Any], texts: list[str]
) -> None:
    from vcpud_simulator.laboratory.parallel import Cache, run_all  # noqa: PLC0415
    from vcpud_simulator.laboratory.study import agreement, picture, reality  # noqa: PLC0415

    rates = run_all(
        reality.simulate,
        reality.tasks(lab, options.seeds or _FEWEST_SEEDS),
        jobs=options.jobs,
        cache=Cache(options.out / "cache"),
        resume=options.resume,
        label="cells of the lab",
    )
    compared = agreement.judge(lab, rates)
    found["reality"] = agreement.document(lab, compared)
    texts.append(agreement.text(lab, compared))
    picture.draw_reality(compared, options.out)
