"""Command line of the lab: ``python -m lab``."""

from __future__ import annotations

import argparse
import sys

from lab.bench import down
from lab.board import Kind
from lab.run import part_names, run
from lab.up import order, up


def _workload_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workload", default="kernel_lock", choices=[kind.name.lower() for kind in Kind]
    )
    parser.add_argument("--vcpus", type=int, default=4, help="vCPUs of each guest (default 4)")
    parser.add_argument(
        "--threads", type=int, help="threads of the workload (default: as many as vCPUs)"
    )
    parser.add_argument(
        "--grain", type=int, default=20_000, help="multiplications between synchronisations"
    )
    parser.add_argument("--pause", action="store_true", help="user_spin executes PAUSE")
    parser.add_argument(
        "--lock-rounds", type=int, default=64, help="kernel_lock: dup/close pairs per iteration"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="kernel-lock pair and faults only")
    parser.add_argument("--only", metavar="NAME[,NAME]", help="only these parts")
    parser.add_argument("--list", action="store_true", help="name the parts and end")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    up_parser = commands.add_parser(
        "up", help="bring guests up and leave them running until Ctrl-C"
    )
    _workload_options(up_parser)
    up_parser.add_argument("--domains", type=int, default=2, help="number of guests (default 2)")
    up_parser.add_argument(
        "--tas", action="store_true", help="test-and-set locks: leave the hypervisor bit visible"
    )
    up_parser.add_argument(
        "--no-agent", action="store_true", help="guests without an agent channel"
    )
    order_parser = commands.add_parser("order", help="give guests that are up another workload")
    _workload_options(order_parser)
    order_parser.add_argument("--domain", help="only this guest")
    commands.add_parser(
        "down", help="end every run of this user and clear away what a killed one left"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.command == "up":
        return up(options)
    if options.command == "order":
        return order(options)
    if options.command == "down":
        print(f"{down()} runs ended")
        return 0
    if options.list:
        print("\n".join(part_names()))
        return 0
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
