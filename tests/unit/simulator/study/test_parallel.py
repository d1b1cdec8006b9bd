from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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


ABANDONED = """
import os
import time
from pathlib import Path

from vcpud_simulator.laboratory.parallel import run_all

def work(number):
    time.sleep(0.1)
    Path(f"{os.getpid()}.worker").touch()
    while not Path("abandoned").exists():
        time.sleep(0.1)
    return bytes(1_000_000)  # more than fits a pipe that nobody reads

run_all(work, range(4), jobs=2)
"""


@pytest.mark.process
def test_workers_of_one_that_was_killed_end_with_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ABANDONED], cwd=tmp_path) as run:
        workers = eventually(lambda: [int(p.stem) for p in tmp_path.glob("*.worker")], enough=2)
        run.kill()
    (tmp_path / "abandoned").touch()
    assert len(workers) == 2
    assert not eventually(
        lambda: [pid for pid in workers if Path(f"/proc/{pid}").exists()], enough=0
    )


def eventually(look: Callable[[], list[int]], *, enough: int) -> list[int]:
    """What is seen once there is as much as is waited for, or after half a minute."""
    until_s = time.monotonic() + 30
    while len(seen := look()) != enough and time.monotonic() < until_s:
        time.sleep(0.1)
    return seen


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
    monkeypatch.setattr(parallel, "code_digest", lambda *_: "other")
    run_all(add, TASKS, jobs=1, cache=Cache(tmp_path), resume=True)
    assert DONE == TASKS + TASKS


def test_where_it_is_known_what_makes_a_result_a_change_of_other_code_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(*roots: str) -> str:
        return f"{changed} has changed" if changed in roots else "as before"

    monkeypatch.setattr(parallel, "code_digest", digest)
    cache = Cache(tmp_path, lambda task: (__name__, f"module_{task.second}"))
    changed = ""
    run_all(add, TASKS, jobs=1, cache=cache)
    changed = "module_3"
    run_all(add, TASKS, jobs=1, cache=cache, resume=True)
    assert [*TASKS, TASKS[3]] == DONE
    changed = __name__
    run_all(add, TASKS, jobs=1, cache=cache, resume=True)
    assert [*TASKS, TASKS[3], *TASKS] == DONE


def test_a_damaged_result_is_run_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    run_all(add, TASKS[:1], jobs=1, cache=cache)
    cache.path(add, TASKS[0]).write_bytes(b"")
    assert run_all(add, TASKS[:1], jobs=1, cache=cache, resume=True) == {TASKS[0]: 1}
    assert [TASKS[0], TASKS[0]] == DONE


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that is nobody else's, and no memory of what was read before or is now."""
    folder = tmp_path / "vcpud_site_of_tests"
    (folder / "inner").mkdir(parents=True)
    for name, text in {
        "__init__.py": "",
        "inner/__init__.py": "",
        "inner/deep.py": "from .. import aside",
        "aside.py": "import os",
        "other.py": "",
        "policy.py": "def late():\n    from vcpud_site_of_tests.inner.deep import x",
    }.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    caches = (provenance.code_digest, provenance._imports, provenance._place)
    for one in caches:
        one.cache_clear()
    yield folder
    for one in caches:
        one.cache_clear()


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("policy.py", True),
        ("inner/deep.py", True),
        ("inner/__init__.py", True),
        ("aside.py", True),
        ("__init__.py", True),
        ("other.py", False),
    ],
)
def test_of_a_module_counts_what_it_imports_to_the_last_and_nothing_else(
    site: Path, name: str, *, counts: bool
) -> None:
    before = provenance.code_digest("vcpud_site_of_tests.policy")
    provenance.code_digest.cache_clear()
    provenance._imports.cache_clear()
    path = site / name
    path.write_text(f"{path.read_text()}\n# changed\n")
    assert (provenance.code_digest("vcpud_site_of_tests.policy") != before) is counts


def test_a_policy_is_made_by_what_it_imports_and_not_by_its_rivals() -> None:
    reached = {name for name, _ in provenance._reached(("vcpud_policies.adaptive",))}
    assert {"vcpud_policies.belief", "vcpud_policies.apportion", "vcpud.plan"} <= reached
    assert "vcpud_policies.folding" not in reached


def test_every_result_can_say_which_code_it_is_of() -> None:
    assert len(provenance.code_digest()) == 16
    assert provenance.commit()
