"""What asking a guest may cost it: a share of the processor time it has. Pure.

Problem: a guest's answers cost the same however little it gets: some 5 ms every two seconds are
nothing to a guest with a pCPU, and a tenth of the progress of one with a twentieth.
Approach: a guest pays no more than a hundredth of what it lately had. So that it is heard at all,
it is never asked less often than its word may be old.

`deploy/guest/vcpud-xen-report` has the same figures; a test holds them against these.
"""

from __future__ import annotations

from typing import Final

from vcpud.units import NS_PER_MS, NS_PER_S

SHARE: Final = 0.01
"""Of the processor time that a guest has."""
RAREST_NS: Final = 45 * NS_PER_S
"""How far apart readings are at most for a guest's sake.

A guest's word of more than 60 s is no evidence (`tracks.GUEST_STALE_NS`), and this leaves it 15 s
to answer; the host's readings to match two such words with are kept for 120 s (`rates.KEPT_NS`).
"""
DEAREST_NS: Final = 50 * NS_PER_MS
"""What an answer counts for at most: in a collapsed guest it is dear because its kernel spins, just when it matters."""
WINDOW_NS: Final = 10 * NS_PER_S
"""Over how long that is measured."""


class Supply:
    """How many pCPUs a guest had lately, by what its vCPUs waited, looked at now and then.

    What it left idle counts: who has nothing to do loses nothing by answering.

    Attributes:
        pcpus: Over the last window that has ended; None before there was one.
    """

    __slots__ = ("_at_ns", "_vcpus", "_waited_ns", "pcpus")

    def __init__(self) -> None:
        self.pcpus: float | None = None
        self._waited_ns = 0
        self._vcpus = 0
        self._at_ns = 0

    def saw(self, waited_ns: int, vcpus: int, at_ns: int) -> None:
        """So long its vCPUs have waited; another number of them, or a counter that has fallen, begins anew.

        Args:
            waited_ns: Run delay of all of them so far.
            vcpus: How many there are.
            at_ns: When that was read.
        """
        since_ns = at_ns - self._at_ns
        if vcpus == self._vcpus and waited_ns >= self._waited_ns:
            if since_ns < WINDOW_NS:
                return
            self.pcpus = max(vcpus - (waited_ns - self._waited_ns) / since_ns, 0.0)
        self._waited_ns, self._vcpus, self._at_ns = waited_ns, vcpus, at_ns


def spacing_ns(cost_ns: float, pcpus: float | None) -> int:
    """How far apart readings must be, if at all, for what the guest has.

    Args:
        cost_ns: CPU time of one reading.
        pcpus: What the guest lately had, None while that is unknown.
    """
    if pcpus is None:
        return 0
    allowed = SHARE * pcpus
    cost_ns = min(cost_ns, DEAREST_NS)
    return RAREST_NS if cost_ns >= allowed * RAREST_NS else round(cost_ns / allowed)
