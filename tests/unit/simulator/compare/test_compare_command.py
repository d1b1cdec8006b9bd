"""`vcpud compare`: what it writes, what it is told, and what is claimed of how much."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from unit.simulator.compare.made_up import SCENARIO, S, steady
from vcpud import cli
from vcpud.errors import UsageError
from vcpud_simulator.laboratory import parallel
from vcpud_simulator.laboratory.commands.compare import (
    add_to,
    best_contestants,
    contestant,
    default_contestants,
    plan_of,
)
from vcpud_simulator.laboratory.compare import campaign, suite
from vcpud_simulator.laboratory.compare.claims import Extent
from vcpud_simulator.laboratory.compare.plan import Plan, lasting, open_loop
from vcpud_simulator.laboratory.compare.states import divided
from vcpud_simulator.laboratory.compare.tasks import Outcome, Task


def test_the_command_writes_its_results_and_can_be_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(SCENARIO.replace("duration: 57s", "duration: 2s").replace("3s", "1s"))
    words = ["compare", str(path), "--quick", "--duration", "2s", "--jobs", "1"]
    words += ["--policy", "static", "--policy", "spin_feedback:spin_high=0.2"]
    words += ["--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert "tiny" in text
    assert "spin_feedback:spin_high=0.2" in text
    first = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "cache").iterdir()}
    assert kept
    assert cli.main([*words, "--resume", "-o", "json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["scenarios"] == first["scenarios"]
    assert {
        file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "cache").iterdir()
    } == kept, "nothing was run again"


def test_a_policy_that_ruins_somebody_fails_the_comparison(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruinous(task: Task) -> Outcome:
        return steady(task, {"db": 100.0, "mail": 90.0 if task.policy == "adaptive" else 100.0})

    monkeypatch.setattr(
        parallel,
        "run_all",
        lambda _function, tasks, **_how: {task: ruinous(task) for task in tasks},
    )
    words = ["compare", key, "--out", str(tmp_path), "--policy"]
    assert cli.main([*words, "adaptive"]) == 1
    said = capsys.readouterr()
    assert "claims about adaptive that do not hold: floor" in said.err
    assert "0.900 pair (cfs_groups), mail: nothing was changed" in said.out
    found = json.loads((tmp_path / "compare.json").read_text())
    verdicts = {one["id"]: one["verdict"] for one in found["details"]["claims"]}
    assert verdicts == {
        "mean": "not judged", "least": "holds", "floor": "fails", "steady": "holds",
    }  # fmt: skip
    assert found["details"]["worst"]["over_floor"][0]["share"] == pytest.approx(0.9)
    assert cli.main([*words, "adaptive", "--duration", "60s"]) == 0, "too short to judge floors"
    assert cli.main([*words, "folding"]) == 0, "nothing is claimed of others"


@pytest.mark.parametrize(
    ("words", "extent", "seconds"),
    [
        ([], Extent.WHOLE, None),
        (["lock_pair"], Extent.PART, None),
        (["--quick"], Extent.QUICK, 50),
        (["--quick", "lock_pair"], Extent.CUT, 50),
        (["--quick", "--seeds", "3"], Extent.CUT, 50),
        (["--duration", "90s"], Extent.CUT, 90),
        (["--random", "3"], Extent.DRAWN, 300),
        (["drawn_1_2", "drawn_7_0"], Extent.DRAWN, 300),
        (["drawn_1_2", "lock_pair"], Extent.PART, None),
        (["--random", "3", "--quick"], Extent.CUT, 50),
    ],
)
def test_how_much_is_compared_decides_what_is_claimed(
    words: list[str], extent: Extent, seconds: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Plan] = []

    def noted(plan: Plan, *_: object) -> None:
        asked.append(plan)
        raise UsageError("seen enough")

    monkeypatch.setattr(campaign, "Campaign", noted)
    assert cli.main(["compare", *words]) == 2
    [plan] = asked
    assert plan.extent is extent
    assert plan.duration_ns == (None if seconds is None else seconds * S)


def test_drawn_scenarios_that_change_are_compared_for_as_long_as_they_do() -> None:
    options = argparse.ArgumentParser()
    add_to(options.add_subparsers(), argparse.ArgumentParser(add_help=False))
    plan = plan_of(options.parse_args(["compare", "--random", "40"]))
    for key in plan.keys:
        drawn = suite.load(key)
        whole = divided(drawn) or any(open_loop(one.workload) for one in drawn.domains)
        assert lasting(drawn, plan).duration_ns == (600 if whole else 300) * S
    assert plan.lasting_ns == 600 * S, "floors are judged over ten minutes whatever happens"
    assert plan.everywhere
    many = plan_of(options.parse_args(["compare", "--random", "200"]))
    assert not many.everywhere, (
        "something is claimed of so many, and nothing of tagged ones' oracle"
    )


def test_the_short_form_sees_every_phase() -> None:
    phases = suite.load("compare_dynamic_phases")
    plan = Plan(keys=(), contestants=(), duration_ns=60 * S, changing_ns=150 * S)
    assert lasting(phases, plan).duration_ns == 150 * S
    assert lasting(suite.load("compare_kernel_lock_pair"), plan).duration_ns == 60 * S


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-thing"], "there are no scenarios called 'no-such-thing'"),
        (["--policy", "spinach"], "there is no policy 'spinach'"),
        (["--policy", "folding:leaves=3"], "policy.leaves: folding has no such option"),
        (["demo", "--random", "3"], "one or the other"),
    ],
)
def test_wrong_usage_is_told_before_anything_runs(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_scenario_that_cannot_be_read_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(SCENARIO + "pcpu: 3\n")
    assert cli.main(["compare", str(path)]) == 3
    assert f"{path}:10" in capsys.readouterr().err


def test_a_preset_is_a_policy_section_of_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in sorted(Path("policies/presets").glob("*.yaml")):
        one = contestant(str(path))
        assert one.label == path.stem
        assert path.stem.startswith(one.policy)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("policy: {name: folding, leaves: 3}\n")
    assert cli.main(["compare", "demo", "--policy", str(wrong)]) == 3
    assert "folding has no such option" in capsys.readouterr().err


def test_policies_enter_with_the_parameters_of_their_sources_and_vcpuds_own_last() -> None:
    every = default_contestants()
    labels = [one.label for one in every]
    assert labels[-1] == "adaptive"
    assert labels[0] == "static", "who does nothing is a rival too"
    governor = next(one for one in every if one.label == "steal_governor")
    assert dict(governor.options)["judged"] is False


def test_the_best_of_a_sweep_enters_beside_what_is_published_where_it_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "presets").mkdir()
    published, best = (tmp_path / f"presets/folding-{word}.yaml" for word in ("published", "best"))
    for path in (published, best):
        path.write_text("policy: {fold_threshold: 0.9, name: folding}\n")
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path / "vcpud_policies")])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    assert best_contestants() == ()
    best.write_text("policy: {fold_threshold: 0.8, name: folding}\n")
    (one,) = best_contestants()
    assert (one.label, one.policy, one.options) == (
        "folding-best",
        "folding",
        (("fold_threshold", 0.8),),
    )
    words = ["compare", "demo", "--best", "--policy", "static", "--policy", "adaptive"]
    parser = argparse.ArgumentParser()
    add_to(parser.add_subparsers(), argparse.ArgumentParser(add_help=False))
    labels = [one.label for one in plan_of(parser.parse_args(words)).contestants]
    assert labels == ["static", "folding-best", "adaptive"]


def test_the_stability_of_presets_is_asked_for_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "--stability", "--best"]) == 2
    assert "name presets with --policy" in capsys.readouterr().err


def test_keys_name_scenarios_by_part_of_their_names() -> None:
    assert "compare_kernel_lock_pair" in suite.keys("lock_pair")
    assert suite.keys("demo") == ("demo",)
    assert suite.keys("demo", "lock_pair", "demo") == ("demo", "compare_kernel_lock_pair")
