"""A sweep finds the parameters that suit a policy, here or on a cluster."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from vcpud import cli
from vcpud.errors import ConfigError
from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory import sweep
from vcpud_simulator.laboratory.commands.compare import as_published
from vcpud_simulator.laboratory.commands.sweep import add_to, command, plan_of, preset
from vcpud_simulator.laboratory.compare import suite
from vcpud_simulator.laboratory.compare.changes import Change
from vcpud_simulator.laboratory.compare.tasks import Outcome, Task

S = NS_PER_S
SCENARIO = """\
title: Two guests
pcpus: 2
warmup: 1s
duration: 2s
domains:
  db: {vcpus: 2, workload: {kind: gobmk, unit: 20ms}}
  mail: {vcpus: 2, workload: {kind: gobmk, unit: 20ms}}
"""


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(SCENARIO)
    return str(path)


def outcome(task: Task, rates: Mapping[str, float]) -> Outcome:
    end = 1 + task.duration_ns // S
    return Outcome(
        window_ns=(S, end * S),
        work={
            name: tuple((at * S, (at + 1) * S, rate) for at in range(end))
            for name, rate in rates.items()
        },
        run_pcpus=dict.fromkeys(rates, 1.0),
        entitled_pcpus=dict.fromkeys(rates, 1.0),
        responses_ns={},
        decisions=(),
        changes=tuple(
            Change(at_ns=at, domain="db", decision_id="x", from_vcpus=2, to_vcpus=1)
            for at in (1, 2, 3)
        ),
        finals=(),
    )


def plan(key: str, *combinations: sweep.Options, seeds: int = 1) -> sweep.Plan:
    return sweep.Plan(
        policy="spin_feedback",
        combinations=((), *combinations),
        keys=(key,),
        seeds=seeds,
        duration_ns=10 * S,
    )


def _parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_to(parser.add_subparsers(), argparse.ArgumentParser(add_help=False))
    return parser.parse_args(words)


def test_the_best_combination_comes_first(key: str) -> None:
    good, bad = (("spin_high", 0.2),), (("spin_high", 0.3),)

    def execute(tasks: Iterable[Task], label: str) -> Mapping[Task, Outcome]:
        assert "spin_feedback" in label
        rates = {good: 200.0, bad: 50.0, (): 100.0}
        return {
            task: outcome(task, dict.fromkeys(("db", "mail"), rates[task.options]))
            for task in tasks
        }

    results = sweep.run(plan(key, bad, good, seeds=2), execute)
    assert [one.options for one in results] == [good, (), bad]
    assert results[0].score == pytest.approx(1.0)
    assert results[0].over_unmanaged == pytest.approx(2.0)
    assert results[1].score == pytest.approx(0.5)
    assert results[2].worst_domain_over_floor == pytest.approx(0.5)


def test_a_domain_below_its_floor_costs_more_than_others_gain(key: str) -> None:
    greedy = (("spin_high", 0.2),)

    def execute(tasks: Iterable[Task], label: str) -> Mapping[Task, Outcome]:
        assert label
        return {
            task: outcome(
                task, {"db": 150.0, "mail": 70.0} if task.options else {"db": 100.0, "mail": 100.0}
            )
            for task in tasks
        }

    results = sweep.run(plan(key, greedy), execute)
    assert results[0].options == ()


def test_numbers_are_tried_about_the_published_ones_and_switches_both_ways() -> None:
    space = sweep.default_space("steal_governor", (("steal_high", 0.06), ("judged", False)))
    assert space == {
        "steal_high": (0.03, 0.06, 0.12),
        "steal_low": (0.01, 0.02, 0.04),
        "interval_ns": (S // 2, S, 2 * S),
        "judged": (False, True),
    }
    folding = sweep.default_space("folding")
    assert folding["extra_vcpus"] == (0, 1)
    assert folding["fold_threshold"] == (0.475, 0.95, 0.975), "half of the way to 1 and not beyond"
    assert set(sweep.default_space("rules")) == {"update_ns", "judged"}, "conditions are text"


def test_a_policy_is_swept_as_it_is_published_and_compared() -> None:
    options = _parsed("sweep", "steal_governor", "--range", "steal_high=0.1,0.2")
    plan = plan_of(options)
    published = as_published("steal_governor").options
    assert plan.combinations[0] == published
    assert dict(published)["judged"] is False
    assert [dict(one) for one in plan.combinations[1:]] == [
        {**dict(published), "steal_high": high} for high in (0.1, 0.2)
    ]
    judged = plan_of(_parsed("sweep", "steal_governor", "--most", "20")).combinations
    assert {dict(one)["judged"] for one in judged} == {False, True}


def test_seeds_are_none_of_a_comparisons_and_changing_loads_are_seen_longer(key: str) -> None:
    asked: list[Task] = []

    def execute(tasks: Iterable[Task], label: str) -> Mapping[Task, Outcome]:
        assert label
        asked.extend(tasks)
        return {task: outcome(task, {"db": 1.0, "mail": 1.0}) for task in asked}

    toggles = Path(key).with_name("toggles.yaml")
    toggles.write_text(SCENARIO.replace("mail: {", "mail: {arrives: 2s, "))
    made = plan(key, seeds=2)
    made = replace(made, keys=(key, str(toggles)), changing_ns=20 * S)
    sweep.run(made, execute)
    assert {(one.key, one.seed - suite.load(one.key).seed) for one in asked} == {
        (name, sweep.SEEDS_FROM + seed) for name in made.keys for seed in (0, 1)
    }
    assert {one.key: one.duration_ns // S for one in asked} == {key: 10, str(toggles): 20}


def test_combinations_hold_the_defaults_and_leave_out_what_a_policy_refuses() -> None:
    space = {"spin_low": (0.02, 0.5), "spin_high": (0.1, 0.2)}
    found = sweep.combinations("spin_feedback", space)
    assert found[0] == ()
    assert len(found) == 3, "a low threshold above the high one is refused"


def test_as_many_as_asked_for_are_drawn_and_again_the_same() -> None:
    space = sweep.default_space("spin_feedback")
    found = sweep.combinations("spin_feedback", space, most=10, seed=3)
    assert 2 <= len(found) <= 11
    assert sweep.combinations("spin_feedback", space, most=10, seed=3) == found
    assert sweep.combinations("spin_feedback", space, most=10, seed=4) != found


def test_parameters_a_policy_does_not_have_are_named() -> None:
    with pytest.raises(ConfigError, match="leaves"):
        sweep.combinations("folding", {"leaves": (1, 2)})


def words(key: str, out: Path) -> list[str]:
    return [
        "sweep", "spin_feedback", "--range", "spin_high=0.1,0.3", "--suite", key,
        "--duration", "2s", "--out", str(out), "--resume", "-o", "json",
    ]  # fmt: skip


def test_the_command_ranks_and_goes_on_where_it_was_interrupted(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vcpud_simulator.laboratory.compare import runs  # noqa: PLC0415 - patched below

    done: list[Task] = []
    real = runs.perform

    def interrupted(task: Task) -> Outcome:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(task)
        return real(task)

    # What results are filed under must stay the same function's name.
    interrupted.__module__, interrupted.__qualname__ = real.__module__, real.__qualname__
    monkeypatch.setattr(runs, "perform", interrupted)
    out = tmp_path / "out"
    command = [*words(key, out), "--jobs", "1"]
    assert cli.main(command) == 1
    assert "to go on from here, run it again with --resume" in capsys.readouterr().err
    kept = set((out / "cache").iterdir())
    assert len(kept) == 2
    monkeypatch.setattr(runs, "perform", real)
    assert cli.main(command) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["results"]) == 2, "spin_high 0.1 is the published one"
    assert document["results"][0]["score"] >= document["results"][-1]["score"]
    assert kept < set((out / "cache").iterdir())
    assert json.loads((out / "spin_feedback.json").read_text()) == document


def test_its_table_says_how_to_go_on(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*words(key, tmp_path / "out")[:-2], "--jobs", "1"]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert "2 combinations; the published one is number" in out
    assert "SCORE" in out
    best = tmp_path / "out" / "spin_feedback-best.yaml"
    assert f"vcpud compare --policy {best}" in out
    command = ["compare", key, "--quick", "--duration", "2s", "--policy", str(best)]
    assert cli.main([*command, "--jobs", "1", "--out", str(tmp_path / "compared")]) == 0
    assert "spin_feedback-best" in capsys.readouterr().out


def test_the_best_is_written_as_a_configuration_has_it() -> None:
    result = sweep.Result(
        options=(("interval_ns", 2 * S), ("steal_high", 0.1)),
        score=1.0,
        over_unmanaged=1.0,
        worst_domain_over_floor=1.0,
        changes=0.0,
    )
    published = replace(result, options=(), score=0.5)
    written = preset(
        sweep.Plan(
            policy="steal_governor", combinations=((),), keys=("x",), seeds=1, duration_ns=S
        ),
        [result, published],
        command="vcpud sweep steal_governor",
        made_at="abc",
    )
    assert written.startswith("# The best of 2 combinations on 1 scenarios")
    assert (
        "score 1.000,\n# as published 0.500. Made at abc by\n#   vcpud sweep steal_governor\n"
        in written
    )
    assert "policy:\n  name: steal_governor\n  interval: 2s\n  steal_high: 0.1\n" in written


def test_how_a_preset_was_found_can_be_asked_for_again() -> None:
    asked = (
        "sweep steal_governor --range interval=1s,2500ms --range judged=false,true --most 3 "
        "--seed 7 --suite kernel_lock --seeds 2 --duration 90s"
    )
    options = _parsed(*asked.split())
    again = command(options)
    assert plan_of(_parsed(*again.split()[1:])) == plan_of(options)
    assert command(_parsed("sweep", "folding")) == "vcpud sweep folding"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["spinach"], "there is no policy 'spinach'"),
        (["folding", "--range", "leaves=1"], "folding has no such option"),
        (["folding", "--suite", "nowhere"], "there are no scenarios"),
    ],
)
def test_wrong_usage_is_told(
    wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sweep", *wrong]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.sockets
def test_a_cluster_that_does_not_answer_is_told(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "CONNECT_S", 1)
    command = [*words(key, tmp_path / "out"), "--dask", "tcp://127.0.0.1:9"]
    assert cli.main(command) == 4
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """A real scheduler and two workers, each a process of its own, on the loopback."""
    file = tmp_path / "scheduler.json"
    logs = [(tmp_path / f"dask-{number}.log").open("wb") for number in range(3)]
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    commands = [
        ["scheduler", "--host", "127.0.0.1", "--port", "0", *common],
        *(
            ["worker", "--no-nanny", "--nthreads", "1", "--host", "127.0.0.1", *common]
            for _ in range(2)
        ),
    ]
    environ = {**os.environ, "DASK_TEMPORARY_DIRECTORY": str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *command], stdout=log, stderr=log, env=environ
        )
        for command, log in zip(commands, logs, strict=True)
    ]
    try:
        deadline = time.monotonic() + 60
        while not file.exists() or not file.read_text().endswith("}"):
            assert time.monotonic() < deadline, (tmp_path / "dask-0.log").read_text()
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGINT)
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for log in logs:
            log.close()


@pytest.mark.sockets
@pytest.mark.process
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_on_a_cluster_the_same_sweep_gives_the_same_results(
    key: str, tmp_path: Path, cluster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words(key, tmp_path / "here"), "--jobs", "1"]) == 0
    here = json.loads(capsys.readouterr().out)
    assert cli.main([*words(key, tmp_path / "there"), "--dask", cluster]) == 0
    there = json.loads(capsys.readouterr().out)
    assert there["results"] == here["results"]
    from distributed import Client  # noqa: PLC0415 - of an extra

    with Client(cluster) as client:  # type: ignore[no-untyped-call]
        transitions = client.run_on_scheduler(
            lambda dask_scheduler: dask_scheduler.transition_counter
        )
    runs = 3  # unmanaged, as published and another
    assert transitions >= runs, "the cluster did the work"
