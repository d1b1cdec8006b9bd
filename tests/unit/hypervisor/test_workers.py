"""Threads that hang: deadlines, quarantine, and that nobody else is kept waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from unit.hypervisor.stand_in import HandClock, StandIn
from vcpud.hypervisor.errands import Errand, Hand
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.workers import Crew, Losses
from vcpud.units import NS_PER_S

WAIT_S = 20.0


class Hall:
    """A crew, and doors behind which calls wait."""

    def __init__(self, *, size: int = 2, reserve: int = 2) -> None:
        self.clock = HandClock()
        self.library = StandIn()
        self.losses = Losses()
        self.crew = Crew(
            "test",
            open_link=lambda: self.library.open(writable=True),
            now_ns=self.clock.now_ns,
            size=size,
            reserve=reserve,
            losses=self.losses,
            supervised=False,
        )
        self.doors: list[threading.Event] = []

    def door(self) -> threading.Event:
        self.doors.append(threading.Event())
        return self.doors[-1]

    def errand(
        self,
        uuid: str,
        *,
        behind: threading.Event | None = None,
        urgent: bool = False,
    ) -> Record:
        record = Record()

        def run(hand: Hand) -> None:
            record.entered.set()
            try:
                hand.call(2.0, lambda _: behind.wait() if behind is not None else None)
            finally:
                record.left.set()
            record.done.set()

        record.errand = Errand(uuid=uuid, run=run, given_up=record.given_up.set, urgent=urgent)
        self.crew.submit(record.errand)
        return record

    def overdue(self) -> None:
        self.clock.pass_s(3)
        self.crew.supervise()


class Record:
    """What became of an errand."""

    errand: Errand

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.left = threading.Event()
        self.done = threading.Event()
        self.given_up = threading.Event()


@pytest.fixture
def hall() -> Iterator[Callable[..., Hall]]:
    made: list[Hall] = []

    def make(**more: int) -> Hall:
        made.append(Hall(**more))
        return made[-1]

    yield make
    for one in made:
        for door in one.doors:
            door.set()
        one.crew.close()


def test_a_call_past_its_deadline_is_given_up_and_its_domain_quarantined(
    hall: Callable[..., Hall],
) -> None:
    one = hall()
    hung = one.errand("a", behind=one.door())
    assert hung.entered.wait(WAIT_S)
    one.overdue()
    assert hung.given_up.is_set()
    assert one.crew.hung("a")
    assert one.losses.count == 1


def test_the_others_go_on_while_a_thread_is_lost(hall: Callable[..., Hall]) -> None:
    one = hall(size=1, reserve=0)
    hung = one.errand("a", behind=one.door())
    assert hung.entered.wait(WAIT_S)
    other = one.errand("b")
    assert not other.entered.is_set()
    one.overdue()
    assert other.done.wait(WAIT_S)


def test_the_quarantine_ends_when_the_lost_call_returns(hall: Callable[..., Hall]) -> None:
    one = hall()
    door = one.door()
    hung = one.errand("a", behind=door)
    assert hung.entered.wait(WAIT_S)
    one.overdue()
    door.set()
    assert hung.left.wait(WAIT_S)
    assert one.errand("a").done.wait(WAIT_S)
    assert not one.crew.hung("a")
    assert not hung.done.is_set()


def test_slow_agents_cannot_starve_a_change(hall: Callable[..., Hall]) -> None:
    one = hall(size=2)
    slow = [one.errand(name, behind=one.door()) for name in "ab"]
    assert all(record.entered.wait(WAIT_S) for record in slow)
    assert one.errand("c", urgent=True).done.wait(WAIT_S)


def test_one_domain_has_one_errand_at_a_time(hall: Callable[..., Hall]) -> None:
    one = hall()
    door = one.door()
    first = one.errand("a", behind=door)
    assert first.entered.wait(WAIT_S)
    second = one.errand("a", urgent=True)
    assert one.errand("b").done.wait(WAIT_S)
    assert not second.entered.is_set()
    assert one.crew.urgent_waits("a")
    door.set()
    assert second.done.wait(WAIT_S)


def test_no_more_than_four_lost_threads_are_replaced(hall: Callable[..., Hall]) -> None:
    one = hall(size=2, reserve=0)
    for name in "abcdef":
        record = one.errand(name, behind=one.door())
        if not record.entered.wait(0.5 if name > "d" else WAIT_S):
            break
        one.overdue()
    assert one.losses.count >= 4
    late = one.errand("z")
    names = {t.name for t in threading.enumerate() if t.name.startswith("test-")}
    assert len(names) <= 2 + 4
    for door in one.doors:
        door.set()
    assert late.done.wait(WAIT_S)


def test_a_change_waiting_behind_a_hung_call_is_given_up_too(hall: Callable[..., Hall]) -> None:
    one = hall()
    hung = one.errand("a", behind=one.door())
    assert hung.entered.wait(WAIT_S)
    change = one.errand("a", urgent=True)
    one.overdue()
    assert change.given_up.is_set()


def test_a_quarantine_lasts_longer_each_time_and_is_probed_when_over(
    hall: Callable[..., Hall],
) -> None:
    one = hall()
    one.crew.quarantine("a", "said so")
    held = one.errand("a")
    one.clock.pass_s(4)
    one.crew.supervise()
    assert not held.entered.is_set()
    one.crew.quarantine("a", "said so again")
    one.clock.pass_s(6)
    one.crew.supervise()
    assert not held.entered.is_set()
    one.clock.pass_s(10)
    one.crew.supervise()
    assert held.done.wait(WAIT_S)
    assert not one.crew.hung("a")


def test_an_errand_for_later_runs_when_its_time_has_come(hall: Callable[..., Hall]) -> None:
    one = hall()
    later = Record()
    errand = Errand(uuid="a", run=lambda _: later.done.set(), given_up=later.given_up.set)
    one.crew.submit(errand, one.clock.now_ns() + NS_PER_S)
    one.crew.supervise()
    assert not later.done.is_set()
    one.clock.pass_s(1)
    one.crew.supervise()
    assert later.done.wait(WAIT_S)


def test_a_connection_that_was_lost_is_opened_again(hall: Callable[..., Hall]) -> None:
    one = hall(size=1)
    seen: list[Meaning] = []
    done = threading.Event()

    def run(hand: Hand) -> None:
        def lose(_: object) -> None:
            raise CallFailed(Meaning.LOST, "gone")

        try:
            hand.call(2.0, lose)
        except CallFailed as failure:
            seen.append(failure.meaning)
        hand.call(2.0, lambda _: None)
        done.set()

    one.crew.submit(Errand(uuid="a", run=run, given_up=done.set))
    assert done.wait(WAIT_S)
    assert seen == [Meaning.LOST]
    assert one.library.opened == 2


def test_an_errand_that_breaks_is_given_up_and_the_next_one_runs(
    hall: Callable[..., Hall], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = hall(size=1, reserve=0)
    given_up, told = threading.Event(), threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: told.set())

    def mistake(_: object) -> None:
        raise KeyError

    def run(hand: Hand) -> None:
        hand.call(2.0, mistake)

    one.crew.submit(Errand(uuid="a", run=run, given_up=given_up.set))
    assert given_up.wait(WAIT_S)
    assert one.errand("a").done.wait(WAIT_S)
    assert told.wait(WAIT_S), "whoever looks after the daemon has to know"
    assert not one.crew.hung("a")
    assert one.losses.count == 0
