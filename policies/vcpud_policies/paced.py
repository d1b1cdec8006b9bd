"""Policies that look at each domain once an interval: their state, and the round they share.

Sources that step a vCPU at a time do so at their own pace, not at that of the daemon's cycles. How
a domain is seen is told in every cycle; only what is due is moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vcpud.demand import DomainDemand, HostDemand, PoolDemand
from vcpud.model import Uuid
from vcpud.plan import Move, Outlook, Plan
from vcpud_policies import proposals

See = Callable[[DomainDemand, PoolDemand], tuple[Outlook, Move | None]]
"""How one domain is seen, and what would be done about it if it were due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """The state of a policy that keeps a pace: when each domain was last looked at."""

    looked_at_ns: Mapping[Uuid, int] = field(default_factory=dict)


def paced(
    state: Looks, demand: HostDemand, now_ns: int, *, interval_ns: int, see: See
) -> tuple[Looks, Plan]:
    """One cycle: each domain is seen, and moved where its interval is over."""
    looked = {}
    found = []
    for pool, domain in proposals.eligible(demand):
        last_ns = state.looked_at_ns.get(domain.uuid)
        due = last_ns is None or now_ns - last_ns >= interval_ns
        looked[domain.uuid] = now_ns if due or last_ns is None else last_ns
        outlook, move = see(domain, pool)
        found.append((outlook, move if due else None))
    return Looks(looked_at_ns=looked), proposals.plan(found)
