"""Policies that look at each domain once an interval: what they remember, and the round they share.

Problem
    Sources that step a vCPU at a time do so at their own pace, not at that of the daemon's cycles,
    and each reads what was used, or stolen, since it last looked. Figures smoothed over several
    seconds, or those of the last cycle alone, are not what they saw.

Approach
    What is read in each cycle is added up until the interval is over. Then the domain is looked at,
    may be moved, and the sums begin anew. How a domain is seen is told in every cycle. An interval
    is over a tenth early: cycles are not exact to the nanosecond, and a look must not wait for
    another one because this one came a little soon.

References: none of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vcpud.demand import DomainDemand, HostDemand, PoolDemand
from vcpud.model import Uuid
from vcpud.plan import Move, Outlook, Plan
from vcpud.swift import maker
from vcpud.units import NS_PER_S
from vcpud_policies import proposals


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """What was read of a domain since it was last looked at, or first seen.

    Attributes:
        began_at_ns: When that was.
        read_at_ns: The host's latest reading that is counted.
        used_ns: Run time in windows of which it is known, and in `used_over_ns` how long they were.
        waited_ns: Run delay in the same way, and `waited_over_ns`.
        load: Runnable tasks, averaged exponentially over a minute as in Linux's first load average.
    """

    began_at_ns: int
    read_at_ns: int | None
    used_ns: float = 0.0
    used_over_ns: int = 0
    waited_ns: float = 0.0
    waited_over_ns: int = 0
    load: float | None = None

    @property
    def used_pcpus(self) -> float | None:
        """Use per unit of time; None when not known."""
        return self.used_ns / self.used_over_ns if self.used_over_ns else None

    @property
    def run_delay_pcpus(self) -> float | None:
        """Run delay per unit of time; None when not known."""
        return self.waited_ns / self.waited_over_ns if self.waited_over_ns else None


See = Callable[[DomainDemand, PoolDemand, Since], tuple[Outlook, Move | None]]
"""How one domain is seen, and what would be done about it if it were due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """The state of a policy that keeps a pace."""

    domains: Mapping[Uuid, Since] = field(default_factory=dict)


def paced(
    state: Looks, demand: HostDemand, now_ns: int, *, interval_ns: int, see: See
) -> tuple[Looks, Plan]:
    """One cycle: each domain is seen, and moved where its interval is over."""
    looked = {}
    found = []
    enough_ns = interval_ns - interval_ns // 10
    for pool, domain in proposals.eligible(demand):
        before = state.domains.get(domain.uuid)
        since = _begun(domain, now_ns, None) if before is None else added(before, domain)
        due = now_ns - since.began_at_ns >= enough_ns
        outlook, move = see(domain, pool, since)
        looked[domain.uuid] = _begun(domain, now_ns, since.load) if due else since
        found.append((outlook, move if due else None))
    return Looks(domains=looked), proposals.plan(found)


def _begun(domain: DomainDemand, now_ns: int, load: float | None) -> Since:
    load = domain.runnable_tasks if load is None else load
    return _make_since(now_ns, domain.read_at_ns, 0.0, 0, 0.0, 0, load)


def added(since: Since, domain: DomainDemand) -> Since:
    """What is known of a domain, and what was read of it in this cycle, if anything was."""
    read_at_ns, before_ns = domain.read_at_ns, since.read_at_ns
    if read_at_ns is None or before_ns is None:
        return _begun(domain, since.began_at_ns, since.load)
    over_ns = read_at_ns - before_ns
    if over_ns <= 0:
        return since
    used, used_over_ns = since.used_ns, since.used_over_ns
    if domain.last_used_pcpus is not None:
        used += domain.last_used_pcpus * over_ns
        used_over_ns += over_ns
    waited, waited_over_ns = since.waited_ns, since.waited_over_ns
    if domain.last_delay_pcpus is not None:
        waited += domain.last_delay_pcpus * over_ns
        waited_over_ns += over_ns
    return _make_since(
        since.began_at_ns,
        read_at_ns,
        used,
        used_over_ns,
        waited,
        waited_over_ns,
        _load(since.load, domain.runnable_tasks, over_ns),
    )


def _load(before: float | None, runnable: float | None, over_ns: int) -> float | None:
    """Not known any more where a guest has ceased to tell: its load would stay what it was."""
    if before is None or runnable is None:
        return runnable
    keep = math.exp(-over_ns / _LOAD_NS)
    return keep * before + (1 - keep) * runnable


_make_since = maker(Since)
_LOAD_NS = 60 * NS_PER_S
"""Time constant of the first of Linux's load averages."""
