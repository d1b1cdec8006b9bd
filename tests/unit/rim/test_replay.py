"""Replaying: the past decides as it did, and otherwise only where somebody wants it to."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fakes.ports import ListInbox, MemoryLedger
from fakes.runs import SETTINGS, Kept, recorded, writer
from vcpud.backend import BackendOptions, open_backend
from vcpud.cli import main
from vcpud.clock import Interruptible
from vcpud.control import ControlLoop
from vcpud.errors import UsageError, VcpudError
from vcpud.model import Accepted, Mode, Refused, Terms
from vcpud.record import CycleRecord
from vcpud.replay import ReplayClock, ReplayedHypervisor, ReplayInbox, Tape
from vcpud.terms import TermsBook
from vcpud.units import NS_PER_S


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, _ = recorded(tmp_path_factory.mktemp("recording"), 60)
    return path


def replayed(*paths: Path, rounds: int = 1, book: TermsBook | None = None) -> list[CycleRecord]:
    kept = Kept()
    with closing(Tape(paths, rounds=rounds)) as tape:
        ControlLoop(
            clock=ReplayClock(tape),
            hypervisor=ReplayedHypervisor(tape, book),
            ledger=MemoryLedger(),
            inbox=ReplayInbox(tape),
            recorder=kept,
            settings=SETTINGS,
        ).run()
    return kept.cycles


def options(argument: str, mode: Mode = Mode.ENFORCE) -> BackendOptions:
    return BackendOptions(
        terms=TermsBook(default=Terms(mode=mode)),
        writable=True,
        now_ns=lambda: 0,
        wake=lambda: None,
        period_ns=NS_PER_S,
        argument=argument,
    )


def test_the_same_policy_decides_the_same_at_the_same_moments(tmp_path: Path) -> None:
    path, told = recorded(tmp_path, 60)
    again = replayed(path)
    assert [cycle.changes for cycle in again if cycle.changes and not cycle.stopping] == [
        cycle.changes for cycle in told if cycle.changes and not cycle.stopping
    ]
    assert [verdict for cycle in again for verdict in cycle.verdicts] == [
        verdict for cycle in told for verdict in cycle.verdicts
    ]


def test_a_change_that_was_not_made_is_refused(recording: Path) -> None:
    (first, *_) = [cycle for cycle in replayed(recording) if cycle.changes]
    change = first.changes[0].change
    with closing(Tape([recording])) as tape:
        effect = ReplayedHypervisor(tape, None).begin(change)
    assert isinstance(first.changes[0].effect, Accepted)
    assert isinstance(effect, Refused)


def test_terms_of_a_configuration_stand_in_for_those_recorded(recording: Path) -> None:
    observed = replayed(recording, book=TermsBook(default=Terms(mode=Mode.OBSERVE)))
    assert not any(cycle.changes for cycle in observed)
    assert {one.terms.mode for cycle in observed for one in cycle.sample.domains} == {Mode.OBSERVE}


def test_a_recording_told_twice_is_two_lives_on_one_clock(recording: Path) -> None:
    once = replayed(recording)
    twice = replayed(recording, rounds=2)
    assert len([cycle for cycle in twice if not cycle.stopping]) > 1.9 * len(
        [cycle for cycle in once if not cycle.stopping]
    )
    instants = [cycle.began_ns for cycle in twice]
    assert instants == sorted(instants)
    lives = {one.incarnation for cycle in twice for one in cycle.sample.domains}
    assert len(lives) == 2
    assert all(
        abs(one.taken_at_ns - cycle.sample.taken_at_ns) < NS_PER_S
        for cycle in twice
        for one in cycle.sample.domains
    )
    helped = [verdict for cycle in twice for verdict in cycle.verdicts]
    assert len(helped) == 2 * len([verdict for cycle in once for verdict in cycle.verdicts])


def test_what_was_changed_is_given_back_when_the_recording_ends(recording: Path) -> None:
    ledger = MemoryLedger()
    kept = Kept()
    backend = open_backend(f"replay:{recording}", options(""))
    assert backend.clock is not None
    loop = ControlLoop(
        clock=Interruptible(backend.clock),
        hypervisor=backend.hypervisor,
        ledger=ledger,
        inbox=ListInbox(),
        recorder=kept,
        settings=SETTINGS,
    )
    assert loop.run() == ()
    backend.close()
    assert any(cycle.outstanding for cycle in kept.cycles)
    assert not ledger.outstanding()
    assert {len(one.active) for one in kept.cycles[-1].sample.domains} == {4}


def test_a_clock_with_a_speed_keeps_it(recording: Path) -> None:
    slept: list[float] = []
    real_s = [0.0]

    def sleep(for_s: float) -> None:
        slept.append(for_s)
        real_s[0] += for_s

    with closing(Tape([recording])) as tape:
        clock = ReplayClock(tape, 10.0, sleep, lambda: round(real_s[0] * NS_PER_S))
        began_ns = clock.now_ns()
        for _ in range(20):
            clock.wait_until(0)
        passed_s = (clock.now_ns() - began_ns) / NS_PER_S
    assert sum(slept) == pytest.approx(passed_s / 10)


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("", "name a recording"),
        (",speed=2", "name a recording"),
        ("x,speed=fast", "expected a number"),
        ("x,speed=0", "speed must be"),
        ("x,speed=nan", "speed must be"),
        ("x,rounds=0", "rounds must be"),
        ("x,rounds=1.5", "expected a number"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(argument: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        open_backend(f"replay:{argument}", options(""))


def test_a_comma_may_be_part_of_a_name(recording: Path, tmp_path: Path) -> None:
    named = tmp_path / "a,b=c"
    shutil.copy(recording, named)
    backend = open_backend(f"replay:{named},rounds=2", options(""))
    assert len(backend.hypervisor.sample().domains) == 2
    backend.close()


def test_files_out_of_order_are_refused(recording: Path) -> None:
    with pytest.raises(UsageError, match="begins before the file named ahead of it ends"):
        replayed(recording, recording)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recording"):
        Tape([tmp_path])


# ------------------------------------------------------------------------------- the commands


def run(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> tuple[str, str]:
    assert main([str(word) for word in words]) == code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    return shown.out, shown.err


def as_json(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    return json.loads(run(capsys, *words, "-o", "json")[0])


def test_replay_finds_nothing_else_with_what_was_in_force(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = as_json(capsys, "replay", recording)
    assert document["decisions"]["recorded"] == document["decisions"]["same"] == 2
    assert document["differences"] == []
    assert document["outcomes"]["recorded"] == document["outcomes"]["replayed"]
    assert "0 others" in run(capsys, "replay", recording)[0]


def test_replay_shows_where_another_policy_would_decide_otherwise(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = as_json(capsys, "replay", recording, "--policy", "static")
    assert document["decisions"]["only_recorded"] == 2
    assert {one["kind"] for one in document["differences"]} == {"only_recorded"}
    out, _ = run(capsys, "replay", recording, "--policy", "static")
    assert "would not go from 4 to " in out


def test_replay_with_a_configuration_uses_its_policy_and_terms(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "vcpud.yaml"
    file.write_text("policy: {name: spin_feedback}\ndefaults: {mode: enforce, min_vcpus: 3}\n")
    file.chmod(0o600)
    document = as_json(capsys, "--config", file, "replay", recording)
    assert {one["to"] for one in document["differences"] if one["kind"] == "only_replayed"} == {3}


def test_a_folder_and_a_cut_file_are_replayed_as_far_as_they_go(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1.vcpud.gz").write_bytes(recording.read_bytes()[:-300])
    out, err = run(capsys, "replay", tmp_path, code=5)
    assert "cycles, 2 domains" in out
    assert "cut short after cycle" in err
    out, err = run(capsys, "report", tmp_path, code=5)
    assert "vCPU-hours" in out
    assert "cut short after cycle" in err


@pytest.mark.parametrize("verb", ["replay", "report"])
def test_bad_files_end_with_a_message_and_the_documented_code(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.vcpud.gz"
    bad.write_bytes(b"\x1f\x8b\x08 nonsense and more of it")
    assert "damaged" in run(capsys, verb, bad, code=1)[1]
    assert "No such file" in run(capsys, verb, tmp_path / "none", code=1)[1]
    (tmp_path / "empty").mkdir()
    assert "no recording" in run(capsys, verb, tmp_path / "empty", code=2)[1]
    with pytest.raises(SystemExit, match="2"):
        main([verb])


def test_a_policy_that_is_not_there_is_wrong_usage(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no policy" in run(capsys, "replay", recording, "--policy", "x", code=2)[1]


def test_record_writes_what_replay_reads(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    backend = f"replay:{recording}"
    document = as_json(capsys, "--backend", backend, "record", folder, "--for", "30s")
    assert (document["cycles"], document["domains"]) == (30, 2)
    assert as_json(capsys, "replay", folder)["cycles"] == 30


def test_record_into_a_place_that_cannot_be_written_says_so(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "file"
    place.write_text("")
    _, err = run(capsys, "--backend", f"replay:{recording}", "record", place, code=1)
    assert str(place) in err


def test_a_recording_without_a_cycle_is_told_so(tmp_path: Path) -> None:
    writer(tmp_path).close()
    with pytest.raises(UsageError, match="no recording"):
        Tape([tmp_path])
    with pytest.raises(VcpudError, match="cannot be read"):
        Tape([tmp_path / "x"])
