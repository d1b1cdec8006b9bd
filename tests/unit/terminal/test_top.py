"""`vcpud top` without a terminal: what it shows, and what its keys do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Static

from fakes.host import FakeDomain
from unit.loop.test_control import Rig
from vcpud.errors import UnreachableError
from vcpud.explain import document as explain
from vcpud.history import History
from vcpud.model import Mode, Terms, Trouble
from vcpud.status import LatestCycle
from vcpud.top.app import Closely, Daemon, Top
from vcpud.top.board import COLUMNS, HISTORY, SORTS, Board, columns_for, spark


class Host:
    """A daemon on a fake host: a collapsed pair, an idle domain and one in trouble."""

    def __init__(self) -> None:
        enforce = Terms(mode=Mode.ENFORCE)
        self.domains = [
            FakeDomain(name="db", vcpus=4, lock_bound=True, terms=enforce),
            FakeDomain(name="web", vcpus=4, lock_bound=True, terms=enforce),
            FakeDomain(name="idle", vcpus=2, demand_vcpus=1),
            FakeDomain(name="[red]odd", vcpus=2, troubles=frozenset({Trouble.AGENT_MISSING})),
        ]
        self.rig = Rig(*self.domains, pcpus=2)
        self.latest, self.history = LatestCycle(), History()
        self.fault: str | None = None
        self.paused: list[tuple[str, bool]] = []

    def turn(self, cycles: int) -> None:
        for _ in range(cycles):
            self.rig.cycles(1)
            self.latest.record(self.rig.recorder.last)
            self.history.record(self.rig.recorder.last)

    def status(self) -> dict[str, Any]:
        if self.fault is not None:
            raise UnreachableError(self.fault)
        return self.latest.document(self.rig.clock.now_ns())

    def explain(self, uuid: str) -> dict[str, Any]:
        record = self.latest.record_
        assert record is not None
        told = explain(
            record, self.latest.verdicts, self.history.of(uuid), uuid, self.rig.clock.now_ns()
        )
        assert told is not None
        return told

    def top(self, sort: str = "delay") -> Top:
        daemon = Daemon(
            self.status, self.explain, lambda uuid, wanted: self.paused.append((uuid, wanted))
        )
        return Top(daemon, interval_s=3600.0, sort=sort)


@pytest.fixture
def host() -> Host:
    made = Host()
    made.turn(2)
    return made


Script = Callable[[Top, Pilot[None]], Awaitable[None]]


def play(
    host: Host, script: Script, *, size: tuple[int, int] = (160, 30), sort: str = "delay"
) -> None:
    """Run the view with a script at its keys, on a terminal of this size."""

    async def run() -> None:
        app = host.top(sort)
        async with app.run_test(size=size) as pilot:
            await settled(app, pilot)
            await script(app, pilot)

    asyncio.run(run())


async def settled(app: Top, pilot: Pilot[None]) -> None:
    await app.workers.wait_for_complete()
    await pilot.pause()


def table(app: Top) -> list[list[str]]:
    found = app.screen_stack[0].query_one(DataTable)
    return [[str(cell) for cell in found.get_row_at(row)] for row in range(found.row_count)]


def said(app: Top, name: str) -> str:
    return str(app.screen_stack[-1].query_one(name, Static).render())


# ------------------------------------------------------------------------------- the board


def test_more_columns_are_shown_the_wider_the_terminal() -> None:
    counts = [len(columns_for(width)) for width in (20, 40, 60, 80, 120, 200)]
    assert counts == sorted(counts)
    assert counts[0] == 2
    assert counts[-1] == len(COLUMNS)
    for width in range(40, 200, 7):
        assert sum(column.width + 2 for column in columns_for(width)) <= width


def test_a_sparkline_says_what_is_high_low_and_not_known() -> None:
    assert spark([0, 4, None, 8], 4, 8) == "▁▅·█"
    assert spark([1, 1], 4) == "  ██"
    assert spark([], 3) == "   "
    assert spark([0.0, 0.0], 2) == "▁▁"


def test_history_is_bounded_and_forgets_what_is_gone(host: Host) -> None:
    board = Board()
    for _ in range(HISTORY + 5):
        host.turn(1)
        board.take(host.status())
    uuid = host.domains[0].uuid
    assert len(board.series(uuid, "active_vcpus")) == HISTORY
    assert board.series(uuid, "active_vcpus")[-1] == 1
    host.rig.host.destroy(host.domains[0])
    host.turn(1)
    board.take(host.status())
    assert board.series(uuid, "active_vcpus") == ()


def test_the_same_cycle_is_counted_once(host: Host) -> None:
    board = Board()
    board.take(host.status())
    board.take(host.status())
    assert len(board.series(host.domains[0].uuid, "active_vcpus")) == 1


@pytest.mark.parametrize("key", SORTS)
def test_every_column_can_be_sorted_by_whatever_is_missing(host: Host, key: str) -> None:
    board = Board(sort=key)
    board.take(host.status())
    assert len(board.domains()) == 4


# -------------------------------------------------------------------------------- the view


def test_domains_are_listed_with_what_was_taken_and_what_is_wrong(host: Host) -> None:
    host.turn(30)

    async def script(app: Top, pilot: Pilot[None]) -> None:
        await pilot.pause()
        rows = {row[0]: row for row in table(app)}
        assert rows["db"][1] == "▼ 1/4"
        assert rows["idle"][1] == "· 2/2"
        assert any("! agent_missing" in cell for cell in rows["[red]odd"])
        assert "6 vCPUs parked" in said(app, "#head")
        assert "overcommit" in said(app, "#head")

    play(host, script)


def test_the_order_can_be_changed_and_turned_round(host: Host) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        assert table(app)[0][0] in {"db", "web"}
        await pilot.press("r")
        assert table(app)[-1][0] in {"db", "web"}
        first = app.board.sort
        await pilot.press("s")
        assert app.board.sort != first
        for _ in SORTS:
            await pilot.press("s")

    play(host, script)


def test_a_filter_narrows_and_escape_shows_all(host: Host) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("slash", "w", "e")
        assert [row[0] for row in table(app)] == ["web"]
        await pilot.press("enter")
        assert not app.query_one("#filter", Input).display
        assert "only 'we'" in said(app, "#head")
        await pilot.press("escape")
        assert len(table(app)) == 4

    play(host, script)


def test_a_domain_can_be_looked_at_closely_and_left_again(host: Host) -> None:
    host.turn(30)

    async def script(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await settled(app, pilot)
        assert isinstance(app.screen, Closely)
        assert "active vCPUs" in said(app, "#sparks")
        assert "what would have to change" in said(app, "#why")
        await pilot.press("escape")
        assert not isinstance(app.screen, Closely)

    play(host, script, sort="lock")


def test_collapse_and_recovery_show_in_the_history(host: Host) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        for _ in range(16):
            host.turn(1)
            app.look()
            await settled(app, pilot)
        uuid = host.domains[0].uuid
        series = app.board.series(uuid, "active_vcpus")
        assert series[0] == 4
        assert series[-1] == 1
        work = app.board.series(uuid, "progress_pcpus")
        assert (work[-1] or 0) > 5 * (next(value for value in work if value is not None) or 0.01)
        place = [column.key for column in columns_for(160)].index("history")
        drawn = next(row[place] for row in table(app) if row[0] == "db")
        assert "█" in drawn
        assert "▃" in drawn or "▂" in drawn

    play(host, script)


def test_a_daemon_that_goes_away_is_said_and_the_last_picture_stays(host: Host) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        host.fault = "vcpud did not answer within 10 s"
        app.look()
        await settled(app, pilot)
        assert "did not answer" in said(app, "#fault")
        assert len(table(app)) == 4
        host.fault = None
        app.look()
        await settled(app, pilot)
        assert not app.query_one("#fault", Static).display

    play(host, script)


def test_a_daemon_that_is_slow_is_asked_once_at_a_time(host: Host) -> None:
    answered = threading.Event()
    asked: list[int] = []

    def slow() -> dict[str, Any]:
        asked.append(1)
        answered.wait(10)
        return host.status()

    async def script(app: Top, pilot: Pilot[None]) -> None:
        app._daemon.status = slow
        for _ in range(5):
            app.look()
            await pilot.pause()
        answered.set()
        await settled(app, pilot)
        assert len(asked) == 1
        app.look()
        await settled(app, pilot)
        assert len(asked) == 2

    play(host, script)


def test_before_the_first_cycle_there_is_nothing_but_a_word_of_it() -> None:
    host = Host()

    async def script(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("enter", "p", "s")
        assert "no cycle has finished yet" in said(app, "#head")

    play(host, script)


def test_pause_and_resume_go_to_the_daemon(host: Host) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("p")
        await settled(app, pilot)

    play(host, script, sort="name")
    assert host.paused == [(host.domains[3].uuid, True)]


def test_a_frozen_picture_does_not_move(host: Host) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("space")
        host.turn(30)
        app.look()
        await settled(app, pilot)
        assert "FROZEN" in said(app, "#head")
        assert next(row for row in table(app) if row[0] == "db")[1] == "· 4/4"
        await pilot.press("question_mark")

    play(host, script)


@pytest.mark.parametrize("size", [(20, 6), (250, 60)])
def test_any_size_of_terminal_will_do(host: Host, size: tuple[int, int]) -> None:
    async def script(app: Top, pilot: Pilot[None]) -> None:
        assert len(table(app)) == 4
        await pilot.press("enter")
        await settled(app, pilot)
        await pilot.press("escape")
        await pilot.resize_terminal(60, 20)
        await pilot.pause()
        assert len(table(app)[0]) == len(columns_for(60))

    play(host, script, size=size)
