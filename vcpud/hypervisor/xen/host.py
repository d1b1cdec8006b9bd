"""Xen through libvirt, as the loop's `Hypervisor`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from vcpud.hypervisor.errands import Errand
from vcpud.hypervisor.host import LibvirtHost
from vcpud.hypervisor.proc import ProcFiles
from vcpud.hypervisor.xen.book import XenBook
from vcpud.hypervisor.xen.change import GUEST_NS, XenChange
from vcpud.hypervisor.xen.gate import Route, refuse
from vcpud.hypervisor.xen.remarks import remarks
from vcpud.hypervisor.xen.reports import Listening
from vcpud.hypervisor.xen.sampler import Sampler
from vcpud.model import Change, Mode, Refused, SetLive, SetWeight
from vcpud.ports import RESTORE_NS
from vcpud.units import NS_PER_S, seconds

if TYPE_CHECKING:
    from vcpud.backend import BackendOptions
    from vcpud.hypervisor.actuator import Outcome
    from vcpud.hypervisor.describer import Facts
    from vcpud.hypervisor.errands import Hand
    from vcpud.hypervisor.gate import Stance
    from vcpud.hypervisor.handover import Notepad
    from vcpud.hypervisor.link import Library
    from vcpud.hypervisor.poller import Poll
    from vcpud.hypervisor.proc import Process
    from vcpud.hypervisor.xen.options import XenOptions
    from vcpud.hypervisor.xen.roll import Roll
    from vcpud.hypervisor.xen.tools import Toolstack
    from vcpud.model import Uuid

XL_AGAIN_NS: Final = 30 * NS_PER_S
"""After xl has failed: no more than a process or two, and within what a restore waits."""


class XenFiles(ProcFiles):
    """The host as dom0 knows it: its own /proc tells of dom0's vCPUs, the roll of the pCPUs."""

    def __init__(self, roll: Roll, root: Path = Path("/")) -> None:
        super().__init__(root)
        self.roll = roll

    def online_pcpus(self) -> frozenset[int]:
        return frozenset(range(self.roll.pcpus))

    def busy_ns(self, pcpus: frozenset[int]) -> int | None:  # noqa: ARG002  all are one pool
        return self.roll.busy_ns

    def qemu_pids(self) -> dict[Uuid, int]:
        return {}

    def process(self, pid: int) -> Process | None:  # noqa: ARG002  no process is a domain here
        return None


