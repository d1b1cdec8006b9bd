"""The claims of the literature on results that are made up, and the command on the cheapest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vcpud.cli import main
from vcpud.units import NS_PER_S
from vcpud_simulator import runner
from vcpud_simulator.laboratory.pace import UNBOUND
from vcpud_simulator.laboratory.study.literature import (
    PREFIX,
    Case,
    Claim,
    Judged,
    Seen,
    judge,
    text,
)
from vcpud_simulator.laboratory.study.literature_claims import CLAIMS
from vcpud_simulator.laboratory.study.literature_runs import Task, simulate, tasks
from vcpud_simulator.reading import scenario_names
from vcpud_simulator.scenario import Scenario

SHAKEN = (1.0, 1.001, 0.999)
BY_ID: Mapping[str, Claim] = {claim.id: claim for claim in CLAIMS}
DOMAINS = ("parsec", "server", "server-1", "busy", "ebizzy", "guest", "locks", "schbench", "rogue")


def seen(rate: float = 100.0, response_us: int = 1_000) -> Seen:
    """All domains of all scenarios at once, each the same."""
    return Seen(
        rates=dict.fromkeys(DOMAINS, rate),
        run_pcpus=dict.fromkeys(DOMAINS, rate / 100),
        responses_ns=dict.fromkeys(DOMAINS, dict.fromkeys((50, 95, 99), response_us * 1_000)),
        switches=round(1e6 * rate),
    )


def judged(
    name: str, figure: Callable[[Case], float], shaken: tuple[float, ...] = SHAKEN
) -> Judged:
    """A claim where each case has this rate, and answers the sooner the higher it is.

    Chance is a factor by seed, another one for the next case.
    """
    claim = BY_ID[name]
    runs = {}
    for index, case in enumerate(claim.cases):
        turn = index % len(shaken)
        rates = [figure(case) * by for by in (*shaken[turn:], *shaken[:turn])]
        runs[case] = [seen(rate, round(1e6 / rate)) for rate in rates]
    return judge(claim, runs)


def by_name(rates: Mapping[str, float]) -> Callable[[Case], float]:
    return lambda case: rates[case.name]


def gains(*found: float) -> Callable[[Case], float]:
    """The governor's gain by how slowly the neighbour of L9 toggles."""
    by_period = dict(zip(("l9_2s", "l9_5s", "l9_10s", "l9_20s", "l9_60s"), found, strict=True))
    return lambda case: 100 * (by_period.get(case.name, 1.0) if case.governed else 1.0)


L3 = {"l3_balance": 100.0, "l3_cfs": 50.0, "l3_coscheduled": 100.0}
L4 = {"l4_one": 100.0, "l4_two": 30.0, "l4_three": 13.0}
L5 = {"l5_files_aware": 170.0, "l5_files_unaware": 100.0}
L12 = {"l12_sampled": 95.0, "l12_accurate": 50.0}


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("L3", by_name(L3)),
        ("L4", by_name(L4)),
        ("L5", by_name(L5)),
        ("L9", gains(1.0, 1.05, 1.1, 1.15, 1.2)),
        ("L12", by_name(L12)),
    ],
)
def test_a_claim_holds_where_every_bound_is_met(
    name: str, figure: Callable[[Case], float]
) -> None:
    assert judged(name, figure).verdict == "holds"


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("L3", by_name(L3 | {"l3_cfs": 200.0})),
        ("L3", by_name(L3 | {"l3_coscheduled": 120.0})),
        ("L4", by_name(L4 | {"l4_two": 60.0})),
        ("L4", by_name(L4 | {"l4_three": 40.0})),
        ("L4", by_name(L4 | {"l4_three": 33.0})),
        ("L5", by_name(L5 | {"l5_files_aware": 90.0})),
        ("L9", gains(1.2, 1.15, 1.1, 1.05, 1.0)),
        ("L9", gains(1.0, 1.2, 1.1, 1.25, 1.3)),
        ("L12", by_name(L12 | {"l12_sampled": 60.0})),
        ("L12", by_name(L12 | {"l12_accurate": 60.0})),
    ],
)
def test_a_claim_fails_where_one_bound_is_missed(
    name: str, figure: Callable[[Case], float]
) -> None:
    assert judged(name, figure).verdict == "fails"


@pytest.mark.parametrize("name", sorted(BY_ID.keys() - {"L2", "L12"}))
def test_nothing_is_attributed_where_there_is_no_effect_beside_its_error(name: str) -> None:
    figure = by_name(L4 | {"l4_two": 50.0, "l4_three": 25.0}) if name == "L4" else lambda _: 100.0
    assert judged(name, figure, (1.1, 0.9, 1.0)).verdict == "not attributable"


def test_an_effect_of_exactly_none_is_not_taken_for_one() -> None:
    assert judged("L5", lambda _: 100.0, (1.0, 1.0, 1.0)).verdict == "fails"


def test_one_seed_says_nothing_of_its_error() -> None:
    found = judged("L12", by_name(L12), (1.0,))
    assert found.verdict == "not attributable"
    assert found.document()["interval"] == [None, None]


def test_a_claim_without_a_bound_is_reported() -> None:
    found = judged("L2", lambda case: 150.0 if case.online else 100.0).document()
    assert (found["verdict"], found["bound"]) == ("reported", None)
    assert found["measured"] == pytest.approx(1.5, rel=0.02)


