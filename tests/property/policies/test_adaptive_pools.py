"""What holds of every move of `adaptive`, on pools that stay as they are for long enough to see some."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from vcpud.demand import DomainDemand, HostDemand, PoolDemand, Progress, water_filled
from vcpud.model import Method, Mode, Trouble, Uuid
from vcpud.plan import Move, Outcome, Plan, Proof, Verdict
from vcpud.units import NS_PER_S
from vcpud_policies.adaptive import Adaptive
from vcpud_policies.apportion import ROUNDING_PCPUS, STICKY_PCPUS
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
    """

    pcpus: float
    guests: tuple[Guest, ...]
    outcomes: tuple[Outcome, ...] = (Outcome.HELPED,)


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


# ------------------------------------------------------------------------ that there are moves

LONG: Final = 36
"""Cycles in which a rotation may come, too: three minutes."""


def test_three_histories_of_four_move_somebody_and_in_every_way_there_is() -> None:
    """Else what the other properties say would be said of nothing."""
    histories: list[list[Move]] = []

    @given(pools())
    @settings(max_examples=150, derandomize=True, database=None, phases=[Phase.generate])
    def play(pool: Pool) -> None:
        turns = played(pool, cycles=LONG)
        histories.append([move for turn in turns for move in turn.plan.moves])

    play()
    assert sum(map(bool, histories)) >= 0.75 * len(histories)
    assert {move.proof for moves in histories for move in moves} == set(Proof)
    resizes = [one for moves in histories for move in moves for one in move.resizes]
    assert any(one.to_vcpus > one.from_vcpus for one in resizes)
    assert any(one.due_pcpus is not None for one in resizes), "a neighbour lends"


# ------------------------------------------------------------------------------- a function


@given(pools(), st.data())
@settings(max_examples=40)
def test_no_order_in_which_domains_are_told_changes_what_any_of_them_gets(
    pool: Pool, data: st.DataObject
) -> None:
    """Nor what is remembered; twins are told apart by UUID."""
    turns = played(pool, cycles=16)
    shuffled = replace(pool, guests=tuple(data.draw(st.permutations(pool.guests))))
    for turn, again in zip(turns, played(shuffled, cycles=16), strict=True):
        assert targets(again.plan) == targets(turn.plan)
        assert again.after == turn.after


@given(pools())
@settings(max_examples=30)
def test_the_same_arguments_give_the_same_decision_and_are_left_as_they_were(pool: Pool) -> None:
    for turn in played(pool, cycles=16):
        given_ = (turn.before, turn.demand, turn.verdicts, turn.now_ns)
        kept = copy.deepcopy(given_)
        after, plan = POLICY.decide(*given_)
        assert (after, plan) == (turn.after, turn.plan)
        assert given_ == kept


@given(pools(), st.integers(1, 15))
@settings(max_examples=30)
def test_what_was_stored_and_read_again_goes_on_as_if_it_had_not_been(
    pool: Pool, cycle: int
) -> None:
    left = iter(range(cycle + 1))

    def stored(state: Memory) -> Memory:
        if next(left, None) != cycle:
            return state
        again: Memory = pickle.loads(pickle.dumps(state))  # noqa: S301 - our own
        assert again == state
        return again

    for turn, plain in zip(
        played(pool, cycles=16, kept=stored), played(pool, cycles=16), strict=True
    ):
        assert (turn.after, turn.plan) == (plain.after, plain.plan)


# ---------------------------------------------------------------------------------- bounds


@given(pools())
@settings(max_examples=60)
def test_nobody_leaves_its_bounds_is_moved_against_its_terms_or_goes_below_its_share_for_others(
    pool: Pool,
) -> None:
    terms = {one.uuid: one for one in pool.guests}
    for turn in played(pool, cycles=LONG):
        there = {domain.uuid: domain for domain in turn.demand.domains}
        resizes = [one for move in turn.plan.moves for one in move.resizes]
        assert len({one.uuid for one in resizes}) == len(resizes), "one move a domain"
        for resize in resizes:
            domain, guest = there[resize.uuid], terms[resize.uuid]
            assert domain.hold is None
            assert domain.engaged is None
            assert resize.from_vcpus == domain.active_vcpus != resize.to_vcpus
            assert guest.floor <= resize.to_vcpus <= guest.vcpus
            if resize.to_vcpus < resize.from_vcpus:
                assert guest.method is Method.AGENT
            if guest.cost == 0 and guest.worth > WHOLE and guest.mode is Mode.ENFORCE:
                share = turn.after.pools["host"].entitled[guest.uuid]
                assert resize.to_vcpus >= min(0.97 * share, guest.vcpus)


WHOLE: Final = 0.9
"""Worth of use that nobody mistakes for a shortfall."""


