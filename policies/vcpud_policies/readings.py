"""What `adaptive` learns from readings: beliefs before and after what was newly read of a domain.

Problem
    Readings come at different times, are noisy, and each is of conditions that may have ended. What
    a guest did when its cost was proven need not be what it does now.

Approach
    A reading is learned from once, and only of the conditions that it was made under: its own lock
    waits and what its use is worth are seen when nothing disturbs it, what contention costs while it
    lasts, and noise from windows that follow each other. A cost that is proven is acted upon at once,
    unless nothing of it shows: neither lock waits nor time that is worth less, of vCPUs that never
    sleep. Then windows must tell, and two on all its vCPUs that fall short of nothing end the proof.
    On fewer vCPUs nothing speaks against it: to fall short of nothing there is what it promised.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from vcpud.demand import DomainDemand, Progress
from vcpud.gains import MIN_GAIN_RATIO, NOISE_RATIO
from vcpud_policies.belief import Belief, owed_then
from vcpud_policies.evidence import (
    LEAST_PCPUS,
    at_work,
    beyond_share,
    blameless,
    crowded,
    seen_since,
    shortfall,
    shown_cost,
    undisturbed,
)

LEARN_RATIO = 0.3
"""Weight of one reading in what is believed: three agree before half is believed."""
QUEUED_LOCK_VCPUS = 2
"""With so few active vCPUs a queued lock hardly has a queue: not to see a wait says nothing."""
MOST_NOISE_RATIO = 1.0
"""Progress that differs by more is no noise: something else has begun."""
REFUTING_WINDOWS = 2
"""One may be of a guest that has not collapsed yet: that takes until a holder of a lock is preempted."""


def look(
    belief: Belief,
    domain: DomainDemand,
    *,
    contended: bool | None,
    now_ns: int,
    min_gain: float,
) -> Belief:
    """Take in what is newly read of a domain whose data is good.

    Args:
        belief: So far.
        domain: As it is now.
        contended: Its vCPUs wait for pCPUs that others of its pool use; None where not known.
        now_ns: Now.
        min_gain: Least gain that is acted upon.
    """
    news: dict[str, Any] = {}
    home = domain.home_vcpus or max(belief.home_vcpus, domain.active_vcpus)
    since_ns = None
    if contended:
        since_ns = belief.contended_since_ns
        if since_ns is None:
            since_ns = now_ns if belief.seen else 0
    seen = belief.seen or contended is not None
    if (home, since_ns, seen) != (belief.home_vcpus, belief.contended_since_ns, belief.seen):
        news = {"home_vcpus": home, "contended_since_ns": since_ns, "seen": seen}
    if contended and domain.active_vcpus < home and now_ns >= belief.crowded_not_before_ns:
        ratio = crowded(domain)
        if ratio is not None and ratio != belief.crowded_ratio:
            news["crowded_ratio"] = ratio
    if domain.lock_wait_at_ns is not None and domain.lock_wait_at_ns != belief.locks_at_ns:
        news |= _locks(belief, domain, contended=bool(contended))
    news |= _entitled(belief, domain)
    window = domain.progress
    if window is not None and window.ended_at_ns != belief.progress_at_ns:
        news |= _progress(belief, domain, window, since_ns)
        if belief.proven and since_ns is not None and domain.active_vcpus >= home:
            news |= _refuted(belief, domain, since_ns, min_gain)
    doubted = (
        belief.proven
        and domain.active_vcpus >= home
        and blameless(
            domain,
            calm_wait=belief.calm_wait_ratio,
            worth=belief.calm_worth_ratio,
            since_ns=since_ns,
            min_gain=min_gain,
        )
    )
    if doubted != belief.doubted:
        news["doubted"] = doubted
    return replace(belief, **news) if news else belief


def _entitled(belief: Belief, domain: DomainDemand) -> dict[str, Any]:
    """The least that it was entitled to since its latest window of progress was seen."""
    now, least = domain.entitled_pcpus, belief.entitled_since_pcpus
    if now is None or (least is not None and least <= now):
        return {}
    return {"entitled_since_pcpus": now}


def _locks(belief: Belief, domain: DomainDemand, *, contended: bool) -> dict[str, Any]:
    wait, cost, calm = domain.lock_wait_ratio, belief.cost_ratio, belief.calm_wait_ratio
    if wait is not None and contended:
        # Where it was given fewer vCPUs there is little left to see of what more would cost.
        spared = belief.proven and domain.active_vcpus < belief.home_vcpus
        most = shown_cost(wait, calm)
        if most > cost or (domain.active_vcpus > QUEUED_LOCK_VCPUS and not spared):
            cost += LEARN_RATIO * (most - cost)
    elif wait is not None and undisturbed(domain):
        calm += LEARN_RATIO * (wait - calm)
    return {
        "locks_at_ns": domain.lock_wait_at_ns,
        "cost_ratio": cost,
        "calm_wait_ratio": calm,
    }


def _progress(
    belief: Belief, domain: DomainDemand, window: Progress, since_ns: int | None
) -> dict[str, Any]:
    worth, seen, calm_seen = belief.calm_worth_ratio, window.worth_ratio, belief.calm_seen
    if seen is not None and since_ns is None and undisturbed(domain) and at_work(domain):
        worth = worth + LEARN_RATIO * (seen - worth) if calm_seen else seen
        calm_seen = True
    then = belief.entitled_since_pcpus
    owed = owed_then(then, domain)
    bound = shortfall(worth, domain, owed) if seen_since(domain, since_ns) else None
    short = bound is not None and beyond_share(domain, owed, bound) >= MIN_GAIN_RATIO
    return {
        "noise_ratio": _noise(belief, window, since_ns),
        "progress_at_ns": window.ended_at_ns,
        "rate_pcpus": window.rate_pcpus,
        "entitled_then_pcpus": then,
        "entitled_since_pcpus": domain.entitled_pcpus,
        "calm_worth_ratio": worth,
        "calm_seen": calm_seen,
        "short_windows": belief.short_windows + 1 if short and seen is not None else 0,
    }


def _refuted(
    belief: Belief, domain: DomainDemand, since_ns: int, min_gain: float
) -> dict[str, Any]:
    """What a window on all its vCPUs, under contention, leaves of a proof."""
    entitled = domain.entitled_pcpus
    bound = shortfall(belief.calm_worth_ratio, domain, entitled)
    if bound is None or not (seen_since(domain, since_ns) and at_work(domain)):
        return {}
    short = beyond_share(domain, entitled, bound)
    windows = belief.refuting_windows + 1 if short < min_gain else 0
    if windows < REFUTING_WINDOWS:
        return {"refuting_windows": windows}
    return {"proven": False, "cost_ratio": 0.0, "in_step": False, "refuting_windows": 0}


def _noise(belief: Belief, window: Progress, since_ns: int | None) -> float | None:
    """What is known of the noise after this window and the one before, if both are alike."""
    before = belief.rate_pcpus
    length_ns = window.ended_at_ns - window.began_at_ns
    alike = (
        before is not None
        and since_ns is not None
        and window.began_at_ns == belief.progress_at_ns
        and window.began_at_ns - length_ns >= since_ns
        and window.active_vcpus is not None
    )
    if before is None or not alike:
        return belief.noise_ratio
    # Of two windows that are alike the difference varies by sqrt(2) times as much as each.
    high, low = max(before, window.rate_pcpus), min(before, window.rate_pcpus)
    apart = math.log(max(high, LEAST_PCPUS) / max(low, LEAST_PCPUS)) / math.sqrt(2)
    known = NOISE_RATIO if belief.noise_ratio is None else belief.noise_ratio
    return math.sqrt(
        (1 - LEARN_RATIO) * known**2 + LEARN_RATIO * min(apart, MOST_NOISE_RATIO) ** 2
    )