def test_l11_is_fewer_switches_and_more_done() -> None:
    claim = BY_ID["L11"]
    on, off = claim.cases

    def with_score(rate: float, switches: int) -> list[Seen]:
        one = {"server-1": rate, "busy": rate}
        answers = {"server-1": dict.fromkeys((50, 95, 99), 1_000)}
        return [
            Seen(rates=one, run_pcpus=one, responses_ns=answers, switches=switches + seed)
            for seed in range(3)
        ]

    base = with_score(100.0, 10_000)
    assert judge(claim, {on: with_score(101.0, 7_000), off: base}).verdict == "holds"
    assert judge(claim, {on: with_score(99.0, 7_000), off: base}).verdict == "fails"
    assert judge(claim, {on: with_score(101.0, 11_000), off: base}).verdict == "fails"


def test_the_verdict_shown_is_that_of_the_figure_that_decides() -> None:
    found = judged("L12", by_name(L12 | {"l12_accurate": 60.0})).document()
    assert found["bound"] == 0.55
    assert found["measured"] == pytest.approx(0.6, rel=0.01)
    assert [figure["verdict"] for figure in found["figures"]] == ["holds", "fails"]


def test_every_scenario_of_the_literature_belongs_to_the_claim_it_is_named_after() -> None:
    used = {PREFIX + case.name: claim.id for claim in CLAIMS for case in claim.cases}
    there = {name for name in scenario_names() if name.startswith(PREFIX)}
    assert used.keys() == there
    assert all(name.split("_")[1].upper() == claim for name, claim in used.items())


def test_the_longest_runs_come_first_and_no_run_is_made_twice() -> None:
    found = tasks(CLAIMS, 2)
    assert len(set(found)) == len(found) == 2 * sum(len(claim.cases) for claim in CLAIMS)
    assert found[0].case.name == "l9_60s"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Scenario, dict[str, Any]]]:
    """What the runner is asked for; it runs nothing."""
    found: list[tuple[Scenario, dict[str, Any]]] = []
    nothing = SimpleNamespace(policy_failed="", domains={})

    def run(scenario: Scenario, **options: Any) -> SimpleNamespace:
        found.append((scenario, options))
        return nothing

    monkeypatch.setattr(runner, "run", run)
    return found


def test_the_governor_decides_once_a_second_where_it_is_asked_to_and_only_there(
    asked: list[tuple[Scenario, dict[str, Any]]],
) -> None:
    for task in tasks([BY_ID["L9"]], 1):
        simulate(task)
        scenario, options = asked.pop()
        assert scenario.name == PREFIX + task.case.name
        assert (options["policy"] is not None) == task.case.governed
        if task.case.governed:
            assert options["limits"] == UNBOUND, "nothing of vcpud's adds to its own pace"
            assert options["policy"].interval_ns == scenario.period_ns == NS_PER_S
        period_ns = getattr(scenario.domains[1].workload, "period_ns", 0)
        assert (options["duration_ns"] or scenario.duration_ns) % period_ns == 0


def test_the_governor_changes_what_comes_of_a_run() -> None:
    [governed, unmanaged] = (
        simulate(Task(case=replace(case, window_ns=5 * NS_PER_S), seed=1, definition=""))
        for case in BY_ID["L9"].cases[-2:]
    )
    assert governed.rates != unmanaged.rates
    assert set(governed.responses_ns["schbench"]) == {50, 95, 99}


def test_a_constant_width_is_kept(asked: list[tuple[Scenario, dict[str, Any]]]) -> None:
    for task in tasks([BY_ID["L2"]], 1):
        simulate(task)
    assert [{one.online for one in scenario.domains} for scenario, _ in asked] == [{6}, {None}]


def test_a_policy_that_raises_is_not_taken_for_a_governor(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = SimpleNamespace(policy_failed="it failed", domains={})
    monkeypatch.setattr(runner, "run", lambda *_, **__: broken)
    with pytest.raises(RuntimeError, match="it failed"):
        simulate(tasks([BY_ID["L9"]], 1)[0])


def literature(out: Path, *words: str) -> int:
    return main(["study", "--literature", "--jobs", "1", "--out", str(out), *words])


def test_the_rogue_of_l12_is_measured_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert literature(tmp_path, "--only", "L12", "--seeds", "2", "-o", "json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "literature.json").read_text())
    [claim] = printed["claims"]
    assert (claim["id"], claim["verdict"]) == ("L12", "holds")
    assert [round(figure["measured"], 2) for figure in claim["figures"]] == [0.95, 0.5]
    assert literature(tmp_path, "--only", "L12", "--seeds", "2", "--resume") == 0
    table = capsys.readouterr().out
    assert "L12  HOLDS" in table
    assert "literature.json" in table


@pytest.mark.parametrize(
    "words",
    [
        ("--literature", "--only", "L12,L99"),
        ("--literature", "--only", ""),
        ("--literature", "--quick"),
        ("--literature", "--widths", "2"),
        ("--only", "L12"),
    ],
)
def test_what_has_no_meaning_is_a_mistake_of_usage(
    tmp_path: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "--out", str(tmp_path), *words]) == 2
    assert "--" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_reported_claim_has_a_line_without_a_bound() -> None:
    shown = text([judged("L2", lambda _: 100.0)])
    assert "L2  REPORTED" in shown
    assert "<=" not in shown