@given(pools())
@settings(max_examples=60)
def test_what_is_granted_where_somebody_is_spared_fits_the_pool(pool: Pool) -> None:
    """Reckoned from the plan and from what the guests would keep busy; or it could not be made to fit."""
    room = math.floor(pool.pcpus + ROUNDING_PCPUS + STICKY_PCPUS) + ROUNDING_PCPUS + STICKY_PCPUS
    for cycle, turn in enumerate(played(pool, cycles=16)):
        granted = {d.uuid: d.active_vcpus for d in turn.demand.domains} | targets(turn.plan)
        for move in turn.plan.moves:
            own = [one for one in move.resizes if one.due_pcpus is None]
            if move.proof is not Proof.GAIN or all(granted[one.uuid] == 1 for one in own):
                continue
            busy = sum(occupied(one, granted[one.uuid], cycle) for one in pool.guests)
            assert busy <= room or cannot_fit(pool, turn, room, cycle)


def occupied(guest: Guest, vcpus: int, cycle: int) -> float:
    return min(guest.wants(vcpus, cycle), guest.most(vcpus))


def cannot_fit(pool: Pool, turn: Turn, room: float, cycle: int) -> bool:
    """Whether what may not be taken from anybody is more than there is."""
    there = {domain.uuid: domain for domain in turn.demand.domains}
    moved = targets(turn.plan)
    least = 0.0
    for guest in pool.guests:
        domain = there[guest.uuid]
        share = turn.after.pools["host"].entitled[guest.uuid]
        if guest.uuid not in moved:
            few = domain.active_vcpus
        elif guest.cost > 0:
            few = guest.floor
        else:
            few = max(guest.floor, math.ceil(share))
        least += occupied(guest, few, cycle)
    return least > room - 1


# ------------------------------------------------------------------------- what is not told

soon_or_late = st.sampled_from([1, 2, 3, 4, 10, 12])
"""Before anything is done, while it is, or when all is."""


@pytest.mark.parametrize("figure", FIGURES)
@given(pool=pools(), cycle=soon_or_late, data=st.data())
@settings(max_examples=40)
def test_nothing_is_taken_without_a_figure_where_nothing_would_be_with_some_value_of_it(
    figure: str, pool: Pool, cycle: int, data: st.DataObject
) -> None:
    """Else that nothing is known would have been taken for something.

    Of one domain one figure is missing from some moment on. What is taken from others then, too, can
    depend on it: among several that are hurt it says which of them can do with one vCPU less.
    """
    last = played(pool, cycles=cycle)[-1]
    ours = data.draw(st.sampled_from(last.demand.domains))
    if first_number(last, ours, figure, None) < ours.active_vcpus:
        for value in FIGURES[figure]:
            assert first_moves(last, ours, figure, value), f"nothing is done with {figure} {value}"


@pytest.mark.parametrize("figure", FIGURES)
@given(pool=pools(others_hurt=False), cycle=soon_or_late)
@settings(max_examples=80)
def test_nobody_is_taken_further_without_a_figure_than_with_any_value_of_it(
    figure: str, pool: Pool, cycle: int
) -> None:
    """Where one is hurt alone: among several it depends on the others who gets the last vCPU."""
    last = played(pool, cycles=cycle)[-1]
    ours = next(one for one in last.demand.domains if one.uuid == pool.guests[0].uuid)
    blind = first_number(last, ours, figure, None)
    if blind < ours.active_vcpus or last.after.domains[ours.uuid].proven:
        for value in FIGURES[figure]:
            told = first_number(last, ours, figure, value)
            least, most = sorted((ours.active_vcpus, told))
            assert least <= blind <= most, f"{blind}, but {told} with {figure} {value}"


def first_number(last: Turn, ours: DomainDemand, figure: str, value: float | None) -> int:
    """vCPUs it is brought to first of all if this is told of it; what it has if it is not moved."""
    plans = told_on(last, ours, figure, value)
    numbers = (targets(plan).get(ours.uuid) for plan in plans)
    return next((number for number in numbers if number is not None), ours.active_vcpus)


def first_moves(
    last: Turn, ours: DomainDemand, figure: str, value: float | None
) -> tuple[Move, ...]:
    """The first of all moves in its pool if this is told of it."""
    return next((plan.moves for plan in told_on(last, ours, figure, value) if plan.moves), ())


def told_on(last: Turn, ours: DomainDemand, figure: str, value: float | None) -> Iterator[Plan]:
    """What is planned next if things stay as they are and of one domain this is told."""
    state = last.after
    for later in range(1, 9):
        now_ns = last.now_ns + later * CYCLE_S * NS_PER_S
        domains = tuple(
            later_on(domain, now_ns, {figure: value} if domain.uuid == ours.uuid else {})
            for domain in last.demand.domains
        )
        state, plan = POLICY.decide(state, replace(last.demand, domains=domains), (), now_ns)
        yield plan


def later_on(
    domain: DomainDemand, now_ns: int, figures: Mapping[str, float | None]
) -> DomainDemand:
    """The same domain with the next window of the same progress."""
    window = domain.progress
    if window is not None:
        window = replace(
            window,
            began_at_ns=now_ns - CYCLE_S * NS_PER_S,
            ended_at_ns=now_ns,
            active_vcpus=domain.active_vcpus,
        )
    same = replace(domain, progress=window, lock_wait_at_ns=now_ns)
    return replace(same, **figures)  # type: ignore[arg-type]
