"""Books of all running domains, kept as events, polls and ended changes come in.

Callbacks of libvirt and results of workers come from their threads through a queue; whatever is
done with them is done on the loop's thread, which owns all books.
"""

from __future__ import annotations

import queue
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeAlias, TypeVar

from vcpud.events import EventKind, HostEvent
from vcpud.hypervisor.actuator import Outcome
from vcpud.hypervisor.book import Book
from vcpud.hypervisor.link import Happening, RawEvent
from vcpud.hypervisor.poller import Poll, Poller
from vcpud.hypervisor.workers import URGENT_THREADS, Crew, Losses
from vcpud.model import Reason, SetWeight
from vcpud.terms import TermsBook
from vcpud.units import seconds

if TYPE_CHECKING:
    from vcpud.backend import BackendOptions
    from vcpud.hypervisor.describer import Facts
    from vcpud.hypervisor.link import Library
    from vcpud.hypervisor.options import LibvirtOptions
    from vcpud.hypervisor.proc import ProcFiles
    from vcpud.model import Uuid


@dataclass(frozen=True, slots=True)
class _Heard:
    """A raw event and when it came."""

    event: RawEvent
    at_ns: int


_Mail: TypeAlias = _Heard | Outcome | TermsBook

_TOLD: Final = {
    Happening.REBOOT: EventKind.REBOOTED,
    Happening.METADATA: EventKind.METADATA,
    Happening.JOB_COMPLETED: EventKind.JOB_ENDED,
    Happening.AGENT_UP: EventKind.AGENT_UP,
    Happening.AGENT_DOWN: EventKind.AGENT_DOWN,
}
_DESCRIBED_ANEW: Final = frozenset(
    {Happening.STARTED, Happening.METADATA, Happening.STATE, Happening.AGENT_UP}
)


BookT = TypeVar("BookT", bound=Book)


