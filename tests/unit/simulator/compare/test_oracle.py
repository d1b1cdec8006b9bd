"""The search finds the best assignment, and asks for no evaluation twice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcpud_simulator.laboratory.compare import oracle
from vcpud_simulator.laboratory.compare.oracle import Assignment, Contender, Found, Problem

Evaluate = Callable[[Assignment], Mapping[str, float]]


def contender(
    name: str, vcpus: int, *, least: int = 1, weight: float = 1.0, alike: str = ""
) -> Contender:
    return Contender(
        name=name,
        vcpus=vcpus,
        least=least,
        weight=weight,
        alike=alike or name,
        entitled_pcpus=vcpus / 2,
    )


def solve(
    problem: Problem, floors: Mapping[str, float], evaluate: Evaluate
) -> tuple[Found, list[Assignment]]:
    """What is found by short looks and then by long ones, and what was asked for the short ones."""
    asked: list[Assignment] = []
    going = oracle.search(problem, floors)
    try:
        batch = next(going)
        while True:
            asked += batch
            batch = going.send({one: evaluate(one) for one in batch})
    except StopIteration as end:
        few: Found = end.value
        known = {one: evaluate(one) for one in few.shortlist}
        return oracle.ranking(problem, known, floors, exhaustive=few.exhaustive), asked


def peaks(problem: Problem, best: Assignment) -> Evaluate:
    """Progress that falls with the distance from the best count."""
    return lambda here: {
        one.name: 1.0 / (1 + abs(count - top))
        for one, count, top in zip(problem.contenders, here, best, strict=True)
    }


@settings(max_examples=60)
@given(st.data())
def test_what_is_found_exhaustively_is_the_best_there_is(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    problem = Problem(contenders=tuple(contender(f"d{i}", n) for i, n in enumerate(sizes)))
    values = {
        one: data.draw(st.floats(0.1, 10.0))
        for one in itertools.product(*(range(1, n + 1) for n in sizes))
    }
    found, asked = solve(
        problem, {}, lambda here: {one.name: values[here] for one in problem.contenders}
    )
    assert found.exhaustive
    assert values[found.ranked[0]] == max(values.values())
    assert len(asked) == len(set(asked))
    assert len(asked) == (len(values) if len(values) > oracle.SHORTLIST else 0)


def test_what_a_short_look_misjudges_a_little_is_looked_at_again() -> None:
    problem = Problem(contenders=(contender("a", 8), contender("b", 8)))
    best = (3, 5)

    def true(here: Assignment) -> Mapping[str, float]:
        return {
            name: 1.0 - 0.03 * abs(count - top)
            for name, count, top in zip("ab", here, best, strict=True)
        }

    def hasty(here: Assignment) -> Mapping[str, float]:
        """Every other look says two hundredths less, which is below the floor, or more."""
        wrong = 0.98 if sum(here) % 2 == 0 else 1.02
        return {name: made * wrong for name, made in true(here).items()}

    floors = dict.fromkeys("ab", 1.02)
    going = oracle.search(problem, floors)
    asked = next(going)
    assert len(asked) == 64
    with pytest.raises(StopIteration) as end:
        going.send({one: hasty(one) for one in asked})
    few: Found = end.value.value
    assert few.ranked[0] != best
    assert len(few.shortlist) < 2 * oracle.SHORTLIST
    known = {one: true(one) for one in few.shortlist}
    assert oracle.ranking(problem, known, floors, exhaustive=True).ranked[0] == best


def test_an_ascent_reaches_a_peak_that_coordinates_lead_to() -> None:
    sizes = [8, 8, 8, 8, 8]
    problem = Problem(contenders=tuple(contender(f"d{i}", n) for i, n in enumerate(sizes)))
    assert oracle.count(problem) > oracle.MOST_EXHAUSTIVE
    best = (1, 8, 3, 5, 2)
    found, asked = solve(problem, {}, peaks(problem, best))
    assert not found.exhaustive
    assert found.ranked[0] == best
    assert len(asked) == len(set(asked)) < 2_000


def test_an_ascent_begins_at_eight_places_or_more_those_of_policies_among_them() -> None:
    given_start = (7, 7, 7, 7, 7)
    problem = Problem(
        contenders=tuple(contender(f"d{i}", 8) for i in range(5)), starts=(given_start,)
    )
    begun = oracle.starts(problem)
    assert len(begun) >= oracle.STARTS
    assert given_start in begun
    assert problem.everything in begun
    assert (4, 4, 4, 4, 4) in begun, "the entitlement"


def test_an_ascent_begins_within_bounds_so_that_who_is_fixed_stays() -> None:
    """Who steers itself is left on any number by a policy's run."""
    problem = Problem(
        contenders=(contender("own", 4, least=4), *(contender(f"d{i}", 8) for i in range(4))),
        starts=((2, 9, 0, 3, 8),),
    )
    assert oracle.starts(problem)[0] == (4, 8, 1, 3, 8)
    _, asked = solve(problem, {}, peaks(problem, (1, 3, 3, 3, 3)))
    assert {one[0] for one in asked} == {4}


