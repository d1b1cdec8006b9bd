"""The oracle shares its time between two constant assignments where a floor lies between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.simulator.compare.made_up import S, steady
from unit.simulator.compare.test_campaign import Executor
from unit.simulator.compare.test_oracle import contender
from vcpud_simulator.laboratory.compare.campaign import Campaign
from vcpud_simulator.laboratory.compare.oracle import Assignment, Problem
from vcpud_simulator.laboratory.compare.plan import Contestant, Plan
from vcpud_simulator.laboratory.compare.sharing import mixed, partner
from vcpud_simulator.laboratory.compare.tasks import Outcome, Task

RATES = {1: (150.0, 50.0), 2: (50.0, 300.0), 3: (60.0, 60.0), 4: (100.0, 20.0)}
"""What `db` and `mail` make, by how many vCPUs `mail` has: `db` may not fall below the last."""


def between(task: Task) -> Outcome:
    """Nothing but the vCPUs of `mail` matters, and `db` must keep what it has."""
    made = [RATES[dict(counts)["mail"]] for _, counts in task.script] or [
        RATES[dict(task.counts or {"mail": 4})["mail"]]
    ]
    rates = [sum(column) / len(made) for column in zip(*made, strict=True)]
    return steady(task, dict(zip(("db", "mail"), rates, strict=True)))


def compared(path: Path, world: Executor, seeds: int = 1) -> str:
    path.write_text(path.read_text().replace("db: {vcpus: 4,", "db: {vcpus: 4, min_vcpus: 4,"))
    one = Contestant(label="p", policy="p")
    [card] = Campaign(Plan(keys=(str(path),), contestants=(one,), seeds=seeds), world).run()
    return card.oracle


@pytest.mark.parametrize("seeds", [1, 2])
def test_time_is_shared_such_that_every_floor_is_kept(key: str, seeds: int) -> None:
    world = Executor(between)
    assert compared(Path(key), world, seeds) == (
        "db 4, mail 1, for 50% of the time, else db 4, mail 2"
    )
    scripts = [(task.seed, task.script) for task in world.tasks if task.script]
    assert [seed for seed, _ in scripts] == [1, 2][:seeds]
    assert {
        tuple((at_ns / S, dict(counts)["mail"]) for at_ns, counts in script)
        for _, script in scripts
    } == {((0, 1), (31.5, 2))}, "half the window of 57 s, which begins after 3"


def test_what_sharing_promises_is_not_believed_until_it_was_run(key: str) -> None:
    def disappointing(task: Task) -> Outcome:
        return steady(task, {"db": 90.0, "mail": 300.0}) if task.script else between(task)

    assert compared(Path(key), Executor(disappointing)) == "db 4, mail 1"


def test_where_a_floor_is_missed_because_changing_costs_something_less_is_asked(key: str) -> None:
    def costly(task: Task) -> Outcome:
        """`db` makes five less than the mean of both."""
        if not task.script:
            return between(task)
        (_, first), (at_ns, second) = task.script
        share = (at_ns - 3 * S) / (57 * S)
        before, after = (
            dict(zip(("db", "mail"), RATES[dict(counts)["mail"]], strict=True))
            for counts in (first, second)
        )
        made = mixed(before, after, share)
        return steady(task, made | {"db": made["db"] - 5.0})

    world = Executor(costly)
    assert compared(Path(key), world) == "db 4, mail 1, for 60% of the time, else db 4, mail 2"
    assert len([task for task in world.tasks if task.script]) == 2


def test_no_time_is_shared_where_a_constant_is_as_good(key: str) -> None:
    world = Executor(lambda task: steady(task, {"db": 100.0, "mail": 100.0}))
    compared(Path(key), world)
    assert not [task for task in world.tasks if task.script]
    assert "oracle: time shared" not in world.labels


def test_whom_the_best_shares_with_must_promise_more_than_chance_does() -> None:
    known: dict[Assignment, dict[str, float]] = {
        (1, 1): {"a": 100.0, "b": 50.0},
        (1, 2): {"a": 80.0, "b": 61.0},
    }
    two = Problem(contenders=(contender("a", 2), contender("b", 2)))
    assert partner(two, known, (1, 1), {"a": 92.0, "b": 1.0}) is None, "0.6 % is chance"
    known[1, 2]["b"] = 90.0
    assert partner(two, known, (1, 1), {"a": 92.0, "b": 1.0}) == (1, 2)
    assert partner(two, known, (1, 1), {"a": 110.0, "b": 1.0}) is None, "nobody has that much"
    assert partner(two, {(1, 1): known[1, 1]}, (1, 1), {}) is None, "nobody to share with"


def test_a_share_of_the_time_is_a_share_of_the_progress() -> None:
    assert mixed({"a": 100.0, "b": 10.0}, {"a": 50.0, "b": 20.0}, 0.2) == {"a": 60.0, "b": 18.0}
