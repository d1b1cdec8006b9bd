"""The demo shows what vcpud is for, with whatever policy is the default."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from vcpud import cli, config, policy
from vcpud_simulator.laboratory import demo, demo_screen
from vcpud_simulator.laboratory.reading import read_scenario
from vcpud_simulator.runner import Point, RunResult

S = 1_000_000_000


class Heard:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.seconds: list[tuple[int, Mapping[str, Point]]] = []
        self.said: list[tuple[int, str]] = []

    def second(self, now_ns: int, points: Mapping[str, Point]) -> None:
        self.seconds.append((now_ns, dict(points)))

    def say(self, now_ns: int, text: str) -> None:
        self.said.append((now_ns, text))


@pytest.fixture(scope="module")
def played() -> tuple[Heard, RunResult, tuple[demo.Shown, ...]]:
    heard = Heard()
    name = config.defaults().loop.policy_name
    result, shown = demo.play(
        scenario=read_scenario(demo.SCENARIO),
        policy=policy.load(name, {}),
        policy_name=name,
        screen=heard,
    )
    return heard, result, shown


def test_both_domains_are_collapsed_and_recover(
    played: tuple[Heard, RunResult, tuple[demo.Shown, ...]],
) -> None:
    _, _, shown = played
    assert len(shown) == 2
    for one in shown:
        assert one.recovered
        assert one.gain is not None
        assert one.gain > 100
        assert one.before.active_vcpus == 4
        assert one.after.spin_pcpus < 0.05 < one.before.spin_pcpus


def test_nothing_is_changed_before_vcpud_is_switched_on(
    played: tuple[Heard, RunResult, tuple[demo.Shown, ...]],
) -> None:
    heard, result, _ = played
    assert result.changes
    assert min(change.at_ns for change in result.changes) >= demo.SWITCH_NS
    switched = [at_ns for at_ns, text in heard.said if "switched on" in text]
    assert switched == [demo.SWITCH_NS]


def test_every_second_is_shown_and_every_decision_said(
    played: tuple[Heard, RunResult, tuple[demo.Shown, ...]],
) -> None:
    heard, result, _ = played
    assert [now_ns // S for now_ns, _ in heard.seconds] == list(range(1, 61))
    assert heard.seconds[-1][1] == {name: line[-1] for name, line in result.timeline.items()}
    told = " ".join(text for _, text in heard.said)
    for name in ("mail", "build"):
        assert f"{name} is resized: " in told
        assert f"{name} went from " in told


def test_a_domain_without_any_progress_has_no_gain_to_tell_but_may_have_recovered() -> None:
    none = demo.Means(rate=0.0, active_vcpus=4, spin_pcpus=1.0, run_delay_pcpus=3.0)
    some = dataclasses.replace(none, rate=10.0)
    assert demo.Shown(name="a", before=none, after=some).gain is None
    assert demo.Shown(name="a", before=none, after=some).recovered
    assert not demo.Shown(name="a", before=none, after=none).recovered
    assert not demo.Shown(name="a", before=some, after=some).recovered


def test_the_command_prints_figures_and_writes_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "demo.html"
    assert cli.main(["demo", "--report", str(path)]) == 0
    out = capsys.readouterr().out
    assert "vcpud is switched on" in out
    assert f"report: {path}" in out
    assert "GAIN" in out
    assert "Before and after" in path.read_text()


def test_its_json_has_the_same_figures_and_nothing_else_on_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["demo", "--report", str(tmp_path / "d.html"), "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["recovered"] is True
    assert document["domains"]["mail"]["gain"] > 100
    assert document["domains"]["mail"]["before"]["active_vcpus"] == 4


def test_without_recovery_it_fails_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["demo", "--policy", "static", "--report", str(tmp_path / "d.html")]) == 1
    assert "not every domain recovered" in capsys.readouterr().out


def test_wrong_usage_is_told_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--policy", "spinach"]) == 2
    assert "there is no policy 'spinach'" in capsys.readouterr().err
    assert cli.main(["demo", "--report", "/no/such/folder/x.html"]) == 2
    assert "there is no folder '/no/such/folder'" in capsys.readouterr().err


def test_the_live_table_shows_the_domains_the_state_and_the_last_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rich.console import Console  # noqa: PLC0415 - of an extra

    monkeypatch.setattr("time.sleep", lambda _: None)
    output = io.StringIO()
    console = Console(file=output, width=100, force_terminal=False)
    live = demo_screen.Live(read_scenario(demo.SCENARIO), console.print)
    point = Point(
        t_ns=S, active_vcpus=4, rate=2.0, run_pcpus=1, run_delay_pcpus=3, spin_pcpus=0.99
    )
    live.second(S, {"mail": point})
    assert "unmanaged" in output.getvalue()
    live.say(21 * S, "mail is \x1b[31mresized")
    fast = dataclasses.replace(point, t_ns=21 * S, rate=588.0, active_vcpus=1)
    live.second(21 * S, {"mail": fast})
    drawn = output.getvalue()
    assert "vcpud is on" in drawn
    assert "588" in drawn
    assert "▅" in drawn, "the mean of two seconds"
    assert "\x1b[31m" not in drawn


def test_sparks_follow_the_values() -> None:
    assert demo_screen.sparks([0, 5, 10], 10) == "▁▅█"
    assert demo_screen.sparks([0, 0], 0) == "▁▁"
