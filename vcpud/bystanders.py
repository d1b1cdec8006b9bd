"""Who is not in a move, shares a pool with it, and loses by it?

Problem: schedulers that keep siblings in step keep them so beside what the others have, and a domain
that nobody changed is thrown out of step when its neighbour is. It goes on using what it is entitled
to, so processor time does not show it; and whose progress falls may merely have less to do.
Approach: progress, up to what the domain is entitled to, tells that it loses; that its vCPUs wait longer
than before tells that others have to do with it. A guest that manages itself keeps its waiting where it
wants it, so of that one progress alone tells; and since it answers a move step by step, the first windows
do not tell yet, whatever they say.

Pure. Rates and delays are pCPUs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from vcpud.demand import DomainDemand, HostDemand, Progress
from vcpud.gains import WINDOWS, Gain, compared, sigmas_among
from vcpud.model import Trouble, Uuid

LONGER_RATIO = 0.05
"""Run delay per active vCPU that is more than before by less than this is noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bystander:
    """A domain of which it seems or may yet turn out that it loses by a move it is not in.

    Attributes:
        uuid: Which.
        gain: Its progress before and since; None where that is too early to tell.
        waits_longer: Whether its vCPUs wait longer for pCPUs than before.
        steers: Whether it manages itself.
    """

    uuid: Uuid
    gain: Gain | None
    waits_longer: bool = False
    steers: bool = False

    @property
    def harmed(self) -> bool:
        tells = self.waits_longer or self.steers
        return tells and self.gain is not None and self.gain.harmed


def losing(  # noqa: PLR0913 - two instants and what was there at each
    demand: HostDemand,
    windows: Mapping[Uuid, tuple[Progress, ...]],
    *,
    moved: Collection[Uuid],
    before: Mapping[Uuid, tuple[Progress, ...]],
    delays: Mapping[Uuid, float],
    comparable_from_ns: int,
    since_ns: int,
) -> list[Bystander]:
    """Those who seem to lose, clearly or not, and those of whom that cannot be told yet.

    Args:
        demand: As it is now.
        windows: The latest windows of progress.
        moved: Who is in the move.
        before: Windows of progress before it.
        delays: Run delays then, where known.
        comparable_from_ns: What was seen before this was seen under other conditions.
        since_ns: When the move was over.
    """
    pools = {domain.pool for domain in demand.domains if domain.uuid in moved}
    others = [d for d in demand.domains if d.pool in pools and d.uuid not in moved]
    sigmas = sigmas_among(len(moved) + len(others))
    found = []
    for domain in others:
        was = [
            one
            for one in before.get(domain.uuid, ())
            if one.active_vcpus == domain.active_vcpus and one.began_at_ns >= comparable_from_ns
        ]
        # One that began before the move was over is diluted by that: it hides a loss and feigns none.
        since = [
            one
            for one in windows.get(domain.uuid, ())
            if one.active_vcpus == domain.active_vcpus and one.ended_at_ns > since_ns
        ]
        steers = domain.hold is Trouble.SELF_MANAGED
        if steers and was and len(since) < WINDOWS:
            found.append(Bystander(uuid=domain.uuid, gain=None, steers=True))
            continue
        gain = compared(tuple(was), tuple(since), _due(domain, was), sigmas)
        if gain is not None and gain.seems_less:
            longer = _waits_longer(domain, delays.get(domain.uuid))
            found.append(
                Bystander(uuid=domain.uuid, gain=gain, waits_longer=longer, steers=steers)
            )
    return found


def _due(domain: DomainDemand, was: Sequence[Progress]) -> float | None:
    """Progress it has a right to: its entitlement, at the worth its use had."""
    worths = [one.worth_ratio for one in was if one.worth_ratio is not None]
    if not worths or domain.entitled_pcpus is None:
        return None
    return domain.entitled_pcpus * fmean(worths)


def _waits_longer(domain: DomainDemand, had: float | None) -> bool:
    delay = domain.run_delay_pcpus
    if delay is None or had is None:
        return False
    return delay - had > LONGER_RATIO * domain.active_vcpus
