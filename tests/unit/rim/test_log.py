"""The log: one line per change, each trouble once, and nothing a guest could forge."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import structlog

from fakes.host import FakeDomain, FakeHost
from fakes.ports import ListInbox, MemoryLedger, SimulatedClock
from vcpud import log
from vcpud.control import ControlLoop
from vcpud.dryrun import DryRun
from vcpud.errors import LedgerError
from vcpud.events import EventKind
from vcpud.fittings import FanOut
from vcpud.limits import Limits
from vcpud.log import LogRecorder
from vcpud.model import Method, Mode, Reason, Terms, Trouble
from vcpud.policy import load
from vcpud.record import CycleRecord
from vcpud.requests import Asked, LoopSettings, Pause
from vcpud.units import NS_PER_S

ENFORCE = Terms(mode=Mode.ENFORCE)


class Stage:
    """A pair of lock-bound domains under the real loop, and what was logged of it."""

    def __init__(self, *, dry: bool = False, name: str = "db") -> None:
        self.stream = io.StringIO()
        log.configure("json", "debug", environ={}, stream=self.stream)
        self.clock = SimulatedClock()
        self.db = FakeDomain(name=name, vcpus=4, lock_bound=True, terms=ENFORCE)
        self.web = FakeDomain(name="web", vcpus=4, lock_bound=True, terms=ENFORCE)
        self.host = FakeHost(self.db, self.web, clock=self.clock)
        self.ledger = MemoryLedger()
        self.recorder = LogRecorder()
        self.inbox = ListInbox()
        self.loop = ControlLoop(
            clock=self.clock,
            hypervisor=DryRun(self.host) if dry else self.host,
            ledger=self.ledger,
            inbox=self.inbox,
            recorder=self,
            settings=LoopSettings(
                period_ns=NS_PER_S,
                policy=load("spin_feedback", {}),
                policy_name="spin_feedback",
                limits=Limits(),
            ),
        )
        self.records: list[CycleRecord] = []

    def record(self, record: CycleRecord) -> None:
        self.records.append(record)
        self.recorder.record(record)

    def play(self, cycles: int) -> None:
        for _ in range(cycles):
            deadline_ns = self.clock.now_ns() + NS_PER_S
            while self.clock.now_ns() < deadline_ns:
                self.clock.wait_until(deadline_ns)
            self.loop.cycle()

    def lines(self, event: str | None = None, level: str | None = None) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [
            line
            for line in found
            if event in (None, line["event"]) and level in (None, line["level"])
        ]


@pytest.fixture(autouse=True)
def _plain_structlog() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_a_change_is_one_line_with_everything_that_explains_it() -> None:
    stage = Stage()
    stage.play(12)
    changes = stage.lines("vcpu.change", "info")
    begun = [change for change in stage.host.begun if change.uuid == stage.db.uuid]
    mine = [line for line in changes if line["uuid"] == stage.db.uuid]
    assert len(mine) == len(begun) >= 1
    first = mine[0]
    assert (first["domain"], first["from"], first["method"]) == ("db", 4, "guest_agent")
    assert first["to"] < 4
    assert "lock wait" in first["reason"]
    verdict = stage.lines("verdict", "info")[0]
    assert verdict["decision_id"] in {line["decision_id"] for line in changes}


def test_a_quiet_host_says_nothing_at_info() -> None:
    stage = Stage()
    stage.play(30)
    before = len(stage.lines(level="info"))
    stage.play(20)
    assert len(stage.lines(level="info")) == before


def test_an_unplug_that_may_still_come_is_said_once_and_its_end_too() -> None:
    stage = Stage()
    stage.db.method = Method.HOTPLUG
    stage.db.fail = Reason.TIMEOUT
    stage.db.fail_unplugs_only = True
    stage.play(60)
    (said,) = stage.lines("domain.unplug.pending", "warning")
    assert said["domain"] == "db"
    assert not stage.lines("domain.unplug.settled")
    stage.host.reboot(stage.db)
    stage.play(2)
    assert len(stage.lines("domain.unplug.settled", "info")) == 1


def test_a_trouble_is_said_once_and_its_end_too() -> None:
    stage = Stage()
    stage.db.troubles = frozenset({Trouble.AGENT_SILENT})
    stage.play(5)
    stage.db.troubles = frozenset()
    stage.play(3)
    (held,) = stage.lines("signal.hold")
    assert (held["domain"], held["troubles"]) == ("db", ["agent_silent"])
    assert len(stage.lines("signal.ok")) == 1


def test_a_merely_observed_domain_does_not_complain_of_what_it_lacks() -> None:
    stage = Stage()
    stage.db.terms = Terms(mode=Mode.OBSERVE)
    stage.db.troubles = frozenset({Trouble.AGENT_MISSING, Trouble.METADATA_INVALID})
    stage.play(2)
    assert [line["troubles"] for line in stage.lines("signal.hold")] == [["metadata_invalid"]]


def test_a_lost_connection_is_said_once_and_its_return_too() -> None:
    stage = Stage()
    stage.play(2)
    stage.host.connected = False
    stage.play(3)
    stage.host.connected = True
    stage.play(2)
    assert len(stage.lines("libvirt.disconnected", "warning")) == 1
    assert len(stage.lines("libvirt.connected")) == 2


def test_a_change_that_fails_is_a_warning() -> None:
    stage = Stage()
    stage.db.fail = Reason.TIMEOUT
    stage.play(60)
    failed = stage.lines("vcpu.change.failed", "warning")
    assert failed
    assert failed[0]["domain"] == "db"
    assert stage.lines("domain.quarantined", "warning")[0]["domain"] == "db"


def test_what_a_guest_does_not_take_back_is_said_once_for_each_reason() -> None:
    stage = Stage()
    stage.play(12)
    assert len(stage.db.online) < 4
    stage.db.fail = Reason.TIMEOUT
    stage.inbox.pending.append(Pause(asked=Asked(uid=0, at_ns=0), restore=True))
    stage.play(60)
    (failed,) = stage.lines("vcpu.restore.failed", "warning")
    assert failed["domain"] == "db"
    assert "timeout" in failed["detail"]
    stage.db.fail = None
    stage.play(40)
    assert len(stage.db.online) == 4
    assert len(stage.lines("vcpu.restore.failed")) == 1


def test_a_ledger_that_cannot_be_written_is_said_once_and_its_recovery_too() -> None:
    stage = Stage()
    stage.ledger.error = LedgerError("disk full")
    stage.play(20)
    stage.ledger.error = None
    stage.play(10)
    errors = stage.lines("ledger.failed", "error")
    assert errors
    assert errors[0]["error"] == "disk full"
    assert stage.host.begun


def test_a_dry_run_says_each_thing_it_would_do_once() -> None:
    stage = Stage(dry=True)
    stage.play(30)
    would = stage.lines("vcpu.change.would")
    assert {line["domain"] for line in would} == {"db", "web"}
    assert len(would) <= 6
    assert stage.host.begun == []


def test_what_happens_to_domains_is_told() -> None:
    stage = Stage()
    stage.play(2)
    stage.host.tell(EventKind.STARTED, stage.web)
    stage.host.reboot(stage.web)
    stage.host.destroy(stage.db)
    stage.play(1)
    events = {line["event"] for line in stage.lines(level="info")}
    assert {"domain.started", "domain.rebooted", "domain.gone"} <= events


def test_a_domains_name_can_neither_forge_a_line_nor_fill_the_disk() -> None:
    evil = 'x\n{"event":"vcpu.change"}\x1b[31m' + "A" * 5000
    stage = Stage(name=evil)
    stage.play(12)
    for raw in stage.stream.getvalue().splitlines():
        assert raw.isprintable()
        assert len(raw) < 4000
    assert stage.lines("vcpu.change")


@pytest.mark.parametrize(
    ("form", "environ", "expected"),
    [
        ("json", {}, '"timestamp"'),
        ("auto", {}, '"event": "hello"'),
        ("text", {"NO_COLOR": "1"}, "hello"),
    ],
)
def test_the_form_follows_the_settings(form: str, environ: dict[str, str], expected: str) -> None:
    stream = io.StringIO()
    log.configure(form, "info", environ=environ, stream=stream)
    structlog.get_logger().info("hello", domain="a\x1b[2Jb")
    structlog.get_logger().debug("unheard")
    text = stream.getvalue()
    assert expected in text
    assert "\x1b" not in text
    assert "unheard" not in text


def test_under_the_journal_nothing_is_stamped_twice() -> None:
    stream = io.StringIO()
    log.configure("auto", "info", environ={"JOURNAL_STREAM": "8:1"}, stream=stream)
    structlog.get_logger().info("hello")
    assert "timestamp" not in json.loads(stream.getvalue())


def test_a_recorder_that_raises_harms_nobody_and_is_named_once() -> None:
    stage = Stage()
    stage.play(1)

    class Broken:
        def record(self, record: CycleRecord) -> None:
            raise ZeroDivisionError(record.cycle)

    heard: list[int] = []

    class Good:
        def record(self, record: CycleRecord) -> None:
            heard.append(record.cycle)

    both = FanOut(Broken(), Good())
    for cycle in (7, 8):
        both.record(replace(stage.records[0], cycle=cycle))
    assert heard == [7, 8]
    assert [line["recorder"] for line in stage.lines("recorder.failed")] == ["Broken"]


def test_the_quarantine_of_who_does_not_take_back_what_it_had_is_said_once_with_what_it_is_owed() -> (
    None
):
    stage = Stage()
    stage.play(12)
    stage.db.fail, stage.db.fail_gifts_only = Reason.FAILED, True
    stage.inbox.pending.append(Pause(asked=Asked(uid=0, at_ns=0), restore=True))
    stage.play(120)
    (said,) = stage.lines("domain.quarantined", "warning")
    assert (said["domain"], said["owed"]) == ("db", 4)
    assert said["detail"].startswith("failed")
    assert len(stage.lines("vcpu.restore.failed")) == 1
    assert not stage.lines("domain.recovered")
    stage.db.fail = None
    stage.play(120)
    assert len(stage.db.online) == 4
    (over,) = stage.lines("domain.recovered")
    assert over["domain"] == "db"
