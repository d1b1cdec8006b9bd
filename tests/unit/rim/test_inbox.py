"""The control socket: who may ask, what is answered, and what no peer can do."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.host import FakeDomain, FakeHost
from fakes.ports import ListRecorder, MemoryLedger, SimulatedClock
from vcpud.client import NotRunningError, ask
from vcpud.control import ControlLoop
from vcpud.errors import ConfigError, LedgerError, UnreachableError, UsageError
from vcpud.inbox import Answers, SocketInbox
from vcpud.limits import Limits
from vcpud.model import Method, Mode, Original, Terms
from vcpud.policy import load
from vcpud.record import Phase
from vcpud.requests import LoopSettings
from vcpud.units import NS_PER_MS, NS_PER_S
from vcpud.verbs import uuid_of

pytestmark = pytest.mark.sockets
ENFORCE = Terms(mode=Mode.ENFORCE)


class Desk:
    """An inbox in front of a real loop on a fake host, that turns when it is woken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SimulatedClock()
        self.db = FakeDomain(name="db", vcpus=4, terms=ENFORCE, online=frozenset({0}))
        self.web = FakeDomain(name="web", vcpus=2, terms=ENFORCE)
        self.host = FakeHost(self.db, self.web, clock=self.clock)
        self.held: list[int] = []
        self.failure: Exception | None = None
        self.seen = ListRecorder()
        self.inbox = SocketInbox(
            folder / "vcpud.sock",
            "no-such-group",
            Answers(
                now_ns=self.clock.now_ns,
                wake=self.bell,
                status=lambda: {"cycle": len(self.seen.records)},
                hold=self._hold,
                reload=self._reload,
            ),
        )
        self.original = Original(
            boot_id="11111111-2222-3333-4444-555555555555",
            uuid=self.db.uuid,
            name="db",
            incarnation=self.db.incarnation,
            online=frozenset(range(4)),
            live_vcpus=4,
        )
        self.ledger = MemoryLedger(self.original)
        self.loop = ControlLoop(
            clock=self.clock,
            hypervisor=self.host,
            ledger=self.ledger,
            inbox=self.inbox,
            recorder=self,
            settings=LoopSettings(
                period_ns=NS_PER_S,
                policy=load("static", {}),
                policy_name="static",
                limits=Limits(),
            ),
        )
        # A hold is in force: what the ledger holds is taken over, not given back.
        self.loop._inheritance.waive()
        self.turns = threading.Event()
        self.stopped = False
        self.stuck = False
        self.thread = threading.Thread(target=self._turn, daemon=True)

    def record(self, record: Any) -> None:
        self.seen.record(record)
        self.inbox.record(record)

    def bell(self) -> None:
        self.turns.set()

    def start(self) -> None:
        self.inbox.serve()
        self.loop.cycle()
        self.thread.start()

    def stop(self) -> None:
        self.stopped = True
        self.turns.set()
        if self.thread.is_alive():
            self.thread.join(5)
        self.inbox.close()

    def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        return ask(self.folder, verb, **fields)

    def raw(self, *lines: bytes) -> list[bytes]:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(10)
            peer.connect(str(self.folder / "vcpud.sock"))
            for line in lines:
                peer.sendall(line)
            peer.shutdown(socket.SHUT_WR)
            answer = b""
            while part := peer.recv(65536):
                answer += part
        return answer.splitlines()

    def _turn(self) -> None:
        while not self.stopped:
            self.turns.wait(0.01)
            self.turns.clear()
            if not self.stuck and not self.stopped:
                deadline_ns = self.clock.now_ns() + 300 * NS_PER_MS
                while self.clock.now_ns() < deadline_ns:
                    self.clock.wait_until(deadline_ns)
                self.loop.cycle()

    def _hold(self, duration_ns: int) -> None:
        if self.failure is not None:
            raise self.failure
        self.held.append(duration_ns)

    def _reload(self, uid: int) -> None:
        assert uid == os.geteuid()
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.stop()


def requests(desk: Desk) -> list[Any]:
    return [request for record in desk.seen.records for request in record.requests]


def test_reading_is_answered_without_the_loop(desk: Desk) -> None:
    desk.start()
    desk.stuck = True
    assert desk.ask("status")["status"]["cycle"] >= 1


def test_a_pause_carries_its_peer_and_its_end(desk: Desk) -> None:
    desk.start()
    before_ns = desk.clock.now_ns()
    assert desk.ask("pause", domain="web", for_ns=NS_PER_S * 3600)["cycle"] > 1
    (pause,) = requests(desk)
    assert pause.asked.uid == os.geteuid()
    assert pause.uuid == desk.web.uuid
    assert pause.until_ns >= before_ns + 3600 * NS_PER_S


