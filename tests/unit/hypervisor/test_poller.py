"""A poll past its deadline is given up by whoever waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unit.hypervisor.stand_in import Guest, StandIn
from vcpud.hypervisor.poller import Poller
from vcpud.hypervisor.proc import ProcFiles
from vcpud.hypervisor.workers import Losses

Make = Callable[..., tuple[StandIn, Poller]]
DEADLINE_S = 0.05
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
