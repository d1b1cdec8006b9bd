"""Work for dom0: handed in through the shared directory, followed to its end, whatever it is."""

from __future__ import annotations

import shutil
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lab.paths import LAB
from lab.stage import say
from lab.xen.commands import TREE
from lab.xen.machine import MachineError

if TYPE_CHECKING:
    from lab.xen.machine import Machine
    from lab.xen.package import Installed

_START = """\
date --set=@{now} >/dev/null
tar --extract --directory / --file /run/job/vcpud.tar || exit 70
mount -o ro /dev/vdb {tree} || exit 71
systemd-tmpfiles --create vcpud.conf
systemctl daemon-reload
mkdir -p /run/lab/tests
cd /run/lab/tests
tar --extract --file /run/job/lab.tar || exit 72
exec {command}
"""


def hand_in(machine: Machine, vcpud: Installed, command: str) -> None:
    """Put vcpud, the lab and a command into the shared directory; what else lies there is for it, too.

    Args:
        machine: Whose dom0 gets it; its second disk has vcpud's tree.
        vcpud: What its package installs.
        command: For dom0's shell, in a directory from which ``python3 -m lab...`` finds the lab.
    """
    shutil.copyfile(vcpud.archive, machine.job / "vcpud.tar")
    with tarfile.open(machine.job / "lab.tar", "w") as tar:
        for path in sorted(LAB.rglob("*.py")):
            tar.add(path, str(Path("lab") / path.relative_to(LAB)))
    (machine.job / "start").write_text(
        _START.format(now=int(time.time()), tree=TREE, command=command)
    )
    for path in machine.job.iterdir():
        path.chmod(0o644)  # QEMU reads them as somebody else


def follow(machine: Machine, within_s: float) -> int:
    """Repeat what the job says until it has ended; returns its status.

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
            raise MachineError(f"the job has not ended within {within_s:.0f} s")
        time.sleep(0.5)