def test_a_release_that_waits_returns_when_everything_is_back_online(desk: Desk) -> None:
    desk.start()
    answer = desk.ask("release", domain=desk.db.uuid.upper(), wait=True)
    assert answer["done"] is True
    assert desk.db.online == frozenset(range(4))
    assert desk.ledger.outstanding() == ()
    last = {status.uuid: status.phase for status in desk.seen.last.domains}
    assert last[desk.db.uuid] is Phase.RELEASED


def test_a_release_of_a_hung_domain_says_that_it_is_not_done(desk: Desk) -> None:
    desk.db.hung = True
    desk.start()
    answer = desk.ask("release", domain="db", wait=True, wait_ns=NS_PER_S // 2)
    assert answer["done"] is False
    assert answer["left"] == ["db"]


def test_a_restore_that_waits_names_what_is_left(desk: Desk) -> None:
    desk.start()
    assert desk.ask("restore", wait=True) | {"cycle": 0} == {
        "ok": True,
        "cycle": 0,
        "done": True,
        "left": [],
        "unplug_pending": [],
    }


@pytest.mark.parametrize("verb", ["restore", "release"])
def test_who_may_still_lose_a_vcpu_to_an_old_unplug_is_given_back_and_named(
    desk: Desk, verb: str
) -> None:
    desk.db.method = Method.HOTPLUG
    desk.db.online = frozenset(range(4))
    (original,) = desk.ledger.outstanding()
    desk.ledger.amend(replace(original, online=None, unplug_from=4))
    desk.start()
    answer = desk.ask(verb, domain="db", wait=True)
    assert (answer["done"], answer["left"], answer["unplug_pending"]) == (True, [], ["db"])


def test_a_waiting_release_ends_when_the_domain_does(desk: Desk) -> None:
    desk.db.hung = True
    desk.start()
    timer = threading.Timer(0.1, lambda: desk.host.destroy(desk.db))
    timer.start()
    assert desk.ask("release", domain="db", wait=True)["done"] is True
    timer.join()


def test_a_name_is_of_who_runs_and_not_of_who_had_it_before(desk: Desk) -> None:
    desk.start()
    desk.ask("restore", wait=True)
    original = replace(desk.original, uuid="of one that was destroyed", name="web")
    record = replace(desk.seen.last, outstanding=(original,))
    assert uuid_of("web", record) == desk.web.uuid


def test_a_hold_is_written_down_before_the_loop_hears_of_it(desk: Desk) -> None:
    desk.start()
    desk.ask("hold", for_ns=5 * NS_PER_S)
    assert desk.held == [5 * NS_PER_S]
    desk.failure = LedgerError("disk full")
    with pytest.raises(Exception, match="disk full"):
        desk.ask("hold", for_ns=5 * NS_PER_S)
    assert len(requests(desk)) == 1


def test_a_failed_reload_is_answered_with_its_mistakes(desk: Desk) -> None:
    desk.start()
    desk.failure = ConfigError("f:1: a: wrong\nf:2: b: wrong")
    with pytest.raises(ConfigError, match="f:2: b: wrong"):
        desk.ask("reload")


def test_an_unknown_domain_is_answered_with_its_neighbours(desk: Desk) -> None:
    desk.start()
    with pytest.raises(UsageError, match="there is no domain 'wbe' on this host; did you mean"):
        desk.ask("pause", domain="wbe")


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b"[]\n",
        b"[" * 9000 + b"\n",
        b'{"verb": "explode"}\n',
        b'{"verb": ["status"]}\n',
        b'{"verb": "status", "extra": 1}\n',
        b'{"verb": "pause", "for_ns": -1}\n',
        b'{"verb": "pause", "for_ns": 1e400}\n',
        b'{"verb": "pause", "for_ns": 1180591620717411303424}\n',
        b'{"verb": "pause", "domain": {}}\n',
        b'{"verb": "release"}\n',
        b'{"verb": "set", "domain": "web", "mode": []}\n',
        b'{"verb": "set", "domain": "web", "min": [1]}\n',
        b'{"verb": "hold"}\n',
        b"\xff\xfe\n",
    ],
)
def test_nonsense_is_refused_as_usage_and_the_desk_stays_open(desk: Desk, line: bytes) -> None:
    desk.start()
    (answer,) = desk.raw(line)
    refusal = json.loads(answer)
    assert (refusal["ok"], refusal["code"]) == (False, 2)
    assert requests(desk) == []
    assert desk.ask("status")["ok"] is True


def test_before_the_first_cycle_no_change_can_be_asked_for(desk: Desk) -> None:
    desk.inbox.serve()
    with pytest.raises(UnreachableError, match="has just started"):
        desk.ask("pause")


def test_whoever_waits_at_a_stop_is_told(desk: Desk) -> None:
    desk.start()
    desk.stuck = True
    timer = threading.Timer(0.1, desk.inbox.close)
    timer.start()
    with pytest.raises(UnreachableError, match="stopping or stuck"):
        desk.ask("pause")
    timer.join()
    with pytest.raises(NotRunningError, match="vcpud does not run"):
        desk.ask("status")
