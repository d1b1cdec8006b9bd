"""The ways in which every policy here says what it wants: one resize, and how it sees a domain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
    active = domain.active_vcpus
    return _make_outlook(
        domain.uuid,
        wanted_vcpus,
        inputs,
        tuple([_make_prospect(count) for count in sorted({active, wanted_vcpus})]),
        "" if wanted_vcpus > active else f"more only when {more}",
        "" if wanted_vcpus < active else f"fewer only when {fewer}",
        f"more when {more}; fewer when {fewer}",
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
