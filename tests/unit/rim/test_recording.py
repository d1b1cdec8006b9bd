"""Recordings: what was seen and decided comes back as it was, and bad files do no harm."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from fakes.crowd import crowd
from fakes.runs import SETTINGS, Kept, collapse, recorded, writer
from vcpud import log
from vcpud.counters import VcpuCounters, VcpuSample
from vcpud.demand import HostDemand
from vcpud.fittings import Recorded
from vcpud.model import HostSample, SetOnline, Trouble
from vcpud.plan import Plan
from vcpud.record import CycleRecord
from vcpud.recording import samples
from vcpud.recording.files import CutError, Recording, RecordingError, found
from vcpud.requests import Asked, Pause, Reload
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


@pytest.mark.parametrize("link", [True, False])
def test_what_lies_where_a_file_would_begin_is_never_written_into(
    tmp_path: Path, *, link: bool
) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "recordings"
    victim.write_text("as it was")
    folder.mkdir()
    place = folder / "19700101T000001.000000Z.vcpud.gz"
    if link:
        place.symlink_to(victim)
    else:
        place.write_text("as it was")
    out = writer(folder)
    out._wall_ns = lambda: NS_PER_S
    with pytest.raises(OSError, match="File exists"):
        out.record(cycles(list(crowd(2, 1)))[0])
    assert victim.read_text() == place.read_text() == "as it was"


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
