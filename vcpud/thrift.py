"""What asking a guest may cost it: a share of the processor time it uses. Pure.

Problem: a guest's answers cost the same however little it gets: some 5 ms every two seconds are
nothing to a guest with a pCPU, and a tenth of the progress of one with a twentieth.
Approach: a guest pays no more than a hundredth of what it lately used. So that it is heard at all,
it is never asked less often than its word may be old.

`deploy/guest/vcpud-xen-report` has the same figures; a test holds them against these.
"""

from __future__ import annotations

from typing import Final

from vcpud.units import NS_PER_S

SHARE: Final = 0.01
"""Of the processor time that a guest uses."""
RAREST_NS: Final = 45 * NS_PER_S
"""How far apart readings are at most for a guest's sake.

A guest's word of more than 60 s is no evidence (`tracks.GUEST_STALE_NS`), and this leaves it 15 s
to answer; the host's readings to match two such words with are kept for 120 s (`rates.KEPT_NS`).
"""
WINDOW_NS: Final = 10 * NS_PER_S
"""Over how long use is measured: the host counts in ticks of 10 ms for each vCPU."""


class Use:
    """How many pCPUs a guest has used lately, by a counter that is looked at now and then.

    Attributes:
        pcpus: Over the last window that has ended; None before there was one.
    """

    __slots__ = ("_at_ns", "_used_ns", "pcpus")

    def __init__(self) -> None:
        self.pcpus: float | None = None
        self._used_ns: int | None = None
        self._at_ns = 0

    def saw(self, used_ns: int, at_ns: int) -> None:
        """The counter says so much; one that has fallen begins anew.

        Args:
            used_ns: Processor time used so far.
            at_ns: When that was read.
        """
        since_ns = at_ns - self._at_ns
        if self._used_ns is not None and used_ns >= self._used_ns:
            if since_ns < WINDOW_NS:
                return
            self.pcpus = (used_ns - self._used_ns) / since_ns
        self._used_ns, self._at_ns = used_ns, at_ns


def spacing_ns(cost_ns: float, pcpus: float | None) -> int:
    """How far apart readings must be, if at all, for what the guest uses.

    Args:
        cost_ns: CPU time of one reading.
        pcpus: What the guest has lately used, None while that is unknown.
    """
    if pcpus is None:
        return 0
    allowed = SHARE * pcpus
    return RAREST_NS if cost_ns >= allowed * RAREST_NS else round(cost_ns / allowed)
