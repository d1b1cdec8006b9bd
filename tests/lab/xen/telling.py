"""Tells dom0, while it measures, what the machine beneath Xen's does; see `beneath`."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lab.sampler import Sampler
from lab.xen import beneath
from lab.xen.machine import MachineError
from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from lab.xen.machine import Machine

PERIOD_S: Final = 1.0


class Telling(Sampler):
    """Tells from entering to leaving its context."""

    def __init__(self, machine: Machine) -> None:
        """Take a running machine, whose monitor nobody else uses meanwhile."""
        super().__init__(PERIOD_S)
        self._machine = machine
        self._ns_per_tick = NS_PER_S // os.sysconf("SC_CLK_TCK")

    def look(self) -> None:
        """Write what there is by now; of a machine that has ended there is nothing to tell."""
        with contextlib.suppress(MachineError, OSError):
            own = beneath.process_ticks(Path(f"/proc/{self._machine.pid}/stat").read_text())
            busy, stolen = beneath.machine_ticks(Path("/proc/stat").read_text())
            ticks = {beneath.QEMU: own, beneath.OTHERS: busy - own, beneath.STOLEN: stolen}
            told = {name: value * self._ns_per_tick for name, value in ticks.items()}
            told[beneath.AT] = time.monotonic_ns()
            flushes = beneath.flush_count(self._machine.monitor("info jit"))
            if flushes is not None:
                told[beneath.FLUSHES] = flushes
            path = self._machine.job / beneath.FILE
            scratch = path.with_suffix(".new")
            scratch.write_text(json.dumps(told))
            scratch.rename(path)
