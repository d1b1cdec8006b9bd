"""Pools that stay as they are for long enough that `adaptive` moves somebody, played cycle by cycle.

Problem: what a policy does with figures that jump from cycle to cycle says nothing of its moves,
because it makes none. Approach: guests are drawn once, what they show follows from the vCPUs that they
have been given, and every move is judged, kept or undone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hypothesis import strategies as st

from vcpud.demand import DomainDemand, HostDemand, PoolDemand, Progress, water_filled
from vcpud.model import Method, Mode, Trouble, Uuid
from vcpud.plan import Move, Outcome, Plan, Proof, Verdict
from vcpud.units import NS_PER_S
from vcpud_policies.adaptive import Adaptive
from vcpud_policies.apportion import ROUNDING_PCPUS
from vcpud_policies.memory import Memory

POLICY: Final = Adaptive()
CYCLE_S: Final = 5
"""One decision for each reading of the guests: nothing else changes in between."""
TRIAL_CYCLES: Final = 2
"""So long a move is on trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A domain whose load stays the same.

    Attributes:
        uuid: The key, and what ties are broken by.
        vcpus: Active vCPUs it came with, one thread for each that has work.
        floor: Its owner's least.
        ceiling_pcpus: Its owner's cap.
        weight: Its share.
        threads: How many vCPUs it keeps busy where it can.
        worth: What of its use is progress when nothing is contended.
        cost: What contention costs it while it has a sibling to wait for.
        locks: That shows as lock waits.
        missing: Figures that its platform does not report.
        mode: What may be done.
        method: How.
        hold: Why nothing may be decided.
        idle: The first cycle in which it has nothing more to do, and the first in which it has again.
    """

    uuid: Uuid
    vcpus: int
    floor: int = 1
    ceiling_pcpus: float | None = None
    weight: int = 1
    threads: float = 64.0
    worth: float = 0.95
    cost: float = 0.0
    locks: bool = False
    missing: frozenset[str] = frozenset()
    mode: Mode = Mode.ENFORCE
    method: Method = Method.AGENT
    hold: Trouble | None = None
    idle: tuple[int, int] = (1000, 1000)

    def wants(self, vcpus: int, cycle: int = 0) -> float:
        begins, ends = self.idle
        return 0.0 if begins <= cycle < ends else min(self.threads, float(vcpus))

    def most(self, vcpus: int) -> float:
        return float(vcpus) if self.ceiling_pcpus is None else min(vcpus, self.ceiling_pcpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Guests that share pCPUs, and how moves of theirs are judged.

    Attributes:
        pcpus: What there is for them.
        guests: In the order in which they are reported.
        outcomes: Of one move after the other, and then from the first again.
        loose: Weights count per vCPU, and cannot be set.
    """

    pcpus: float
    guests: tuple[Guest, ...]
    outcomes: tuple[Outcome, ...] = (Outcome.HELPED,)
    loose: bool = False


FIGURES: Final[Mapping[str, tuple[float, ...]]] = {
    "used_pcpus": (0.0, 0.5, 1.0, 3.0),
    "run_delay_pcpus": (0.0, 0.1, 1.0, 3.0, 6.0),
    "entitled_pcpus": (0.1, 1.0, 2.5, 4.0),
    "lock_wait_ratio": (0.0, 0.05, 0.3, 0.5, 0.7, 0.98),
    "queued_tasks": (0.0, 1.0, 9.0),
    "runnable_tasks": (0.0, 2.0, 9.0),
    "system_ratio": (0.0, 0.1, 0.5, 0.9, 1.0),
    "steal_ratio": (0.0, 0.5),
    "last_delay_pcpus": (0.0, 3.0),
}
"""Each figure that may be missing, and what it might have been."""


idles = st.sampled_from([(1000, 1000)] * 3 + [(0, 5), (8, 12), (8, 1000)])


