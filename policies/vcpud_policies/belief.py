"""What is believed of a domain, and how readings and verdicts change that.

Units: amounts of processor are pCPUs; `cost_ratio` is progress without contention over progress
with it, at the same use of the processor, minus 1: 0 is indifferent, 9 is ten times faster alone.

Problem
    What contention costs a guest cannot be read anywhere. Waiting for locks hints at it, so does a
    guest that makes less of its share than its share is worth; both have innocent explanations.

Approach
    The prior is that contention costs nothing. A reading of the lock wait w while the domain's
    vCPUs wait for pCPUs says at most w / (1 - w), less what it waits when they do not (its own
    contention). What it makes of its entitlement bounds the gain from above, whatever it says. That
    bound has two factors: that it gets less than it is entitled to while it waits for it, which the
    host itself has counted, and that what it gets is worth less than without contention, which may
    have other causes: without lock waits the second is worth half of itself, and of one that was
    never seen without contention half of its system time is taken to be its own work. Both are
    worth less with every failure. A verdict replaces guesses: what helped is proven and its cost
    measured, what did not halves the trust and waits, what could not be told only waits; but not
    for as long as that where progress has since fallen to half of what it was before the attempt,
    since then something else is the case than what was tried.

    A figure that is missing is never taken for another. What cannot be told without it is not
    believed, and of what it may have been the least is: without lock waits nothing is believed of
    locks, and whether threads go in step is not told, for a shortfall that locks do not explain looks
    like one that nobody asked locks about; without the system time all of the time that was used may
    have been the guest's own work; without run delay nothing that is short was waited for, by vCPUs
    that never sleep. What is left, and the host has counted, is still believed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vcpud.demand import DomainDemand
from vcpud.gains import MIN_GAIN_RATIO, NOISE_PCPUS, OVERWHELMING_RATIO
from vcpud_policies.evidence import (
    never_sleeps,
    seen_since,
    short_of_share,
    shortfall,
    shown_cost,
)

HINT_TRUST_RATIO = 0.5
"""That what a guest gets is worth less is as likely contention as not."""
HINT_WINDOWS = 4
"""Windows of progress in a row that show it before it counts."""
FALLEN_RATIO = 0.5
"""Progress below this share of what it was before an attempt that failed is another case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """What is believed of one domain.

    Attributes:
        home_vcpus: Active vCPUs it came with, and goes back to.
        cost_ratio: What contention costs it, from its lock waits or as measured by a verdict.
        calm_wait_ratio: Lock wait when no pCPU is waited for: its own contention.
        calm_worth_ratio: What of its use counts as progress then: what can be made of its share.
        calm_seen: Whether that was ever seen; else it is only known not to be more than all.
        trust_ratio: How far its hints are believed; halved by each move that did not help.
        proven: A verdict confirmed the cost.
        doubted: It was, but nothing of it shows now, while its vCPUs wait for pCPUs.
        refuting_windows: Windows in a row on all its vCPUs that fell short of nothing, since it was.
        in_step: It was proven of a domain that does not wait for locks: its threads wait for each
            other in user space. None where its lock waits were not read.
        seen: Whether it was ever told if its vCPUs wait for pCPUs.
        crowded_ratio: What of its entitlement it got last, on fewer vCPUs than it came with, while its
            pool is overfull: schedulers share out pCPU by pCPU, and more vCPUs get more.
        crowded_not_before_ns: Something else limits it, so that is not believed before this.
        failures: Moves in a row that did not help.
        locks_at_ns: The lock reading last learned from.
        progress_at_ns: The window of progress last learned from.
        rate_pcpus: Its progress then.
        entitled_then_pcpus: The least that it was entitled to in that window; None where not known.
        entitled_since_pcpus: And since that window was seen.
        noise_ratio: By how much its progress differs from window to window under contention, as a
            standard deviation of one window; None until two that are alike were seen.
        short_windows: Windows in a row in which it made less of its share than possible, by more than noise
            and for lack of more than the share itself where its vCPUs never sleep.
        contended_since_ns: Since when its vCPUs wait for pCPUs, None while they do not. 0 where
            it was never seen otherwise: then all that was seen of it was seen like that.
        not_before_ns: No attempt before this, as long as things are as they were at the last.
        failed_at_pcpus: Progress before the last attempt that did not help; None where not known.
        lent_not_before_ns: Not brought to its entitlement for the sake of others before this.
        lent_failures: How often that harmed it.
        owed_pcpu_s: Entitlement it went short of for want of whole vCPUs, less what it had beyond.
        short_since_ns: Since when it could use more vCPUs and there is room for them.
    """

    home_vcpus: int
    cost_ratio: float = 0.0
    calm_wait_ratio: float = 0.0
    calm_worth_ratio: float = 1.0
    calm_seen: bool = False
    trust_ratio: float = 1.0
    proven: bool = False
    doubted: bool = False
    refuting_windows: int = 0
    in_step: bool | None = False
    seen: bool = False
    crowded_ratio: float = 1.0
    crowded_not_before_ns: int = 0
    failures: int = 0
    locks_at_ns: int | None = None
    progress_at_ns: int | None = None
    rate_pcpus: float | None = None
    entitled_then_pcpus: float | None = None
    entitled_since_pcpus: float | None = None
    noise_ratio: float | None = None
    short_windows: int = 0
    contended_since_ns: int | None = None
    not_before_ns: int = 0
    failed_at_pcpus: float | None = None
    lent_not_before_ns: int = 0
    lent_failures: int = 0
    owed_pcpu_s: float = 0.0
    short_since_ns: int | None = None

    @property
    def certain(self) -> bool:
        """Whether what is believed needs no window of progress to be acted upon."""
        return self.proven and not self.doubted


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """What a domain was like before a move that was made for its own sake.

    Attributes:
        rate_pcpus: Its progress, None where not known.
        cost_ratio: What contention was believed to cost it, or measured since.
        in_step: Whether that was believed seeing that it does not wait for locks; None where that
            could not be seen.
        worth_ratio: What of its use was progress, None where not known.
        used_pcpus: Its use, None where not known.
    """

    rate_pcpus: float | None
    cost_ratio: float
    in_step: bool | None
    worth_ratio: float | None = None
    used_pcpus: float | None = None


