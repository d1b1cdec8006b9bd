"""What vcpud brought, told from a recording: parked, avoided, judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes.runs import Kept, collapse, recorded
from vcpud.cli import main
from vcpud.report import text, told


def test_parked_hours_count_what_was_taken_for_as_long_as_it_was() -> None:
    kept = Kept()
    collapse(kept, 40, calm=20)
    document = told(kept.cycles)
    parked_s = sum(
        sum(
            one.original_vcpus - active
            for one, active in (
                (status, len(sample.active))
                for status, sample in zip(cycle.domains, cycle.sample.domains, strict=True)
            )
            if one.original_vcpus is not None
        )
        for cycle in kept.cycles
        if not cycle.stopping
    )
    assert document["total"]["parked_vcpu_hours"] == pytest.approx(parked_s / 3600, rel=0.1)
    assert document["total"]["parked_vcpu_hours"] > 0.02


def test_outcomes_are_those_of_the_judge() -> None:
    kept = Kept()
    collapse(kept, 40, calm=20)
    document = told(kept.cycles)
    assert document["total"]["helped"] == 2
    assert document["total"]["harmed"] == 0
    assert [one["helped"] for one in document["domains"]] == [1, 1]
    assert all(one["mean_gain_ratio"] > 1 for one in document["domains"])


def test_run_delay_avoided_is_what_was_waited_before_less_what_is_now() -> None:
    kept = Kept()
    collapse(kept, 60, calm=20)
    document = told(kept.cycles)
    first = document["domains"][0]
    # Four vCPUs on one pCPU wait three quarters of the time, one waits none of it.
    assert first["run_delay_avoided_vcpu_hours"] == pytest.approx(
        first["parked_vcpu_hours"], rel=0.15
    )


def test_what_was_never_measured_before_is_not_guessed() -> None:
    kept = Kept()
    collapse(kept, 40)
    document = told(kept.cycles)
    assert document["domains"][0]["parked_vcpu_hours"] > 0
    assert document["domains"][0]["run_delay_avoided_vcpu_hours"] is None
    assert "run delay avoided: - " in text(document)


def test_nothing_recorded_is_nothing_brought() -> None:
    document = told(())
    assert document["total"]["domains"] == 0
    assert "0 domains" in text(document)


def test_the_command_tells_the_same_as_text_and_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, cycles = recorded(tmp_path, 40, calm=20)
    assert main(["report", str(path), "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"files": [str(path)], **told(cycles)}
    assert main(["report", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "2 helped, 0 neutral, 0 harmed" in shown
    assert shown.splitlines()[-1].startswith(("a ", "b "))
