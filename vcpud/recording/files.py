"""The files of a recording: written so that a crash costs seconds, read so that nothing harms.

Names are times, so that they sort. A file that has reached its size is closed and the next begun;
the oldest beyond the number that is kept are deleted.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcpud.demand import HostDemand
from vcpud.errors import PartialError, UsageError, VcpudError
from vcpud.limits import Foreign, Limits
from vcpud.model import HostSample
from vcpud.record import CycleRecord
from vcpud.recording import older, samples
from vcpud.recording.codec import CycleReader, CycleWriter, UnreadableError, plain, read
from vcpud.swift import maker
from vcpud.text import printable
from vcpud.units import NS_PER_S
from vcpud.version import version

if TYPE_CHECKING:
    from vcpud.requests import LoopSettings
    from vcpud.settings import Recordings

ENDING = ".vcpud.gz"
_FORMATS = (older.FORMAT, samples.FORMAT)
_GZIP = 31
_LEVEL = 1
"""Digits of differences hardly compress; trying harder costs more than the cycle it records."""
_FLUSH_NS = 5 * NS_PER_S
_RETRY_NS = 60 * NS_PER_S
_CHUNK = 1 << 18
_MAX_LINE = 1 << 25
"""As values it takes many times as much memory."""
_WRONG = (
    UnreadableError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
)
_NO_DEMAND = HostDemand(window_ns=0, pools=(), domains=())
_cycle = maker(CycleRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """The first line of a file.

    Attributes:
        version: Of the vcpud that wrote it.
        wall_ns: The time of day at `began_ns`, since 1970.
        began_ns: The first cycle, on the clock of the recording.
        period_ns: Spacing of cycles.
        policy: The policy in force.
        options: What was configured of it.
        limits: What the guard enforced.
        foreign: What followed on a change that somebody else made.
        backend: What was recorded.
    """

    version: str
    wall_ns: int
    began_ns: int
    period_ns: int
    policy: str
    options: dict[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    foreign: Foreign = Foreign.ADOPT
    backend: str = ""


class RecordingError(VcpudError):
    """A recording cannot be read."""


class CutError(PartialError):
    """A recording ends in the middle; what came before was whole."""


# ------------------------------------------------------------------------------------ writing


class RecordingWriter:
    """A `Recorder` that writes everything down."""

    def __init__(
        self,
        where: Recordings,
        *,
        backend: str,
        loop: LoopSettings,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Prepare; the first file is begun with the first cycle.

        Args:
            where: The folder and the bounds.
            backend: What is recorded, for the heading.
            loop: The configuration in force, for the heading.
            wall_ns: The time of day.
        """
        self._where = where
        self._backend = backend
        self._loop = loop
        self._wall_ns = wall_ns
        self._file: _Out | None = None
        self._retry_at_ns = 0
        self.path: Path | None = None
        self.cycles = 0

    def record(self, record: CycleRecord) -> None:
        if self._file is None:
            if record.began_ns < self._retry_at_ns:
                return
            self._retry_at_ns = record.began_ns + _RETRY_NS
            self._file = self._begun(record)
        try:
            self._file.write(record)
        except OSError:
            # A full disk: what was written stands, and another file is tried in a while.
            self._file.abandon()
            self._file = None
            raise
        if self._file.size >= self._where.max_file_bytes:
            self.close()
            self._retry_at_ns = 0
        self.cycles += 1

    def close(self) -> None:
        """End the file properly."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _begun(self, record: CycleRecord) -> _Out:
        folder = self._where.directory
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        wall_ns = self._wall_ns()
        # Before another one is opened: what cannot be deleted must not leave it open.
        old = sorted(folder.glob(f"*{ENDING}"))
        for one in old[: max(0, len(old) + 1 - self._where.max_files)]:
            one.unlink(missing_ok=True)
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(wall_ns // NS_PER_S))
        path = folder / f"{stamp}.{wall_ns % NS_PER_S // 1000:06d}Z{ENDING}"
        heading = Heading(
            version=version(),
            wall_ns=wall_ns,
            began_ns=record.began_ns,
            period_ns=record.period_ns,
            policy=record.policy_name,
            options=self._loop.policy_options,
            limits=self._loop.limits,
            foreign=self._loop.foreign,
            backend=self._backend,
        )
        out = _Out(path, heading)
        self.path = path
        return out


class _Out:
    """One file being written."""

    def __init__(self, path: Path, heading: Heading) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o640)
        self._zip = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._cycles = CycleWriter()
        self._before: HostSample | None = None
        self._flushed_ns = heading.began_ns
        self.size = 0
        try:
            self._put({"vcpud recording": samples.FORMAT, **plain(heading)})
            self._sync()
        except BaseException:
            self.abandon()
            raise

    def write(self, record: CycleRecord) -> None:
        sample = record.sample
        change = None if self._before is None else samples.difference(self._before, sample)
        self._before = sample
        seen = plain(sample) if change is None else change
        times = [record.cycle, record.began_ns, record.ended_ns - record.began_ns]
        self._put([*times, seen, self._cycles.told(record)])
        if record.began_ns - self._flushed_ns >= _FLUSH_NS:
            self._flushed_ns = record.began_ns
            self._sync()

    def close(self) -> None:
        try:
            self._write(self._zip.flush(zlib.Z_FINISH))
        finally:
            self.abandon()

    def abandon(self) -> None:
        os.close(self._fd)

    def _put(self, line: Any) -> None:
        text = json.dumps(line, separators=(",", ":"), ensure_ascii=True) + "\n"
        self._write(self._zip.compress(text.encode()))

    def _sync(self) -> None:
        self._write(self._zip.flush(zlib.Z_SYNC_FLUSH))

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]
        self.size += len(data)


# ------------------------------------------------------------------------------------ reading


class Recording:
    """One file being read."""

    def __init__(self, path: Path) -> None:
        """Open it and read its heading.

        Raises:
            RecordingError: It is not a recording, or not one that this vcpud can read.
        """
        self.path = path
        self.cut: CutError | None = None
        try:
            self._lines = _lines(path, path.open("rb"))
            line = next(self._lines, None)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
        except CutError as error:
            raise RecordingError(f"{path}: cut short before its first line was whole") from error
        try:
            self.heading = self._headed(line)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file; reading it to its end does so as well."""
        self._lines.close()

    def _headed(self, line: bytes | None) -> Heading:
        try:
            data = json.loads(line or b"")
            number = data.pop("vcpud recording")
            if number in _FORMATS:
                self._form: int = number
                heading: Heading = read(Heading, data)
                return heading
        except _WRONG as error:
            raise RecordingError(f"{self.path}: not a recording of vcpud") from error
        raise RecordingError(
            f"{self.path}: written in format {printable(str(number))}, this vcpud reads "
            f"{_FORMATS[0]} to {_FORMATS[-1]}"
        )

    def cycles(self, shift_ns: int = 0, life: str = "") -> Iterator[CycleRecord]:
        """Every cycle, without its demand, which follows from the samples.

        Where the file ends in the middle, `cut` says so afterwards.

        Args:
            shift_ns: Tell it as if it had happened so much later.
            life: Added to the incarnation of every domain.

        Raises:
            RecordingError: A line is not what vcpud writes.
        """
        reader = CycleReader()
        sample_of = samples.SampleReader(shift_ns, life, form=self._form)
        cycle = 0
        try:
            for line in self._lines:
                cycle, began_ns, took_ns, seen, told = json.loads(line)
                yield _cycle(
                    cycle=cycle,
                    began_ns=began_ns + shift_ns,
                    ended_ns=began_ns + shift_ns + took_ns,
                    sample=sample_of.next(seen),
                    demand=_NO_DEMAND,
                    **reader.words(told),
                )
        except CutError as error:
            self.cut = CutError(f"{self.path}: cut short after cycle {cycle}: {error}")
        except _WRONG as error:
            raise RecordingError(
                f"{self.path}: damaged after cycle {printable(str(cycle))}: "
                f"{printable(str(error), 200)}"
            ) from error


