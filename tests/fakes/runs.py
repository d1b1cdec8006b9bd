"""Runs of the control loop against the fake host, told to a recorder."""

from __future__ import annotations

from pathlib import Path

from fakes.host import FakeDomain, FakeHost
from fakes.ports import ListInbox, MemoryLedger, SimulatedClock
from vcpud.control import ControlLoop
from vcpud.limits import Limits
from vcpud.model import Mode, Terms
from vcpud.ports import Recorder
from vcpud.record import CycleRecord
from vcpud.recording.files import RecordingWriter
from vcpud.requests import LoopSettings
from vcpud.settings import Recordings
from vcpud.units import NS_PER_S
from vcpud_policies.spin_feedback import SpinFeedback

SETTINGS = LoopSettings(
    period_ns=NS_PER_S,
    policy=SpinFeedback(),
    policy_name="spin_feedback",
    limits=Limits(),
)


class Kept:
    """A `Recorder` that keeps every cycle."""

    def __init__(self, *others: Recorder) -> None:
        self.cycles: list[CycleRecord] = []
        self._others = others

    def record(self, record: CycleRecord) -> None:
        self.cycles.append(record)
        for other in self._others:
            other.record(record)


def collapse(recorder: Recorder, cycles: int = 40, *, calm: int = 0) -> FakeHost:
    """A lock-bound pair that collapses and is brought to one vCPU each; restored at the end.

    Args:
        recorder: Is told of every cycle.
        cycles: So many, and those of the restore.
        calm: Cycles in mode observe before that.
    """
    clock = SimulatedClock()
    host = FakeHost(
        *(
            FakeDomain(name=name, vcpus=4, lock_bound=True, terms=Terms(mode=Mode.OBSERVE))
            for name in ("a", "b")
        ),
        clock=clock,
    )
    loop = ControlLoop(
        clock=clock,
        hypervisor=host,
        ledger=MemoryLedger(),
        inbox=ListInbox(),
        recorder=recorder,
        settings=SETTINGS,
    )

    def enforce() -> None:
        for domain in host.domains.values():
            domain.terms = Terms(mode=Mode.ENFORCE)

    clock.after(calm * NS_PER_S, enforce)
    loop.run(cycles=cycles + calm)
    return host


def writer(folder: Path, max_file_bytes: int = 1 << 20, max_files: int = 3) -> RecordingWriter:
    """A writer into this folder."""
    where = Recordings(directory=folder, max_file_bytes=max_file_bytes, max_files=max_files)
    return RecordingWriter(where, backend="fake", loop=SETTINGS)


def recorded(folder: Path, cycles: int = 40, *, calm: int = 0) -> tuple[Path, list[CycleRecord]]:
    """A recording of the collapse, and what was told to its writer."""
    out = writer(folder)
    kept = Kept(out)
    collapse(kept, cycles, calm=calm)
    out.close()
    assert out.path is not None
    return out.path, kept.cycles
