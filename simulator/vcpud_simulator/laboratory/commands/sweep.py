"""`vcpud sweep`: which parameters suit a policy."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vcpud.commands.common import duration, output_option, say, say_json
from vcpud.errors import ConfigError, UsageError
from vcpud.status import columns
from vcpud.units import NS_PER_S, duration_text
from vcpud_simulator.laboratory.commands.common import MOST_SEEDS, many_runs, number, resumable

if TYPE_CHECKING:
    from vcpud_simulator.laboratory.sweep import Plan, Result

_OUT = Path("build/sweep")
_SHOWN = 15
_DURATION_NS = 60 * NS_PER_S
_CHANGING_NS = 150 * NS_PER_S
_DRAWN = 24
_DESCRIPTION = """\
Runs a policy with many combinations of its parameters on a suite of scenarios, and ranks them. The
score of a combination in a scenario is its share of the best one there, lowered by as much as some
domain is below its floor. The sweep starts from the published parameters. Without --range it tries
each number at half, once and twice its value, a ratio at most half of the way to 1, and each switch
both ways. A policy that vcpud does not judge runs without vcpud's limits, too. The seeds differ from
those of `vcpud compare`. The sweep writes the best combination as a preset.
"""


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "sweep",
        parents=[parent],
        help="search for the parameters that suit a policy",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("policy", metavar="POLICY", help="policy whose parameters to search")
    parser.add_argument(
        "--range",
        action="append",
        type=_range,
        default=[],
        metavar="KEY=A,B,...",
        help="try these values of a parameter; may be repeated",
    )
    parser.add_argument(
        "--most",
        type=number(1, 100_000),
        metavar="N",
        help=f"draw N combinations at random (default: all with --range, else {_DRAWN})",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="seed of that drawing (default: 1)"
    )
    parser.add_argument(
        "--suite",
        action="append",
        default=[],
        metavar="SUITE",
        help="scenarios to run, as for compare; may be repeated (default: those of compare --quick)",
    )
    parser.add_argument(
        "--seeds",
        type=number(1, MOST_SEEDS),
        default=1,
        metavar="N",
        help="number of runs of each scenario with each combination (default: 1)",
    )
    parser.add_argument(
        "--duration",
        type=duration,
        metavar="TIME",
        help=f"how long to measure in each run (default: {duration_text(_DURATION_NS)}, "
        f"{duration_text(_CHANGING_NS)} where the load changes)",
    )
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="run on this Dask cluster instead, like tcp://10.0.0.1:8786; its workers need vcpud too",
    )
    many_runs(parser, out=_OUT, what="sweep")
    output_option(parser)
    parser.set_defaults(handler=_sweep)


def _range(text: str) -> tuple[str, tuple[Any, ...]]:
    from vcpud_simulator.laboratory.commands.simulate import option  # noqa: PLC0415

    key, sign, values = text.partition("=")
    words = [word for word in values.split(",") if word]
    if not sign or not words:
        raise argparse.ArgumentTypeError(f"expected KEY=A,B,..., found {text[:60]!r}")
    pairs = [option(f"{key}={word}") for word in words]
    names = {name for name, _ in pairs}
    if len(names) != 1:
        raise argparse.ArgumentTypeError(f"{key}: some values are durations and some are not")
    return names.pop(), tuple(value for _, value in pairs)


def _sweep(options: argparse.Namespace) -> None:
    from vcpud_simulator.laboratory import sweep  # noqa: PLC0415 - slow to load
    from vcpud_simulator.laboratory.compare.runs import modules, perform  # noqa: PLC0415
    from vcpud_simulator.laboratory.parallel import Cache, run_all  # noqa: PLC0415
    from vcpud_simulator.laboratory.provenance import commit  # noqa: PLC0415

    plan = plan_of(options)
    out: Path = options.out
    cache = Cache(out / "cache", modules)
    began_s = time.monotonic()
    with resumable(), sweep.cluster(options.dask) as away:
        results = sweep.run(
            plan,
            lambda tasks, label: run_all(
                perform,
                tasks,
                jobs=-1 if away else options.jobs,
                cache=cache,
                resume=options.resume,
                label=label,
            ),
        )
    found = {"commit": commit(), **document(plan, results)}
    found["wall_s"] = round(time.monotonic() - began_s, 1)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{plan.policy}.json"
    path.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")
    best = out / f"{plan.policy}-best.yaml"
    best.write_text(preset(plan, results, command=command(options), made_at=found["commit"]))
    if options.output == "json":
        say_json(found)
        return
    say(text(plan, results))
    say(f"to compare the best: vcpud compare --policy {best}")
    say(f"\n{found['wall_s']:.0f} s; written to {path}")


def plan_of(options: argparse.Namespace) -> Plan:
    """The sweep that is asked for.

    Raises:
        UsageError: No such policy, parameter or scenarios.
        ConfigError: A scenario cannot be read.
    """
    from vcpud_simulator.laboratory import sweep  # noqa: PLC0415
    from vcpud_simulator.laboratory.commands.compare import as_published  # noqa: PLC0415
    from vcpud_simulator.laboratory.compare import suite  # noqa: PLC0415

    keys = suite.keys(*options.suite, quick=True)
    most = options.most
    try:
        start = as_published(options.policy).options
        space = dict(options.range) or sweep.default_space(options.policy, start)
        if most is None and not options.range:
            most = _DRAWN
        combinations = sweep.combinations(
            options.policy, space, start=start, most=most, seed=options.seed
        )
    except ConfigError as error:
        raise UsageError(str(error)) from error
    return sweep.Plan(
        policy=options.policy,
        combinations=combinations,
        keys=keys,
        seeds=options.seeds,
        duration_ns=options.duration or _DURATION_NS,
        changing_ns=None if options.duration else _CHANGING_NS,
    )


def command(options: argparse.Namespace) -> str:
    """What was asked for, as it can be asked for again; how it was run does not matter."""
    words = ["vcpud", "sweep", options.policy]
    for key, values in options.range:
        plain = (value for _, value in _plain((key, value) for value in values))
        shown = ",".join(str(one).lower() if isinstance(one, bool) else str(one) for one in plain)
        words += ["--range", f"{key.removesuffix('_ns')}={shown}"]
    if options.most is not None:
        words += ["--most", str(options.most)]
    if options.seed != 1:
        words += ["--seed", str(options.seed)]
    for suite in options.suite:
        words += ["--suite", suite]
    if options.seeds != 1:
        words += ["--seeds", str(options.seeds)]
    if options.duration is not None:
        words += ["--duration", duration_text(options.duration)]
    return shlex.join(words)


def document(plan: Plan, results: list[Result]) -> dict[str, Any]:
    """As JSON, best first."""
    from vcpud_simulator.laboratory.sweep import SEEDS_FROM  # noqa: PLC0415

    return {
        "policy": plan.policy,
        "scenarios": list(plan.keys),
        "seeds": plan.seeds,
        "seeds_from": SEEDS_FROM,
        "duration_s": plan.duration_ns / 1e9,
        "duration_changing_s": (plan.changing_ns or plan.duration_ns) / 1e9,
        "published": dict(plan.combinations[0]),
        "results": [
            {
                "options": dict(one.options),
                "score": round(one.score, 5),
                "over_unmanaged": float(f"{one.over_unmanaged:.5g}"),
                "worst_domain_over_floor": round(one.worst_domain_over_floor, 5),
                "changes": round(one.changes, 2),
            }
            for one in results
        ],
    }


def text(plan: Plan, results: list[Result]) -> str:
    """For a terminal."""
    rows: list[tuple[str, ...]] = [
        ("SCORE", "OVER UNMANAGED", "WORST OVER FLOOR", "CHANGES", "PARAMETERS")
    ]
    rows += [
        (
            f"{one.score:.3f}",
            f"{one.over_unmanaged:.3g}",
            f"{one.worst_domain_over_floor:.3f}",
            f"{one.changes:.1f}",
            words(plan, one) or "as published",
        )
        for one in results[:_SHOWN]
    ]
    lines = columns(rows)
    place = next(
        number for number, one in enumerate(results, 1) if one.options == plan.combinations[0]
    )
    lines += ["", f"{len(results)} combinations; the published one is number {place}"]
    return "\n".join(lines)


def words(plan: Plan, one: Result) -> str:
    """For people: in what a combination differs from the published one."""
    return ", ".join(
        f"{key} {value}"
        for key, value in _plain(pair for pair in one.options if pair not in plan.combinations[0])
    )


def preset(plan: Plan, results: list[Result], *, command: str, made_at: str) -> str:
    """The best as the `policy` section of a configuration file, with how it was found."""
    from vcpud_simulator.laboratory.sweep import SEEDS_FROM  # noqa: PLC0415

    best = results[0]
    published = next(one for one in results if one.options == plan.combinations[0])
    head = (
        f"# The best of {len(results)} combinations on {len(plan.keys)} scenarios, seeds from"
        f" {SEEDS_FROM} on: score {best.score:.3f},\n"
        f"# as published {published.score:.3f}. Made at {made_at} by\n"
        f"#   {command}\n"
    )
    section = {"name": plan.policy, **dict(_plain(best.options))}
    return head + yaml.safe_dump({"policy": section}, sort_keys=False)


def _plain(options: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Parameters as a configuration file has them: durations with their unit."""
    for key, value in options:
        duration_key = key.endswith("_ns")
        yield key.removesuffix("_ns"), duration_text(value) if duration_key else value
