"""`vcpud simulate`: what is asked, what is printed, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vcpud import cli

QUICK = """\
title: Two of a kind
pcpus: 2
warmup: 0s
duration: 1s
domains:
  db: {vcpus: 4, workload: &WORKLOAD}
  mail: {vcpus: 4, workload: &WORKLOAD}
  web: {vcpus: 2, workload: {kind: web, requests_per_s: 100}}
""".replace("&WORKLOAD", "{kind: descriptors, grain: 80us, rounds: 40, gap: 2500ns, hold: 600ns}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "quick.yaml"
    path.write_text(QUICK)
    return path


@pytest.fixture
def simulate(file: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*more: str) -> tuple[int, str, str]:
        code = cli.main(["simulate", str(file), *more])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_a_table_tells_what_every_domain_did(simulate: Any) -> None:
    code, out, _ = simulate()
    assert code == 0
    assert out.startswith(
        "Two of a kind\n2 pCPUs, cfs_groups, kvm, policy none, seed 1: 1s after 0s"
    )
    assert "ITERATIONS/S" in out
    assert any(line.startswith("db ") for line in out.splitlines())
    assert "web answers: 50 %" in out
    assert "1 s simulated in" in out


def test_decisions_are_told_with_their_reasons(simulate: Any) -> None:
    code, out, _ = simulate("--policy", "spin_feedback", "--duration", "3s")
    assert code == 0
    assert "db: 4 to " in out
    assert "decide: lock wait" in out


def test_json_carries_commit_figures_changes_and_the_hash(simulate: Any) -> None:
    code, out, _ = simulate("--policy", "spin_feedback", "--duration", "3s", "-o", "json")
    found = json.loads(out)
    assert code == 0
    assert found["commit"]
    assert found["window_s"] == [0, 3]
    assert found["domains"]["web"]["responses_s"].keys() == {"50", "95", "99"}
    assert found["domains"]["db"]["entitled_pcpus"] > 0.5
    assert [point["t_s"] for point in found["timeline"]["db"]] == [1, 2, 3]
    change = found["changes"][0]
    assert (change["domain"], change["from_vcpus"], change["accepted"]) == ("db", 4, True)
    assert len(found["trace_hash"]) == 32
    again = json.loads(simulate("--policy", "spin_feedback", "--duration", "3s", "-o", "json")[1])
    assert {**again, "took_s": 0} == {**found, "took_s": 0}


def test_seed_scheduler_and_assignment_are_those_asked_for(simulate: Any) -> None:
    _, out, _ = simulate(
        "--seed", "9", "--scheduler", "credit2", "--assignment", "db=1,mail=1,web=2", "-o", "json"
    )
    found = json.loads(out)
    assert (found["seed"], found["scheduler"]) == (9, "credit2")
    assert found["domains"]["db"]["mean_active_vcpus"] == 1


def test_options_of_a_policy_are_passed_on(simulate: Any) -> None:
    options = ("--policy-option", "spin_high=0.9", "--policy-option", "spin_overwhelming=0.99")
    _, out, _ = simulate("--policy", "spin_feedback", *options, "--duration", "3s", "-o", "json")
    assert json.loads(out)["changes"] == []


def test_a_report_is_written_beside_the_table(simulate: Any, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    path = tmp_path / "report.html"
    code, out, _ = simulate("--policy", "spin_feedback", "--report", str(path))
    assert code == 0
    assert out.endswith(f"report: {path}\n")
    assert "Two of a kind" in path.read_text()


@pytest.mark.parametrize(
    ("more", "code", "expected"),
    [
        (("--scheduler", "cfz"), 2, "there is no scheduler 'cfz'"),
        (("--policy", "nope"), 2, "there is no policy 'nope'"),
        (("--policy", "static", "--policy-option", "a=1"), 2, "static has no such option"),
        (("--policy-option", "a=1"), 2, "needs a policy"),
        (("--assignment", "db=9"), 2, "assignment: db: 9 of 4 vCPUs"),
        (("--assignment", "dc=1"), 2, "assignment: dc: 1 of 0 vCPUs"),
        (("--seed", "-1"), 2, "seed"),
        (("--report", "/nonexistent/report.html"), 2, "there is no folder"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    simulate: Any, more: tuple[str, ...], code: int, expected: str
) -> None:
    found, out, err = simulate(*more)
    assert (found, out) == (code, "")
    assert expected in err


@pytest.mark.parametrize(
    "more", [("--assignment", "db"), ("--policy-option", "=1"), ("--duration", "5")]
)
def test_what_cannot_be_read_is_wrong_usage(simulate: Any, more: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        simulate(*more)
    assert caught.value.code == 2


def test_a_wrong_scenario_ends_with_3_and_leaves_nothing_half_written(
    simulate: Any, file: Path, tmp_path: Path
) -> None:
    file.write_text("pcpus: 0\ndomains: {a: {vcpus: 0, workload: gobmk}}\n")
    code, out, err = simulate("--report", str(tmp_path / "report.html"))
    assert (code, out) == (3, "")
    assert f"{file}:1: pcpus: expected 1 to 1024, found 0" in err
    assert f"{file}:2: domains.a.vcpus: expected 1 to 1024, found 0" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quick.yaml"]


def test_those_that_come_with_vcpud_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "--list"]) == 0
    assert "kernel_lock  " in capsys.readouterr().out
    assert cli.main(["simulate", "--list", "-o", "json"]) == 0
    names = {one["name"] for one in json.loads(capsys.readouterr().out)}
    assert {"kernel_lock", "independent", "mixed", "phased"} <= names
    assert cli.main(["simulate"]) == 2
    assert "vcpud simulate --list" in capsys.readouterr().err
