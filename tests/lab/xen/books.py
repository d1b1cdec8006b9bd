"""Who used the pCPUs, as Xen accounted it, over any stretch of a run, and what the machine beneath did meanwhile."""

from __future__ import annotations

import bisect
import time
from typing import TYPE_CHECKING, Final

from lab.sampler import Sampler
from lab.stage import say
from lab.xen import beneath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from lab.cells import Block
    from lab.domain import Guest
    from lab.outcome import Outcome
    from lab.xen.toolstack import Xen

PERIOD_S: Final = 1.0
DOM0: Final = 0


class CpuBooks(Sampler):
    """Samples the CPU time of every domain, and what is told from beneath, from entering to leaving its context.

    Each is a counter under a key: a domain by its id, the others by their names in `beneath`.
    """

    def __init__(self, xen: Xen, told: Callable[[], Mapping[int | str, int]] = dict) -> None:
        """Take what to ask.

        Args:
            xen: For domains.
            told: For the machine beneath.
        """
        super().__init__(PERIOD_S)
        self._xen = xen
        self._told = told
        self._at_ns: list[int] = []
        self._entries: list[Mapping[int | str, int]] = []

    def look(self) -> None:
        """Note what every counter has come to by now."""
        self.enter(time.monotonic_ns(), {**self._xen.cpu_ns(), **self._told()})

    def enter(self, at_ns: int, counters: Mapping[int | str, int]) -> None:
        """Note what every counter had come to by a moment."""
        self._entries.append(counters)
        self._at_ns.append(at_ns)

    def _at(self, key: int | str, at_ns: int) -> float | None:
        """Return a counter at a moment, between two samples by a straight line."""
        after = bisect.bisect_left(self._at_ns, at_ns)
        if not 0 < after < len(self._entries):
            return None
        first, last = self._entries[after - 1].get(key), self._entries[after].get(key)
        if first is None or last is None:
            return None
        began_ns, ended_ns = self._at_ns[after - 1], self._at_ns[after]
        return first + (last - first) * (at_ns - began_ns) / (ended_ns - began_ns)

    def pcpus(self, key: int | str, blocks: Iterable[Block]) -> float | None:
        """Return how many processors somebody used on average during blocks; None where it is not known."""
        used = elapsed = 0.0
        for block in blocks:
            first, last = self._at(key, block.began_ns), self._at(key, block.ended_ns)
            if first is not None and last is not None:
                used += last - first
                elapsed += block.ended_ns - block.began_ns
        return used / elapsed if elapsed else None

    def told_of(self, block: Block) -> dict[str, float | None]:
        """Return the processors used beneath during a block, and how often translated code was thrown away."""
        passed = self.pcpus(beneath.AT, [block])
        found: dict[str, float | None] = {}
        for name in beneath.TIMES:
            used = self.pcpus(name, [block])
            found[name] = used / passed if used is not None and passed else None
        flushed = self.pcpus(beneath.FLUSHES, [block])
        elapsed_ns = block.ended_ns - block.began_ns
        found[beneath.FLUSHES] = None if flushed is None else flushed * elapsed_ns
        return found


def note_use(books: CpuBooks, outcome: Outcome, guests: Iterable[Guest], pcpus: int) -> None:
    """Note, and print, how many pCPUs dom0 and every guest used in every arm, and what was beneath every block."""
    domids = {"dom0": DOM0, **{guest.name: guest.domain.ID() for guest in guests}}
    use = {
        arm: {name: books.pcpus(domid, blocks) for name, domid in domids.items()}
        for arm, blocks in outcome.blocks.items()
    }
    outcome.figures.setdefault("pcpus_used", {}).update(use)
    for arm, row in use.items():
        say(f"  pCPUs used, {arm}: {_shown(row)} of {pcpus}")
    told: dict[str, list[Any]] = outcome.figures.setdefault("blocks", {})
    for arm, blocks in outcome.blocks.items():
        # What stands for a collapsed arm in each pair is measured once.
        measured = {block.began_ns: block for block in blocks}.values()
        told[arm] = [
            {
                "rates": dict(block.rates),
                "pcpus": {name: books.pcpus(domid, [block]) for name, domid in domids.items()},
                "beneath": books.told_of(block),
            }
            for block in measured
        ]
        for one in told[arm]:
            rates = ", ".join(f"{name} {rate:,.0f}/s" for name, rate in one["rates"].items())
            say(
                f"    {arm}: {rates}; pCPUs {_shown(one['pcpus'])}; beneath {_shown(one['beneath'])}"
            )


def _shown(row: Mapping[str, float | None]) -> str:
    return ", ".join(
        f"{name} {'-' if value is None else f'{value:.2f}'}" for name, value in row.items()
    )
