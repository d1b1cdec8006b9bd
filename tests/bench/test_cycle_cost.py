"""What a cycle costs beside what its readings cost, for a daemon that watches and for a replay.

Yardstick of either is the decoding of the same readings from JSON, which is C and makes as many
values: in its place stands libvirt's answer for the daemon, the recording itself for the replay.
Figures are ratios of CPU times of one run, the least of many turns each: whatever else the machine
does only ever adds. What is asserted is far enough from what is measured for any machine.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from soak.cost import record_crowd
from unit.hypervisor.stand_in import Guest, StandIn, StandInLink
from vcpud.backend import BackendOptions
from vcpud.clock import MonotonicClock
from vcpud.control import ControlLoop
from vcpud.fittings import FanOut
from vcpud.history import History
from vcpud.hypervisor.kvm import KvmHypervisor
from vcpud.hypervisor.link import Row
from vcpud.hypervisor.options import LibvirtOptions
from vcpud.hypervisor.proc import ProcFiles
from vcpud.limits import Limits
from vcpud.log import LogRecorder
from vcpud.memory import MemoryLedger, NoRequests
from vcpud.metrics import Metrics
from vcpud.model import Mode, Terms
from vcpud.notify import Notifier
from vcpud.policy import load
from vcpud.recording.comparison import Comparison
from vcpud.replay import ReplayClock, ReplayedHypervisor, ReplayInbox, Tape
from vcpud.requests import LoopSettings
from vcpud.status import LatestCycle
from vcpud.terms import TermsBook
from vcpud.units import NS_PER_S

DOMAINS = 100
TURNS = 60
WARM_UP = 5
SETTINGS = LoopSettings(
    period_ns=NS_PER_S,
    policy=load("spin_feedback", {}),
    policy_name="spin_feedback",
    limits=Limits(),
)
Figures = dict[str, Any]


def least_s(turn: Callable[[], object], turns: int = TURNS) -> float:
    """CPU time of the quickest turn, all threads together."""
    found = []
    for _ in range(turns):
        began_s = time.process_time()
        turn()
        found.append(time.process_time() - began_s)
    return min(found[WARM_UP:])


class Paused(StandIn):
    """A libvirt whose domains are all paused, and which makes its rows anew for every call."""

    def __init__(self) -> None:
        super().__init__(
            *(Guest(f"{n:032x}", number=n + 1, state=3, agent="") for n in range(DOMAINS))
        )
        rows = [guest.row(counters=True).raw for guest in self.guests.values()]
        self.text = json.dumps(rows)

    def open(self, *, writable: bool) -> StandInLink:
        return PausedLink(self, writable=writable)

    def rows(self) -> list[Row]:
        made = zip(self.guests.values(), json.loads(self.text), strict=True)
        return [Row(guest.uuid, guest.number, raw) for guest, raw in made]


class PausedLink(StandInLink):
    """One connection to it."""

    def __init__(self, library: Paused, *, writable: bool) -> None:
        super().__init__(library, writable=writable)
        self._paused = library

    def bulk(self, *, counters: bool) -> list[Row]:
        del counters
        return self._paused.rows()


@pytest.fixture
def quiet() -> Iterator[None]:
    """Log lines cost what they cost, and are read by nobody."""
    with open("/dev/null", "w") as nowhere:  # noqa: PTH123
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=nowhere))
        yield
        structlog.reset_defaults()


@pytest.mark.usefixtures("quiet")
def test_a_cycle_over_paused_domains_costs_a_few_times_the_reading_of_them(
    figures: Figures,
) -> None:
    clock, library = MonotonicClock(), Paused()
    hypervisor = KvmHypervisor(
        library,
        ProcFiles(Path("/")),
        BackendOptions(
            terms=TermsBook(default=Terms(mode=Mode.ENFORCE)),
            writable=False,
            now_ns=clock.now_ns,
            wake=clock.wake,
            period_ns=NS_PER_S,
        ),
        LibvirtOptions(),
    )
    try:
        loop = ControlLoop(
            clock=clock,
            hypervisor=hypervisor,
            ledger=MemoryLedger(),
            inbox=NoRequests(),
            recorder=FanOut(
                LatestCycle(), History(), Metrics("bench"), LogRecorder(), Notifier({})
            ),
            settings=SETTINGS,
        )
        assert least_s(library.rows) > 0
        cycle_s = least_s(loop.cycle)
        assert len(loop.cycle().domains) == DOMAINS
    finally:
        hypervisor.close()
        clock.close()
    figures["paused_cycle_over_reading"] = ratio = round(cycle_s / least_s(library.rows), 2)
    figures["paused_cycle_us_a_domain"] = round(1e6 * cycle_s / DOMAINS, 2)
    assert ratio <= 8


def test_a_replayed_cycle_costs_a_few_times_the_decoding_of_its_recording(
    tmp_path: Path, figures: Figures
) -> None:
    path = record_crowd(tmp_path, DOMAINS, TURNS + 2)
    lines = zlib.decompress(path.read_bytes(), 31).splitlines()[2:]
    texts = iter(lines[:TURNS])
    decoded_s = least_s(lambda: json.loads(next(texts)))
    tape = Tape([path])
    clock = ReplayClock(tape)
    loop = ControlLoop(
        clock=clock,
        hypervisor=ReplayedHypervisor(tape, None),
        ledger=MemoryLedger(),
        inbox=ReplayInbox(tape),
        recorder=FanOut(Comparison(lambda: tape.current)),
        settings=SETTINGS,
    )

    def cycle() -> None:
        clock.wait_until(0)
        loop.cycle()

    cycle_s = least_s(cycle)
    tape.close()
    figures["replayed_cycle_over_decoding"] = ratio = round(cycle_s / decoded_s, 2)
    figures["replayed_cycle_us_a_domain"] = round(1e6 * cycle_s / DOMAINS, 2)
    assert ratio <= 16
