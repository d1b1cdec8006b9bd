"""Floors, shares and harm."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from unit.simulator.compare.made_up import card, made
from vcpud_simulator.laboratory.compare import scores, summaries
from vcpud_simulator.laboratory.compare.scores import Seeded


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


def seeded(progress: float, *, floor: float = 1.0, changes: int = 0) -> Seeded:
    return Seeded(
        progress={"a": 1.0, "b": progress},
        oracle={"a": 1.0, "b": 1.0},
        unmanaged={"a": 1.0, "b": 1.0},
        over_floor={"a": 1.0, "b": floor},
        changes=changes,
        busiest={"b": changes},
        final={"b": 2},
    )


def test_domains_and_seeds_are_put_together() -> None:
    found = scores.score(
        seeds=[seeded(0.5, floor=0.5, changes=1), seeded(0.5, floor=0.5, changes=4)],
        weights={"a": 1.0, "b": 1.0},
        harmed=0,
        examined=0,
    )
    assert found.over_oracle == pytest.approx(math.sqrt(0.5))
    assert (found.changes, found.changes_in_ten_minutes) == (2.5, 4)
    one = found.by_domain["b"]
    assert (one.over_oracle, one.over_unmanaged) == pytest.approx((0.5, 0.5))
    assert (one.changes, one.final_vcpus) == (4, 2)
    assert found.by_domain["a"].final_vcpus is None


def test_what_a_domain_loses_under_one_seed_another_does_not_make_good() -> None:
    found = scores.score(
        seeds=[seeded(1.0, floor=0.93), seeded(1.0, floor=1.02)],
        weights={"a": 1.0, "b": 1.0},
        harmed=0,
        examined=0,
    )
    assert found.worst_domain == "b"
    assert found.worst_domain_over_floor == 0.93
    assert found.by_domain["b"].over_floor == 0.93
    assert found.floor_interval.low < 0.93 < found.floor_interval.value < found.floor_interval.high


def test_a_share_is_capped_at_one_and_one_far_above_accuses_the_oracle() -> None:
    assert made(1.02).over_oracle == 1.0
    assert not made(1.02).oracle_too_weak
    assert made(1.04).oracle_too_weak
    assert not replace(made(1.2), worst_domain_over_floor=0.96).oracle_too_weak, (
        "nor may the oracle"
    )


def harms(
    with_it: dict[str, float],
    without: dict[str, float],
    *,
    floors: dict[str, float] | None = None,
    span_s: float = 60,
) -> bool:
    return scores.harms(
        with_it=with_it,
        without=without,
        floors=floors or {},
        weights=dict.fromkeys(with_it, 1.0),
        span_s=span_s,
    )


def test_harm_must_be_larger_than_chance_explains() -> None:
    assert harms({"a": 90.0}, {"a": 100.0})
    assert not harms({"a": 99.0}, {"a": 100.0})
    assert not harms({"a": 0.9}, {"a": 1.0}, span_s=10), "nine units, or ten"
    assert not harms({"a": 110.0}, {"a": 100.0})


def test_the_more_is_lost_the_less_can_be_chance() -> None:
    assert harms({"a": 2 / 60, "b": 20 / 60}, {"a": 20 / 60, "b": 20 / 60}), "two units, or twenty"
    assert not harms({"a": 14 / 60, "b": 20 / 60}, {"a": 20 / 60, "b": 20 / 60})


def test_what_others_gain_does_not_make_good_that_one_was_ruined() -> None:
    before, after = {"a": 100.0, "b": 10.0}, {"a": 50.0, "b": 1_000.0}
    assert not harms(after, before)
    assert harms(after, before, floors={"a": 100.0, "b": 1.0})
    assert not harms(after, before, floors={"a": 50.0, "b": 1.0}), "it had more than its share"


def test_a_turn_that_one_gives_and_another_takes_is_no_harm() -> None:
    floors = {"a": 130.0, "b": 130.0}
    assert not harms({"a": 100.0, "b": 200.0}, {"a": 200.0, "b": 100.0}, floors=floors)


def test_the_summary_leaves_out_what_nobody_can_see_but_not_from_the_floors() -> None:
    cards = [
        card("x", 0.9),
        card("y", 0.4, kind="kernel_lock", tags=("blind",), floor=0.5),
        card("z", 1.0, kind="insensitive"),
    ]
    found = summaries.summary(cards, "p")
    assert found.oracle_geomean == pytest.approx(math.sqrt(0.9))
    assert found.oracle_min == 0.9
    assert found.worst_domain_over_floor == 0.5
    assert found.by_class == {"dynamic": pytest.approx(0.9), "insensitive": 1.0}
    assert found.oracle_p5 == pytest.approx(0.905)
    assert found.floor_p1 == pytest.approx(0.51)


def test_a_percentile_above_a_bound_leaves_at_most_so_many_in_a_hundred_below_it() -> None:
    for below, holds in ((2, True), (3, False)):
        values = [0.96] * below + [0.98] * (200 - below)
        assert (summaries.percentile(values, 0.01) >= 0.97) is holds
    for below, holds in ((10, True), (11, False)):
        values = [0.96] * below + [0.98] * (200 - below)
        assert (summaries.percentile(values, 0.05) >= 0.97) is holds
    assert summaries.percentile([3.0], 0.01) == 3
