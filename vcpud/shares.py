"""Where weight counts per vCPU and cannot be set: whom fewer vCPUs cost share, and who must have them back.

Problem: on a host without a cgroup for each guest, threads of vCPUs are what is weighed. Whoever gives
up vCPUs alone gives up share with them, and no weight makes up for it. Domains lose nothing to each
other, though, where all of a pool have given up the same part: shares are w n / sum of w n.

Approach: compare parts, active vCPUs over those a domain came with. Nobody may have less than
`KEPT_RATIO` of the part of anybody else in its pool, idle or not: who is idle now may not be in a
minute. Threads of unmanaged work are weighed like any others, so there must be next to none. Where
that stops being so, because somebody has come, grown, or failed to shrink, those who have the smaller
part get everything back. That is a restore and no policy's move: no pause, no back-off and no failing
policy holds it up.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vcpud.model import DomainSample, HostSample, Method, ShareUnit, Trouble, Uuid
from vcpud.units import NS_PER_S

KEPT_RATIO = 0.97
"""Of anybody's part, that all in its pool must have: the floor of docs/comparing.md."""
QUIET_RATIO = 0.05
"""Of a pool, that unmanaged work may use where somebody is to be shrunk."""
LOUD_RATIO = 2 * QUIET_RATIO
"""Of a pool, from which on unmanaged work ends it: what wavers between the two changes nothing."""
TOGETHER_NS = 20 * NS_PER_S
"""So long a domain counts as having what it was sent to have (a step may take that long to be answered), and so long
it may be unknown what unmanaged work uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmanaged:
    """What is known of whatever is not a vCPU of a sampled domain.

    Attributes:
        pcpus: What it uses.
        unknown_since_ns: Since when that has not been read; None while it is.
    """

    pcpus: float = 0.0
    unknown_since_ns: int | None = None

    def quiet(self, pcpus: int) -> bool:
        """Whether next to nobody but its domains uses a pool, even if all of it were in there."""
        return self.unknown_since_ns is None and self.pcpus <= QUIET_RATIO * pcpus

    def loud(self, pcpus: int, now_ns: int) -> bool:
        """Whether somebody else does, or may have for long."""
        since_ns = self.unknown_since_ns
        unknown = since_ns is not None and now_ns - since_ns >= TOGETHER_NS
        return unknown or self.pcpus > LOUD_RATIO * pcpus


UNTOLD = Unmanaged(unknown_since_ns=0)


def loose(sample: DomainSample) -> bool:
    """Whether its share is that of its vCPUs, and nothing can make up for fewer."""
    return sample.share_unit is ShareUnit.VCPU and not sample.weight_adjustable


class Parts:
    """What each domain of a pool has of the vCPUs that it came with.

    Attributes:
        even: Whether equal parts are equal shares in this pool.
    """

    def __init__(self, domains: Iterable[DomainSample], homes: Mapping[Uuid, int]) -> None:
        self._homes: dict[Uuid, int] = {}
        parts: dict[Uuid, float] = {}
        self.even = True
        for one in domains:
            self.even &= loose(one) and Trouble.POOLS_OVERLAP not in one.troubles
            if one.uuid in homes and one.method is Method.AGENT and one.online is None:
                continue  # nobody can tell what it has
            active = len(one.active)
            self._homes[one.uuid] = home = max(homes.get(one.uuid, active), 1)
            parts[one.uuid] = active / home
        self._parts = parts
        self._falling = sorted(parts, key=parts.__getitem__, reverse=True)

    def short(self, counts: Mapping[Uuid, int]) -> frozenset[Uuid]:
        """Who of those who are changed would be left a smaller part than somebody else.

        Args:
            counts: vCPUs of those who are to be changed.
        """
        asked = {uuid: n / self._homes[uuid] for uuid, n in counts.items() if uuid in self._homes}
        others = next((self._parts[uuid] for uuid in self._falling if uuid not in asked), 0.0)
        least = KEPT_RATIO * max(others, *asked.values(), 0.0)
        return frozenset(uuid for uuid, part in asked.items() if part < least)

    def lacking(self, counts: Mapping[Uuid, int]) -> frozenset[Uuid]:
        """The same of everybody."""
        active = {uuid: round(part * self._homes[uuid]) for uuid, part in self._parts.items()}
        return self.short({**active, **counts})


def pools(domains: Iterable[DomainSample], homes: Mapping[Uuid, int]) -> dict[str, Parts]:
    """The parts of every pool in which some domain is loose; on most hosts there is none."""
    members: dict[str, list[DomainSample]] = {}
    for domain in domains:
        members.setdefault(domain.pool, []).append(domain)
    return {name: Parts(pool, homes) for name, pool in members.items() if any(map(loose, pool))}


def owed(
    sample: HostSample,
    homes: Mapping[Uuid, int],
    targets: Mapping[Uuid, int],
    unmanaged: Unmanaged,
) -> tuple[DomainSample, ...]:
    """Who must have back what it came with, because its share is or may be smaller.

    Args:
        sample: The host.
        homes: vCPUs those came with who have been changed.
        targets: vCPUs that those are to have who have just been sent on their way.
        unmanaged: Who else uses the pCPUs.
    """
    taken = [d for d in sample.domains if loose(d) and len(d.active) < homes.get(d.uuid, 0)]
    if not taken:
        return ()
    sizes = {pool.name: pool.pcpus for pool in sample.pools}
    lacking: dict[str, frozenset[Uuid] | None] = {}
    for name, parts in pools(sample.domains, homes).items():
        apart = parts.even and not unmanaged.loud(sizes.get(name, 0), sample.taken_at_ns)
        lacking[name] = parts.lacking(targets) if apart else None
    return tuple(
        domain
        for domain in taken
        if (those := lacking[domain.pool]) is None or domain.uuid in those
    )
