"""`vcpud study` from the command line to its files, with a simulator that is made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unit.simulator.study.made_up import DONE, measured
from vcpud.cli import main
from vcpud_simulator.laboratory.study import campaign, picture, reality
from vcpud_simulator.laboratory.study.runs import Reading, Run


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    DONE.clear()
    monkeypatch.setattr(campaign, "measure", measured)


def study(out: Path, *words: str) -> int:
    return main(["study", "--quick", "--jobs", "1", "--out", str(out), *words])


def test_the_short_study_writes_results_and_pictures_and_gives_every_claim_a_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(tmp_path, "-o", "json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "study.json").read_text())
    assert printed["commit"]
    assert printed["plan"] == "quick"
    assert {claim["id"] for claim in printed["claims"]} == {"S1", "S2", "S3", "S4", "S5"}
    verdicts = {"holds", "fails", "not attributable"}
    assert all(claim["verdict"] in verdicts for claim in printed["claims"])
    assert all(claim["measured"] is not None for claim in printed["claims"])
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert {"recovery.png", "shares-active.png"} <= pictures
    assert all(path.stat().st_size > 5_000 for path in tmp_path.glob("*.png"))


def test_an_interrupted_study_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(run: Run) -> Reading:
        if len(DONE) == 10:
            raise KeyboardInterrupt
        return measured(run)

    interrupted.__qualname__ = measured.__qualname__
    interrupted.__module__ = measured.__module__
    monkeypatch.setattr(campaign, "measure", interrupted)
    monkeypatch.setattr(picture, "draw", lambda *_: [])
    assert study(tmp_path) == 1
    assert "--resume" in capsys.readouterr().err
    first = list(DONE)
    DONE.clear()
    monkeypatch.setattr(campaign, "measure", measured)
    assert study(tmp_path, "--resume") == 0
    assert not set(first) & set(DONE)
    assert "S1  HOLDS" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--seeds", "1"), 2),
        (("--seeds", "many"), 2),
        (("--jobs", "0"), 2),
        (("--widths", "2,"), 2),
        (("--reality-only",), 2),
        (("--policy", "no_such_policy"), 2),
        (("--against", "/nonexistent/lab.json"), 3),
    ],
)
def test_mistakes_are_found_before_anything_is_simulated(
    tmp_path: Path, words: tuple[str, ...], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        found = study(tmp_path / "out", *words)
    except SystemExit as error:
        found = int(str(error.code))
    assert found == code
    assert capsys.readouterr().err
    assert not DONE
    assert not (tmp_path / "out").exists()


def test_the_lab_alone_can_be_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = {
        "commit": "0123456789abcdef",
        "host": {"kernel": "6.18.44", "pcpus": 2},
        "micro": {
            "compute": {"grain": 20_000, "rates": [20_000.0]},
            "kernel_lock_bare": {"lock_rounds": 64, "rates": [5_000.0]},
        },
        "grid": {
            "kernel_lock": {
                "1": {"median": 9_000.0, "ci": [8_000.0, 9_500.0]},
                "4": {"median": 2.0, "ci": [1.0, 3.0]},
            }
        },
    }
    path = tmp_path / "lab.json"
    path.write_text(json.dumps(lab))
    monkeypatch.setattr(reality, "simulate", lambda task: {1: 8_500.0, 4: 3.0}[task.active])
    words = ("--against", str(path), "--reality-only")
    assert study(tmp_path, *words) == 0
    assert "2 of 2 ratios agree" in capsys.readouterr().out
    found = json.loads((tmp_path / "reality.json").read_text())
    assert found["reality"]["agrees"] is True
    assert (tmp_path / "reality.png").stat().st_size > 5_000
    assert not DONE
