"""What `adaptive` learns from the judge's verdicts on its moves.

A verdict on an exchange teaches nothing: both domains were known before; nor does one on what needed
no proof. One on a move made for a domain's own sake says what contention costs it, one on a neighbour
that lent says whether that hurt it, and whether those that went short do so no longer. One that harmed
who was not moved speaks of the whole pool.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from vcpud.demand import DomainDemand, HostDemand, Progress
from vcpud.gains import MIN_GAIN_RATIO, NOISE_PCPUS, NOISE_RATIO, SIGNIFICANT_SIGMAS
from vcpud.model import Uuid
from vcpud.plan import Outcome, Proof, Resize, Verdict
from vcpud.units import NS_PER_S
from vcpud_policies.belief import Belief, Sought
from vcpud_policies.evidence import LEAST_PCPUS, crowded
from vcpud_policies.memory import Memory

RETRY_NS = 600 * NS_PER_S
"""An attempt in vain and its undoing are two changes of a domain, and in ten minutes of constant load two is
the most that is promised. What has changed meanwhile ends the wait: see `belief.barred`."""
WORTHIER_RATIO = 1 + SIGNIFICANT_SIGMAS * math.sqrt(2) * NOISE_RATIO
"""Two windows that nothing sets apart hardly differ by so much."""
RETRY_MAX_NS = 6 * 3600 * NS_PER_S
"""Each failure in a row doubles the wait up to this, which is chosen and not measured: four attempts a day
are few for a guest that only looks sensitive, and one that has become so waits a quarter of a day."""


def heard(
    state: Memory, demand: HostDemand, verdicts: tuple[Verdict, ...], now_ns: int
) -> tuple[dict[Uuid, Belief], dict[Uuid, Sought]]:
    """Beliefs, and who still waits for a verdict, after those since the last decision."""
    known, sought = dict(state.domains), dict(state.sought)
    domains = {domain.uuid: domain for domain in demand.domains} if verdicts else {}
    for verdict in verdicts:
        known |= _beside(known, domains, verdict, now_ns)
        if verdict.move.proof in {Proof.SUM, Proof.NONE}:
            continue
        for resize in verdict.move.resizes:
            domain, belief = domains.get(resize.uuid), known.get(resize.uuid)
            if domain is None or belief is None:
                continue
            shrunk = resize.to_vcpus < resize.from_vcpus
            if resize.uuid in sought:
                was = sought.pop(resize.uuid)
                known[resize.uuid] = _for_its_own_sake(
                    belief, domain, was, verdict, resize, now_ns
                )
            elif shrunk:
                harmed = verdict.outcome is Outcome.HARMED
                known[resize.uuid] = lent(belief, harmed=harmed, now_ns=now_ns)
                pool = {d.uuid: d for d in demand.domains if d.pool == domain.pool}
                for uuid in pool.keys() & known.keys():
                    known[uuid] = relieved(known[uuid], pool[uuid], now_ns=now_ns)
    return known, sought


def _beside(
    known: Mapping[Uuid, Belief],
    domains: Mapping[Uuid, DomainDemand],
    verdict: Verdict,
    now_ns: int,
) -> dict[Uuid, Belief]:
    """Of those who share a pool with a move that harmed who was not in it."""
    moved = {resize.uuid for resize in verdict.move.resizes}
    pools = {domains[uuid].pool for uuid in moved & domains.keys()}
    learned: dict[Uuid, Belief] = {}
    for uuid, domain in domains.items() if verdict.beside else ():
        if domain.pool in pools and uuid not in moved and (belief := known.get(uuid)) is not None:
            had_pcpus = verdict.beside.get(uuid, belief.rate_pcpus)
            learned[uuid] = harmed_beside(belief, had_pcpus=had_pcpus, now_ns=now_ns)
    return learned


def _for_its_own_sake(  # noqa: PLR0913, PLR0917 - what a verdict is about
    belief: Belief,
    domain: DomainDemand,
    was: Sought,
    verdict: Verdict,
    resize: Resize,
    now_ns: int,
) -> Belief:
    """What a verdict says of one that was moved for its own sake."""
    if verdict.outcome is Outcome.UNKNOWN and verdict.kept:
        return belief
    window, after = domain.progress, None
    if window is not None and window.active_vcpus == resize.to_vcpus:
        after = window
    shrunk = resize.to_vcpus < resize.from_vcpus
    outcome = verdict.outcome
    own = verdict.gains.get(resize.uuid)
    cost = max(_measured(resize, domain.entitled_pcpus, was, after), was.cost_ratio)
    if outcome is Outcome.HELPED and shrunk and not belief.proven:
        steals = domain.steal_ratio is not None
        if (grown := _grown(resize, domain, was, after)) is not None:
            cost = grown
        elif not _gained(own, was, after, steals=steals):
            outcome = Outcome.NEUTRAL
    elif outcome is Outcome.HARMED and not shrunk and own is not None and own > -MIN_GAIN_RATIO:
        return belief  # it was another one that lost
    return judged(belief, outcome, replace(was, cost_ratio=cost), shrunk=shrunk, now_ns=now_ns)


def _grown(
    resize: Resize, domain: DomainDemand, was: Sought, after: Progress | None
) -> float | None:
    """By how much what one uses has grown on one vCPU, where that is progress; None for too little.

    All the work of one that makes next to nothing either way is in its kernel, where J does not look. On one
    vCPU there is no sibling to spin for, so that all it uses is work; on several it was no more than that. What
    it uses beyond its entitlement others happen to leave.
    """
    used, entitled = domain.used_pcpus, domain.entitled_pcpus
    unseen = (was.rate_pcpus, None if after is None else after.rate_pcpus)
    if resize.to_vcpus != 1 or any(rate is None or rate >= NOISE_PCPUS for rate in unseen):
        return None
    if used is None or entitled is None or was.used_pcpus is None:
        return None
    ratio = min(used, entitled) / max(was.used_pcpus, LEAST_PCPUS) - 1
    return ratio if ratio >= MIN_GAIN_RATIO else None


def _gained(
    gain_ratio: float | None, was: Sought, after: Progress | None, *, steals: bool
) -> bool:
    """Whether a move that helped somebody helped one that was in it for its own sake, too.

    Others may have taken of its share meanwhile: then it is enough that what it used is worth more. But
    without a steal clock that is so wherever it merely waits less. Who makes next to nothing still was not
    helped: what looks like several times of it is a tick or two of the guest's clock.
    """
    if after is not None and after.rate_pcpus < NOISE_PCPUS:
        return False
    if gain_ratio is None or gain_ratio >= MIN_GAIN_RATIO:
        return True
    if not steals or after is None or after.worth_ratio is None or was.worth_ratio is None:
        return False
    return after.worth_ratio >= WORTHIER_RATIO * was.worth_ratio


def _measured(
    resize: Resize, entitled: float | None, was: Sought, after: Progress | None
) -> float:
    """What contention cost at least, from progress on more and on fewer vCPUs."""
    before = was.rate_pcpus
    if before is None or after is None or entitled is None:
        return 0.0
    had, has = min(float(resize.from_vcpus), entitled), min(float(resize.to_vcpus), entitled)
    gained = after.rate_pcpus / max(before, LEAST_PCPUS) * had / max(has, LEAST_PCPUS)
    return (gained if resize.to_vcpus < resize.from_vcpus else 1 / max(gained, LEAST_PCPUS)) - 1


def judged(
    belief: Belief, outcome: Outcome, sought: Sought, *, shrunk: bool, now_ns: int
) -> Belief:
    """Learn from the verdict on a move that was made for this domain's own sake.

    Args:
        belief: So far.
        outcome: Of the move as a whole.
        sought: What was believed before, with what was measured since.
        shrunk: It was given fewer vCPUs. More of them say something new only where they harm.
        now_ns: Now.
    """
    if not shrunk and outcome is not Outcome.HARMED:
        return belief
    if not shrunk or outcome is Outcome.HELPED:
        return replace(
            belief,
            proven=True,
            refuting_windows=0,
            in_step=sought.in_step,
            failures=0,
            trust_ratio=1.0,
            not_before_ns=0,
            failed_at_pcpus=None,
            cost_ratio=max(belief.cost_ratio, sought.cost_ratio),
        )
    if outcome is Outcome.UNKNOWN:
        # That nothing could be told is no evidence against what is believed: it only waits.
        return replace(
            belief,
            not_before_ns=now_ns + RETRY_NS,
            failed_at_pcpus=sought.rate_pcpus,
            short_windows=0,
        )
    pause_ns = min(RETRY_NS << min(belief.failures, 10), RETRY_MAX_NS)
    return replace(
        belief,
        proven=False,
        failures=belief.failures + 1,
        trust_ratio=belief.trust_ratio / 2,
        not_before_ns=now_ns + pause_ns,
        failed_at_pcpus=sought.rate_pcpus,
        short_windows=0,
    )


def harmed_beside(belief: Belief, *, had_pcpus: float | None, now_ns: int) -> Belief:
    """Learn from a move of others in the pool that harmed somebody who was not in it.

    It spoke of the pool as much as of those moved, so to try the same with the next one is an attempt
    that has failed. What was seen meanwhile says nothing of how things are without it.

    Args:
        belief: So far.
        had_pcpus: Its progress before.
        now_ns: Now.
    """
    if belief.proven:
        return belief
    sought = Sought(rate_pcpus=had_pcpus, cost_ratio=0.0, in_step=False)
    belief = judged(belief, Outcome.HARMED, sought, shrunk=True, now_ns=now_ns)
    since_ns = None if belief.contended_since_ns is None else now_ns
    return replace(belief, contended_since_ns=since_ns)


def relieved(belief: Belief, domain: DomainDemand, *, now_ns: int) -> Belief:
    """Learn from a verdict on neighbours that made room: who still goes short is not crowded."""
    ratio = crowded(domain)
    if belief.crowded_ratio == 1 or ratio is None or ratio == 1:
        return belief
    return replace(belief, crowded_ratio=1.0, crowded_not_before_ns=now_ns + RETRY_NS)


def lent(belief: Belief, *, harmed: bool, now_ns: int) -> Belief:
    """Learn from a move that brought this domain to its entitlement for the sake of others."""
    if not harmed:
        return belief if belief.lent_failures == 0 else replace(belief, lent_failures=0)
    pause_ns = min(RETRY_NS << min(belief.lent_failures, 10), RETRY_MAX_NS)
    return replace(
        belief, lent_failures=belief.lent_failures + 1, lent_not_before_ns=now_ns + pause_ns
    )
