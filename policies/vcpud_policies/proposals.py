"""The ways in which every policy here says what it wants: one resize, and how it sees a domain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vcpud.demand import DomainDemand, HostDemand, PoolDemand
from vcpud.plan import Move, Outlook, Plan, Proof, Prospect, Resize
from vcpud.swift import maker


def resize(
    domain: DomainDemand,
    to_vcpus: int,
    reason: str,
    *,
    step_vcpus: int | None = None,
    judged: bool = True,
) -> Move:
    """Bring one domain to another number of active vCPUs.

    Args:
        domain: Which.
        to_vcpus: Active vCPUs wanted.
        reason: For people and logs.
        step_vcpus: How many at once; None for all of them.
        judged: False where the policy's own feedback is all there is, as in its source.
    """
    all_vcpus = abs(to_vcpus - domain.active_vcpus)
    one = Resize(
        uuid=domain.uuid,
        from_vcpus=domain.active_vcpus,
        to_vcpus=to_vcpus,
        step_vcpus=all_vcpus if step_vcpus is None else step_vcpus,
    )
    return Move(resizes=(one,), reason=reason, proof=Proof.GAIN if judged else Proof.NONE)


def within(domain: DomainDemand, vcpus: int) -> int:
    """The nearest number that the domain's terms allow."""
    return min(max(vcpus, domain.min_vcpus, 1), max(domain.max_vcpus, 1))


def eligible(demand: HostDemand) -> Iterator[tuple[PoolDemand, DomainDemand]]:
    """Domains of which something may be decided, each with its pool."""
    pools = {pool.name: pool for pool in demand.pools}
    for domain in demand.domains:
        pool = pools.get(domain.pool)
        if pool is not None and domain.hold is None:
            yield pool, domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """On what a policy of thresholds gives a domain more or fewer vCPUs, for people."""

    why_not_more: str
    why_not_fewer: str
    would_change: str


def conditions(*, more: str, fewer: str) -> Conditions:
    """The condition for more and the condition for fewer."""
    return Conditions(
        why_not_more=f"more only when {more}",
        why_not_fewer=f"fewer only when {fewer}",
        would_change=f"more when {more}; fewer when {fewer}",
    )


def stepped(
    domain: DomainDemand,
    wanted_vcpus: int,
    inputs: tuple[tuple[str, float | None], ...],
    *,
    more: str,
    fewer: str,
) -> Outlook:
    """How a policy of thresholds sees a domain.

    Args:
        domain: Which.
        wanted_vcpus: Active vCPUs it would have now.
        inputs: What was looked at, by name.
        more: The condition for more.
        fewer: The condition for fewer.
    """
    return outlook(domain, wanted_vcpus, inputs, conditions(more=more, fewer=fewer))


def outlook(
    domain: DomainDemand,
    wanted_vcpus: int,
    inputs: tuple[tuple[str, float | None], ...],
    said: Conditions,
) -> Outlook:
    """The same where the conditions are those of every domain."""
    active = domain.active_vcpus
    prospects: tuple[Prospect, ...] = (_make_prospect(active),)
    if wanted_vcpus != active:
        one = (_make_prospect(wanted_vcpus),)
        prospects = prospects + one if wanted_vcpus > active else one + prospects
    return _make_outlook(
        domain.uuid,
        wanted_vcpus,
        inputs,
        prospects,
        "" if wanted_vcpus > active else said.why_not_more,
        "" if wanted_vcpus < active else said.why_not_fewer,
        said.would_change,
    )


_make_outlook = maker(Outlook)
_make_prospect = maker(Prospect)


def plan(found: Iterable[tuple[Outlook, Move | None]]) -> Plan:
    """What was found of each domain, as one plan."""
    pairs = tuple(found)
    return Plan(
        moves=tuple(move for _, move in pairs if move is not None),
        outlooks=tuple(outlook for outlook, _ in pairs),
    )
