"""Command line of the Xen lab: ``python -m lab.xen``."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from pathlib import Path

from lab.image import ImageError
from lab.xen.image import dom0_image
from lab.xen.job import follow, hand_in
from lab.xen.machine import MachineError, ready_machine
from lab.xen.package import installed_vcpud
from lab.xen.run import SCHEDULERS, part_names, run

SCRIPT_S = 1800.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab.xen", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="one scheduler, the kernel-lock pair and restoring"
    )
    parser.add_argument("--scheduler", choices=SCHEDULERS, help="only under this scheduler")
    parser.add_argument("--only", metavar="NAME[,NAME]", help="only these parts")
    parser.add_argument("--list", action="store_true", help="name the parts and end")
    parser.add_argument(
        "--script",
        type=Path,
        metavar="FILE",
        help="measure nothing: run this shell script in dom0, with vcpud installed and two idle guests",
    )
    return parser


def _run_script(script: Path, scheduler: str) -> int:
    image = dom0_image()
    vcpud = installed_vcpud(image.root)
    with ready_machine(image, scheduler, vcpud.tree) as machine:
        shutil.copyfile(script, machine.job / "script")
        hand_in(machine, vcpud, "sh /run/job/script")
        machine.begin_job()
        return follow(machine, SCRIPT_S)


def _stop(_number: int, _frame: object) -> None:
    sys.exit(1)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.list:
        print("\n".join(part_names()))
        return 0
    # QEMU is a child that would go on: every way out leads through the end of its context.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        if options.script:
            return _run_script(options.script, options.scheduler or SCHEDULERS[0])
        return run(options)
    except (ImageError, MachineError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
