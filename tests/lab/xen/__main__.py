"""Runs a script in the dom0 of a real Xen: ``python -m lab.xen SCRIPT``, as root.

The script is a shell's. It begins in a directory from which ``python3 -m lab...`` finds the lab, with two idle guests,
x1 and x2, up beside it; what it prints comes out here, and what it leaves in /run/job is lost with the machine.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lab.image import ImageError
from lab.paths import LAB
from lab.stage import say
from lab.xen.image import dom0_image
from lab.xen.machine import MachineError, ready_machine

if TYPE_CHECKING:
    from lab.xen.machine import Machine

_START = """\
date --set=@{now} >/dev/null
mkdir -p /run/lab/tests
cd /run/lab/tests
tar --extract --file /run/job/lab.tar || exit 70
exec sh /run/job/script
"""


def _hand_in(machine: Machine, script: Path) -> None:
    with tarfile.open(machine.job / "lab.tar", "w") as tar:
        for path in sorted(LAB.rglob("*.py")):
            tar.add(path, str(Path("lab") / path.relative_to(LAB)))
    shutil.copyfile(script, machine.job / "script")
    (machine.job / "start").write_text(_START.format(now=int(time.time())))
    for path in machine.job.iterdir():
        path.chmod(0o644)  # QEMU reads them as somebody else


def _follow(machine: Machine, within_s: float) -> int:
    """Repeat what the script says until it has ended; returns its status.

    Raises:
        MachineError: It has not in time, or the machine has ended.
    """
    deadline_s = time.monotonic() + within_s
    said, status = machine.job / "output", machine.job / "status"
    position = 0
    while True:
        ended = status.exists()
        if said.exists():
            with said.open("rb") as stream:
                stream.seek(position)
                text = stream.read()
            whole = text if ended else text[: text.rfind(b"\n") + 1]
            position += len(whole)
            for line in whole.decode(errors="replace").splitlines():
                say(line)
        if ended:
            return int(status.read_text())
        machine.require_alive()
        if time.monotonic() > deadline_s:
            raise MachineError(f"the script has not ended within {within_s:g} s")
        time.sleep(0.5)


def main(arguments: list[str] | None = None) -> int:
    """Run one script; returns its status."""
    parser = argparse.ArgumentParser(prog="python -m lab.xen", description=__doc__)
    parser.add_argument("script", type=Path, help="for dom0's shell")
    parser.add_argument("--within", type=float, default=600.0, help="seconds (default 600)")
    options = parser.parse_args(arguments)
    try:
        with ready_machine(dom0_image(), "credit") as machine:
            _hand_in(machine, options.script)
            machine.begin_job()
            return _follow(machine, options.within)
    except (ImageError, MachineError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
