"""KVM and QEMU through libvirt: guests asked and changed through their agents, or by devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vcpud.hypervisor.actuator import Actuation, Outcome, Situation
from vcpud.hypervisor.book import Book
from vcpud.hypervisor.conversation import Conversation
from vcpud.hypervisor.errands import Errand
from vcpud.hypervisor.gate import Stance, refuse
from vcpud.hypervisor.host import LibvirtHost
from vcpud.hypervisor.link import Happening
from vcpud.hypervisor.remarks import remarks
from vcpud.hypervisor.timetable import Pace
from vcpud.hypervisor.xml import AgentPort
from vcpud.model import Change, Refused, SetLive, SetOnline

if TYPE_CHECKING:
    from vcpud.hypervisor.describer import Facts
    from vcpud.model import Uuid


class KvmHypervisor(LibvirtHost[Book]):
    """All running domains of one libvirt with QEMU."""

    def _open_book(self, uuid: Uuid, facts: Facts) -> Book:
        return Book(uuid, facts, self._touched, unplug_emulated=self._options.unplug_emulated)

    def _refuse(self, book: Book, change: Change, stance: Stance) -> Refused | None:
        return refuse(book, change, stance)

    def _errand(self, book: Book, change: Change) -> Errand:
        view = book.view
        actuation = Actuation(
            change,
            Situation(
                online=view.online,
                online_taken_at_ns=view.online_taken_at_ns,
                live_vcpus=book.live_vcpus,
            ),
            self._conversation(book),
            patience=self._patience,
            now_ns=self._now_ns,
            report=self._report,
            handover=self._handover(book, change),
            over=lambda: book.over,
        )
        if isinstance(change, SetLive) and change.count < book.live_vcpus:
            book.unplug_from = book.live_vcpus
        return Errand(
            uuid=change.uuid, run=actuation.run, given_up=actuation.given_up, urgent=True
        )

    def _finished(self, book: Book, outcome: Outcome) -> None:
        if isinstance(outcome.change, SetLive):
            book.unplug_asked_at_ns = self._now_ns() if outcome.unplug_pending else None
            self._poller.forget(book.uuid)  # which vCPUs can be unplugged has changed too
        elif not isinstance(outcome.change, SetOnline):
            self._poller.forget(book.uuid)

    def _remarks(self) -> tuple[str, ...]:
        return remarks(
            self._books.values(),
            slow=self._slow,
            boot_id=self._boot_id,
            why_hung=self._crew.hung_because,
        )

    def _notebook(self, book: Book) -> Conversation:
        return self._conversation(book)

    def _tend(self, book: Book) -> None:
        unheard_at_ns = book.rebooted_unheard_at_ns
        if unheard_at_ns is not None:
            self._took_place(book, Happening.REBOOT, unheard_at_ns)
        if self._backend.writable:
            self._steer_agent(book)

    def _changed(self, book: Book, happening: Happening) -> None:
        talk = book.conversation
        if happening is Happening.AGENT_DOWN:
            book.agent = AgentPort.DISCONNECTED
        elif happening is Happening.AGENT_UP:
            book.agent = AgentPort.CONNECTED
            if talk is not None:
                talk.renew(rebooted=False)
        elif talk is not None and happening in {Happening.JOB_PROGRESS, Happening.JOB_COMPLETED}:
            talk.look_for_job()

    def _let_go(self, book: Book) -> None:
        if book.conversation is not None:
            book.conversation.want(wanted=False)

    def _conversation(self, book: Book) -> Conversation:
        known = book.conversation
        if known is None or known.max_vcpus != book.max_vcpus:
            if known is not None:
                known.want(wanted=False)
            known = book.conversation = Conversation(
                book.uuid,
                self._crew,
                pace=Pace(
                    period_ns=self._options.agent_period_ns,
                    cost_ratio=self._options.agent_cost_ratio,
                ),
                patience=self._patience,
                max_vcpus=book.max_vcpus,
                now_ns=self._now_ns,
            )
        return known

    def _steer_agent(self, book: Book) -> None:
        if book.wants_agent:
            talk = self._conversation(book)
            _, waited_ns = book.vcpus.totals()
            if waited_ns is not None:
                talk.waited(waited_ns, len(book.vcpus.indices), book.taken_at_ns)
            talk.want(wanted=True)
        elif book.conversation is not None:
            book.conversation.want(wanted=False)