class XenHypervisor(LibvirtHost[XenBook]):
    """All running domains of one libvirt on Xen, but Domain-0."""

    _bulk_share: ClassVar[float] = 4.0
    """No guest can hang it, but every domain is asked in turn, and now and then Xen itself."""

    _unanswered: ClassVar[str] = "libvirt does not answer about it: a call keeps it locked there"

    restore_ns = 2 * GUEST_NS + RESTORE_NS
    """A change under way and the one that gives back, each with all the time a guest has, and the calls."""

    def __init__(  # noqa: PLR0913  each is a fact of the daemon around it
        self,
        library: Library,
        tools: Toolstack,
        files: XenFiles,
        backend: BackendOptions,
        options: XenOptions,
        *,
        supervised: bool = True,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start the threads; nothing is asked of libvirt before the first sample.

        Args:
            library: libvirt, or a stand-in.
            tools: Xen's own tools, or a stand-in.
            files: The host, with the roll that connections of the library write.
            backend: The daemon around it.
            options: How patient to be.
            supervised: False in tests that look for overdue calls themselves.
            pause: Waits between two looks at what a guest does, which tests replace.
        """
        super().__init__(library, files, backend, options, supervised=supervised)
        self._tools = tools
        self._pause = pause
        self._roll = files.roll
        self._xl_works = options.ignore_host and tools.can_ignore_host()
        self._xl_wanted = options.ignore_host
        self._sampler = Sampler(
            library,
            ratio=options.sampling_cost_ratio,
            period_ns=options.sampling_period_ns,
            deadline_s=seconds(options.call_deadline_ns),
            now_ns=backend.now_ns,
            losses=self._losses,
            supervised=supervised,
        )
        if self._xl_wanted and not self._xl_works:
            self._try_xl_later()

    def supervise(self) -> None:
        super().supervise()
        self._sampler.supervise()

    def close(self) -> None:
        self._sampler.close(1.0)
        super().close()

    def _route(self) -> Route:
        return Route(pcpus=self._roll.pcpus, by_xl=self._xl_works)

    def _try_xl_later(self) -> None:
        """A host that was too busy for it may not be for ever, and domains may be owed what only xl gives."""
        again = Errand(uuid="", run=self._try_xl, given_up=self._try_xl_later)
        self._crew.submit(again, self._now_ns() + XL_AGAIN_NS)

    def _try_xl(self, _: Hand) -> None:
        self._xl_works = self._tools.can_ignore_host()
        if not self._xl_works:
            self._try_xl_later()

    # ------------------------------------------------------------------ what a platform says

    def _open_book(self, uuid: Uuid, facts: Facts) -> XenBook:
        return XenBook(uuid, facts, self._touched, roll=self._roll, route=self._route)

    def _refuse(self, book: XenBook, change: Change, stance: Stance) -> Refused | None:
        return refuse(book, change, stance, self._route())

    def _errand(self, book: XenBook, change: Change) -> Errand:
        counts = [book.live_vcpus, book.libvirt_count]
        if isinstance(change, SetLive):
            counts.append(change.count)
        route = self._route()
        undertaking = XenChange(
            change,
            book.number,
            by_xl=route.by_xl and route.needs_xl(*counts),
            roll=self._roll,
            tools=self._tools,
            patience=self._patience,
            now_ns=self._now_ns,
            report=self._report,
            handover=self._handover(book, change, weight=book.facts.scheduling.weight),
            pause=self._pause,
        )
        return Errand(
            uuid=change.uuid, run=undertaking.run, given_up=undertaking.given_up, urgent=True
        )

    def _finished(self, book: XenBook, outcome: Outcome) -> None:
        change = outcome.change
        if isinstance(change, SetLive):
            self._roll.doubt(book.number)
        elif isinstance(change, SetWeight) and outcome.reason is None:
            read_back = book.facts.scheduling._replace(weight=change.weight)
            book.facts = dataclasses.replace(book.facts, scheduling=read_back)
        self._poller.forget(book.uuid)

    def _remarks(self) -> tuple[str, ...]:
        return remarks(
            self._books.values(),
            xl_missing=self._xl_wanted and not self._xl_works,
            strangers=self._roll.strangers,
            why_hung=self._crew.hung_because,
            boot_id=self._boot_id,
        )

    def _notebook(self, book: XenBook) -> Notepad:
        return book.notepad

    def _tend(self, book: XenBook) -> None:
        if book.wants_report and book.listening is None:
            book.listening = Listening(
                book.uuid,
                book.number,
                self._crew,
                self._tools,
                period_ns=self._options.agent_period_ns,
                deadline_s=seconds(self._options.call_deadline_ns),
                max_vcpus=book.max_vcpus,
                now_ns=self._now_ns,
            )
        if book.listening is not None:
            book.listening.want(wanted=book.wants_report)

    def _let_go(self, book: XenBook) -> None:
        if book.listening is not None:
            book.listening.want(wanted=False)

    # ------------------------------------------------------------------ a poll

    def _learn(self, uuid: Uuid, facts: Facts, poll: Poll, *, tell: bool) -> None:
        """No process tells a domain's age: one that appears has just started."""
        super()._learn(uuid, facts, poll, tell=tell)
        book = self._books.get(uuid)
        if tell and book is not None and book.sample is None:
            book.booted_at_ns = facts.taken_at_ns

    def _count(self, poll: Poll) -> bool:
        """Looks first: they were taken before the counters were read."""
        for look in self._sampler.fetch():
            book = self._books.get(look.uuid)
            if book is not None:
                book.looked(look.states, look.at_ns)
        complete = super()._count(poll)
        self._sampler.watch(
            {
                uuid: book.max_vcpus
                for uuid, book in sorted(self._books.items())
                if book.running and book.terms.mode is not Mode.OFF
            }
        )
        return complete

    def _look_at_host(self) -> None:
        self._busy_ns = self._proc.busy_ns(self._online)
        online = self._proc.online_pcpus()
        if online != self._online:
            self._online = online
            self._redivide = True
