"""What a run in dom0 has at hand: the stage of the lab, with guests and vcpud of Xen's kind."""

from __future__ import annotations

import functools
import shutil
from typing import TYPE_CHECKING, Final

from lab.arms import Pace
from lab.board import IDLE
from lab.plan import HostPart
from lab.stage import Stage
from lab.xen import beneath
from lab.xen.books import CpuBooks
from lab.xen.domain import PAIR
from lab.xen.faults import SETS
from lab.xen.service import XenVcpud, install_units

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lab.domain import Guest
    from lab.managed import Vcpud
    from lab.xen.bench import XenBench
    from lab.xen.commands import Commands


PACE: Final = Pace(
    collapse_s=15.0, watch_s=60.0, least_s=25.0, quiet_s=18.0, most_s=90.0, given_back_s=90.0
)
"""Under the emulator a busy guest follows in 5 to 15 s, which is what vcpud gives it; one that vcpud has just met it
leaves alone for 30 s."""


class XenStage(Stage):
    """Keeps one set of Xen guests up and one vcpud running across scenarios.

    Attributes:
        ignore_host: What a new vcpud is told of the pCPU count.
    """

    def __init__(
        self, bench: XenBench, commands: Commands, pcpus: int, limit_s: float, kept: Path
    ) -> None:
        """Take the bench.

        Args:
            bench: Where the guests run.
            commands: vcpud's.
            pcpus: What Xen has.
            limit_s: What the whole run may last from now on.
            kept: The shared directory: where the logs of what failed are kept.
        """
        super().__init__(bench, HostPart(pcpus=pcpus, cpuset="", accelerator="xen"), limit_s)
        self.sets = {"pair": PAIR, "mixed": PAIR, **SETS}
        self.xen = bench.xen
        self.commands = commands
        install_units()
        self.ignore_host = True
        self.pace = PACE
        self._kept = kept

    def guests(self, set_name: str) -> list[Guest]:
        """Return the guests of a set; while one of them boots, which takes a minute, the others are idle."""
        if any(shape.name not in self.bench.guests for shape in self.sets[set_name]):
            for guest in self.bench.guests.values():
                guest.order(IDLE)
        return super().guests(set_name)

    def fresh_vcpud(
        self,
        *,
        small_disk: bool = False,
        libvirt_options: Mapping[str, object] | None = None,
        policy: str | None = None,
    ) -> Vcpud:
        """End the vcpud that runs, if any, and start another with nothing remembered."""
        if small_disk or libvirt_options:
            raise NotImplementedError
        self.end_vcpud()
        self.vcpud = XenVcpud(self.commands, ignore_host=self.ignore_host, policy=policy)
        self.vcpud.start()
        return self.vcpud

    def books(self) -> CpuBooks:
        """Return new books of who uses the pCPUs, and of what is told from beneath."""
        return CpuBooks(self.xen, functools.partial(beneath.counters, self._kept))

    def keep_logs(self, name: str) -> None:
        """Keep in the shared directory what vcpud and the guests said up to the end of a part."""
        if self.vcpud is not None:
            shutil.copyfile(self.vcpud.log, self._kept / f"lab-xen-{name}.vcpud.log")
        for guest in self.bench.guests.values():
            (self._kept / f"lab-xen-{name}.{guest.name}.log").write_text(guest.console())
