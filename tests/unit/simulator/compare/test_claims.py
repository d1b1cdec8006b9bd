"""What is claimed is judged by what can judge it, and can fail."""

from __future__ import annotations

import dataclasses

import pytest

from unit.simulator.compare.made_up import card, made
from vcpud_simulator.laboratory.compare.claims import DRAWN, Extent, claims
from vcpud_simulator.laboratory.compare.scores import Card
from vcpud_simulator.laboratory.compare.verdict import Verdict


def rivals(  # noqa: PLR0913 - all but two by name
    own: float,
    other: float,
    *,
    kind: str = "kernel_lock",
    floor: float = 1.0,
    changes: int = 2,
    constant: bool = True,
    tags: tuple[str, ...] = (),
) -> Card:
    return dataclasses.replace(
        card("x", own, kind=kind, tags=tags),
        policies={"adaptive": made(own, floor, changes), "other": made(other)},
        constant=constant,
    )


def verdicts(*cards: Card, extent: Extent = Extent.WHOLE) -> dict[str, Verdict]:
    return {one.key: one.verdict for one in claims(cards, ["other", "adaptive"], extent)}


def failed(*cards: Card, extent: Extent = Extent.WHOLE) -> set[str]:
    return {
        key for key, one in verdicts(*cards, extent=extent).items() if one is Verdict.FAILS
    }  # fmt: skip


def test_claims_are_held_against_the_oracle_the_floors_and_the_best_other() -> None:
    good = verdicts(rivals(0.98, 0.97))
    assert set(good.values()) == {Verdict.HOLDS}
    assert set(good) == {
        "mean", "least", "floor", "steady", "behind-kernel_lock", "ahead-kernel_lock",
    }  # fmt: skip
    assert failed(rivals(0.90, 0.5)) == {"mean"}
    assert failed(rivals(0.84, 0.5)) == {"mean", "least"}
    assert failed(rivals(0.99, 0.5, floor=0.96)) == {"floor"}


def test_where_it_matters_not_being_behind_is_not_enough() -> None:
    assert failed(rivals(0.955, 0.955)) == {"ahead-kernel_lock"}
    assert failed(rivals(0.96, 0.90)) == set()
    assert failed(rivals(0.96, 0.99)) == {"behind-kernel_lock", "ahead-kernel_lock"}
    assert failed(rivals(0.96, 0.96, kind="insensitive")) == set()


def test_constant_load_calls_for_two_changes_of_a_domain_and_no_more() -> None:
    assert failed(rivals(0.99, 0.5, changes=3)) == {"steady"}
    assert failed(rivals(0.99, 0.5, changes=3, constant=False)) == set()


@pytest.mark.parametrize(
    ("extent", "judged"),
    [
        (Extent.PART, {"least", "floor", "steady"}),
        (Extent.QUICK, {"least", "floor"}),
        (Extent.CUT, set()),
    ],
)
def test_what_was_not_run_whole_judges_only_what_it_can(extent: Extent, judged: set[str]) -> None:
    ruined = rivals(0.1, 0.9, floor=0.1, changes=9)
    found = verdicts(ruined, extent=extent)
    assert failed(ruined, extent=extent) == judged
    assert {found[key] for key in set(found) - judged} == {Verdict.OPEN}


def test_of_what_nobody_can_see_only_floors_and_steadiness_are_claimed() -> None:
    assert set(verdicts(rivals(0.1, 0.5, tags=("blind",)))) == {"floor", "steady"}


def test_drawn_scenarios_are_judged_by_percentiles_and_only_where_there_are_enough() -> None:
    cards = [rivals(0.9, 0.5) for _ in range(DRAWN - 3)]
    cards += [rivals(0.1, 0.5, floor=0.1) for _ in range(3)]
    assert verdicts(*cards, extent=Extent.DRAWN) == {
        "drawn": Verdict.HOLDS,
        "drawn-floor": Verdict.FAILS,
    }
    few = verdicts(*cards[-20:], extent=Extent.DRAWN)
    assert set(few.values()) == {Verdict.OPEN}


def test_drawn_scenarios_that_nobody_can_see_count_for_the_floors_alone() -> None:
    cards = [rivals(0.9, 0.5) for _ in range(DRAWN // 2)]
    cards += [rivals(0.1, 0.5, tags=("blind",)) for _ in range(DRAWN // 2)]
    assert failed(*cards, extent=Extent.DRAWN) == set()


def test_nothing_is_claimed_of_others() -> None:
    assert claims([card("x", 0.1)], ["p"]) == []


def test_what_was_told_apart_from_chance_is_said_with_what_it_was_before() -> None:
    def said(card: Card) -> str:
        return next(
            one.text for one in claims([card], ["adaptive"], Extent.WHOLE) if one.key == "floor"
        )

    plain = rivals(0.99, 0.5, floor=0.98)
    assert "chance" not in said(plain)
    unlucky = dataclasses.replace(plain.policies["adaptive"], over_floor_at_first=0.94)
    told = dataclasses.replace(plain, policies={**plain.policies, "adaptive": unlucky})
    assert said(told).endswith("chance told apart (before: 0.940)")
    assert failed(told) == set()
