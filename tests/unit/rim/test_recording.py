"""Recordings: what was seen and decided comes back as it was, and bad files do no harm."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import sys
import tempfile
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.crowd import crowd
from fakes.runs import SETTINGS, Kept, collapse, recorded, writer
from vcpud import log, model
from vcpud.counters import VcpuCounters, VcpuSample
from vcpud.demand import HostDemand
from vcpud.fittings import Recorded
from vcpud.model import HostSample, Reason, Refused, SetLive, SetOnline, Trouble
from vcpud.plan import Plan
from vcpud.record import CycleRecord
from vcpud.recording import samples
from vcpud.recording.codec import UnreadableError, plain, read
from vcpud.recording.files import CutError, Recording, RecordingError, found
from vcpud.requests import Asked, Pause, Reload
from vcpud.swift import changer, maker
from vcpud.units import NS_PER_S

DATA = Path(__file__).resolve().parents[2] / "data"


def cycles(seen: list[HostSample]) -> list[CycleRecord]:
    nothing = HostDemand(window_ns=0, pools=(), domains=())
    return [
        CycleRecord(
            cycle=number + 1,
            began_ns=sample.taken_at_ns,
            ended_ns=sample.taken_at_ns + 3,
            period_ns=NS_PER_S,
            policy_name="static",
            sample=sample,
            demand=nothing,
            proposed=Plan(),
        )
        for number, sample in enumerate(seen)
    ]


def same(one: CycleRecord, other: CycleRecord) -> bool:
    """All but what follows from the rest, or is for people only."""
    return all(
        getattr(one, field.name) == getattr(other, field.name)
        for field in dataclasses.fields(CycleRecord)
        if field.name not in ("demand", "domains", "proposed")
    ) and (one.proposed.moves == other.proposed.moves)


def test_everything_that_was_seen_and_decided_comes_back(tmp_path: Path) -> None:
    path, told = recorded(tmp_path)
    recording = Recording(path)
    back = list(recording.cycles())
    assert len(back) == len(told) > 40
    assert all(same(one, other) for one, other in zip(told, back, strict=True))
    assert any(cycle.verdicts for cycle in back)
    assert recording.cut is None
    assert recording.heading.policy == "spin_feedback"


def test_samples_of_a_crowd_come_back(tmp_path: Path) -> None:
    seen = list(crowd(12, 60))
    gone = dataclasses.replace(seen[20], domains=seen[20].domains[1:])
    odd = dataclasses.replace(
        seen[40].domains[3],
        troubles=frozenset({Trouble.HUNG, Trouble.JOB}),
        in_flight=SetOnline(uuid="x", online=frozenset({0, 2})),
        vcpus=VcpuCounters.of([VcpuSample(index=7, run_ns=None, run_delay_ns=5)]),
        guest=None,
        quota_pcpus_per_vcpu=0.5,
    )
    seen[20] = gone
    seen[40] = dataclasses.replace(
        seen[40], domains=(*seen[40].domains[:3], odd, *seen[40].domains[4:]), busy_ns=None
    )
    seen[41] = seen[40]
    out = writer(tmp_path)
    for cycle in cycles(seen):
        out.record(cycle)
    out.close()
    assert out.path is not None
    assert [cycle.sample for cycle in Recording(out.path).cycles()] == seen


def unlike(sample: HostSample, cycle: int) -> HostSample:
    """Two of its domains report what others do not: estimated waits, and not all counters."""
    first, second, *rest = sample.domains
    estimated = VcpuCounters.of(
        VcpuSample(
            index=vcpu.index,
            run_ns=vcpu.run_ns,
            run_delay_ns=vcpu.run_delay_ns,
            run_delay_error_ns=100 * cycle + vcpu.index,
        )
        for vcpu in first.vcpus
    )
    in_part = VcpuCounters.of(
        dataclasses.replace(
            vcpu, run_delay_ns=None if vcpu.index % 2 else vcpu.run_delay_ns, preemptions=None
        )
        for vcpu in second.vcpus
    )
    changed = (
        dataclasses.replace(first, vcpus=estimated),
        dataclasses.replace(second, vcpus=in_part),
    )
    return dataclasses.replace(sample, domains=(*changed, *rest))


def test_counters_that_only_some_report_come_back(tmp_path: Path) -> None:
    seen = [unlike(sample, cycle) for cycle, sample in enumerate(crowd(6, 12))]
    assert isinstance((samples.difference(*seen[1:3]) or [])[2][1], list)
    out = writer(tmp_path)
    list(map(out.record, cycles(seen)))
    out.close()
    assert out.path is not None
    assert [cycle.sample for cycle in Recording(out.path).cycles()] == seen


def test_a_recording_of_format_1_is_read() -> None:
    """It was made by the last version that wrote it, of the same crowd."""
    seen = [unlike(sample, cycle) for cycle, sample in enumerate(crowd(6, 12))]
    older = Recording(DATA / "recording" / "format-1.vcpud.gz")
    assert [cycle.sample for cycle in older.cycles()] == seen


@pytest.mark.parametrize("entry", [[], [0] * 5 + [1], [0] * 5 + ["x"] * 40, "x", {"vcpus": 3}])
def test_damage_in_format_1_is_named(tmp_path: Path, entry: Any) -> None:
    older = (DATA / "recording" / "format-1.vcpud.gz").read_bytes()
    lines = zlib.decompress(older, 31).splitlines()
    line = json.loads(lines[2])
    line[3][2][-1] = entry
    lines[2] = json.dumps(line).encode()
    path = tmp_path / "x.vcpud.gz"
    path.write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    with pytest.raises(RecordingError, match="damaged after cycle"):
        list(Recording(path).cycles())


def test_cycles_and_instructions_are_counted_on(tmp_path: Path) -> None:
    first, second, third = crowd(2, 3)

    def counting(sample: HostSample, cycles: int | None) -> HostSample:
        domains = (
            dataclasses.replace(sample.domains[0], cycles=cycles, instructions=cycles),
            *sample.domains[1:],
        )
        return dataclasses.replace(sample, domains=domains)

    seen = [counting(first, 5), counting(second, 9), counting(third, None)]
    change = samples.difference(seen[0], seen[1])
    assert change is not None
    assert isinstance(change[2][0], list)
    out = writer(tmp_path)
    list(map(out.record, cycles(seen)))
    out.close()
    assert out.path is not None
    assert [cycle.sample for cycle in Recording(out.path).cycles()] == seen


def test_requests_come_back_and_a_reload_does_not_need_its_policy(tmp_path: Path) -> None:
    out = writer(tmp_path)
    asked = Asked(uid=0, at_ns=5)
    pause = Pause(asked=asked, until_ns=9, restore=True)
    (first,) = cycles(list(crowd(1, 1)))
    reload = Reload(asked=asked, settings=SETTINGS)
    out.record(dataclasses.replace(first, requests=(pause, reload)))
    out.close()
    assert out.path is not None
    (back,) = Recording(out.path).cycles()
    assert back.requests == (pause,)


def test_files_are_rotated_and_the_oldest_deleted(tmp_path: Path) -> None:
    out = writer(tmp_path, max_file_bytes=4000, max_files=3)
    told = cycles(list(crowd(5, 200)))
    for cycle in told:
        out.record(cycle)
    out.close()
    files = found([tmp_path])
    assert len(files) == 3
    assert all(file.stat().st_size < 8000 for file in files)
    back = [cycle for file in files for cycle in Recording(file).cycles()]
    assert [cycle.cycle for cycle in back] == list(range(201 - len(back), 201))


def test_a_clock_that_steps_back_does_not_delete_the_file_being_written(tmp_path: Path) -> None:
    for year in (2098, 2099):
        (tmp_path / f"{year}0101T000000.000000Z.vcpud.gz").touch()
    out = writer(tmp_path, max_files=2)
    list(map(out.record, cycles(list(crowd(2, 3)))))
    out.close()
    assert out.path is not None
    assert len(list(Recording(out.path).cycles())) == 3
    assert len(found([tmp_path])) == 2


def test_an_old_file_that_cannot_be_deleted_leaves_no_file_open(tmp_path: Path) -> None:
    (tmp_path / "0.vcpud.gz").mkdir()
    out = writer(tmp_path, max_files=1)
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError, match="directory"):
        out.record(cycles(list(crowd(2, 1)))[0])
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_a_crash_costs_no_more_than_seconds(tmp_path: Path) -> None:
    out = writer(tmp_path)
    for cycle in cycles(list(crowd(3, 30))):
        out.record(cycle)
    assert out.path is not None
    recording = Recording(out.path)
    assert len(list(recording.cycles())) >= 24
    assert isinstance(recording.cut, CutError)
    assert "cut short after cycle" in str(recording.cut)
    out.close()


def test_a_full_disk_ends_the_file_and_another_is_tried_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = writer(tmp_path)
    told = cycles(list(crowd(2, 120)))
    out.record(told[0])

    def full(_fd: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            list(map(out.record, told[1:10]))
    for cycle in told[10:]:
        out.record(cycle)
    out.close()
    assert len(found([tmp_path])) == 2


def test_a_disk_that_is_full_at_the_end_of_a_file_is_recovered_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = writer(tmp_path, max_file_bytes=1)
    told = cycles(list(crowd(2, 120)))
    compressed = zlib.compressobj

    class Last:
        """Fails where the file is ended."""

        def __init__(self, level: int, method: int, wbits: int) -> None:
            self._zip = compressed(level, method, wbits)
            self.compress = self._zip.compress

        def flush(self, mode: int) -> bytes:
            if mode == zlib.Z_FINISH:
                raise OSError(28, "No space left on device")
            return self._zip.flush(mode)

    with monkeypatch.context() as patch:
        patch.setattr(zlib, "compressobj", Last)
        with pytest.raises(OSError, match="No space"):
            out.record(told[0])
    for cycle in told[1:]:
        out.record(cycle)
    out.close()
    assert out.cycles > 1
    assert Recording(found([tmp_path])[-1]).heading.began_ns > told[0].began_ns


def test_a_file_is_for_its_owner_and_group(tmp_path: Path) -> None:
    path, _ = recorded(tmp_path / "new", 3)
    assert path.stat().st_mode & 0o007 == 0
    assert path.parent.stat().st_mode & 0o007 == 0


# ---------------------------------------------------------------------------------- bad files


def attempt(path: Path) -> tuple[str, int]:
    """What the operator is told, and how many cycles there are."""
    told = 0
    try:
        with closing(Recording(path)) as recording:
            for _ in recording.cycles():
                told += 1
    except RecordingError as error:
        return str(error), told
    return str(recording.cut or ""), told


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path, _ = recorded(tmp_path_factory.mktemp("whole"), 20)
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.4, 0.6, 0.95, 0.999])
def test_a_file_cut_short_tells_what_was_whole(tmp_path: Path, whole: bytes, share: float) -> None:
    path = tmp_path / "cut.vcpud.gz"
    path.write_bytes(whole[: int(len(whole) * share)])
    recording = Recording(path)
    assert list(recording.cycles())
    assert recording.cut is not None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cut short before its first line"),
        (b"\x1f\x8b", "cut short before its first line"),
        (b"plain text\n", "damaged, or no recording"),
        (gzip.compress(b"plain text\n"), "not a recording"),
        (gzip.compress(b'{"vcpud recording": 99}\n'), "format 99"),
        (gzip.compress(b'{"vcpud recording": 1}\n'), "not a recording"),
        (gzip.compress(b"[" * 100_000 + b"\n"), "not a recording"),
        (gzip.compress(b""), "not a recording"),
    ],
)
def test_a_file_that_is_no_recording_is_told_so(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "x.vcpud.gz"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=told):
        Recording(path)


def test_a_line_that_would_not_end_is_told_so_before_it_fills_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.vcpud.gz"
    path.write_bytes(gzip.compress(b"[" + b"[]," * (14 << 20), 1))
    with pytest.raises(RecordingError, match="a line without an end"):
        Recording(path)


def test_a_file_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be read: No such file"):
        Recording(tmp_path / "nowhere")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_of_the_lines_is_named_and_never_a_crash(whole: bytes, data: st.DataObject) -> None:
    lines = zlib.decompress(whole, 31).splitlines()
    place = data.draw(st.integers(1, len(lines) - 1))
    line = json.loads(lines[place])
    at = data.draw(st.integers(0, 4))
    junk: Any = data.draw(
        st.sampled_from([None, -1, 1.5, "x", [], {}, [[]], [1, 2, 3], {"is": "HostSample"}])
    )
    line[at] = junk
    if isinstance(json.loads(lines[place])[3], list) and data.draw(st.booleans()):
        line = json.loads(lines[place])
        entry = line[3][2][0]
        if isinstance(entry, list) and data.draw(st.booleans()):
            shorter = data.draw(st.integers(0, max(len(entry) - 1, 0)))
            line[3][2][0] = entry[:shorter] if data.draw(st.booleans()) else [*entry, 7]
        else:
            line[3][2][0] = junk
    lines[place] = json.dumps(line).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.vcpud.gz"
        path.write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
        fault, told = attempt(path)
    assert str(path) in fault or told == len(lines) - 1


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_damage_of_the_bytes_is_named_and_never_a_crash(whole: bytes, at: int, bit: int) -> None:
    damaged = bytearray(whole)
    damaged[at % len(whole)] ^= 1 << bit
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.vcpud.gz"
        path.write_bytes(damaged)
        fault, told = attempt(path)
    assert str(path) in fault or told


# ------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (model.Effect, Refused(Reason.JOB, "migrating")),
        (model.Effect, model.Accepted()),
        (model.Change, SetLive(uuid="u", count=3)),
        (float | None, 0.5),
        (float, 3),
        (tuple[str, int], ("a", 1)),
        (dict[str, tuple[int, ...]], {"a": (1, 2)}),
        (frozenset[Trouble], frozenset({Trouble.JOB})),
    ],
)
def test_values_come_back_with_their_types(kind: Any, value: Any) -> None:
    assert read(kind, json.loads(json.dumps(plain(value)))) == value


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (int, True),
        (int, "1"),
        (str, None),
        (Trouble, "no such"),
        (model.Change, {"is": "SetSomething", "uuid": "u"}),
        (SetLive, {"is": "SetLive"}),
        (frozenset[int], {"0": 1}),
        (tuple[str, int], ["a"]),
        (dict[str, int], [1]),
    ],
)
def test_data_of_another_type_is_refused(kind: Any, data: Any) -> None:
    with pytest.raises(UnreadableError):
        read(kind, data)


def test_what_a_later_version_adds_is_passed_over() -> None:
    data = {"is": "SetLive", "uuid": "u", "count": 2, "colour": "blue"}
    assert read(SetLive, data) == SetLive(uuid="u", count=2)


def test_a_sample_that_only_counted_on_is_a_short_list() -> None:
    first, second = crowd(1, 2)
    change = samples.difference(first, second)
    assert change is not None
    assert samples.SampleReader().next(plain(first)) == first
    assert len(json.dumps(change)) < len(json.dumps(plain(second))) / 3


def test_values_made_swiftly_are_the_same_and_as_frozen() -> None:
    make = maker(VcpuSample)
    made = make(1, 2, 3)
    assert made == VcpuSample(index=1, run_ns=2, run_delay_ns=3)
    assert type(made) is VcpuSample
    assert hash(made) == hash(VcpuSample(index=1, run_ns=2, run_delay_ns=3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.index = 5  # type: ignore[misc]
    with pytest.raises(TypeError, match="not a plain frozen dataclass"):
        maker(dict)


def test_values_changed_swiftly_are_the_same_as_replaced_ones() -> None:
    (sample,) = crowd(1, 1)
    domain = sample.domains[0]
    change = changer(model.DomainSample, "pool", "name")
    assert change(domain, "p", "n") == dataclasses.replace(domain, pool="p", name="n")
    with pytest.raises(TypeError, match="has no"):
        changer(model.DomainSample, "colour")


def test_the_collapse_is_the_same_with_and_without_a_recording(tmp_path: Path) -> None:
    alone = Kept()
    collapse(alone, 20)
    _, told = recorded(tmp_path, 20)
    assert [cycle.changes for cycle in alone.cycles] == [cycle.changes for cycle in told]


def test_a_daemon_says_once_that_it_cannot_record_and_once_that_it_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log.configure("json", "info", environ={}, stream=sys.stderr)
    recorder = Recorded(writer(tmp_path))
    told = cycles(list(crowd(2, 130)))

    def full(_fd: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        list(map(recorder.record, told[:65]))
    list(map(recorder.record, told[65:]))
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events == ["recording.failed", "recording.recovered"]
