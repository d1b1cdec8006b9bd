"""A poll past its deadline is given up by whoever waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unit.hypervisor.stand_in import Guest, StandIn, StandInLink
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.link import Happening, Listener, RawEvent, Row
from vcpud.hypervisor.poller import Poller
from vcpud.hypervisor.proc import ProcFiles
from vcpud.hypervisor.workers import Losses

Make = Callable[..., tuple[StandIn, Poller]]
DEADLINE_S = 0.3  # a poll that nothing holds up takes a few ms, and longer on a busy machine
PATIENCE_S = 20.0


@pytest.fixture
def polling(tmp_path: Path) -> Iterator[Make]:
    """A library of guests and what polls it, in real time."""
    made: list[tuple[StandIn, Poller]] = []

    def make(*guests: Guest) -> tuple[StandIn, Poller]:
        library = StandIn(*guests)
        poller = Poller(
            library,
            ProcFiles(tmp_path),
            lambda _event: None,
            now_ns=time.monotonic_ns,
            deadline_s=PATIENCE_S,
            bulk_deadline_s=DEADLINE_S,
            losses=Losses(),
        )
        made.append((library, poller))
        return made[-1]

    yield make
    for library, poller in made:
        library.release.set()
        poller.close(PATIENCE_S)


def test_who_waits_for_a_poll_gives_it_up_when_it_is_overdue_and_learns_who_hangs(
    polling: Make,
) -> None:
    library, poller = polling(Guest("a"), Guest("b", number=2))
    library.stopped.add("a")
    poller.ask()
    poll = poller.wait(PATIENCE_S)
    assert poll is not None
    assert {row.uuid for row in poll.rows} == {"a", "b"}
    assert poll.occupied == {"a"}
    assert len(library.polls) == 2, "the one that was given up, and another one"


def test_a_poll_that_is_not_overdue_yet_is_left_alone_when_nobody_waits_longer(
    polling: Make,
) -> None:
    library, poller = polling(Guest("a"))
    library.stopped.add("a")
    poller.ask()
    assert poller.wait(0.0) is None
    assert len(library.polls) <= 1


def test_polling_takes_one_thread_and_none_beside_it(polling: Make) -> None:
    before = set(threading.enumerate())
    _, poller = polling(Guest("a"))
    poller.ask()
    assert poller.wait(PATIENCE_S) is not None
    added = [one.name for one in set(threading.enumerate()) - before]
    assert len(added) == 1, added


def test_a_poll_that_breaks_is_told_as_failed_and_tried_again(
    polling: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, poller = polling(Guest("a"))
    whole = StandInLink.bulk
    broken = [True]
    told = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: told.set())

    def bulk(link: StandInLink, *, counters: bool) -> list[Row]:
        if broken:
            raise KeyError(broken.pop())
        return whole(link, counters=counters)

    monkeypatch.setattr(StandInLink, "bulk", bulk)
    poller.ask()
    first = poller.wait(PATIENCE_S)
    assert first is not None
    assert first.failure is not None
    monkeypatch.setattr(poller, "_retry_at_ns", 0)
    poller.ask()
    second = poller.wait(PATIENCE_S)
    assert second is not None
    assert second.failure is None
    assert library.opened == 4, "the thread that broke took its connection along"
    assert told.wait(PATIENCE_S)


def test_who_changes_while_being_described_is_described_once_more(
    polling: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, poller = polling(Guest("a"))
    whole = StandInLink.xml
    asked: list[str] = []

    def xml(link: StandInLink, uuid: str) -> str:
        asked.append(uuid)
        text = whole(link, uuid)
        if len(asked) == 1:
            poller.forget(uuid)  # its metadata was changed after they had been read
        return text

    monkeypatch.setattr(StandInLink, "xml", xml)
    for _ in range(3):
        poller.ask()
        poller.wait(PATIENCE_S)
    assert len(asked) == 2


def test_a_connection_for_events_that_comes_too_late_is_closed(
    polling: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, poller = polling(Guest("a"))
    whole = StandIn.listen
    closed = threading.Event()

    def listen(library: StandIn, listener: Listener) -> StandInLink:
        link = whole(library, listener)
        if library.opened == 2:  # after the poll's own
            library.release.wait()
            monkeypatch.setattr(link, "close", closed.set)
        return link

    monkeypatch.setattr(StandIn, "listen", listen)
    monkeypatch.setattr(poller, "_deadline_s", DEADLINE_S)
    poller.ask()
    poll = poller.wait(PATIENCE_S)
    assert poll is not None
    listening = poller._listening
    library.release.set()
    assert closed.wait(PATIENCE_S)
    assert poller._listening is listening


def test_who_is_cut_off_while_beginning_to_listen_listens_once_more(
    polling: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, poller = polling(Guest("a"))
    whole = StandIn.listen
    times: list[float] = []

    def listen(library: StandIn, listener: Listener) -> StandInLink:
        times.append(time.monotonic())
        link = whole(library, listener)
        if len(times) == 1:
            listener(RawEvent(Happening.CLOSED))
        return link

    monkeypatch.setattr(StandIn, "listen", listen)
    for _ in range(3):
        poller.ask()
        assert poller.wait(PATIENCE_S) is not None
    assert len(times) == 2


def test_a_connection_that_cannot_be_closed_delays_no_poll_for_longer_than_a_deadline(
    polling: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, poller = polling(Guest("a"))
    whole = StandInLink.bulk
    failing = [CallFailed(Meaning.FAILED, "out of memory")]

    def bulk(link: StandInLink, *, counters: bool) -> list[Row]:
        if failing:
            monkeypatch.setattr(link, "close", library.release.wait)
            raise failing.pop()
        return whole(link, counters=counters)

    monkeypatch.setattr(StandInLink, "bulk", bulk)
    monkeypatch.setattr(poller, "_deadline_s", DEADLINE_S)
    poller.ask()
    first = poller.wait(PATIENCE_S / 4)
    assert first is not None
    assert first.failure == "out of memory"
    monkeypatch.setattr(poller, "_retry_at_ns", 0)
    poller.ask()
    second = poller.wait(PATIENCE_S / 4)
    assert second is not None
    assert second.failure is None


def test_closing_does_not_wait_for_a_libvirt_that_does_not_answer(
    polling: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, poller = polling(Guest("a"))
    poller.ask()
    poller.wait(PATIENCE_S)
    monkeypatch.setattr(poller._listening, "close", library.release.wait)
    closing = threading.Thread(target=poller.close, args=(0.05,), daemon=True)
    closing.start()
    closing.join(PATIENCE_S / 4)
    assert not closing.is_alive()
