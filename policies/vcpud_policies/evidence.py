"""What the readings of one domain show of contention, whatever is believed of it.

Units: amounts of processor are pCPUs; a shortfall or a cost is a ratio, minus 1: 0 is none of it.

Problem
    No reading says what contention costs. Each shows one side of it, of what is there now, and some
    of them are missing.

Approach
    Each question is answered from the readings alone. How far an answer is trusted, what is learned
    from it, and what is believed where a reading that it needs is missing, is up to `belief`.
"""

from __future__ import annotations

from vcpud.demand import DomainDemand
from vcpud.units import NS_PER_S

WORST_WAIT_RATIO = 0.98
"""A wait longer than this cannot be told from a longer one: cost is believed up to 49."""
CALM_DELAY_RATIO = 0.05
"""Run delay per active vCPU below which a host does not stand in the way."""
LEAST_PCPUS = 1e-3
"""Progress below this cannot be told from none."""
SATURATED_RATIO = 0.9
"""A guest that keeps so much of its vCPUs busy, or waiting to be, could use more, and waits for no sibling."""
UNCROWDED_RATIO = 0.9
"""Who gets so much of its share has it."""
WORKING_RATIO = 0.1
"""Who uses less of its share than this is idle: most of that may be its agent, answering (`vcpud.thrift`)."""
SHOWS_NS = 2 * NS_PER_S
"""What a guest reports shows contention that has lasted for so long: two fifths of five seconds, in which it
reports by default, were under it."""


def seen_since(domain: DomainDemand, since_ns: int | None) -> bool:
    """Whether its latest window of progress was seen since then, on what it has now."""
    window = domain.progress
    return (
        window is not None
        and since_ns is not None
        and window.began_at_ns >= since_ns
        and window.active_vcpus == domain.active_vcpus
    )


def undisturbed(domain: DomainDemand) -> bool:
    """Whether it was read that its vCPUs hardly wait for pCPUs."""
    delay = domain.run_delay_pcpus
    return delay is not None and delay < CALM_DELAY_RATIO * domain.active_vcpus


def at_work(domain: DomainDemand) -> bool:
    """Whether in its latest window of progress it used enough for what that was worth to say something.

    What an idle guest does besides is not the work that contention would cost, and nearly all in its kernel.
    """
    window, entitled = domain.progress, domain.entitled_pcpus
    if window is None or entitled is None:
        return False
    # None where none of it was progress: then what it uses now is the nearest to know.
    used = domain.used_pcpus if window.used_pcpus is None else window.used_pcpus
    return used is not None and used >= WORKING_RATIO * min(entitled, float(domain.active_vcpus))


def never_sleeps(domain: DomainDemand) -> bool:
    """Whether all its vCPUs run or wait to; as far as is known, for who sleeps was seen to."""
    used, delay = domain.used_pcpus, domain.run_delay_pcpus
    if used is None or delay is None:
        return True
    return used + delay > SATURATED_RATIO * domain.active_vcpus


def blameless(
    domain: DomainDemand, *, calm_wait: float, worth: float, since_ns: int | None, min_gain: float
) -> bool:
    """Whether contention has lasted, and nothing that is read shows that vCPUs wait for their siblings.

    All of them run or wait to, none for a lock, and what is used is worth what it is undisturbed. What was
    not read may be what it is not told by.

    Args:
        domain: As it is now.
        calm_wait: Its lock wait when undisturbed.
        worth: What of its use counts as progress then.
        since_ns: Since when its vCPUs wait for pCPUs; None while they do not.
        min_gain: Least cost that counts.
    """
    window, wait, read_at_ns = domain.progress, domain.lock_wait_ratio, domain.lock_wait_at_ns
    if since_ns is None or window is None or wait is None or read_at_ns is None:
        return False
    if domain.used_pcpus is None or window.worth_ratio is None:
        return False
    return (
        min(read_at_ns, window.ended_at_ns) >= since_ns + SHOWS_NS
        and shown_cost(wait, calm_wait) < min_gain
        and window.worth_ratio * (1 + min_gain) > worth
        and never_sleeps(domain)
    )


def crowded(domain: DomainDemand) -> float | None:
    """What of its entitlement it gets while it waits for more; 1 where that is hardly less than all."""
    used, delay, entitled = domain.used_pcpus, domain.run_delay_pcpus, domain.entitled_pcpus
    if used is None or delay is None or entitled is None:
        return None
    due = min(float(domain.active_vcpus), entitled, used + delay)
    got = used / max(due, LEAST_PCPUS)
    return max(got, LEAST_PCPUS) if got < UNCROWDED_RATIO else 1.0


def shown_cost(wait: float, calm: float) -> float:
    """The cost that one reading of lock waits shows, of a guest that waits so much when undisturbed."""
    excess = min(max(wait - calm, 0.0), WORST_WAIT_RATIO)
    return excess / (1 - excess)


def shortfall(worth: float, domain: DomainDemand, entitled_pcpus: float | None) -> float | None:
    """How much more it could make of its entitlement than it makes, at most: a ratio from 0.

    Args:
        worth: What of its use counts as progress when it is undisturbed, or 1.
        domain: As it is now.
        entitled_pcpus: What it was entitled to while it made what it made; None where that is not known.
    """
    if domain.progress is None or entitled_pcpus is None:
        return None
    most = min(entitled_pcpus, float(domain.active_vcpus)) * worth
    return max(most / max(domain.progress.rate_pcpus, LEAST_PCPUS) - 1, 0.0)


def short_of_share(domain: DomainDemand, entitled_pcpus: float | None, bound: float) -> float:
    """What part of a shortfall is processor time that it is entitled to, waits for, and lacks.

    Args:
        domain: As it is now.
        entitled_pcpus: What it was entitled to while it made what it made; None where that is not known.
        bound: The whole of the shortfall.
    """
    window, delay = domain.progress, domain.run_delay_pcpus
    if window is None or not window.worth_ratio or entitled_pcpus is None:
        return 0.0
    used = max(window.rate_pcpus / window.worth_ratio, LEAST_PCPUS)
    due = min(entitled_pcpus, float(domain.active_vcpus))
    if delay is not None:
        due = min(due, used + delay)
    return min(max(due / used - 1, 0.0), bound)


def beyond_share(domain: DomainDemand, entitled_pcpus: float | None, bound: float) -> float:
    """What of a shortfall may be due to siblings that are waited for.

    Whose vCPUs all run or wait to run waits for none: that it lacks processor time is due to an uneven scheduler.

    Args:
        domain: As it is now.
        entitled_pcpus: What it was entitled to while it made what it made; None where that is not known.
        bound: The whole of the shortfall.
    """
    if not never_sleeps(domain):
        return bound
    return (1 + bound) / (1 + short_of_share(domain, entitled_pcpus, bound)) - 1
