"""Domains that are alike take turns on different numbers of vCPUs."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory.compare.scripted import TURN_NS, in_turn

TWO, THREE, FOUR = (("a1", "a2"), ("b1", "b2", "b3"), ("c1", "c2", "c3", "c4"))


def spent(groups: tuple[tuple[str, ...], ...], until_s: int) -> dict[str, Counter[int]]:
    """Seconds that each domain has each number of vCPUs."""
    counts = {name: place + 1 for group in groups for place, name in enumerate(group)}
    script = in_turn(counts, groups, until_s * NS_PER_S)
    ends = [*(from_ns for from_ns, _ in script), until_s * NS_PER_S]
    found: dict[str, Counter[int]] = {name: Counter() for name in counts}
    for (begin_ns, end_ns), (_, now) in zip(itertools.pairwise(ends), script, strict=True):
        for name, count in now:
            found[name][count] += (end_ns - begin_ns) // NS_PER_S
    return found


@pytest.mark.parametrize(
    ("groups", "until_s"), [((TWO, THREE), 1_080), ((TWO, FOUR), 600), ((TWO, THREE, FOUR), 1_920)]
)
def test_each_has_each_number_for_as_long_whatever_the_size_of_its_group(
    groups: tuple[tuple[str, ...], ...], until_s: int
) -> None:
    found = spent(groups, until_s)
    for group in groups:
        for name in group:
            assert found[name] == dict.fromkeys(range(1, len(group) + 1), until_s // len(group))
    turns = in_turn(dict.fromkeys(found, 1), groups, until_s * NS_PER_S)
    assert all(b - a >= TURN_NS for (a, _), (b, _) in itertools.pairwise(turns))


def test_where_that_would_take_turns_too_short_the_largest_group_gets_round() -> None:
    found = spent((TWO, THREE), 600)
    assert found["b1"] == {1: 200, 2: 200, 3: 200}
    assert found["a1"] == {1: 400, 2: 200}
