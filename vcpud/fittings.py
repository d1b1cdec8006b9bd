"""What every run of the loop is fitted with, as a daemon or not: a backend, and recorders."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import structlog

from vcpud.backend import Backend, BackendOptions, open_backend

if TYPE_CHECKING:
    from vcpud.clock import MonotonicClock
    from vcpud.ports import Recorder
    from vcpud.record import CycleRecord
    from vcpud.recording.files import RecordingWriter
    from vcpud.settings import Settings


def open_backend_for(settings: Settings, wall: MonotonicClock, *, writable: bool) -> Backend:
    """Open the backend that the settings name.

    Raises:
        UsageError: There is no such backend.
        UnreachableError: It cannot be opened at all.
    """
    return open_backend(
        settings.backend,
        BackendOptions(
            terms=settings.terms,
            writable=writable,
            now_ns=wall.now_ns,
            wake=wall.wake,
            period_ns=settings.loop.period_ns,
            options=dict(settings.backend_options),
        ),
    )


class FanOut:
    """One `Recorder` for many; what one of them does wrong stays its own."""

    def __init__(self, *recorders: Recorder) -> None:
        self._recorders = recorders
        self._log: Any = structlog.get_logger()
        self._failed: set[str] = set()

    def record(self, record: CycleRecord) -> None:
        for recorder in self._recorders:
            try:
                recorder.record(record)
            except Exception as error:  # noqa: BLE001  the loop must go on whatever a log cannot do
                name = type(recorder).__name__
                if name not in self._failed:
                    self._failed.add(name)
                    with contextlib.suppress(Exception):
                        self._log.exception("recorder.failed", recorder=name, error=str(error))


class Recorded:
    """A `Recorder` that writes a recording, and says once when it cannot and once when it can."""

    def __init__(self, writer: RecordingWriter) -> None:
        self._writer = writer
        self._log: Any = structlog.get_logger()
        self._failed = False

    def record(self, record: CycleRecord) -> None:
        written = self._writer.cycles
        try:
            self._writer.record(record)
        except OSError as error:
            if not self._failed:
                self._log.error("recording.failed", error=str(error))
            self._failed = True
        if self._failed and self._writer.cycles > written:
            self._log.info("recording.recovered", path=str(self._writer.path))
            self._failed = False
