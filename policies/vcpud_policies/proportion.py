"""Where weight counts per vCPU and cannot be set: what all of a pool can give up together.

Problem
    There fewer vCPUs are a smaller share, unless all of the pool have given up the same part of
    theirs (`vcpud.shares`). An allotment gives each domain the number that is best for it.

Approach
    Equal parts of whole numbers are k/g, where g divides what all came with. The smallest is taken
    that leaves those whom contention hurts what they were allotted, and their neighbours what they
    are entitled to.
"""

from __future__ import annotations

import math
from dataclasses import replace

from vcpud.model import Uuid
from vcpud_policies.apportion import Allotment
from vcpud_policies.belief import barred
from vcpud_policies.situation import Situation


def in_proportion(seen: Situation, allotment: Allotment) -> Allotment:
    """An allotment that costs nobody share: itself, where weights are of whole domains or can be set.

    Where somebody cannot take part, or gave up vCPUs in vain a while ago, nobody gives up any. Growing
    waits for nobody: with those who cannot grow now, the loop sees to it that they are given back.

    Args:
        seen: The pool.
        allotment: What would be best if it cost nobody share.
    """
    if not any(d.loose for d in seen.inside):
        return allotment
    claims, vcpus = seen.claims, allotment.vcpus
    if all(vcpus[uuid] >= claim.home for uuid, claim in claims.items() if claim.movable):
        return allotment
    parts = math.gcd(*(claim.home for claim in claims.values()))
    part = max(
        math.ceil(parts * _needed(seen, uuid, vcpus[uuid]) / claim.home - 1e-9)
        for uuid, claim in claims.items()
    )
    together = {
        uuid: claim.home * part // parts if claim.movable else claim.active
        for uuid, claim in claims.items()
    }
    fewer = [d for d in seen.inside if together[d.uuid] < d.active_vcpus]
    refused = any(barred(seen.believed[d.uuid], d, seen.now_ns) for d in fewer)
    those = all(d.loose for d in seen.inside) and all(c.movable for c in claims.values())
    if fewer and (refused or not those):
        together = {uuid: max(vcpus[uuid], claim.active) for uuid, claim in claims.items()}
    return replace(allotment, vcpus=together)


def _needed(seen: Situation, uuid: Uuid, vcpus: int) -> int:
    """The fewest vCPUs that a domain can do with."""
    claim = seen.claims[uuid]
    return vcpus if claim.sensitive else min(vcpus, claim.kept)
