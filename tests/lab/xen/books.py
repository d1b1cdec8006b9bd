"""Who used the pCPUs, as Xen accounted it, over any stretch of a run."""

from __future__ import annotations

import bisect
import time
from typing import TYPE_CHECKING, Final

from lab.sampler import Sampler
from lab.stage import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lab.cells import Block
    from lab.domain import Guest
    from lab.scenarios import Outcome
    from lab.xen.toolstack import Xen

PERIOD_S: Final = 1.0
DOM0: Final = 0


class CpuBooks(Sampler):
    """Samples the CPU time of every domain from entering to leaving its context."""

    def __init__(self, xen: Xen) -> None:
        """Take what to ask."""
        super().__init__(PERIOD_S)
        self._xen = xen
        self._at_ns: list[int] = []
        self._entries: list[Mapping[int, int]] = []

    def look(self) -> None:
        """Note what every domain has used by now."""
        self.enter(time.monotonic_ns(), self._xen.cpu_ns())

    def enter(self, at_ns: int, cpu_ns: Mapping[int, int]) -> None:
        """Note what every domain had used by a moment."""
        self._entries.append(cpu_ns)
        self._at_ns.append(at_ns)

    def _at(self, domid: int, at_ns: int) -> float | None:
        """Return a domain's CPU time at a moment, between two samples by a straight line."""
        after = bisect.bisect_left(self._at_ns, at_ns)
        if not 0 < after < len(self._entries):
            return None
        first, last = self._entries[after - 1].get(domid), self._entries[after].get(domid)
        if first is None or last is None:
            return None
        began_ns, ended_ns = self._at_ns[after - 1], self._at_ns[after]
        return first + (last - first) * (at_ns - began_ns) / (ended_ns - began_ns)

    def pcpus(self, domid: int, blocks: Iterable[Block]) -> float | None:
        """Return how many pCPUs a domain used on average during blocks; None where it is not known."""
        used = elapsed = 0.0
        for block in blocks:
            first, last = self._at(domid, block.began_ns), self._at(domid, block.ended_ns)
            if first is not None and last is not None:
                used += last - first
                elapsed += block.ended_ns - block.began_ns
        return used / elapsed if elapsed else None


def note_use(books: CpuBooks, outcome: Outcome, guests: Iterable[Guest], pcpus: int) -> None:
    """Note, and print, how many pCPUs dom0 and every guest used in every arm."""
    domids = {"dom0": DOM0, **{guest.name: guest.domain.ID() for guest in guests}}
    use = {
        arm: {name: books.pcpus(domid, blocks) for name, domid in domids.items()}
        for arm, blocks in outcome.blocks.items()
    }
    outcome.figures.setdefault("pcpus_used", {}).update(use)
    for arm, row in use.items():
        shown = ", ".join(
            f"{name} {'-' if value is None else f'{value:.2f}'}" for name, value in row.items()
        )
        say(f"  pCPUs used, {arm}: {shown} of {pcpus}")
