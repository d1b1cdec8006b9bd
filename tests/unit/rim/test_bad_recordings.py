"""Recordings that are cut short, damaged, or none."""

from __future__ import annotations

import gzip
import json
import tempfile
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.runs import recorded
from vcpud.recording.files import Recording, RecordingError


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
