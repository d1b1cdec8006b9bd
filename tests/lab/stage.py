"""What a run has at hand: the bench, the guests of the current set, one vcpud, and the clock."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from lab.arms import PACE, Arms, let_go, set_online
from lab.board import IDLE
from lab.managed import Vcpud
from lab.paths import BUILD
from lab.plan import guest_sets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.bench import Bench
    from lab.board import Order
    from lab.domain import Guest
    from lab.plan import HostPart


def say(line: str) -> None:
    """Print a progress line at once."""
    print(line, flush=True)


class Stage:
    """Keeps one set of guests up and one vcpud running across scenarios.

    Attributes:
        slack: Factor on times that judge pace rather than function; large in the short form, so that a noisy machine
            does not block a good change.
        pace: How long to wait.
    """

    def __init__(self, bench: Bench, host: HostPart, limit_s: float) -> None:
        """Take the bench; ``limit_s`` is what the whole run may last from now on."""
        self.bench = bench
        self.sets = guest_sets(host)
        self.pcpus = host.pcpus
        self.cpuset = host.cpuset
        self.ends_s = time.monotonic() + limit_s
        self.reserved_s = 0.0
        self.vcpud: Vcpud | None = None
        self.slack = 1.0
        self.pace = PACE
        self._started = 0

    @property
    def left_s(self) -> float:
        """Seconds left of the run."""
        return self.ends_s - time.monotonic()

    def extra_s(self, budget_s: float) -> float:
        """Return how much longer a part may take than planned, without harm to later parts."""
        return max(0.0, min(budget_s, self.left_s - self.reserved_s))

    def guests(self, set_name: str) -> list[Guest]:
        """Return the guests of a set, all up and at all their vCPUs; other sets are ended."""
        shapes = self.sets[set_name]
        wanted = {shape.name for shape in shapes}
        for name in set(self.bench.guests) - wanted:
            self.bench.destroy(name)
        missing = [shape for shape in shapes if shape.name not in self.bench.guests]
        if missing:
            say(f"starting {' '.join(shape.name for shape in missing)}")
            self.bench.start(missing)
        return [self.bench.guests[shape.name] for shape in shapes]

    def give(self, guests: list[Guest], orders: Mapping[str, Order]) -> list[Guest]:
        """Give every guest its order, from idle; returns the guests that work."""
        for guest in guests:
            guest.order(IDLE)
        for guest in guests:
            guest.board.give(orders.get(guest.name, IDLE))
        return [guest for guest in guests if orders.get(guest.name, IDLE) != IDLE]

    def fresh_vcpud(
        self,
        *,
        small_disk: bool = False,
        libvirt_options: Mapping[str, object] | None = None,
        policy: str | None = None,
    ) -> Vcpud:
        """End the vcpud that runs, if any, and start another with nothing remembered."""
        self.end_vcpud()
        self._started += 1
        self.vcpud = Vcpud(
            self.bench.lab,
            f"vcpud{self._started}",
            small_disk=small_disk,
            libvirt_options=libvirt_options,
            policy=policy,
        )
        self.vcpud.start()
        return self.vcpud

    def paused_vcpud(self, guests: list[Guest]) -> Vcpud:
        """Return a vcpud that runs and is paused; ``guests`` are at all their vCPUs."""
        vcpud = self.vcpud
        if vcpud is None or not vcpud.alive:
            vcpud = self.fresh_vcpud()
        vcpud.pause()
        # A part that ended early may have left guests at a count of the lab's own making.
        set_online(guests, {guest.name: guest.shape.vcpus for guest in guests})
        let_go(vcpud, self.pace.given_back_s)
        set_online(guests, {guest.name: guest.shape.vcpus for guest in guests})
        return vcpud

    def arms(self, guests: list[Guest]) -> Arms:
        """Return the arms of ``guests`` with vcpud paused."""
        return Arms(guests, self.paused_vcpud(guests), self.pace)

    def end_vcpud(self) -> None:
        """End vcpud."""
        if self.vcpud is not None:
            self.vcpud.end()
            self.vcpud = None

    def keep_logs(self, name: str) -> None:
        """Keep in build/ what vcpud and libvirtd said of a fault that failed."""
        BUILD.mkdir(exist_ok=True)
        if self.vcpud is not None:
            shutil.copyfile(self.vcpud.log, BUILD / f"lab-{name}.vcpud.log")
        shutil.copyfile(self.bench.lab.log, BUILD / f"lab-{name}.libvirtd.log")

    def start_over(self) -> None:
        """End vcpud and every guest, so that the next scenario starts with fresh ones."""
        self.end_vcpud()
        for name in tuple(self.bench.guests):
            self.bench.destroy(name)
