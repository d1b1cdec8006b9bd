"""What the cycle records of a run say of why it came out as it did."""

from __future__ import annotations

import dataclasses
import pickle

from unit.simulator.compare.made_up import S
from vcpud_simulator.laboratory.compare import runs
from vcpud_simulator.laboratory.compare.tasks import Task, Why


def why(key: str, policy: str, seconds: int) -> dict[str, Why]:
    task = Task(key=key, digest="", seed=1, duration_ns=seconds * S, policy=policy)
    return dict(runs.perform(task).why)


def test_a_guard_that_stood_in_the_way_is_named_and_counted() -> None:
    found = why("compare_kernel_lock_no_groups", "spin_feedback", 8)
    for one in found.values():
        [(guard, count)] = one.blocked
        assert guard == "share"
        assert 0 < count <= one.cycles
        assert f"guards blocked its moves in so many of {one.cycles} cycles: share" in one.text


def test_what_the_judge_found_and_what_is_believed_is_told_and_small() -> None:
    found = why("demo", "adaptive", 35)
    assert any(one.verdicts for one in found.values())
    assert all(one.cost_ratio is not None and one.outlook for one in found.values())
    assert all(len(pickle.dumps(one)) < 1_000 for one in found.values())


def test_who_was_held_is_told_for_what() -> None:
    one = Why(cycles=9, held=(("stale", 4), ("booting", 3)))
    assert one.text == "held in so many of 9 cycles: stale 4, booting 3"
    assert not Why(cycles=9).text


def test_nobody_tells_of_a_host_that_nobody_manages() -> None:
    task = Task(key="demo", digest="", seed=1, duration_ns=S)
    assert runs.perform(task).why == {}
    assert not runs.perform(dataclasses.replace(task, counts=(("mail", 1), ("build", 4)))).why
