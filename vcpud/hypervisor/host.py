"""What every libvirt backend has in common: samples, changes, events.

A platform is a subclass: it says what book it keeps of a domain, what it refuses, how a change is
carried out and what it does besides whenever a sample is made.

Threads: `sample`, `begin` and `events` are called by the loop only and own all books. Callbacks
of libvirt and results of workers come in through a queue and are taken in by the loop's thread;
what agents say is picked up as immutable views.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Final

from vcpud.events import EventKind, HostEvent
from vcpud.hypervisor.bookkeeping import Bookkeeping, BookT
from vcpud.hypervisor.gate import Stance
from vcpud.hypervisor.handover import Handover, note_removal
from vcpud.hypervisor.options import hypervisor_name
from vcpud.hypervisor.patience import Patience
from vcpud.hypervisor.pools import Division, divide
from vcpud.model import (
    Accepted,
    Change,
    DomainSample,
    Effect,
    HostSample,
    Mode,
    Reason,
    Refused,
    SetWeight,
)
from vcpud.ports import RESTORE_NS
from vcpud.units import NS_PER_S, seconds

if TYPE_CHECKING:
    from vcpud.backend import BackendOptions
    from vcpud.hypervisor.errands import Errand
    from vcpud.hypervisor.handover import Notebook
    from vcpud.hypervisor.link import Library
    from vcpud.hypervisor.options import LibvirtOptions
    from vcpud.hypervisor.proc import ProcFiles
    from vcpud.model import Uuid
    from vcpud.terms import TermsBook

_WAIT_SHARE: Final = 0.8
_HOST_LOOK_NS: Final = 10 * NS_PER_S


class LibvirtHost(Bookkeeping[BookT]):
    """All running domains of one libvirt."""

    restore_ns: int = RESTORE_NS

    def __init__(
        self,
        library: Library,
        proc: ProcFiles,
        backend: BackendOptions,
        options: LibvirtOptions,
        *,
        supervised: bool = True,
    ) -> None:
        """Start the threads; nothing is asked of libvirt before the first sample.

        Args:
            library: libvirt, or a stand-in.
            proc: /proc and /sys.
            backend: The daemon around it.
            options: How patient to be.
            supervised: False in tests that look for overdue calls themselves.
        """
        super().__init__(library, proc, backend, options, supervised=supervised)
        self._proc = proc
        self._patience = Patience(
            call_s=seconds(options.call_deadline_ns), agent_s=seconds(options.agent_timeout_ns)
        )
        self._hung: frozenset[Uuid] = frozenset()
        self._busy_ns: int | None = None
        self._notes: tuple[str, ...] = ()
        self._boot_id = proc.boot_id()
        self._name = hypervisor_name(options.uri)
        self._online = proc.online_pcpus()
        self._looked_at_ns = self._now_ns()
        self._division: Division = divide({}, self._online)
        self._domains: tuple[DomainSample, ...] = ()

    # ------------------------------------------------------------------ the port

    def sample(self) -> HostSample:
        """The latest complete readings.

        Waits for the bulk call under way for less than a period; when it takes longer, what was
        known before is given once more, with its old timestamps.
        """
        self._absorb()
        self._receive(0.0)  # one that came too late for the last sample says whose QEMU hangs
        self._poller.watched = self._crew.quarantined()
        self._poller.ask()
        self._receive(seconds(self._backend.period_ns) * _WAIT_SHARE)
        self._absorb()
        self._look_at_host()
        return self._host_sample()

    def begin(self, change: Change) -> Effect:
        """Start a change on a worker of its own; refused when it cannot end well."""
        self._absorb()
        book = self._books.get(change.uuid)
        if book is None:
            return Refused(Reason.GONE, "no such domain is running")
        refusal = self._refuse(
            book,
            change,
            Stance(
                writable=self._backend.writable,
                why_not_connected=None if self._connected else self._why_not,
                why_hung=self._crew.hung_because(book.uuid),
                now_ns=self._now_ns(),
            ),
        )
        if refusal is not None:
            return refusal
        errand = self._errand(book, change)
        book.in_flight = change
        if not isinstance(change, SetWeight):
            book.left(None, self._now_ns())
        book.begun += 1
        book.touch()
        self._crew.submit(errand)
        return Accepted()

    def events(self) -> tuple[HostEvent, ...]:
        """What happened since the last call."""
        self._absorb()
        happened, self._events = tuple(self._events), []
        return happened

    # ------------------------------------------------------------------ around the port

    def adopt(self, terms: TermsBook) -> None:
        """Other terms from the next sample on; from any thread."""
        self._mail.put(terms)

    def supervise(self) -> None:
        """For tests: look for calls past their deadline."""
        self._poller.supervise()
        self._crew.supervise()

    def close(self) -> None:
        """Let go of threads and connections, within a few seconds whatever libvirt does."""
        for book in self._books.values():
            self._let_go(book)
        self._crew.close(1.0)
        self._poller.close(1.0)

    # ------------------------------------------------------------------ what a platform says

    @abstractmethod
    def _refuse(self, book: BookT, change: Change, stance: Stance) -> Refused | None:
        """Why a change cannot be begun; None when it can."""

    @abstractmethod
    def _errand(self, book: BookT, change: Change) -> Errand:
        """What carries out a change and ends in `_report`; called just before it begins."""

    @abstractmethod
    def _remarks(self) -> tuple[str, ...]:
        """What an operator should know, in words."""

    @abstractmethod
    def _notebook(self, book: BookT) -> Notebook:
        """Where it is kept what its hand-over note says."""

    def _tend(self, book: BookT) -> None:
        """Something to do besides, each time a sample of a domain is made."""

    # ------------------------------------------------------------------ notes that travel along

    def _handover(self, book: BookT, change: Change, *, weight: int | None = None) -> Handover:
        return Handover(
            change,
            self._notebook(book),
            wanted=self._options.handover_notes,
            found=book.note is not None,
            weight=weight,
        )

    def _remove_note(self, book: BookT) -> None:
        """The domain is owed nothing by its note any more, here or after a migration."""
        may = self._backend.writable and book.terms.mode is Mode.ENFORCE
        if book.tidying or book.in_flight is not None or not may:
            return
        book.tidying = True
        self._crew.submit(note_removal(book, self._notebook(book)))

    # ------------------------------------------------------------------ what goes out

    def _look_at_host(self) -> None:
        """The host itself: busy time while anything runs, its pCPUs now and then."""
        now_ns = self._now_ns()
        rarely = now_ns - self._looked_at_ns >= _HOST_LOOK_NS
        if self._running or rarely or self._busy_ns is None:
            self._busy_ns = self._proc.busy_ns(self._division.pcpus)
        if rarely:
            self._looked_at_ns = now_ns
            online = self._proc.online_pcpus()
            if online != self._online:
                self._online = online
                self._redivide = True

    def _host_sample(self) -> HostSample:
        if self._redivide:
            self._divide()
        hung = self._crew.quarantined()
        for uuid in hung ^ self._hung:
            book = self._books.get(uuid)
            if book is not None:
                book.hung = uuid in hung
                book.touch()
        self._hung = hung
        if self._touched or self._running or len(self._books) != len(self._domains):
            self._make_samples()
        return HostSample(
            taken_at_ns=self._taken_at_ns,
            boot_id=self._boot_id,
            pools=self._division.pools,
            domains=self._domains,
            busy_ns=self._busy_ns,
            connected=self._connected,
            lost_threads=self._losses.count,
            hypervisor=self._name,
            notes=self._notes if self._connected else (self._not_connected, *self._notes),
            undescribed=self._undescribed,
        )

    @property
    def _not_connected(self) -> str:
        return f"not connected: {self._why_not}"

    def _make_samples(self) -> None:
        """Make anew what has changed; what agents say changes while a domain runs."""
        now_ns = self._now_ns()
        for one in self._touched | self._running:
            book = self._books.get(one.uuid)
            if book is None or book is not one:
                continue
            self._tend(book)
            if book.note_is_settled:
                self._remove_note(book)
            sample = book.make_sample(now_ns, self._options.boot_grace_ns, self._boot_id)
            if (sample.job is not None) is not book.job_told:
                book.job_told = sample.job is not None
                kind = EventKind.JOB_BEGUN if book.job_told else EventKind.JOB_ENDED
                self._tell(kind, book, detail=sample.job or "")
        self._touched.clear()
        samples = [book.sample for book in self._books.values() if book.sample is not None]
        self._domains = tuple(sorted(samples, key=lambda sample: sample.uuid))
        self._notes = self._remarks()

    def _divide(self) -> None:
        affinities = {
            book.uuid: book.facts.description.affinities
            for book in self._books.values()
            if book.facts.description is not None
        }
        self._division = divide(affinities, self._online)
        for book in self._books.values():
            book.membership = self._division.members.get(book.uuid)
            book.touch()
        self._redivide = False
