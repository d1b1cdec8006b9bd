from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from vcpud_simulator.laboratory import parallel, provenance
from vcpud_simulator.laboratory.parallel import Cache, run_all


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    first: int
    second: int


DONE: list[Sum] = []


def add(task: Sum) -> int:
    DONE.append(task)
    return task.first + task.second


def fail_on_three(task: Sum) -> int:
    if task.second == 3:
        raise KeyboardInterrupt
    return add(task)


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    DONE.clear()


TASKS = [Sum(first=1, second=n) for n in range(5)]


def test_results_come_by_task_in_order_and_equal_tasks_run_once() -> None:
    assert list(run_all(add, [*TASKS, TASKS[0]], jobs=1).items()) == [
        (task, 1 + task.second) for task in TASKS
    ]
    assert DONE == TASKS


@pytest.mark.process
def test_other_processes_find_the_same() -> None:
    assert run_all(abs, [-1, -2, 3], jobs=2) == {-1: 1, -2: 2, 3: 3}


def test_what_was_finished_before_an_interruption_is_not_run_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_all(fail_on_three, TASKS, jobs=1, cache=cache)
    done = list(DONE)
    with pytest.raises(KeyboardInterrupt):
        run_all(fail_on_three, TASKS, jobs=1, cache=cache, resume=True)
    assert done == TASKS[:3] == DONE


def test_without_resume_everything_is_run_again(tmp_path: Path) -> None:
    for _ in range(2):
        run_all(add, TASKS, jobs=1, cache=Cache(tmp_path))
    assert DONE == TASKS + TASKS


def test_changed_code_finds_no_result_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_all(add, TASKS, jobs=1, cache=Cache(tmp_path))
    monkeypatch.setattr(parallel, "code_digest", lambda: "other")
    run_all(add, TASKS, jobs=1, cache=Cache(tmp_path), resume=True)
    assert DONE == TASKS + TASKS


def test_a_damaged_result_is_run_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    run_all(add, TASKS[:1], jobs=1, cache=cache)
    cache.path(add, TASKS[0]).write_bytes(b"")
    assert run_all(add, TASKS[:1], jobs=1, cache=cache, resume=True) == {TASKS[0]: 1}
    assert [TASKS[0], TASKS[0]] == DONE


def test_every_result_can_say_which_code_it_is_of() -> None:
    assert len(provenance.code_digest()) == 16
    assert provenance.commit()