def twins(*others: Contender) -> Problem:
    return Problem(
        contenders=(contender("a", 2, alike="t"), contender("b", 2, alike="t"), *others)
    )


def by_chance(here: Assignment) -> dict[str, float]:
    """Twins that have the same seem to fare unequally; those that do not gain by taking turns."""
    a, b = (1.0, 3.0) if here[0] != here[1] else (0.8, 4.2) if here == (1, 1) else (1.6, 2.0)
    return {"a": a, "b": b}


def test_turns_are_taken_only_by_who_has_not_the_same() -> None:
    known = {one: by_chance(one) for one in oracle.assignments(twins())}
    found = oracle.ranking(twins(), known, {}, exhaustive=True)
    assert found.turns == (2, 1)
    del known[2, 1]
    assert oracle.ranking(twins(), known, {}, exhaustive=True).turns is None


def test_the_best_to_take_turns_on_are_looked_at_again() -> None:
    """Of many assignments, in two thirds of which twins have the same and fare unequally."""
    problem = twins(contender("c", 8), contender("d", 8))

    def evaluate(here: Assignment) -> Mapping[str, float]:
        a, b = (0.8, 4.2) if here[0] == here[1] else (0.5, 3.9)
        return {"a": a, "b": b, "c": 1 + 0.01 * here[2], "d": 1 + 0.01 * here[3]}

    known = {one: evaluate(one) for one in oracle.assignments(problem)}
    found = oracle.ranking(problem, known, {}, exhaustive=True)
    again = [one for one in found.shortlist if oracle.uneven(problem, one)]
    assert again[0][2:] == (8, 8)
    assert len(again) == oracle.SHORTLIST


def test_no_domain_may_fall_below_its_floor_for_the_good_of_all() -> None:
    problem = Problem(contenders=(contender("a", 2), contender("b", 2)))

    def evaluate(here: Assignment) -> Mapping[str, float]:
        return {"a": 100.0, "b": 0.5} if here == (1, 1) else {"a": 1.0, "b": 1.0}

    found, _ = solve(problem, {"a": 1.0, "b": 1.0}, evaluate)
    assert found.ranked[0] != (1, 1)
    assert found.ranked[-1] == (1, 1)


def test_weights_count() -> None:
    problem = Problem(contenders=(contender("a", 1, weight=3.0), contender("b", 1)))
    _, total = oracle.merit(problem, {"a": math.e, "b": 1.0}, {})
    assert total == pytest.approx(0.75)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2))
def test_domains_that_are_alike_are_not_tried_the_other_way_round(
    alike: int, vcpus: int, others: int
) -> None:
    problem = Problem(
        contenders=(
            *(contender(f"a{i}", vcpus, alike="a") for i in range(alike)),
            *(contender(f"b{i}", 3) for i in range(others)),
        )
    )
    tried = list(oracle.assignments(problem))
    different = {
        (tuple(sorted(one[:alike])), one[alike:])
        for one in itertools.product(*(range(1, c.vcpus + 1) for c in problem.contenders))
    }
    assert len(tried) == oracle.count(problem) == len(different)
    assert {(tuple(sorted(one[:alike])), one[alike:]) for one in tried} == different


def test_a_domain_that_must_not_be_changed_is_not() -> None:
    problem = Problem(contenders=(contender("a", 4, least=4), contender("b", 2)))
    assert {one[0] for one in oracle.assignments(problem)} == {4}