@st.composite
def pools(draw: st.DrawFn, *, others_hurt: bool = True) -> Pool:
    """A pool in which all want more than there is, and somebody that may be changed is hurt by it.

    Who comes again is a twin, which nothing but its UUID tells apart.

    Args:
        draw: Draws.
        others_hurt: Whether more than one may be.
    """
    first = Guest(
        uuid="",
        vcpus=draw(st.integers(2, 8)),
        weight=draw(st.sampled_from([1, 1, 2, 5])),
        worth=draw(st.sampled_from([0.95, 0.6])),
        cost=draw(st.sampled_from([9.0, 3.0, 1.0])),
        locks=draw(st.booleans()),
        idle=draw(idles),
    )
    kinds = [first]
    for _ in range(draw(st.integers(0 if others_hurt else 1, 2))):
        vcpus = draw(st.integers(1, 8))
        kinds.append(
            Guest(
                uuid="",
                vcpus=vcpus,
                floor=draw(st.sampled_from([1, 1, 1, min(2, vcpus), vcpus])),
                ceiling_pcpus=draw(st.sampled_from([None, None, None, vcpus / 2])),
                weight=draw(st.sampled_from([1, 1, 2, 5])),
                threads=draw(st.sampled_from([64.0, 64.0, vcpus * 0.75, 0.5])),
                worth=draw(st.sampled_from([0.95, 0.6])) if others_hurt else 0.95,
                cost=draw(st.sampled_from([9.0, 1.0, 0.3, 0.0, 0.0])) if others_hurt else 0.0,
                locks=draw(st.booleans()),
                missing=frozenset(draw(st.sampled_from([(), (), (), *[(f,) for f in FIGURES]]))),
                mode=draw(st.sampled_from([Mode.ENFORCE] * 5 + [Mode.OBSERVE])),
                method=draw(st.sampled_from([Method.AGENT] * 5 + [Method.GROW_ONLY])),
                hold=draw(st.sampled_from([None] * 6 + [Trouble.STALE, Trouble.SELF_MANAGED])),
                idle=draw(idles),
            )
        )
    count = draw(st.integers(max(len(kinds), 2), 4))
    uuids = draw(st.permutations([f"{number:032x}" for number in range(count)]))
    rest = itertools.cycle([*kinds[1:], first] if others_hurt else kinds[1:])
    there = tuple(
        replace(one, uuid=uuid)
        for one, uuid in zip([first, *itertools.islice(rest, count - 1)], uuids, strict=True)
    )
    wanted = sum(min(one.wants(one.vcpus), one.most(one.vcpus)) for one in there)
    return Pool(
        pcpus=max(wanted / draw(st.floats(1.15, 3.0)), 1.0),
        guests=there,
        outcomes=draw(
            st.sampled_from([(Outcome.HELPED,)] * 3 + [tuple(Outcome), (Outcome.NEUTRAL,)])
        ),
    )


Counts = Mapping[Uuid, tuple[int, int]]
"""Active vCPUs of each domain, and since which cycle."""


def seen(pool: Pool, counts: Counts, cycle: int) -> HostDemand:
    """What is told of a pool in one cycle."""
    now_ns = instant(cycle)
    # In one order, since sums of floats depend on it.
    guests = sorted(pool.guests, key=lambda one: one.uuid)
    wants = {one.uuid: one.wants(counts[one.uuid][0], cycle) for one in guests}
    most = {one.uuid: one.most(counts[one.uuid][0]) for one in guests}
    shares = water_filled(
        pool.pcpus,
        [
            (one.uuid, float(one.weight), min(wants[one.uuid], most[one.uuid]), most[one.uuid])
            for one in guests
        ],
    )
    crowded = sum(min(wants[uuid], most[uuid]) for uuid in wants) > pool.pcpus + ROUNDING_PCPUS
    there = []
    for one in pool.guests:
        active, since = counts[one.uuid]
        used = min(shares[one.uuid], wants[one.uuid])
        stopped = crowded or wants[one.uuid] > most[one.uuid] + ROUNDING_PCPUS
        cost = one.cost if stopped and active > 1 else 0.0
        worth = one.worth / (1 + cost)
        figures: dict[str, float] = {
            "used_pcpus": used,
            "run_delay_pcpus": wants[one.uuid] - used,
            "last_delay_pcpus": wants[one.uuid] - used,
            "entitled_pcpus": shares[one.uuid],
            "lock_wait_ratio": cost / (1 + cost) if one.locks else 0.01,
            "queued_tasks": one.wants(one.vcpus, cycle) - wants[one.uuid],
            "runnable_tasks": one.wants(one.vcpus, cycle),
            "system_ratio": 1 - worth,
            "steal_ratio": 0.0,
        }
        told = {name: value for name, value in figures.items() if name not in one.missing}
        there.append(
            DomainDemand(
                uuid=one.uuid,
                name="n",
                mode=one.mode,
                pool="host",
                weight=one.weight,
                active_vcpus=active,
                min_vcpus=one.floor,
                max_vcpus=one.vcpus,
                method=one.method,
                lock_wait_at_ns=now_ns,
                progress=Progress(
                    began_at_ns=instant(cycle - 1),
                    ended_at_ns=now_ns,
                    rate_pcpus=used * worth,
                    active_vcpus=active if since < cycle else None,
                    worth_ratio=worth,
                ),
                hold=one.hold,
                home_vcpus=one.vcpus,
                most_pcpus=one.ceiling_pcpus,
                loose=pool.loose,
                **told,  # type: ignore[arg-type]
            )
        )
    active_vcpus = sum(domain.active_vcpus for domain in there)
    host = PoolDemand(
        name="host",
        pcpus=math.ceil(pool.pcpus),
        available_pcpus=pool.pcpus,
        active_vcpus=active_vcpus,
        overcommit_ratio=active_vcpus / pool.pcpus,
        run_delay_ratio=None,
    )
    return HostDemand(window_ns=CYCLE_S * NS_PER_S, pools=(host,), domains=tuple(there))


