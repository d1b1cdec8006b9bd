"""Which domains compete for the same pCPUs: cpusets -> pools. Pure.

Domains with the same cpuset share a pool. A domain whose every vCPU is pinned to a pCPU of its
own has nothing to share; it is left alone and counts as unmanaged work of the pool around it.
Pools that overlap without being equal have no common answer to who is entitled to what: their
domains are only observed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from vcpud.hypervisor.cpusets import format_cpuset
from vcpud.model import Pool, Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vcpud.model import Uuid

HOST_POOL: Final = "host"


class Membership(NamedTuple):
    """Where a domain belongs."""

    pool: str
    trouble: Trouble | None


class Division(NamedTuple):
    """All pools that any domain is in, and every domain's place.

    Attributes:
        pools: One of the whole host where there is no domain.
        members: Places by domain.
        pcpus: Those of all pools; the rest of the host is nobody's to share.
    """

    pools: tuple[Pool, ...]
    members: dict[Uuid, Membership]
    pcpus: frozenset[int]


def divide(
    affinities: Mapping[Uuid, tuple[frozenset[int] | None, ...]], online: frozenset[int]
) -> Division:
    """Divide the host.

    Args:
        affinities: Per domain and vCPU, the pCPUs allowed; None for all.
        online: pCPUs of the host that are online.
    """
    spans: dict[Uuid, frozenset[int]] = {}
    pinned: set[Uuid] = set()
    torn: set[Uuid] = set()
    for uuid, sets in affinities.items():
        allowed = [online if cpus is None else (cpus & online) or online for cpus in sets]
        spans[uuid] = frozenset().union(*allowed) if allowed else online
        if _one_to_one(allowed, online):
            pinned.add(uuid)
        elif len(set(allowed)) > 1:
            torn.add(uuid)  # some vCPUs here, some there: part of two pools at once
    shared = {span for uuid, span in spans.items() if uuid not in pinned}
    clashing = {a for a in shared for b in shared if a != b and a & b}
    members = {}
    used = set(shared)
    for uuid, span in spans.items():
        if uuid in pinned:
            around = min((s for s in shared if span <= s), key=len, default=span)
            members[uuid] = Membership(_name(around, online), Trouble.PINNED)
            used.add(around)
        else:
            overlap = Trouble.POOLS_OVERLAP if uuid in torn or span in clashing else None
            members[uuid] = Membership(_name(span, online), overlap)
    named = {_name(span, online): len(span) for span in used or {online}}
    return Division(
        pools=tuple(Pool(name=name, pcpus=pcpus) for name, pcpus in sorted(named.items())),
        members=members,
        pcpus=frozenset().union(*used) if used else online,
    )


def _one_to_one(allowed: list[frozenset[int]], online: frozenset[int]) -> bool:
    """Every vCPU on a pCPU of its own, on a host where that is a choice."""
    single = bool(allowed) and all(len(cpus) == 1 for cpus in allowed)
    return single and len(online) > 1 and len(set(allowed)) == len(allowed)


def _name(span: frozenset[int], online: frozenset[int]) -> str:
    return HOST_POOL if span == online else format_cpuset(span)
