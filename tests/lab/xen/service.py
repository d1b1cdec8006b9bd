"""The real vcpud as dom0's systemd runs it, installed from its package, with the drop-in for Xen hosts."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lab.managed import COMMAND_S, Vcpud, VcpudError
from lab.xen.toolstack import tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lab.xen.commands import Commands

UNIT = "vcpud.service"
RESTORE_UNIT = "vcpud-restore.service"
UNITS = (UNIT, RESTORE_UNIT, "vcpud-deadman.service")
SHIPPED = Path("/usr/share/vcpud/systemd/xen.conf")
CONFIG = Path("/etc/vcpud/vcpud.yaml")
STATE = Path("/var/lib/vcpud")
LOG = Path("/var/log/vcpud-lab.log")
PORT = 9756
START_S = 120.0
STOP_S = 75.0
"""Beyond the unit's own limit: what a stop leaves behind would spoil all that comes after it."""
_SYSTEM = Path("/etc/systemd/system")
_LAB_DROP_IN = f"""\
[Service]
# A kill here is to be seen, not healed.
Restart=no
StandardOutput=append:{LOG}
StandardError=append:{LOG}
"""


def install_units() -> None:
    """Put the drop-ins in place: that of the documentation, and the lab's own."""
    for unit in UNITS:
        folder = _SYSTEM / f"{unit}.d"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SHIPPED, folder / "60-xen.conf")
    (_SYSTEM / f"{UNIT}.d" / "90-lab.conf").write_text(_LAB_DROP_IN)
    tool("systemctl", "daemon-reload")


@contextlib.contextmanager
def restored_by_hand() -> Iterator[None]:
    """Keep systemd from giving back what a vcpud that failed has left."""
    tool("systemctl", "mask", "--runtime", RESTORE_UNIT)
    try:
        yield
    finally:
        tool("systemctl", "unmask", "--runtime", RESTORE_UNIT)


class XenVcpud(Vcpud):
    """vcpud in dom0: its configuration, its unit, and what it says."""

    def __init__(
        self,
        commands: Commands,
        *,
        ignore_host: bool,
        policy: str | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        """Write the configuration; nothing runs yet, and nothing is remembered.

        Args:
            commands: vcpud's.
            ignore_host: Whether it may have more vCPUs online than the host has pCPUs.
            policy: Instead of the default one.
            more: Sections of the configuration, instead of the lab's own.
        """
        settings: dict[str, object] = {
            "backend": "xen",
            "period": "1s",
            "xen": {"ignore_host": ignore_host},
            "defaults": {"mode": "enforce"},
            "log": {"format": "json"},
            "metrics": {"listen": f"127.0.0.1:{PORT}"},
            **(more or {}),
        }
        if policy is not None:
            settings["policy"] = {"name": policy}
        self.log = LOG
        self.log.write_text("")
        self.config = CONFIG
        self.config.write_text(json.dumps(settings, indent=1) + "\n")  # JSON is YAML
        self._port = PORT
        self._pid = 0
        self._commands = commands
        for path in STATE.iterdir() if STATE.exists() else ():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    @property
    def pid(self) -> int:
        """Its process id, 0 when it does not run."""
        if self._pid and Path(f"/proc/{self._pid}").exists():
            return self._pid
        return 0

    def start(self) -> None:
        """Start the service and wait until it has finished a cycle.

        Raises:
            VcpudError: It ended, or did not come up in time.
        """
        subprocess.run(["systemctl", "reset-failed", UNIT], check=False, capture_output=True)
        done = subprocess.run(
            ["systemctl", "start", UNIT], check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise VcpudError(f"{UNIT} does not start: {done.stderr.strip()} {self.last_words()}")
        self._pid = main_pid(UNIT)
        self.wait_for(lambda: bool(self.metrics("vcpud_up")), START_S, "its first cycle")

    @property
    def _environment(self) -> Mapping[str, str]:
        return os.environ

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one vcpud command to its end."""
        return self._commands.run(words, COMMAND_S)

    def stop(
        self, number: signal.Signals = signal.SIGTERM, within_s: float = STOP_S
    ) -> int | None:
        """Send a signal and wait for the end; returns the exit code, None if it goes on."""
        if self._pid == 0:
            return None
        if self.alive:
            os.kill(self._pid, number)
        deadline_s = time.monotonic() + within_s
        while self.alive:
            if time.monotonic() > deadline_s:
                return None
            time.sleep(0.05)
        return _exit_code(deadline_s)


def main_pid(unit: str) -> int:
    """Return the process id of a service, 0 where it does not run."""
    return int(tool("systemctl", "show", "--property=MainPID", "--value", unit))


def _exit_code(deadline_s: float) -> int | None:
    """Return how the service ended, minus the signal's number where one ended it; None if systemd does not say."""
    asked = ("ActiveState", "ExecMainCode", "ExecMainStatus")
    while True:
        told = tool("systemctl", "show", f"--property={','.join(asked)}", UNIT)
        found = dict(line.split("=", 1) for line in told.splitlines())
        if found["ActiveState"] in {"inactive", "failed"}:
            status = int(found["ExecMainStatus"])
            return status if int(found["ExecMainCode"]) == os.CLD_EXITED else -status
        if time.monotonic() > deadline_s + COMMAND_S:
            return None
        time.sleep(0.1)