def instant(cycle: int) -> int:
    return (1000 + CYCLE_S * cycle) * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One decision: what it was made on and what came of it."""

    before: Memory
    demand: HostDemand
    verdicts: tuple[Verdict, ...]
    now_ns: int
    after: Memory
    plan: Plan


Kept = Callable[[Memory], Memory]


def played(pool: Pool, *, cycles: int, kept: Kept = lambda state: state) -> list[Turn]:
    """A pool under the policy: what it asks for is done, judged two cycles later, and undone or kept.

    Args:
        pool: The guests.
        cycles: How many decisions.
        kept: What happens to the state from one decision to the next.
    """
    counts = {one.uuid: (one.vcpus, -1) for one in pool.guests}
    state, turns = POLICY.initial(), []
    trials: list[tuple[int, Move]] = []
    judged = 0
    for cycle in range(cycles):
        verdicts: list[Verdict] = []
        for begun, move in [trial for trial in trials if cycle - trial[0] >= TRIAL_CYCLES]:
            trials.remove((begun, move))
            outcome = pool.outcomes[judged % len(pool.outcomes)]
            judged += 1
            keep = outcome is Outcome.HELPED or move.proof is Proof.NONE
            verdicts.append(verdict_on(move, outcome, keep=keep, at_ns=instant(cycle)))
            if not keep:
                counts |= {one.uuid: (one.from_vcpus, cycle) for one in move.resizes}
        demand = engaged(seen(pool, counts, cycle), [move for _, move in trials])
        after, plan = POLICY.decide(kept(state), demand, tuple(verdicts), instant(cycle))
        turns.append(
            Turn(
                before=state,
                demand=demand,
                verdicts=tuple(verdicts),
                now_ns=instant(cycle),
                after=after,
                plan=plan,
            )
        )
        state = after
        for move in plan.moves:
            trials.append((cycle, move))
            counts |= {one.uuid: (one.to_vcpus, cycle) for one in move.resizes}
    return turns


def engaged(demand: HostDemand, trials: Sequence[Move]) -> HostDemand:
    """The same with what is on trial marked so."""
    moved = {resize.uuid for move in trials for resize in move.resizes}
    domains = tuple(
        replace(domain, engaged="on trial") if domain.uuid in moved else domain
        for domain in demand.domains
    )
    return replace(demand, domains=domains)


def verdict_on(move: Move, outcome: Outcome, *, keep: bool, at_ns: int) -> Verdict:
    return Verdict(
        decision_id="d",
        move=move,
        outcome=outcome,
        gain_ratio=None,
        kept=keep,
        at_ns=at_ns,
        detail="",
    )


def targets(plan: Plan) -> dict[Uuid, int]:
    return {resize.uuid: resize.to_vcpus for move in plan.moves for resize in move.resizes}
