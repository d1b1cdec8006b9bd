"""`vcpud compare`: every policy against unmanaged and against an oracle, on many scenarios."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vcpud import policy as policies
from vcpud.commands.common import duration, output_option, say, say_json
from vcpud.errors import ConfigError, UsageError
from vcpud.units import parse_duration
from vcpud_simulator.laboratory.commands.common import MOST_SEEDS, many_runs, number, resumable

if TYPE_CHECKING:
    from vcpud_simulator.laboratory.compare.plan import Contestant, Plan

_OUT = Path("build/compare")
_MOST_DRAWN = 10_000
_SEEDS = 2
_DOUBTS = (4, 9, 15)
"""Further seeds of a scenario in which a domain seems to be below its floor: four tell most of these apart,
and those that they leave open come to ten seeds, then sixteen."""
_DESCRIPTION = """\
Runs every policy on every scenario of a suite, and compares it with the unmanaged host and with an
oracle, which knows the best constant assignment. Says how near to the oracle each policy came, whether
some domain was left below its floor, and which changes did harm. Writes compare.json and compare.png.
Exits 1 if a claim of vcpud about its own policy does not hold, as far as these runs can judge it.

SUITE is a folder of YAML files, one such file, the name of a scenario, or a part of such names; it may
be repeated. Without SUITE, all of vcpud's own comparisons are run. drawn_SEED_NUMBER is one that --random
has drawn.
"""


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "compare",
        parents=[parent],
        help="compare policies with each other and with an oracle",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suite", nargs="*", metavar="SUITE", help="scenarios to run")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="make fewer and shorter runs: at most 5 minutes on 2 cores",
    )
    parser.add_argument(
        "--stability",
        action="store_true",
        help="measure instead how steady policies are: their changes under constant load, their "
        "rotations, and how long they take to settle after a step (default: vcpud's own policy, two "
        "seeds)",
    )
    parser.add_argument(
        "--random",
        type=number(1, _MOST_DRAWN),
        metavar="N",
        help="run N randomly drawn scenarios instead of a suite",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="seed of that drawing (default: 1)"
    )
    parser.add_argument(
        "--policy",
        action="append",
        metavar="NAME[:KEY=VALUE,...]",
        help="a policy to compare, with options, or a preset as YAML file; may be repeated "
        "(default: all that are installed, with published parameters)",
    )
    parser.add_argument(
        "--best",
        action="store_true",
        help="also run each other policy with the parameters that a sweep found best for it",
    )
    parser.add_argument(
        "--seeds",
        type=number(1, MOST_SEEDS),
        metavar="N",
        help=f"number of runs of each scenario with each policy (default: {_SEEDS})",
    )
    parser.add_argument(
        "--duration",
        type=duration,
        metavar="TIME",
        help='how long to measure in each run, like "600s"',
    )
    many_runs(parser, out=_OUT, what="comparison")
    output_option(parser)
    parser.set_defaults(handler=_compare)


def _compare(options: argparse.Namespace) -> int:
    if options.stability:
        return _stability(options)
    from vcpud_simulator.laboratory.compare import document, picture  # noqa: PLC0415 - slow to load
    from vcpud_simulator.laboratory.compare.campaign import Campaign  # noqa: PLC0415
    from vcpud_simulator.laboratory.compare.claims import OWN  # noqa: PLC0415
    from vcpud_simulator.laboratory.compare.runs import modules, perform  # noqa: PLC0415
    from vcpud_simulator.laboratory.parallel import Cache, run_all  # noqa: PLC0415
    from vcpud_simulator.laboratory.provenance import commit  # noqa: PLC0415

    plan = plan_of(options)
    out: Path = options.out
    cache = Cache(out / "cache", modules)
    campaign = Campaign(
        plan,
        lambda tasks, label: run_all(
            perform, tasks, jobs=options.jobs, cache=cache, resume=options.resume, label=label
        ),
    )
    began_s = time.monotonic()
    with resumable():
        cards = campaign.run()
    comparison = document.Comparison(
        cards=cards,
        policies=[one.label for one in plan.contestants],
        seeds=plan.seeds,
        commit=commit(),
        wall_s=time.monotonic() - began_s,
        spared=campaign.spared,
        extent=plan.extent,
    )
    found = document.document(comparison)
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.json").write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")
    picture.draw(comparison, out / "compare.png")
    if options.output == "json":
        say_json(found)
    else:
        say(document.text(comparison))
        say(f"\n{comparison.wall_s:.0f} s; written to {out}: compare.json and compare.png")
    if comparison.too_weak:
        sys.stderr.write(
            "vcpud: the oracle is too weak: a policy beat it, so shares of it mean nothing\n"
        )
    if comparison.failed:
        words = ", ".join(one.key for one in comparison.failed)
        sys.stderr.write(f"vcpud: claims about {OWN} that do not hold: {words}\n")
    return 1 if comparison.too_weak or comparison.failed else 0


def _stability(options: argparse.Namespace) -> int:
    from vcpud_simulator.laboratory.compare import stability, watched  # noqa: PLC0415
    from vcpud_simulator.laboratory.compare.claims import OWN  # noqa: PLC0415
    from vcpud_simulator.laboratory.compare.verdict import Verdict  # noqa: PLC0415
    from vcpud_simulator.laboratory.parallel import Cache, run_all  # noqa: PLC0415
    from vcpud_simulator.laboratory.provenance import commit  # noqa: PLC0415

    if options.suite or options.quick or options.random is not None:
        raise UsageError(
            "--stability has scenarios of its own: it takes no SUITE, --quick or --random"
        )
    if options.best:
        raise UsageError("--stability takes no --best: name presets with --policy instead")
    out: Path = options.out
    watches = {
        one.label: watched.watches(
            one.policy, one.options, seeds=options.seeds or _SEEDS, duration_ns=options.duration
        )
        for one in map(contestant, options.policy or [OWN])
    }
    seen = run_all(
        watched.observe,
        [watch for wanted in watches.values() for watch in wanted],
        jobs=options.jobs,
        cache=Cache(out / "cache", watched.modules),
        resume=options.resume,
        label="stability",
    )
    found = {
        label: stability.figures([seen[watch] for watch in wanted])
        for label, wanted in watches.items()
    }
    document = stability.document(found, commit())
    out.mkdir(parents=True, exist_ok=True)
    (out / "stability.json").write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
    if options.output == "json":
        say_json(document)
    else:
        say(stability.text(found))
    failed = [
        f"{label}: {one.key} {one.verdict}"
        for label, figures in found.items()
        for one in figures
        if one.verdict is Verdict.FAILS
        # What its scenarios call for must be seen of vcpud's own policy, unless they are cut short.
        or (one.verdict is Verdict.OPEN and label == OWN and options.duration is None)
    ]
    if failed:
        sys.stderr.write(f"vcpud: not as steady as is promised: {'; '.join(failed)}\n")
    return 1 if failed else 0


def plan_of(options: argparse.Namespace) -> Plan:
    """The comparison that is asked for.

    Raises:
        UsageError: No such scenarios or policies, or two kinds of scenarios at once.
        ConfigError: A scenario cannot be read.
    """
    from vcpud.units import NS_PER_S  # noqa: PLC0415
    from vcpud_simulator.laboratory.compare import suite  # noqa: PLC0415
    from vcpud_simulator.laboratory.compare.claims import DRAWN, OWN, Extent  # noqa: PLC0415
    from vcpud_simulator.laboratory.compare.plan import (  # noqa: PLC0415
        CONSTANT_NS,
        LASTING_NS,
        Look,
        Plan,
    )

    if options.random is not None and options.suite:
        raise UsageError("name either SUITE or --random: one or the other")
    keys = (
        suite.keys(*options.suite, quick=options.quick)
        if options.random is None
        else suite.drawn_keys(options.random, options.seed)
    )
    contestants = (
        tuple(contestant(text) for text in options.policy)
        if options.policy
        else default_contestants()
    )
    if options.best:
        both = (*contestants, *best_contestants())
        contestants = tuple(sorted(both, key=lambda one: one.policy == OWN))
    if options.quick:
        own = options.suite or options.duration or options.seeds or options.random is not None
        return Plan(
            keys=keys,
            contestants=contestants,
            extent=Extent.CUT if own else Extent.QUICK,
            seeds=options.seeds or 1,
            duration_ns=options.duration or 50 * NS_PER_S,
            changing_ns=options.duration or 150 * NS_PER_S,
            lasting_ns=0,
            close=Look(settle_ns=3 * NS_PER_S, least_ns=4 * NS_PER_S),
            finalists=1,
            examined=1,
        )
    plan = Plan(keys=keys, contestants=contestants, seeds=options.seeds or _SEEDS, doubts=_DOUBTS)
    if options.duration:
        cut_ns = options.duration
        return replace(plan, extent=Extent.CUT, duration_ns=cut_ns, lasting_ns=0, doubts=())
    if all(map(suite.is_drawn, keys)):
        return replace(
            plan,
            extent=Extent.DRAWN,
            duration_ns=CONSTANT_NS,
            changing_ns=LASTING_NS,
            everywhere=len(keys) < DRAWN,
        )
    return replace(plan, extent=Extent.PART if options.suite else Extent.WHOLE)


def default_contestants() -> tuple[Contestant, ...]:
    """All that are installed, as published; the one that does nothing first, vcpud's own last."""
    from vcpud_simulator.laboratory.compare.claims import OWN  # noqa: PLC0415
    from vcpud_simulator.laboratory.compare.plan import IDLE  # noqa: PLC0415

    names = sorted(policies.names(), key=lambda name: (name == OWN, name != IDLE, name))
    return tuple(as_published(name) for name in names)