def _lines(path: Path, source: Any) -> Generator[bytes]:
    """Whole lines of a gzip'd file, in bounded memory.

    Raises:
        CutError: It ends in the middle.
        RecordingError: It is not gzip, or damaged.
    """
    unzip = zlib.decompressobj(_GZIP)
    rest = b""
    with source:
        while data := source.read(_CHUNK):
            while data:
                try:
                    text = unzip.decompress(data, _CHUNK << 4)
                except zlib.error as error:
                    raise RecordingError(f"{path}: damaged, or no recording: {error}") from error
                data = unzip.unconsumed_tail
                *whole, rest = (rest + text).split(b"\n")
                yield from whole
                if len(rest) > _MAX_LINE:
                    raise RecordingError(f"{path}: no recording: a line without an end")
            if unzip.eof:
                break
    if not unzip.eof or rest:
        raise CutError("the end is missing: it is still being written, or vcpud died")


def found(paths: Iterable[Path]) -> list[Path]:
    """Files as named, and those in the folders among them, oldest first.

    Raises:
        UsageError: A folder holds none.
    """
    files = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.glob(f"*{ENDING}"))
            if not inside:
                raise UsageError(f"{path}: no recording (*{ENDING}) in this folder")
            files += inside
        else:
            files.append(path)
    return files
