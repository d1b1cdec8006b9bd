"""What is counted as unsteady, on made-up runs; and the command from end to end on a short one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from vcpud import cli
from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory import parallel
from vcpud_simulator.laboratory.compare import stability, suite, watched
from vcpud_simulator.laboratory.compare.changes import Change
from vcpud_simulator.laboratory.compare.stability import Figure
from vcpud_simulator.laboratory.compare.verdict import Verdict
from vcpud_simulator.laboratory.compare.watched import Observed, Settling
from vcpud_simulator.meter import Point

S = NS_PER_S


def change(at_s: int, domain: str = "a", decision: str = "", **more: object) -> Change:
    made = Change(
        at_ns=at_s * S,
        domain=domain,
        decision_id=decision or f"{domain}{at_s}",
        from_vcpus=4,
        to_vcpus=1,
        entitled_pcpus=1.0,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def exchange(at_s: int, *, entitled: float = 4 / 3) -> list[Change]:
    decision = f"exchange{at_s}"
    return [
        change(at_s, "a", decision, turns=True, from_vcpus=2, to_vcpus=1, entitled_pcpus=entitled),
        change(at_s, "b", decision, turns=True, from_vcpus=1, to_vcpus=2, entitled_pcpus=entitled),
    ]


def judged(*changes: Change, settlings: tuple[Settling, ...] = ()) -> dict[str, Figure]:
    run = Observed(
        key="k", seed=1, length_ns=600 * S, changes=changes, settlings=settlings
    )  # fmt: skip
    return {one.key: one for one in stability.figures([run])}


def test_who_does_nothing_is_steady_and_shows_nothing_else() -> None:
    found = judged()
    assert (found.pop("constant").measured, found["learned"].measured) == (0, None)
    assert {one.verdict for one in found.values()} == {Verdict.OPEN}


def test_an_attempt_and_its_undoing_are_two_changes_and_a_third_is_too_many() -> None:
    there_and_back = [change(10), change(30, undoes=True)]
    assert judged(*there_and_back)["constant"].verdict is Verdict.HOLDS
    found = judged(*there_and_back, change(500))["constant"]
    assert (found.measured, found.verdict, found.where) == (3, Verdict.FAILS, "k: a")


def test_what_lies_ten_minutes_apart_does_not_add_up() -> None:
    assert judged(*(change(at) for at in (0, 10, 600, 610)))["constant"].measured == 2


def test_an_exchange_is_a_rotation_and_no_change() -> None:
    found = judged(*exchange(100), *exchange(300), *exchange(500))
    assert found["constant"].measured == 0
    assert found["rotation-apart"].measured == 200
    assert found["rotation-apart"].verdict is Verdict.HOLDS
    assert found["rotation-missing"].measured == pytest.approx(0.25)


def test_to_be_brought_together_is_no_rotation_though_as_much_is_given_as_taken() -> None:
    together = [replace(one, turns=False) for one in exchange(100)]
    assert judged(*together)["constant"].measured == 1
    assert judged(*together)["rotation-missing"].measured is None


def test_rotations_too_soon_or_for_too_little_do_not_pass() -> None:
    soon = judged(*exchange(100), *exchange(219))
    assert soon["rotation-apart"].verdict is Verdict.FAILS
    little = judged(*exchange(100, entitled=1.05))
    assert little["rotation-missing"].verdict is Verdict.FAILS


def timeline(*parts: tuple[int, float]) -> dict[str, list[Point]]:
    """Seconds at a rate, one after the other."""
    rates = [rate for seconds, rate in parts for _ in range(seconds)]
    return {
        "a": [
            Point(
                t_ns=(at + 1) * S,
                active_vcpus=1,
                rate=rate,
                run_pcpus=1.0,
                run_delay_pcpus=0.0,
                spin_pcpus=0.0,
            )
            for at, rate in enumerate(rates)
        ]
    }


ALONE, TOGETHER = (0,), (1,)


def test_settling_is_the_last_time_that_five_seconds_fall_short_of_the_new_state() -> None:
    found = watched.settlings(
        [(0, 60 * S, ALONE), (60 * S, 160 * S, TOGETHER), (160 * S, 260 * S, ALONE)],
        timeline((60, 200.0), (12, 1.0), (88, 100.0), (7, 100.0), (93, 200.0)),
        {"a": 70 * S},
    )
    assert [(one.at_ns // S, one.learned) for one in found] == [
        (0, False), (60, False), (160, True),
    ]  # fmt: skip
    assert [one.took_s for one in found] == pytest.approx([0, 12, 7], abs=1)


def test_a_state_met_again_is_held_to_what_was_reached_in_it_before() -> None:
    found = watched.settlings(
        [
            (0, 60 * S, ALONE),
            (60 * S, 160 * S, TOGETHER),
            (160 * S, 220 * S, ALONE),
            (220 * S, 320 * S, TOGETHER),
        ],
        timeline((60, 200.0), (100, 100.0), (60, 200.0), (100, 1.0)),
        {},
    )
    assert found[3].took_s > 90, "it never got back to where it had been"


@pytest.mark.parametrize(("learned", "took_s", "holds"), [
    (True, 10.0, True), (True, 11.0, False), (False, 11.0, True), (False, 121.0, False),
])  # fmt: skip
def test_what_was_learned_must_go_faster(learned: bool, took_s: float, holds: bool) -> None:
    one = Settling(at_ns=60 * S, domain="a", took_s=took_s, learned=learned)
    found = judged(settlings=(one,))
    verdict = found["learned" if learned else "encounter"].verdict
    assert verdict is (Verdict.HOLDS if holds else Verdict.FAILS)


def test_the_scenarios_cover_constant_load_remainders_and_steps() -> None:
    found = [suite.load(key) for key in watched.scenarios()]
    steps = [one for one in found if watched.STEP_TAG in one.tags]
    assert steps
    assert all(one.warmup_ns + one.duration_ns >= 600 * S for one in found)
    assert any((sum(plan.copies for plan in one.domains), one.pcpus) == (3, 4) for one in found), (
        "whose entitlements are no whole numbers"
    )


def test_the_command_says_what_it_measured_and_fails_where_a_figure_does_not_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "scenarios", lambda: ("stability_computing",))
    words = ["compare", "--stability", "--duration", "2s", "--jobs", "1", "--out", str(tmp_path)]
    assert cli.main([*words, "-o", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    verdicts = {one["id"]: one["verdict"] for one in said["policies"]["adaptive"]}
    assert verdicts.pop("constant") == "holds"
    assert set(verdicts.values()) == {"not judged"}, "two seconds show no rotation and no step"
    assert json.loads((tmp_path / "stability.json").read_text()) == said
    monkeypatch.setattr(stability, "MOST_CHANGES", -1.0)
    assert cli.main(words) == 1
    said = capsys.readouterr()
    assert re.search("FAILS +adaptive: changes of a domain", said.out)
    assert "adaptive: constant fails" in said.err
    assert cli.main(["compare", "kernel_lock", "--stability"]) == 2


def test_of_vcpuds_own_policy_every_figure_must_have_been_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = Observed(key="k", seed=1, length_ns=600 * S, changes=(), settlings=())
    monkeypatch.setattr(
        parallel, "run_all", lambda _function, wanted, **_how: dict.fromkeys(wanted, idle)
    )
    words = ["compare", "--stability", "--jobs", "1", "--out", str(tmp_path)]
    assert cli.main(words) == 1
    assert "rotation-apart not judged" in capsys.readouterr().err
    assert cli.main([*words, "--policy", "static"]) == 0, "of others nothing is promised"
