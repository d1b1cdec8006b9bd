"""What the turns of a contest say, and when they say enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.contest import PARTS
from lab.intervals import Verdict
from lab.sitting import OTHERS, POLICIES, others
from lab.standings import BEST, LEAST_ROUNDS, OWN, UNMANAGED, Claim, enough, only, standing
from lab.turns import Book, Turn, opened
from vcpud import policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CLAIM = Claim(figure="over_best_static", against=(BEST,), limit=0.90)


def book(**arms: Sequence[float]) -> Book:
    return several({arm: [{"g1": rate} for rate in rates] for arm, rates in arms.items()})


def several(arms: Mapping[str, Sequence[Mapping[str, float]]]) -> Book:
    return Book(
        code="c",
        commit="1234",
        host={"cpus": 2},
        turns=[
            Turn(round=number, arm=arm, rates=rates, active={"g1": 1})
            for arm, turns in arms.items()
            for number, rates in enumerate(turns)
        ],
    )


def test_a_ratio_is_taken_between_turns_of_the_same_round() -> None:
    drifting = [1.0, 10.0, 100.0, 1_000.0, 10_000.0]
    found = CLAIM.interval(
        book(adaptive=[0.95 * one for one in drifting], best_static=drifting), OWN
    )
    assert found is not None
    assert found.low == pytest.approx(0.95)
    assert found.high == pytest.approx(0.95)


def test_a_policy_that_sat_out_rounds_is_compared_in_those_it_played() -> None:
    played = book(best_static=[1.0, 2.0, 3.0], adaptive=[1.0, 2.0, 3.0])
    played.turns.append(Turn(round=2, arm="folding", rates={"g1": 1.5}, active={"g1": 3}))
    found = CLAIM.interval(played, "folding")
    assert found is not None
    assert found.value == pytest.approx(0.5)
    assert CLAIM.interval(played, "rules") is None


def test_where_all_vcpus_are_the_best_count_unmanaged_is_the_yardstick() -> None:
    found = CLAIM.interval(book(adaptive=[1.0, 1.0], unmanaged=[2.0, 2.0]), OWN)
    assert found is not None
    assert found.value == pytest.approx(0.5)


def test_what_is_due_is_the_smaller_of_two_yardsticks_over_all_rounds() -> None:
    claim = Claim(figure="x", against=(UNMANAGED, "entitled"), limit=0.97, score=only("g1"))
    found = claim.interval(
        book(adaptive=[8.0, 8.0], unmanaged=[10.0, 9.0], entitled=[8.0, 10.0]), OWN
    )
    assert found is not None
    assert found.value == pytest.approx(8.0 / 80**0.5)


@pytest.mark.parametrize(("rate", "verdict"), [(0.95, Verdict.PASS), (0.85, Verdict.FAIL)])
def test_vcpuds_own_policy_is_judged_by_five_rounds_at_least(
    rate: float, verdict: Verdict
) -> None:
    few, many = LEAST_ROUNDS - 1, LEAST_ROUNDS
    short = book(adaptive=[rate] * few, best_static=[1.0] * few)
    long = book(adaptive=[rate] * many, best_static=[1.0] * many)
    assert CLAIM.verdict(short, OWN) is Verdict.INCONCLUSIVE
    assert CLAIM.verdict(long, OWN) is verdict


def test_rounds_go_on_until_the_interval_is_narrow_whatever_it_says() -> None:
    noisy = book(adaptive=[0.5, 1.5, 0.5, 1.5, 0.5], best_static=[1.0] * 5)
    bad = book(adaptive=[0.1] * 5, best_static=[1.0] * 5)
    assert not enough(noisy, [CLAIM])
    assert enough(bad, [CLAIM])
    assert not enough(book(adaptive=[1.0] * 4, best_static=[1.0] * 4), [CLAIM])


def test_the_results_say_how_everybody_stands() -> None:
    played = book(adaptive=[0.95] * 5, best_static=[1.0] * 5, folding=[0.2] * 2)
    found = standing(played, [CLAIM], [OWN, "folding", "rules"])
    assert found["verdicts"] == {"over_best_static >= 0.9": "pass"}
    assert found["policies"]["folding"]["says"] == {"over_best_static >= 0.9": "FAIL"}
    assert found["policies"]["rules"] == {"turns": 0}
    assert found["rates"][OWN]["g1"] == {"median": 0.95, "ci": [0.95, 0.95]}
    assert (found["commit"], found["rounds"]) == ("1234", 5)


def test_every_bound_of_the_contest_is_one_that_can_be_missed() -> None:
    rates = dict.fromkeys(("g1", "g2", "m1", "m2", "kernel_lock", "independent"), 1.0)
    for entry in PARTS.values():
        limits = {claim: claim.limit for claim in entry.claims if claim.limit is not None}
        assert limits
        for claim, limit in limits.items():
            worse = dict.fromkeys(rates, limit / 2)
            arms = {arm: [rates] * 5 for arm in claim.against} | {OWN: [worse] * 5}
            assert claim.verdict(several(arms), OWN) is Verdict.FAIL


def test_over_five_rounds_every_other_policy_has_as_many_turns() -> None:
    for a_round in (1, 2):
        turns = [name for number in range(5) for name in others(number, a_round)]
        assert {name: turns.count(name) for name in OTHERS} == dict.fromkeys(OTHERS, a_round)


def test_every_policy_takes_part() -> None:
    assert {*POLICIES, "static"} == set(policy.names())


def test_a_later_sitting_goes_on_where_the_code_and_the_host_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "contest" / "kernel_lock.json"
    kept = book(adaptive=[1.0, 2.0], best_static=[1.0, 2.0])
    kept.best, kept.static = {"pair": "1"}, {"1": 3.0}
    kept.save(path)
    again = opened(path, code="c", commit="5678", host={"cpus": 2})
    assert again == kept
    assert again.rounds == 2
    assert opened(path, code="d", commit="5678", host={"cpus": 2}).rounds == 0
    assert opened(path, code="c", commit="5678", host={"cpus": 4}).rounds == 0


def test_what_differs_from_its_commit_is_never_gone_on_with(tmp_path: Path) -> None:
    kept = book(adaptive=[1.0])
    kept.code = "c-dirty"
    kept.save(tmp_path / "x.json")
    assert opened(tmp_path / "x.json", code="c-dirty", commit="1234", host={"cpus": 2}).rounds == 0
