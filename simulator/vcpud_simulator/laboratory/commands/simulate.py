"""`vcpud simulate`: its options; what it does is loaded when it is asked for."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

from vcpud.commands.common import duration, output_option
from vcpud.errors import UsageError
from vcpud.units import parse_duration

UNMANAGED = "none"


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "simulate",
        parents=[parent],
        help="run a scenario on the simulated host",
        description="Run a scenario on the simulated host, as fast as it can be simulated.",
    )
    parser.add_argument(
        "scenario",
        nargs="?",
        help="a YAML file, the name of one that comes with vcpud, or drawn_SEED_NUMBER for one that "
        "`vcpud compare --random` has drawn",
    )
    parser.add_argument(
        "--list",
        action="store_true",
        dest="listed",
        help="list the scenarios that come with vcpud",
    )
    parser.add_argument(
        "--scheduler", metavar="NAME", help="scheduler to use (default: the scenario's)"
    )
    parser.add_argument(
        "--policy",
        metavar="NAME",
        default=UNMANAGED,
        help=f"policy that manages the host (default: {UNMANAGED})",
    )
    parser.add_argument(
        "--policy-option",
        metavar="KEY=VALUE",
        action="append",
        type=option,
        default=[],
        help="an option of the policy; may be repeated",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of all chance (default: the scenario's)"
    )
    parser.add_argument(
        "--duration", type=duration, metavar="TIME", help='how long to measure, like "30s"'
    )
    parser.add_argument(
        "--assignment",
        metavar="DOMAIN=N,...",
        type=_assignment,
        help="numbers of vCPUs that domains have active from the start",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write an HTML report")
    output_option(parser)
    parser.set_defaults(handler=_simulate)


def _simulate(options: argparse.Namespace) -> None:
    from vcpud_simulator.laboratory import simulating  # noqa: PLC0415 - a large part of vcpud

    if options.listed:
        simulating.list_scenarios(options)
    elif options.scenario is None:
        raise UsageError(
            "name a scenario; `vcpud simulate --list` lists those that come with vcpud"
        )
    else:
        simulating.simulate(options)


def option(text: str) -> tuple[str, Any]:
    """For argparse: KEY=VALUE, the value as what it looks like; a duration for KEY_ns."""
    word, sign, written = text.partition("=")
    if not sign or not word.isidentifier():
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, found {text[:60]!r}")
    for convert in (int, float):
        with contextlib.suppress(ValueError):
            return word, convert(written)
    with contextlib.suppress(ValueError):
        return f"{word}_ns", parse_duration(written)
    return word, {"true": True, "false": False}.get(written, written)


def _assignment(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in text.split(","):
        name, sign, count = part.partition("=")
        if not sign or not count.isascii() or not count.isdigit() or name in found:
            raise argparse.ArgumentTypeError(f"expected DOMAIN=N, found {part[:60]!r}")
        found[name] = int(count[:9])
    return found