class Bookkeeping(ABC, Generic[BookT]):
    """What is known of all running domains of one libvirt, and what has happened to them."""

    _bulk_share: ClassVar[float] = 0.75
    """Of a period: a hung call is given up early enough that others are late by one cycle only."""
    _unanswered: ClassVar[str] = "QEMU does not answer libvirt"
    """Why a domain is held back that hangs."""

    def __init__(
        self,
        library: Library,
        proc: ProcFiles,
        backend: BackendOptions,
        options: LibvirtOptions,
        *,
        supervised: bool = True,
    ) -> None:
        """Start the threads; nothing is asked of libvirt before the first poll.

        Args:
            library: libvirt, or a stand-in.
            proc: /proc and /sys.
            backend: The daemon around it.
            options: How patient to be.
            supervised: False in tests that look for overdue calls themselves.
        """
        self._backend = backend
        self._options = options
        self._now_ns = backend.now_ns
        self._terms = backend.terms
        self._mail: queue.SimpleQueue[_Mail] = queue.SimpleQueue()
        self._events: list[HostEvent] = []
        self._losses = Losses()
        self._crew = Crew(
            "agent",
            open_link=lambda: library.open(writable=backend.writable),
            now_ns=self._now_ns,
            size=options.workers,
            reserve=URGENT_THREADS,
            losses=self._losses,
            supervised=supervised,
        )
        self._poller = Poller(
            library,
            proc,
            self._heard,
            now_ns=self._now_ns,
            deadline_s=seconds(options.call_deadline_ns),
            bulk_deadline_s=self._bulk_share * seconds(backend.period_ns),
            losses=self._losses,
            supervised=supervised,
        )
        self._books: dict[Uuid, BookT] = {}
        self._touched: set[Book] = set()
        self._running: set[Book] = set()
        self._undescribed: frozenset[Uuid] = frozenset()
        self._stopped_at_ns: dict[Uuid, int] = {}
        self._serial = 0
        self._connected = False
        self._ever_connected = False
        self._why_not = "not yet connected"
        self._slow = False
        self._redivide = True
        self._taken_at_ns = self._now_ns()

    # ------------------------------------------------------------------ what a platform says

    @abstractmethod
    def _open_book(self, uuid: Uuid, facts: Facts) -> BookT:
        """A book for a run of a domain that was seen for the first time."""

    @abstractmethod
    def _finished(self, book: BookT, outcome: Outcome) -> None:
        """A change has ended: what that says of the domain."""

    def _changed(self, book: BookT, happening: Happening) -> None:
        """Something has happened to a domain."""

    def _let_go(self, book: BookT) -> None:
        """The domain is gone, or nothing is asked of it any more."""

    # ------------------------------------------------------------------ what comes in

    def _heard(self, event: RawEvent) -> None:
        """Called on libvirt's thread."""
        self._mail.put(_Heard(event, self._now_ns()))
        self._backend.wake()

    def _report(self, outcome: Outcome) -> None:
        """Called on a worker's thread."""
        self._mail.put(outcome)
        self._backend.wake()

    def _absorb(self) -> None:
        while True:
            try:
                mail = self._mail.get_nowait()
            except queue.Empty:
                return
            if isinstance(mail, Outcome):
                self._ended(mail)
            elif isinstance(mail, TermsBook):
                self._terms = mail
                for book in self._books.values():
                    book.agree(mail)
            else:
                self._happened(mail.event, mail.at_ns)

    def _tell(
        self,
        kind: EventKind,
        book: BookT | None = None,
        *,
        at_ns: int | None = None,
        reason: Reason | None = None,
        detail: str = "",
    ) -> None:
        self._events.append(
            HostEvent(
                kind=kind,
                at_ns=self._now_ns() if at_ns is None else at_ns,
                uuid=None if book is None else book.uuid,
                name="" if book is None else book.facts.name,
                reason=reason,
                detail=detail,
            )
        )

    def _ended(self, outcome: Outcome) -> None:
        book = self._books.get(outcome.uuid)
        if book is None or book.in_flight != outcome.change:
            return  # of an earlier run of the domain
        book.in_flight = None
        book.touch()
        if outcome.reason is None and not isinstance(outcome.change, SetWeight):
            book.left(outcome.change, self._now_ns())
        self._finished(book, outcome)
        kind = EventKind.CHANGE_DONE if outcome.reason is None else EventKind.CHANGE_FAILED
        self._tell(kind, book, reason=outcome.reason, detail=outcome.detail)

    def _happened(self, event: RawEvent, at_ns: int) -> None:
        happening, book = event.happening, self._books.get(event.uuid)
        if happening is Happening.CLOSED:
            self._disconnected("libvirt closed the connection", at_ns)
        elif happening is Happening.STOPPED:
            self._stopped_at_ns[event.uuid] = at_ns
            self._poller.forget(event.uuid)
            if book is not None and book.facts.taken_at_ns <= at_ns:  # else of an earlier run
                self._drop(book, at_ns)
        else:
            if happening in _DESCRIBED_ANEW:
                self._poller.forget(event.uuid)
            if book is not None:
                self._took_place(book, happening, at_ns)

    def _took_place(self, book: BookT, happening: Happening, at_ns: int) -> None:
        if happening is Happening.REBOOT and not book.rebooted(at_ns):
            return
        if happening is Happening.JOB_COMPLETED:
            book.job = None
            book.job_told = False
        self._changed(book, happening)
        book.touch()
        if happening in _TOLD:
            self._tell(_TOLD[happening], book, at_ns=at_ns)

    def _disconnected(self, why: str, at_ns: int) -> None:
        self._why_not = why
        if self._connected:
            self._connected = False
            self._tell(EventKind.DISCONNECTED, at_ns=at_ns, detail=why)

    def _drop(self, book: BookT, at_ns: int) -> None:
        book.over = True
        self._let_go(book)
        del self._books[book.uuid]
        self._redivide = True
        if book.in_flight is not None:
            self._tell(
                EventKind.CHANGE_FAILED, book, at_ns=at_ns, reason=Reason.GONE, detail="it stopped"
            )
        self._tell(EventKind.GONE, book, at_ns=at_ns)

    # ------------------------------------------------------------------ a poll

    def _receive(self, timeout_s: float) -> None:
        """Take in the latest poll, unless that has been done."""
        poll = self._poller.wait(timeout_s)
        if poll is not None and poll.serial != self._serial:
            self._serial = poll.serial
            self._take(poll)

    def _take(self, poll: Poll) -> None:
        if poll.failure is not None:
            self._disconnected(poll.failure, poll.taken_at_ns)
            return
        first = not self._ever_connected
        if not self._connected:
            self._connected = self._ever_connected = True
            self._tell(EventKind.CONNECTED)
        self._taken_at_ns = poll.taken_at_ns
        if poll.slow is not self._slow:
            self._slow = poll.slow
            for book in self._books.values():
                book.touch()
        self._judge(poll)
        for uuid, facts in poll.facts.items():
            self._learn(uuid, facts, poll, tell=not first)
        if not self._count(poll):
            self._close_books(poll)
        # Only a poll that was under way when a domain stopped can still tell of it.
        later = {
            uuid: at_ns for uuid, at_ns in self._stopped_at_ns.items() if at_ns > poll.began_ns
        }
        self._stopped_at_ns = later

    def _learn(self, uuid: Uuid, facts: Facts, poll: Poll, *, tell: bool) -> None:
        known = self._books.get(uuid)
        if known is not None and known.is_of(facts):
            known.describe(facts)
            known.agree(self._terms)
            self._redivide = True
            return
        if self._stopped_at_ns.get(uuid, -1) > poll.began_ns:
            # It stopped while it was being described, or is that run's successor already.
            self._poller.forget(uuid)
            return
        if known is not None:
            self._drop(known, poll.taken_at_ns)
        book = self._open_book(uuid, facts)
        book.hung = self._crew.hung(uuid)
        self._books[uuid] = book
        self._stopped_at_ns.pop(uuid, None)
        book.agree(self._terms)
        self._redivide = True
        if tell:
            self._tell(EventKind.STARTED, book)

    def _count(self, poll: Poll) -> bool:
        """Take in the counters; a paused domain that has not moved costs one comparison.

        Returns:
            Whether every run that is listed has its book, and every book is of such a run.
        """
        books = self._books
        found = 0
        for uuid, number, raw in poll.rows:
            book = books.get(uuid)
            if book is None or book.number != number:
                continue
            found += 1
            if raw == book.raw and not book.running:
                continue
            book.slow = self._slow
            book.count(raw, poll.taken_at_ns)
            if poll.taken_at_ns - book.facts.taken_at_ns > self._options.resync_ns:
                self._poller.forget(uuid)
        self._running = {book for book in self._touched if book.running}
        self._undescribed = frozenset()
        return found == len(poll.rows) == len(books)

    def _close_books(self, poll: Poll) -> None:
        """Drop who is gone; who is there and has no book is named, so as not to count as gone."""
        listed = {row.uuid: row.number for row in poll.rows}
        for book in tuple(self._books.values()):
            if listed.get(book.uuid) != book.number:
                self._drop(book, poll.taken_at_ns)
        self._undescribed = frozenset(listed.keys() - self._books.keys())

    def _judge(self, poll: Poll) -> None:
        """Hold back calls for domains that hang, and no longer than they do."""
        for uuid in poll.occupied:
            if not self._crew.hung(uuid):
                self._crew.quarantine(uuid, self._unanswered)
        for uuid in poll.free:
            if not self._crew.waits_for(uuid):
                self._crew.pardon(uuid)