def best_contestants() -> tuple[Contestant, ...]:
    """Those with other parameters that a sweep found better than their published ones."""
    found = []
    for name in sorted(policies.names()):
        path = shipped(f"{name}-best")
        best = None if path is None else _preset(path)
        if best is not None and dict(best.options) != dict(as_published(name).options):
            found.append(best)
    return tuple(found)


def as_published(name: str) -> Contestant:
    """A policy with the parameters of its source; its own where none are shipped."""
    from vcpud_simulator.laboratory.compare.plan import Contestant  # noqa: PLC0415

    path = shipped(f"{name}-published")
    one = Contestant(label=name, policy=name) if path is None else _preset(path)
    return replace(one, label=name)


def shipped(preset: str) -> Path | None:
    """A preset that is shipped, beside the policies or in a checkout."""
    spec = importlib.util.find_spec("vcpud_policies")
    for location in (spec and spec.submodule_search_locations) or ():
        package = Path(location)
        for folder in (package, package.parent):
            path = folder / "presets" / f"{preset}.yaml"
            if path.is_file():
                return path
    return None


def contestant(text: str) -> Contestant:
    """A policy as the command line names it.

    Raises:
        UsageError: There is no such policy, or it has no such option.
        ConfigError: It is not a preset.
    """
    from vcpud_simulator.laboratory.commands.simulate import option  # noqa: PLC0415
    from vcpud_simulator.laboratory.compare.plan import Contestant  # noqa: PLC0415

    if text.endswith(".yaml"):
        return _preset(Path(text))
    name, _, words = text.partition(":")
    try:
        chosen = tuple(option(word) for word in words.split(",") if word)
        policies.load(name, dict(chosen))
    except (ConfigError, argparse.ArgumentTypeError) as error:
        raise UsageError(f"--policy {text}: {error}") from error
    return Contestant(label=text, policy=name, options=chosen)


def _preset(path: Path) -> Contestant:
    """A policy and its options as the `policy` section of a configuration file has them."""
    from vcpud_simulator.laboratory.compare.plan import Contestant  # noqa: PLC0415

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        section = dict(found["policy"])
        name = str(section.pop("name"))
        chosen = tuple(_setting(key, value) for key, value in section.items())
        policies.load(name, dict(chosen))
    except (yaml.YAMLError, TypeError, KeyError, ValueError, ConfigError) as error:
        raise ConfigError(f"{path}: expected a policy section with a name: {error}") from error
    return Contestant(label=path.stem, policy=name, options=chosen)


def _setting(key: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return f"{key}_ns", parse_duration(value)
    return key, value
