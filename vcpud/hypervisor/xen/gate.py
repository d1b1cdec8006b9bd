"""What is refused on Xen before anything is begun. Pure.

libvirt refuses to give a domain more vCPUs than the host has pCPUs, also when it would only restore
what the domain was created with. Whoever finds out after shrinking has lost vCPUs for good; so here it
is the shrinking that is refused, unless there is another way back that was tried out. Giving back is
never refused on such a guess: pCPUs may have gone meanwhile that libvirt still counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vcpud.hypervisor.gate import Stance, hindered
from vcpud.model import Change, Reason, Refused, SetLive, SetWeight

if TYPE_CHECKING:
    from vcpud.hypervisor.xen.book import XenBook

NO_WAY_BACK: Final = (
    "libvirt would not give it back more vCPUs than the host has pCPUs; `xen: {ignore_host: true}` "
    "lets xl do it"
)
NOT_WHICH: Final = "Xen sets how many vCPUs are online, not which"
_WEIGHTS: Final = range(1, 65_536)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How the number of a domain's vCPUs can be set.

    Attributes:
        pcpus: Beyond so many vCPUs libvirt refuses.
        by_xl: `xl vcpu-set --ignore-host` is configured, and works here.
    """

    pcpus: int
    by_xl: bool

    def needs_xl(self, *counts: int) -> bool:
        """Whether a domain that has had so many vCPUs is beyond libvirt."""
        return max(counts) > self.pcpus


def refuse(book: XenBook, change: Change, stance: Stance, route: Route) -> Refused | None:
    """Why a change cannot be begun; None when it can."""
    hindrance = hindered(book, stance)
    if hindrance is not None:
        return hindrance
    if isinstance(change, SetWeight):
        if change.weight not in _WEIGHTS:
            return Refused(Reason.OUT_OF_BOUNDS, f"a weight of {change.weight}")
        return None
    if not isinstance(change, SetLive):
        return Refused(Reason.NO_ACTUATOR, NOT_WHICH)
    shrinking = change.count < book.live_vcpus
    beyond = route.needs_xl(change.count, book.live_vcpus, book.libvirt_count)
    obstacles = (
        (
            not 1 <= change.count <= book.max_vcpus,
            Reason.OUT_OF_BOUNDS,
            f"the domain has {book.max_vcpus} vCPUs at most",
        ),
        (
            shrinking and not book.can_shrink,
            Reason.UNSUPPORTED,
            "a Linux HVM guest does not follow xenstore, so it can grow, but it cannot be shrunk",
        ),
        (shrinking and beyond and not route.by_xl, Reason.UNSUPPORTED, NO_WAY_BACK),
        (
            shrinking and bool(book.gap),
            Reason.UNSUPPORTED,
            f"{NOT_WHICH}, and its guest has taken {sorted(book.gap)} offline itself",
        ),
        (not book.running, Reason.UNSUPPORTED, "it is paused"),
    )
    return next((Refused(reason, why) for is_so, reason, why in obstacles if is_so), None)