def first(domain: DomainDemand, *, min_gain: float) -> Belief:
    """What is believed of a domain that was never seen before: that contention costs it nothing.

    Where it is already on fewer vCPUs than it came with, an earlier vcpud has left it so, and what
    it kept it had proven: to give back all of it would be the experiment, not to leave it.

    Args:
        domain: As it is now.
        min_gain: Least gain that has been acted upon.
    """
    belief = Belief(home_vcpus=domain.home_vcpus or domain.active_vcpus)
    if domain.active_vcpus >= belief.home_vcpus:
        return belief
    return replace(belief, proven=True, cost_ratio=min_gain)


def comparable(belief: Belief, domain: DomainDemand) -> bool:
    """Whether the latest window of progress was seen under the present conditions."""
    return seen_since(domain, belief.contended_since_ns)


def owed_then(then: float | None, domain: DomainDemand) -> float | None:
    """What it was entitled to all the time in its latest window of progress, and is still.

    A guest that has just begun to want more is entitled to more than it can have made before.
    """
    now = domain.entitled_pcpus
    return now if then is None or now is None else min(then, now)


def believed_cost(
    belief: Belief, domain: DomainDemand, *, beside: bool = False
) -> tuple[float, bool | None]:
    """What contention is believed to cost a domain now, and whether its threads go in step.

    Without evidence it costs nothing. Threads that wait for spinlocks take turns; where progress
    falls short and lock waits, that were read, do not show why, they wait for each other in user
    space: at barriers. Where they were not read, now or ever, that is not told: None.

    Args:
        belief: So far.
        domain: As it is now.
        beside: Somebody else of its pool is believed to be hurt.
    """
    if belief.proven:
        return belief.cost_ratio, belief.in_step
    if not comparable(belief, domain):
        return 0.0, False
    entitled = owed_then(belief.entitled_then_pcpus, domain)
    bound = shortfall(belief.calm_worth_ratio, domain, entitled)
    if bound is None:
        return 0.0, False
    wait = domain.lock_wait_ratio
    locks = 0.0 if wait is None else min(belief.cost_ratio * belief.trust_ratio, bound)
    hint, unexplained = 0.0, 0.0
    tried_in_vain = belief.failures > 0 and not _shows(domain)
    windows = 1 if beside else _enough_windows(belief, domain, entitled, bound)
    if belief.short_windows >= windows and not tried_in_vain:
        trust = 0.5**belief.failures
        short = short_of_share(domain, entitled, bound)
        unworthy = (1 + bound) / (1 + short) - 1
        if not belief.calm_seen:
            # Its system time may be contention or its own work, all of it: the middle is taken.
            system = 1.0 if domain.system_ratio is None else domain.system_ratio
            unworthy = max((1 + unworthy) * (1 - system / 2) - 1, 0.0)
        if never_sleeps(domain):
            # Whose vCPUs all run or wait to run waits for no sibling: its scheduler is merely uneven.
            bound, short = (1 + bound) / (1 + short) - 1, 0.0
        hint = trust * ((1 + short) * (1 + HINT_TRUST_RATIO * unworthy) - 1)
        unexplained = trust * HINT_TRUST_RATIO
    if wait is None:
        return hint, None
    shown = shown_cost(wait, belief.calm_wait_ratio) * belief.trust_ratio
    unexplained *= (1 + bound) / (1 + min(shown, bound)) - 1
    # What is believed of locks grows slowly; that one reading shows them tells what it waits for.
    in_step = unexplained > max(locks, shown) and not _queues(belief, domain, wait)
    return max(locks, hint), in_step


