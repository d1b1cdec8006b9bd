"""What `adaptive` learns from the judge's verdicts on its moves.

A verdict on an exchange teaches nothing: both domains were known before. One on a move made for a
domain's own sake says what contention costs it, one on a neighbour that lent says whether that
hurt it, and whether those that went short do so no longer. One that harmed who was not moved speaks
of the whole pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vcpud.demand import DomainDemand, HostDemand
from vcpud.model import Uuid
from vcpud.plan import Outcome, Proof, Resize, Verdict
from vcpud_policies import belief as beliefs
from vcpud_policies.belief import Belief, Sought
from vcpud_policies.memory import Memory


def heard(
    state: Memory, demand: HostDemand, verdicts: tuple[Verdict, ...], now_ns: int
) -> tuple[dict[Uuid, Belief], dict[Uuid, Sought]]:
    """Beliefs, and who still waits for a verdict, after those since the last decision."""
    known, sought = dict(state.domains), dict(state.sought)
    domains = {domain.uuid: domain for domain in demand.domains} if verdicts else {}
    for verdict in verdicts:
        known |= _beside(known, domains, verdict, now_ns)
        if verdict.move.proof is Proof.SUM:
            continue
        for resize in verdict.move.resizes:
            domain, belief = domains.get(resize.uuid), known.get(resize.uuid)
            if domain is None or belief is None:
                continue
            shrunk = resize.to_vcpus < resize.from_vcpus
            if resize.uuid in sought:
                was = sought.pop(resize.uuid)
                window, after = domain.progress, None
                if window is not None and window.active_vcpus == resize.to_vcpus:
                    after = window.rate_pcpus
                cost = max(_measured(resize, domain.entitled_pcpus, was, after), was.cost_ratio)
                if verdict.outcome is not Outcome.UNKNOWN or not verdict.kept:
                    known[resize.uuid] = beliefs.judged(
                        belief,
                        verdict.outcome,
                        replace(was, cost_ratio=cost),
                        shrunk=shrunk,
                        now_ns=now_ns,
                    )
            elif shrunk:
                harmed = verdict.outcome is Outcome.HARMED
                known[resize.uuid] = beliefs.lent(belief, harmed=harmed, now_ns=now_ns)
                pool = {d.uuid: d for d in demand.domains if d.pool == domain.pool}
                for uuid in pool.keys() & known.keys():
                    known[uuid] = beliefs.relieved(known[uuid], pool[uuid], now_ns=now_ns)
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
            learned[uuid] = beliefs.harmed_beside(belief, had_pcpus=had_pcpus, now_ns=now_ns)
    return learned


def _measured(resize: Resize, entitled: float | None, was: Sought, after: float | None) -> float:
    """What contention cost at least, from progress on more and on fewer vCPUs."""
    before = was.rate_pcpus
    if before is None or after is None or entitled is None:
        return 0.0
    had, has = min(float(resize.from_vcpus), entitled), min(float(resize.to_vcpus), entitled)
    gained = after / max(before, beliefs.LEAST_PCPUS) * had / max(has, beliefs.LEAST_PCPUS)
    return (
        gained if resize.to_vcpus < resize.from_vcpus else 1 / max(gained, beliefs.LEAST_PCPUS)
    ) - 1
