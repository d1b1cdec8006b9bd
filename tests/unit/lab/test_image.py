"""The archive the kernel unpacks, and the script it carries."""

import stat
import subprocess
from pathlib import Path

import pytest

from lab import cpio
from lab.paths import LOCK_HISTOGRAM_SCRIPT


def test_an_archive_has_the_documented_layout() -> None:
    data = cpio.archive([cpio.directory("bin"), cpio.file("bin/x", b"abcde", executable=True)])
    assert len(data) % 4 == 0
    assert data.count(b"070701") == 3
    assert b"TRAILER!!!\0" in data
    header = data[data.index(b"bin/x\0") - 110 :]
    assert int(header[14:22], 16) == stat.S_IFREG | 0o755
    assert int(header[54:62], 16) == 5


def test_the_same_entries_give_the_same_bytes() -> None:
    entries = [cpio.link("a", "b"), cpio.file("b", b"1")]
    assert cpio.archive(entries) == cpio.archive(list(entries))


def histogram(*words: str, tracing: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(LOCK_HISTOGRAM_SCRIPT), *words],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "VCPUD_TRACING": str(tracing)},
    )


@pytest.fixture
def tracing(tmp_path: Path) -> Path:
    """A kernel that has everything, as far as files can tell."""
    for event in ("contention_begin", "contention_end"):
        folder = tmp_path / "events" / "lock" / event
        folder.mkdir(parents=True)
        for name in ("format", "trigger", "hist"):
            (folder / name).touch()
    (tmp_path / "trace").touch()
    (tmp_path / "synthetic_events").touch()
    return tmp_path


@pytest.mark.process
def test_a_wrong_word_is_a_usage_error(tracing: Path) -> None:
    for words in ((), ("on",), ("arm", "twice")):
        done = histogram(*words, tracing=tracing)
        assert done.returncode == 2
        assert "usage" in done.stderr


@pytest.mark.process
def test_each_missing_part_of_the_kernel_is_named(tracing: Path) -> None:
    (tracing / "synthetic_events").unlink()
    assert "CONFIG_SYNTH_EVENTS" in histogram("arm", tracing=tracing).stderr
    (tracing / "events" / "lock" / "contention_begin" / "hist").unlink()
    assert "CONFIG_HIST_TRIGGERS" in histogram("arm", tracing=tracing).stderr
    (tracing / "events" / "lock" / "contention_begin" / "format").unlink()
    done = histogram("arm", tracing=tracing)
    assert done.returncode == 3
    assert "Linux 5.19" in done.stderr


@pytest.mark.process
def test_what_is_not_armed_says_so(tracing: Path) -> None:
    done = histogram("status", tracing=tracing)
    assert (done.returncode, done.stdout) == (1, "not armed\n")