def _shows(domain: DomainDemand) -> bool:
    """Whether its progress is more than noise.

    That of a collapsed guest is not, nor that of one all of whose work is in its kernel: one attempt tells
    them apart.
    """
    return domain.progress is not None and domain.progress.rate_pcpus >= NOISE_PCPUS


def evident(belief: Belief, domain: DomainDemand) -> bool:
    """Whether more speaks for its cost than that its progress is next to nothing, which may be its nature."""
    wait = domain.lock_wait_ratio
    queues = wait is not None and shown_cost(wait, belief.calm_wait_ratio) >= MIN_GAIN_RATIO
    return belief.proven or queues or _shows(domain)


def _queues(belief: Belief, domain: DomainDemand, wait: float) -> bool:
    """Whether its vCPUs spend more than half of what all but the holder can in line for locks."""
    most = 1 - 1 / domain.active_vcpus
    return wait - belief.calm_wait_ratio > most / 2


def _enough_windows(
    belief: Belief, domain: DomainDemand, entitled: float | None, bound: float
) -> int:
    """In how many windows a shortfall must be seen to count: half as many show a collapse.

    What its use is worth must have been seen undisturbed, to tell that it has fallen to half.
    """
    fallen = (1 + bound) / (1 + short_of_share(domain, entitled, bound))
    collapsed = belief.calm_seen and fallen >= OVERWHELMING_RATIO
    return HINT_WINDOWS // 2 if collapsed else HINT_WINDOWS


def barred(belief: Belief, domain: DomainDemand, now_ns: int) -> bool:
    """Whether to wait with another attempt: one has failed, and things are as they were then.

    Going back need not lead back: vCPUs of which each had its turn together with its siblings, by
    chance or because they began together, do not fall into step again once they were moved.
    """
    if now_ns >= belief.not_before_ns:
        return False
    before, window = belief.failed_at_pcpus, domain.progress
    if before is None or window is None or not comparable(belief, domain):
        return True
    return window.rate_pcpus >= FALLEN_RATIO * before or before < NOISE_PCPUS
