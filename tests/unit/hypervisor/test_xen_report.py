"""What a guest on Xen publishes: used whole, or dropped whole, and never believed too much."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vcpud.guest import CpuTimes, RunQueueWait
from vcpud.hypervisor.agent import AMOUNT_LIMIT, AbsurdError
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.xen.report import LINE_LIMIT, parse_report
from vcpud.hypervisor.xen.reports import Listening
from vcpud.model import Trouble
from vcpud.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from vcpud.hypervisor.errands import Errand, Hand
    from vcpud.hypervisor.view import View
    from vcpud.hypervisor.workers import Crew
    from vcpud.hypervisor.xen.tools import Toolstack

GOOD = b"vcpud1 up=12345 hz=100 run=3 lock=17,42 c0=100,20,5000,7,900 c1=90,10,5100,-,- end"
MOST = 4


def line(up: int, *, user: int = 100, system: int = 20, locks: int = 42, wait: int = 900) -> bytes:
    """What an honest reporter writes."""
    words = " ".join(f"c{n}={user},{system},5000,7,{wait}" for n in range(MOST))
    return f"vcpud1 up={up} hz=100 run=3 lock=17,{locks} {words} end".encode()


# ------------------------------------------------------------------------------- one line


def test_a_whole_line_is_a_whole_reading() -> None:
    report = parse_report(GOOD, taken_at_ns=5, max_vcpus=MOST)
    assert report.up_ns == 123_450 * NS_PER_MS
    reading = report.reading
    assert reading.accounting is not None
    assert reading.accounting.cpus[0] == CpuTimes(
        index=0,
        user_ns=NS_PER_S,
        system_ns=200 * NS_PER_MS,
        idle_ns=50 * NS_PER_S,
        steal_ns=70 * NS_PER_MS,
    )
    assert reading.accounting.cpus[1].steal_ns is None
    assert reading.accounting.online == frozenset({0, 1})
    assert reading.locks is not None
    assert (reading.locks.waits, reading.locks.wait_ns) == (17, 42_000)
    assert reading.run_queue is not None
    assert reading.run_queue.cpus == (RunQueueWait(index=0, wait_ns=900_000),)
    assert reading.runnable is not None
    assert reading.runnable.runnable == 3


def test_what_a_kernel_does_not_tell_is_missing_and_not_zero() -> None:
    reading = parse_report(
        b"vcpud1 up=1 hz=250 run=- lock=- c0=1,2,3,-,- end", taken_at_ns=5, max_vcpus=MOST
    ).reading
    assert reading.locks is None
    assert reading.run_queue is None
    assert reading.runnable is None
    assert reading.accounting is not None
    assert reading.accounting.cpus[0].user_ns == 4 * NS_PER_MS


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\0\0\0\0",
        b"\xff\xfe" * 100,
        GOOD[:-4],  # cut
        GOOD[: len(GOOD) // 2],
        GOOD + GOOD,
        GOOD.replace(b"vcpud1", b"vcpud9"),
        GOOD.replace(b"c0=100", b"c0=-100"),
        GOOD.replace(b"c0=100", f"c0={2**70}".encode()),
        GOOD.replace(b"c0=100", f"c0={AMOUNT_LIMIT}".encode()),
        GOOD.replace(b"c0=100", b"c0=1e9"),
        GOOD.replace(b"c0=100", b"c0=nan"),
        GOOD.replace(b"c0=100", b"c0= 100"),
        GOOD.replace("c0=100".encode(), "c0=١٠٠".encode()),  # noqa: RUF001, UP012  other digits
        GOOD.replace(b"c1=", b"c0="),
        GOOD.replace(b"c1=", b"c4="),
        GOOD.replace(b"c1=", b"c99999="),
        GOOD.replace(b"hz=100", b"hz=0"),
        GOOD.replace(b"hz=100", b"hz=99999"),
        GOOD.replace(b"run=3", b"run=99999999"),
        GOOD.replace(b"lock=17,42", b"lock=17"),
        GOOD.replace(b"lock=17,42", f"lock=17,{AMOUNT_LIMIT}".encode()),
        GOOD.replace(b" ", b"\n"),
        GOOD.replace(b" end", b" " * LINE_LIMIT + b" end"),
        b"vcpud1 up=1 hz=100 run=- lock=- end",
        b"9" * 100_000,
    ],
)
def test_a_line_that_no_honest_reporter_writes_is_refused_as_a_whole(wrong: bytes) -> None:
    with pytest.raises(AbsurdError):
        parse_report(wrong, taken_at_ns=5, max_vcpus=MOST)


@given(st.binary(max_size=3000))
@example(GOOD)
def test_whatever_stands_there_is_read_or_refused(content: bytes) -> None:
    try:
        report = parse_report(content, taken_at_ns=5, max_vcpus=MOST)
    except AbsurdError:
        return
    accounting = report.reading.accounting
    assert accounting is not None
    assert accounting.online <= frozenset(range(MOST))
    assert all(0 <= cpu.user_ns < AMOUNT_LIMIT for cpu in accounting.cpus)


@given(
    st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.integers(0, len(GOOD)), st.booleans()
)
def test_a_line_with_a_wrong_byte_or_cut_anywhere_is_read_or_refused(
    place: int, byte: int, cut: int, whole: bool
) -> None:
    content = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    content = content if whole else content[:cut]
    try:
        report = parse_report(content, taken_at_ns=5, max_vcpus=MOST)
    except AbsurdError:
        return
    assert content.strip().endswith(b"end")
    assert report.up_ns < AMOUNT_LIMIT


# ------------------------------------------------------------------------------- over time


class Desk:
    """A crew that does what is due when it is told to, and the guest that publishes."""

    def __init__(self) -> None:
        self.at_ns = 1_000 * NS_PER_S
        self.errand: tuple[int, Errand] | None = None
        self.content: bytes | None = None
        self.failure: CallFailed | None = None
        self.reads = 0
        self.listening = Listening(
            "a",
            1,
            cast("Crew", self),
            cast("Toolstack", self),
            period_ns=5 * NS_PER_S,
            deadline_s=2.0,
            max_vcpus=MOST,
            now_ns=lambda: self.at_ns,
        )
        self.listening.want(wanted=True)

    def submit(self, errand: Errand, at_ns: int) -> None:
        self.errand = (at_ns, errand)

    def call(self, deadline_s: float, ask: Callable[[object], bytes | None]) -> bytes | None:
        assert deadline_s == 2.0
        return ask(None)

    def report(self, number: int) -> bytes | None:
        assert number == 1
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return self.content

    def say(self, content: bytes | None, later_s: int = 5) -> View:
        """The guest publishes this, and so much later it is read."""
        self.content = content
        self.at_ns += later_s * NS_PER_S
        assert self.errand is not None
        due_ns, errand = self.errand
        if due_ns <= self.at_ns:
            self.errand = None
            errand.run(cast("Hand", self))
        return self.listening.view


def test_a_guest_that_publishes_nothing_says_nothing() -> None:
    desk = Desk()
    view = desk.say(None)
    assert view.reading is None
    assert view.troubles == {Trouble.LOCK_SIGNAL_MISSING}
    assert not desk.listening.heard


def test_lines_are_dated_by_the_one_that_came_the_fastest() -> None:
    desk = Desk()
    desk.say(line(100_000))
    late = desk.say(line(100_480))  # written 4.8 s later, read 5 s later
    assert late.reading is not None
    assert late.reading.accounting is not None
    assert late.reading.accounting.taken_at_ns == desk.at_ns - 200 * NS_PER_MS
    assert late.reading.latency_ns == 200 * NS_PER_MS
    assert desk.listening.heard


def test_the_same_line_again_is_no_new_reading() -> None:
    desk = Desk()
    first = desk.say(line(100_000)).reading
    assert desk.say(line(100_000)).reading == first
    for _ in range(18):
        desk.say(line(100_000))
    assert not desk.listening.heard, "it has written nothing for long"


def test_a_guest_that_lies_about_time_moves_nothing_beyond_the_last_reading() -> None:
    desk = Desk()
    desk.say(line(100_000))
    before_ns = desk.at_ns
    for up in (100_001, 100_002, 10**11, 10**11 + 1):
        reading = desk.say(line(up)).reading
        assert reading is not None
        assert reading.accounting is not None
        assert before_ns <= reading.accounting.taken_at_ns <= desk.at_ns
        before_ns = reading.accounting.taken_at_ns


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (line(100_500, user=99), "fell"),
        (line(100_500, system=1), "fell"),
        (line(100_500, user=10**7), "faster than the clock"),
        (line(100_500, locks=10**12), "lock waits grew"),
        (line(100_500, wait=10**15), "more tasks wait"),
        (line(99_000), "less time"),
        (b"vcpud1 up=100500 hz=100 run", "another form"),
        (b"\xff" * 2049, "more than"),
    ],
)
def test_a_line_that_cannot_follow_is_dropped_with_all_it_says(wrong: bytes, word: str) -> None:
    desk = Desk()
    desk.say(line(100_000))
    view = desk.say(wrong)
    assert view.reading is None
    assert Trouble.AGENT_ABSURD in view.troubles
    assert word in view.absurdities[0]
    assert desk.listening.dropped == 1
    after = desk.say(line(101_000))
    assert Trouble.AGENT_ABSURD not in after.troubles
    assert after.reading is not None, "one honest line, held against nothing, is used again"


@given(st.lists(st.one_of(st.binary(max_size=300), st.integers(0, 2**40).map(line)), max_size=8))
def test_whatever_a_guest_publishes_in_whatever_order_ends_in_a_view(
    contents: list[bytes],
) -> None:
    desk = Desk()
    for content in contents:
        view = desk.say(content)
        assert (view.reading is None) or not view.absurdities


def test_a_xenstore_that_does_not_answer_is_asked_again() -> None:
    desk = Desk()
    desk.say(line(100_000))
    desk.failure = CallFailed(Meaning.DENIED, "xenstore: No such file or directory")
    desk.say(None)
    desk.failure = None
    assert desk.say(line(101_000)).reading is not None


def test_a_domain_that_is_not_wanted_any_more_is_not_read() -> None:
    desk = Desk()
    desk.say(line(100_000))
    reads = desk.reads
    desk.listening.want(wanted=False)
    desk.say(line(101_000))
    assert desk.reads == reads
    desk.listening.want(wanted=True)
    desk.say(line(102_000))
    assert desk.reads == reads + 1
