"""What holds of every move of `adaptive`, on pools that stay as they are for long enough to see some."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fakes.contended import (
    CYCLE_S,
    FIGURES,
    POLICY,
    Guest,
    Pool,
    Turn,
    played,
    pools,
    targets,
)
from vcpud.demand import DomainDemand
from vcpud.model import Method, Mode
from vcpud.plan import Move, Plan, Proof
from vcpud.units import NS_PER_S
from vcpud_policies.apportion import ROUNDING_PCPUS, STICKY_PCPUS
from vcpud_policies.memory import Memory

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


@given(pools())
@settings(max_examples=60)
def test_where_weight_counts_per_vcpu_all_give_up_the_same_part_or_nobody_any(pool: Pool) -> None:
    homes = {one.uuid: one.vcpus for one in pool.guests}
    for turn in played(replace(pool, loose=True), cycles=LONG):
        granted = {d.uuid: d.active_vcpus for d in turn.demand.domains} | targets(turn.plan)
        resizes = [one for move in turn.plan.moves for one in move.resizes]
        if any(one.to_vcpus < one.from_vcpus for one in resizes):
            parts = {Fraction(granted[uuid], home) for uuid, home in homes.items()}
            assert len(parts) == 1
            assert len(turn.plan.moves) == 1
        assert all(move.proof is not Proof.SUM for move in turn.plan.moves)


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
        # Of whom is not told what it uses it may be all.
        untold = guest.missing & {"used_pcpus", "run_delay_pcpus"}
        least += few if untold else occupied(guest, few, cycle)
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
