"""`vcpud demo`: two domains collapse, vcpud is switched on, they recover."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, Final

from vcpud import config
from vcpud import policy as policies
from vcpud.commands.common import output_option, say, say_json
from vcpud.errors import ConfigError, UsageError
from vcpud_simulator.laboratory.commands.common import report_path
from vcpud_simulator.laboratory.provenance import commit

REPORT: Final = Path("vcpud-demo.html")


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "demo",
        parents=[parent],
        help="show on a simulated host what vcpud is for",
        description=(
            "Show on a simulated host what vcpud is for: two domains collapse on a kernel lock, "
            "vcpud is switched on, they recover. Needs no hypervisor, no root and no network."
        ),
    )
    parser.add_argument(
        "--policy",
        metavar="NAME",
        help="policy that decides (default: the one vcpud is shipped with)",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="seed of all chance (default: 1)")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        default=REPORT,
        help=f"write the HTML report to this file (default: {REPORT})",
    )
    output_option(parser)
    parser.set_defaults(handler=_demo)


def _demo(options: argparse.Namespace) -> int:
    from vcpud_simulator.laboratory import demo, demo_screen  # noqa: PLC0415 - needs an extra
    from vcpud_simulator.laboratory.reading import read_scenario  # noqa: PLC0415 - slow to load

    name = options.policy or config.defaults().loop.policy_name
    try:
        policy = policies.load(name, {})
    except ConfigError as error:
        raise UsageError(str(error)) from error
    path = report_path(options.report)
    scenario = read_scenario(demo.SCENARIO)
    as_json = options.output == "json"
    began_s = time.monotonic()
    with demo_screen.screen(scenario, silent=as_json) as screen:
        result, shown = demo.play(
            scenario=scenario,
            policy=policy,
            policy_name=name,
            screen=screen,
            seed=options.seed,
            report_path=path,
        )
    recovered = all(one.recovered for one in shown)
    if as_json:
        say_json(
            {
                "commit": commit(),
                "scenario": result.scenario,
                "policy": name,
                "seed": result.seed,
                "domains": demo_screen.document(shown),
                "recovered": recovered,
                "report": str(path),
                "trace_hash": result.trace_hash,
                "took_s": round(time.monotonic() - began_s, 2),
            }
        )
    else:
        say(f"\n{demo_screen.summary(shown)}\n\nreport: {path}")
        if not recovered:
            say("not every domain recovered")
    return 0 if recovered else 1
