"""Floors, shares and harm."""

from __future__ import annotations

import dataclasses
import math

import pytest

from vcpud_simulator.laboratory.compare import scores
from vcpud_simulator.laboratory.compare.claims import claims
from vcpud_simulator.laboratory.compare.scores import Card, Score, Seeded
from vcpud_simulator.laboratory.statistics import Interval


def exact(value: float) -> Interval:
    return Interval(value=value, low=value, high=value)


def made(over_oracle: float, floor: float = 1.0) -> Score:
    return Score(
        raw_over_oracle=exact(over_oracle),
        over_unmanaged=exact(1.0),
        worst_domain_over_floor=floor,
        worst_domain="a",
        changes=2.0,
        harmed=0.5,
        examined=4,
    )


def card(
    name: str,
    over_oracle: float,
    *,
    kind: str = "dynamic",
    tags: tuple[str, ...] = (),
    floor: float = 1.0,
) -> Card:
    return Card(
        name=name,
        kind=kind,
        tags=tags,
        scheduler="cfs",
        policies={"p": made(over_oracle, floor)},
        oracle="a 1",
        exhaustive=True,
    )


def test_a_floor_is_what_a_domain_had_or_its_entitlements_share_of_it() -> None:
    found = scores.floors(
        {"greedy": 100.0, "modest": 100.0, "idle": 1.0},
        {"greedy": 3.0, "modest": 1.0, "idle": 0.0},
        {"greedy": 2.0, "modest": 2.0, "idle": 1.0},
    )
    assert found == {"greedy": pytest.approx(200 / 3), "modest": 100.0, "idle": 1.0}


def test_shares_are_weighted_geometric_means() -> None:
    share = scores.weighted({"a": 2.0, "b": 0.5}, {"a": 1.0, "b": 1.0}, {"a": 3.0, "b": 1.0})
    assert share == pytest.approx(math.exp((3 * math.log(2) + math.log(0.5)) / 4))


def test_the_worst_domain_is_found_over_all_seeds() -> None:
    seeds = [
        Seeded(
            progress={"a": 1.0, "b": factor},
            oracle={"a": 1.0, "b": 1.0},
            unmanaged={"a": 1.0, "b": 1.0},
            over_floor={"a": 1.0, "b": factor},
        )
        for factor in (0.5, 0.5)
    ]
    found = scores.score(
        seeds=seeds,
        weights={"a": 1.0, "b": 1.0},
        changes=1,
        harmed=0,
        examined=0,
        responses_ns={},
    )
    assert found.worst_domain == "b"
    assert found.worst_domain_over_floor == pytest.approx(0.5)
    assert found.over_oracle == pytest.approx(math.sqrt(0.5))
    assert found.by_domain["b"] == pytest.approx((0.5, 0.5))


def test_a_share_is_capped_at_one_and_one_far_above_accuses_the_oracle() -> None:
    assert made(1.02).over_oracle == 1.0
    assert not made(1.02).oracle_too_weak
    assert made(1.04).oracle_too_weak


def test_harm_must_be_larger_than_chance_explains() -> None:
    weights = {"a": 1.0}
    assert scores.harms({"a": 90.0}, {"a": 100.0}, weights, 60)
    assert not scores.harms({"a": 99.0}, {"a": 100.0}, weights, 60)
    assert not scores.harms({"a": 0.9}, {"a": 1.0}, weights, 10), "nine units, or ten"
    assert not scores.harms({"a": 110.0}, {"a": 100.0}, weights, 60)


def test_the_summary_leaves_out_what_nobody_can_see_but_not_from_the_floors() -> None:
    cards = [
        card("x", 0.9),
        card("y", 0.4, kind="kernel_lock", tags=("blind",), floor=0.5),
        card("z", 1.0, kind="insensitive"),
    ]
    found = scores.summary(cards, "p")
    assert found.oracle_geomean == pytest.approx(math.sqrt(0.9))
    assert found.oracle_min == 0.9
    assert found.worst_domain_over_floor == 0.5
    assert found.by_class == {"dynamic": pytest.approx(0.9), "insensitive": 1.0}
    assert found.oracle_p5 == 0.4


def test_percentiles_are_of_values_that_there_are() -> None:
    values = [float(one) for one in range(1, 201)]
    assert scores.percentile(values, 0.05) == 10
    assert scores.percentile(values, 0.01) == 2
    assert scores.percentile([3.0], 0.01) == 3


def rivals(own: float, other: float, *, kind: str = "kernel_lock", floor: float = 1.0) -> Card:
    return dataclasses.replace(
        card("x", own, kind=kind), policies={"adaptive": made(own, floor), "other": made(other)}
    )


def verdicts(*cards: Card, drawn: bool = False) -> dict[str, bool]:
    return {one.key: one.holds for one in claims(cards, ["other", "adaptive"], drawn=drawn)}


def test_claims_are_held_against_the_oracle_the_floors_and_the_best_other() -> None:
    good = verdicts(rivals(0.98, 0.97))
    assert all(good.values())
    assert set(good) == {
        "mean", "least", "floor", "behind-kernel_lock", "ahead-kernel_lock",
    }  # fmt: skip
    assert not verdicts(rivals(0.90, 0.5))["mean"]
    assert verdicts(rivals(0.90, 0.5))["least"]
    assert not verdicts(rivals(0.84, 0.5))["least"]
    assert not verdicts(rivals(0.99, 0.5, floor=0.96))["floor"]


def test_where_it_matters_not_being_behind_is_not_enough() -> None:
    close = verdicts(rivals(0.90, 0.90))
    assert close["behind-kernel_lock"]
    assert not close["ahead-kernel_lock"]
    assert verdicts(rivals(0.90, 0.80))["ahead-kernel_lock"]
    assert not verdicts(rivals(0.90, 0.95))["behind-kernel_lock"]
    assert "ahead-insensitive" not in verdicts(rivals(0.90, 0.90, kind="insensitive"))


def test_drawn_scenarios_are_judged_by_percentiles() -> None:
    cards = [rivals(0.9, 0.5) for _ in range(99)] + [rivals(0.1, 0.5, floor=0.1)]
    found = verdicts(*cards, drawn=True)
    assert found == {"drawn": True, "drawn-floor": False}


def test_nothing_is_claimed_of_others() -> None:
    assert claims([card("x", 0.1)], ["p"]) == []
