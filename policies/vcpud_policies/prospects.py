"""How `adaptive` sees a domain, in words and figures: for `vcpud explain`, reasons and the log."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vcpud.demand import DomainDemand, PoolDemand
from vcpud.plan import Outlook, Prospect
from vcpud.swift import maker
from vcpud.units import seconds
from vcpud_policies.apportion import Allotment, Claim
from vcpud_policies.belief import FALLEN_RATIO, Belief, barred


def reason(pool: PoolDemand, claims: Sequence[Claim], allotment: Allotment) -> str:
    """Why a pool is brought to an allotment, in one line."""
    hurt = [claim for claim in claims if claim.sensitive]
    lent = len(claims) - len(hurt)
    cost = max((claim.cost for claim in hurt), default=0.0)
    also = f", with {lent} neighbour{'s' * (lent != 1)} at the entitlement" if lent else ""
    why = f"contention is believed to cost up to {cost:.2f} of progress"
    if not hurt:
        why = "what others have beyond their entitlement is missing where vCPUs are few"
    return (
        f"{why}; "
        f"{sum(allotment.vcpus[c.uuid] for c in claims)} vCPUs instead of "
        f"{sum(c.active for c in claims)} for {pool.available_pcpus:.2f} pCPUs{also}; "
        f"predicted gain {math.expm1(allotment.gain):.2f}"
    )


def outlook(  # noqa: PLR0913 - what a domain is seen by
    domain: DomainDemand,
    belief: Belief,
    claim: Claim,
    allotment: Allotment,
    *,
    min_gain: float,
    overfull: bool,
    waits_for: str,
    now_ns: int,
) -> Outlook:
    """How one domain is seen now, and what is waited for where it should have another number."""
    wanted = allotment.vcpus[claim.uuid]
    counts = {claim.active, wanted, claim.within(1), claim.home}
    if claim.sensitive:
        counts.add(claim.share)
    later = "" if claim.sensitive else _not_before(domain, belief, now_ns)
    return _outlook(
        claim.uuid,
        wanted,
        (
            ("used_pcpus", domain.used_pcpus),
            ("run_delay_pcpus", domain.run_delay_pcpus),
            ("queued_tasks", domain.queued_tasks),
            ("entitled_pcpus", domain.entitled_pcpus),
            ("lock_wait_ratio", domain.lock_wait_ratio),
            ("progress_pcpus", None if domain.progress is None else domain.progress.rate_pcpus),
            ("contention_cost_ratio", claim.cost if claim.movable else belief.cost_ratio),
            ("trust_ratio", belief.trust_ratio),
        ),
        tuple(
            _prospect(
                count,
                _gain(claim, count, allotment, overfull=overfull),
                _note(claim, count, wanted),
            )
            for count in sorted(counts)
        ),
        "" if wanted > claim.active else _why_not_more(claim),
        "" if wanted < claim.active else later or _why_not_fewer(claim, overfull=overfull),
        f"wait for {waits_for}" if waits_for else later or _would_change(domain, claim, min_gain),
        waits_for,
    )


# One for each domain in each cycle, so they are made the fast way: fields in their order.
_outlook = maker(Outlook)
_prospect = maker(Prospect)


def _gain(claim: Claim, count: int, allotment: Allotment, *, overfull: bool) -> float | None:
    if claim.entitled <= 0:
        return None
    if count == claim.active:
        return 0.0
    spared = allotment.fits and count <= allotment.vcpus[claim.uuid]
    return math.expm1(claim.gain(count, fits=spared or not overfull))


def _note(claim: Claim, count: int, wanted: int) -> str:
    marks = []
    if count == claim.active:
        marks.append("as it is")
    if count == wanted:
        marks.append("best for the pool")
    if count == claim.home:
        marks.append("what it came with")
    return ", ".join(marks)


def _why_not_more(claim: Claim) -> str:
    if claim.active >= claim.home:
        return "it has all it came with"
    if claim.sensitive:
        return f"it is entitled to {claim.entitled:.2f} pCPUs: more vCPUs would be preempted"
    return "its neighbours need the room"


def _why_not_fewer(claim: Claim, *, overfull: bool) -> str:
    if not claim.movable:
        return "it cannot be changed now"
    if claim.active <= max(claim.least, 1):
        return "it is at its floor"
    if not claim.sensitive:
        return "there is no evidence that contention costs it anything"
    if not overfull:
        return "its pool has room for all that is runnable"
    return "it is at its entitlement"


def _not_before(domain: DomainDemand, belief: Belief, now_ns: int) -> str:
    """When one may be tried again that was tried in vain; empty where nothing is in the way of it."""
    if domain.hold is not None or domain.engaged is not None:
        return ""
    if barred(belief, domain, now_ns):
        tried = (
            f"{belief.failures} attempt{'s' * (belief.failures != 1)} did not help"
            if belief.failures
            else "the last attempt showed nothing"
        )
        left_s = seconds(belief.not_before_ns - now_ns)
        return (
            f"{tried}: the next is in {left_s:.0f} s, or when its progress falls below "
            f"{FALLEN_RATIO:g} of what it was"
        )
    if now_ns < belief.lent_not_before_ns:
        left_s = seconds(belief.lent_not_before_ns - now_ns)
        return f"it was harmed when brought to its entitlement for others: not again for {left_s:.0f} s"
    return ""


def _would_change(domain: DomainDemand, claim: Claim, min_gain: float) -> str:
    if domain.hold is not None:
        return f"its data: {domain.hold}"
    if domain.engaged is not None:
        return domain.engaged
    if claim.sensitive:
        return "a larger entitlement, or less work of its neighbours"
    return f"evidence of a gain above {min_gain:g} while its vCPUs wait for pCPUs"
