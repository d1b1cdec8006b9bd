"""Whole vCPUs for a pool: within bounds, worth as much as any others, and not moved by noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.fluid import FluidHost, Guest, constant, manage
from vcpud.demand import water_filled
from vcpud_policies.adaptive import Adaptive
from vcpud_policies.apportion import ROUNDING_PCPUS, STICKY_PCPUS, Claim, allot


@st.composite
def claims(draw: st.DrawFn) -> list[Claim]:
    count = draw(st.integers(1, 6))
    found = []
    for number in range(count):
        home = draw(st.integers(1, 16))
        active = draw(st.integers(1, home))
        found.append(
            Claim(
                uuid=f"{number}",
                weight=float(draw(st.integers(1, 1000))),
                active=active,
                least=draw(st.integers(1, home)),
                home=home,
                entitled=draw(st.floats(0.01, 16)),
                want=draw(st.floats(0, 16)),
                cost=draw(st.sampled_from([0.0, 0.2, 1.0, 9.0])),
                contended=draw(st.booleans()),
                in_step=draw(st.booleans()),
                crowded=draw(st.sampled_from([1.0, 0.67])),
                movable=draw(st.booleans()),
                lends=draw(st.booleans()),
            )
        )
    return found


@given(st.floats(0.8, 32), claims())
def test_an_allotment_keeps_to_bounds_and_to_the_pool(capacity: float, asked: list[Claim]) -> None:
    found = allot(capacity, asked)
    for claim in asked:
        got = found.vcpus[claim.uuid]
        if not claim.movable:
            assert got == claim.active
        elif got != claim.active:
            assert max(1, min(claim.least, claim.home)) <= got <= claim.home
        if claim.cost == 0 and got < claim.active:
            assert claim.lends
            assert got >= min(0.97 * claim.entitled - 1e-6, claim.home)
    hurt = [claim for claim in asked if claim.sensitive]
    slack = ROUNDING_PCPUS
    if all(found.vcpus[claim.uuid] == claim.active for claim in asked):
        slack += STICKY_PCPUS
    bound = math.floor(capacity + slack) + slack + 1e-6
    fewest = {
        claim.uuid: claim.within(1)
        if claim.sensitive
        else min(found.vcpus[claim.uuid], claim.kept)
        if claim.lends and claim.movable
        else found.vcpus[claim.uuid]
        for claim in asked
    }
    least = sum(min(fewest[claim.uuid], claim.want) for claim in asked)
    if hurt and least <= bound and any(found.vcpus[claim.uuid] > 1 for claim in hurt):
        assert sum(min(found.vcpus[claim.uuid], claim.want) for claim in asked) <= bound


@given(st.floats(0.8, 32), claims(), st.integers(1, 3), st.floats(0, 0.02))
def test_one_and_two_hundredths_is_not_two(
    capacity: float, asked: list[Claim], whole: int, beyond: float
) -> None:
    """Whoever it is and whatever others claim: what an entitlement wavers by brings no vCPU more."""
    first = replace(
        asked[0],
        entitled=whole * (1 + beyond),
        active=whole,
        least=1,
        home=16,
        movable=True,
        cost=9.0,
    )
    assert allot(capacity, [first, *asked[1:]]).vcpus[first.uuid] <= whole
    assert replace(first, cost=0.0).kept == whole


def filled(pcpus: float, asked: Sequence[tuple[int, int]]) -> list[Claim]:
    """Domains that contention hurts and that want all they have: vCPUs and weight of each."""
    wants = [
        (f"{number}", float(weight), float(vcpus), float(vcpus))
        for number, (vcpus, weight) in enumerate(asked)
    ]
    shares = water_filled(pcpus, wants)
    return [
        Claim(
            uuid=f"{number}",
            weight=float(weight),
            active=vcpus,
            least=1,
            home=vcpus,
            entitled=shares[f"{number}"],
            want=float(vcpus),
            cost=9.0,
            contended=True,
        )
        for number, (vcpus, weight) in enumerate(asked)
    ]


crowds = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from([1, 2, 3, 5, 8])), min_size=1, max_size=4
)


@given(st.floats(1, 12), crowds)
@settings(deadline=None)
def test_no_other_whole_numbers_that_fit_are_worth_more(
    pcpus: float, asked: list[tuple[int, int]]
) -> None:
    there = filled(pcpus, asked)
    found = allot(pcpus, there)
    bound = math.floor(pcpus + ROUNDING_PCPUS) + ROUNDING_PCPUS

    def worth(counts: Sequence[int]) -> float:
        return sum(
            claim.weight * math.log(min(count, claim.entitled))
            for claim, count in zip(there, counts, strict=True)
        )

    options = [
        counts
        for counts in product(*(range(1, claim.home + 1) for claim in there))
        if sum(counts) <= bound
    ]
    if options:
        assert worth([found.vcpus[claim.uuid] for claim in there]) >= (
            max(map(worth, options)) - NEGLIGIBLE * sum(claim.weight for claim in there)
        )


NEGLIGIBLE = 0.02
"""What is not followed, so that noise moves nobody: log of `FOLLOW_RATIO`."""


@given(st.floats(1, 12), crowds, st.integers(2, 4))
@settings(deadline=None)
def test_more_weight_never_means_fewer_vcpus(
    pcpus: float, asked: list[tuple[int, int]], factor: int
) -> None:
    vcpus, weight = asked[0]
    before = allot(pcpus, filled(pcpus, asked)).vcpus["0"]
    after = allot(pcpus, filled(pcpus, [(vcpus, weight * factor), *asked[1:]])).vcpus["0"]
    assert after >= before


def beside(pcpus: float, small: float, counts: tuple[int, int]) -> tuple[int, int]:
    """What a pair that contention hurts gets on these counts beside a guest that keeps so much busy."""
    entitled = (pcpus - small) / 2
    pair = [
        Claim(
            uuid=uuid,
            weight=1.0,
            active=active,
            least=1,
            home=8,
            entitled=entitled,
            want=8.0,
            cost=9.0,
            contended=False,
        )
        for uuid, active in zip("ab", counts, strict=True)
    ]
    third = replace(
        pair[0], uuid="c", active=1, home=1, entitled=small, want=small, cost=0.0, lends=True
    )
    found = allot(pcpus, [*pair, third]).vcpus
    return found["a"], found["b"]


@given(st.integers(3, 9), st.floats(0.251, 0.299))
def test_what_free_processors_and_wants_waver_by_takes_no_vcpu_and_gives_none(
    pcpus: int, small: float
) -> None:
    """Between the two bounds whatever is there stays; what goes beyond one of them is followed."""
    many, few = beside(pcpus, 0.24, (8, 8)), beside(pcpus, 0.31, (8, 8))
    assert sum(many) == sum(few) + 1
    for counts in (many, few):
        assert beside(pcpus, small, counts) == counts
    assert beside(pcpus, 0.24, few) == many
    assert beside(pcpus, 0.31, many) == few


@given(st.integers(3, 9), st.floats(0.751, 0.799))
def test_a_last_pcpu_that_is_not_wholly_there_takes_no_vcpu_and_gives_none(
    whole: int, part: float
) -> None:
    """Around three quarters of a pCPU, where the room itself is rounded."""
    pcpus = whole + part
    many, few = beside(pcpus + 0.05, 0.0, (8, 8)), beside(whole + 0.69, 0.0, (8, 8))
    assert sum(many) == sum(few) + 1
    low = whole + part - 0.05
    assert beside(low, 0.0, many) == many
    assert beside(low, 0.0, few) == few


@given(st.integers(1, 3), st.integers(1, 8), st.integers(2, 4))
@settings(max_examples=10, deadline=None)
def test_more_weight_never_means_less_on_time_average(
    guests: int, weight: int, factor: int
) -> None:
    def progress(first_weight: int) -> float:
        crowd = [
            Guest(
                name=f"g{number}",
                vcpus=4,
                weight=first_weight if number == 0 else weight,
                cost=constant(9.0),
            )
            for number in range(guests + 1)
        ]
        manage(FluidHost(*crowd, pcpus=4), Adaptive(), 120)
        return crowd[0].useful_s

    assert progress(weight * factor) >= 0.97 * progress(weight)
