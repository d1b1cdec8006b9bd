"""The worst results are told with whose they are and why."""

from __future__ import annotations

import dataclasses

from unit.simulator.compare.made_up import card, made
from vcpud_simulator.laboratory.compare import worst


def test_what_nobody_can_see_is_told_among_the_floors_alone() -> None:
    cards = [card("x", 0.9, floor=0.99), card("y", 0.1, tags=("blind",), floor=0.5)]
    assert [one.scenario for one in worst.furthest_from_oracle(cards, "p")] == ["x"]
    lowest = worst.lowest_floors(cards, "p")
    assert [(one.scenario, one.share) for one in lowest] == [("y", 0.5), ("x", 0.99)]
    assert lowest[0].cause.startswith("nothing shows what matters there")


def test_ten_are_told_worst_first() -> None:
    cards = [card(f"s{number}", number / 100) for number in range(30, 0, -1)]
    found = worst.furthest_from_oracle(cards, "p")
    assert [one.share for one in found] == [number / 100 for number in range(1, 11)]


def test_a_cause_says_what_was_done_and_what_would_have_been_right() -> None:
    [one] = worst.furthest_from_oracle([card("x", 0.5)], "p")
    assert one.domain == "a"
    assert one.cause == (
        "2 changes a run in all, 0.5 of the decisions harmed; a ended on 3 vCPUs; as the run tells; "
        "the oracle has a 1"
    )
    idle = dataclasses.replace(card("x", 0.5), policies={"p": made(0.5, changes=0)})
    [one] = worst.furthest_from_oracle([idle], "p")
    assert one.cause.startswith("nothing was changed")
    assert worst.lines([one], [idle]) == [f"  0.500 x (cfs), a: {one.cause}"]
