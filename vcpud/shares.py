"""Where weight counts per vCPU and cannot be set: whom fewer vCPUs cost share, and who must have them back.

Problem: on a host without a cgroup for each guest, threads of vCPUs are what is weighed. Whoever gives
up vCPUs alone gives up share with them, and no weight makes up for it. Nobody of a pool loses anything,
though, where all have given up the same part: shares are w n / sum of w n.

Approach: compare parts, active vCPUs over those a domain came with. Nobody may have less than
`KEPT_RATIO` of the part of anybody else in its pool, idle or not: who is idle now may not be in a
minute. Threads of unmanaged work are weighed like any others, so there must be next to none. Where
that stops being so, because somebody has come, grown, or failed to shrink, those who have the smaller
part get everything back. That is a restore and no policy's move: nothing can hold it up.

Pure.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from vcpud.model import DomainSample, HostSample, ShareUnit, Uuid
from vcpud.units import NS_PER_S

KEPT_RATIO = 0.97
"""Of anybody's part, that all in its pool must have: the floor of docs/comparing.md."""
QUIET_RATIO = 0.05
"""Of the pCPUs, that unmanaged work may use where somebody is to be shrunk."""
LOUD_RATIO = 2 * QUIET_RATIO
"""Of the pCPUs, from which on unmanaged work ends it: what wavers between the two changes nothing."""

TOGETHER_NS = 5 * NS_PER_S
"""How long the domains of a move may take before those who are there are given back. A guest takes CPUs online or
offline in well under a second; who takes longer leaves the others short meanwhile."""


def loose(sample: DomainSample) -> bool:
    """Whether its share is that of its vCPUs, and nothing can make up for fewer."""
    return sample.share_unit is ShareUnit.VCPU and not sample.weight_adjustable


def short(
    pool: Iterable[DomainSample], homes: Mapping[Uuid, int], counts: Mapping[Uuid, int]
) -> frozenset[Uuid]:
    """Who would be left a smaller share than it came with.

    Args:
        pool: All domains of a pool, all of them loose.
        homes: vCPUs those came with who have been changed.
        counts: vCPUs of those who are to be changed.
    """
    parts = {}
    for one in pool:
        active = len(one.active)
        home = max(homes.get(one.uuid, active), 1)
        parts[one.uuid] = counts.get(one.uuid, active) / home
    most = max(parts.values(), default=0.0)
    return frozenset(uuid for uuid, part in parts.items() if part < KEPT_RATIO * most)


def owed(
    sample: HostSample,
    homes: Mapping[Uuid, int],
    under_way: Container[Uuid],
    unmanaged_ratio: float | None,
) -> tuple[DomainSample, ...]:
    """Who must have back what it came with, because its share is or may be smaller.

    Args:
        sample: The host.
        homes: As for `short`.
        under_way: Domains that are just being changed: their pools are in between.
        unmanaged_ratio: What unmanaged work uses of the pCPUs; None where that is not known.
    """
    taken = [d for d in sample.domains if loose(d) and len(d.active) < homes.get(d.uuid, 0)]
    found: list[DomainSample] = []
    for name in dict.fromkeys(domain.pool for domain in taken):
        pool = [domain for domain in sample.domains if domain.pool == name]
        if any(domain.uuid in under_way for domain in pool):
            continue
        alone = unmanaged_ratio is not None and unmanaged_ratio <= LOUD_RATIO
        lacking = short(pool, homes, {}) if alone and all(map(loose, pool)) else None
        found += [d for d in taken if d.pool == name and (lacking is None or d.uuid in lacking)]
    return tuple(found)
