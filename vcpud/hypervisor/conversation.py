"""One guest's agent over time: readings in the background, each in a worker's own time.

The `Reader` says what to ask and when; here it is asked, one supervised call at a time, and what
is known is published as one immutable value that the loop picks up whenever it samples. A
change waiting for the same domain interrupts a reading after the current command.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vcpud.guest import GuestReading
from vcpud.hypervisor import agent
from vcpud.hypervisor.errands import Errand, Hand
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.link import Control
from vcpud.hypervisor.patience import Patience
from vcpud.hypervisor.reader import Reader
from vcpud.hypervisor.timetable import Pace
from vcpud.hypervisor.view import View
from vcpud.hypervisor.workers import Crew
from vcpud.model import Trouble
from vcpud.thrift import Supply
from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcpud.model import Uuid

JOB_LOOK_NS: Final = 5 * NS_PER_S
"""While vCPUs are parked a job must be noticed, however rarely the agent may be asked."""
_RETRY_NS: Final = 5 * NS_PER_S
_MS_PER_S: Final = 1000
BUSY: Final = "another client's change"


@dataclass(slots=True)
class _Orders:
    """What the loop's thread asks of the thread that reads; both hold the lock for it."""

    wanted: bool = False
    renew: bool = False
    rebooted: bool = False
    under_way: bool = field(default=False)


class Conversation:
    """Talks with one guest's agent while it is wanted."""

    def __init__(  # noqa: PLR0913  each is a fact of the daemon around it
        self,
        uuid: Uuid,
        crew: Crew,
        *,
        pace: Pace,
        patience: Patience,
        max_vcpus: int,
        now_ns: Callable[[], int],
    ) -> None:
        self._uuid = uuid
        self._crew = crew
        self._patience = patience
        self._now_ns = now_ns
        self.max_vcpus = max_vcpus
        self._reader = Reader(pace=pace, max_vcpus=max_vcpus, now_ns=now_ns())
        self._lock = threading.RLock()
        self._orders = _Orders()
        self._supply = Supply()
        self._tickets = itertools.count(1)
        self._ticket = 0
        self._denied = False
        self._online: frozenset[int] | None = None
        self._online_taken_at_ns: int | None = None
        self._job: str | None = None
        self._note_failure = ""
        self.note: str | None = None
        self.view = View()

    # ------------------------------------------------------------------ from the loop

    def want(self, *, wanted: bool) -> None:
        """Read on, or stop after the current command."""
        with self._lock:
            self._orders.wanted = wanted
            if wanted and not self._orders.under_way:
                self._orders.under_way = True
                self._schedule(self._reader.due_ns(self._now_ns()))

    def waited(self, waited_ns: int, vcpus: int, at_ns: int) -> None:
        """So long its vCPUs have waited for pCPUs by then: a guest that gets little is asked less often."""
        self._supply.saw(waited_ns, vcpus, at_ns)

    def renew(self, *, rebooted: bool) -> None:
        """Another agent answers from now on, after a reboot in another kernel."""
        with self._lock:
            self._orders.rebooted |= rebooted
            self._orders.renew = True
            if rebooted:
                self.view = View(job=self.view.job)
            if self._orders.under_way:
                self._schedule(self._now_ns())

    def look_for_job(self) -> None:
        """Something was said of a job: look at once, on a thread that may wait."""

        def look(hand: Hand) -> None:
            with contextlib.suppress(CallFailed):  # the next reading finds it, too
                self.find_job(hand)

        self._crew.submit(Errand(uuid=self._uuid, run=look, given_up=lambda: None, urgent=True))

    # ------------------------------------------------------------------ on a worker's thread

    def ask(self, hand: Hand, text: str, timeout_s: int | None = None) -> tuple[str, int, int]:
        """Send one command; its answer, and when it was asked and answered.

        Raises:
            CallFailed: There was none.
        """
        limit_s = self._patience.agent_timeout_s if timeout_s is None else timeout_s
        began_ns = self._now_ns()
        answer = hand.call(
            self._patience.agent_deadline_s(limit_s),
            lambda link: link.agent(self._uuid, text, limit_s),
        )
        return answer, began_ns, self._now_ns()

    def find_job(self, hand: Hand) -> str | None:
        """The job that the domain is busy with, if any.

        Raises:
            CallFailed: It cannot be told; HUNG when QEMU has not answered libvirt for long.
        """
        uuid = self._uuid
        control, for_ms = hand.call(self._patience.call_s, lambda link: link.control(uuid))
        if control is Control.OCCUPIED and for_ms >= self._patience.call_s * _MS_PER_S:
            why = f"QEMU has not answered libvirt for {for_ms / _MS_PER_S:.0f} s"
            self._crew.quarantine(uuid, why)
            raise CallFailed(Meaning.HUNG, why)
        if control is Control.ERROR:
            return BUSY  # another client's change that waits for the guest
        self._job = hand.call(self._patience.job_deadline_s, lambda link: link.job(uuid))
        self._publish()
        return self._job

    def look(self, hand: Hand) -> frozenset[int]:
        """Read which CPUs are online, by the command that tells the most.

        Raises:
            CallFailed: The agent does not say.
        """
        if "guest-get-cpustats" not in self._reader.disabled:
            try:
                answer, began_ns, ended_ns = self.ask(hand, agent.command("guest-get-cpustats"))
            except CallFailed as failure:
                if failure.meaning is not Meaning.AGENT_BLOCKED:
                    raise
            else:
                middle_ns = (began_ns + ended_ns) // 2
                found = self._reader.take_accounting(answer, middle_ns)
                if found is not None:
                    self._saw(found.online, middle_ns)
                    return found.online
        answer, began_ns, ended_ns = self.ask(hand, agent.command("guest-get-vcpus"))
        try:
            vcpus = agent.parse_vcpus(answer, max_vcpus=self.max_vcpus)
        except agent.AbsurdError as error:
            raise CallFailed(Meaning.AGENT_FAILED, str(error)) from error
        online = frozenset(vcpu.number for vcpu in vcpus if vcpu.online)
        self._saw(online, (began_ns + ended_ns) // 2)
        return online

    def unsettled(self) -> None:
        """CPUs are about to be set: until the next look nobody can say when they were read last.

        A command that is given up may still be carried out, and no answer from before tells.
        """
        self._online_taken_at_ns = None
        self._publish()

    def lacks(self, command: str) -> None:
        """The agent does not carry out this command: do not count on it again."""
        self._reader.lacks(command)
        self._publish()

    def noted(self, note: str | None, failure: str) -> None:
        """What the hand-over note says now, or why there is none."""
        self.note, self._note_failure = note, failure
        self._publish()

    def hurry(self) -> None:
        """After a change: two readings at once."""
        self._reader.hurry()
        with self._lock:
            self._orders.under_way = self._orders.wanted
            if self._orders.wanted:
                self._schedule(self._reader.due_ns(self._now_ns()))

    def _read(self, ticket: int, hand: Hand) -> None:
        """One reading, unless it is not wanted, not yet due, or another one is to come."""
        with self._lock:
            orders = self._orders
            if ticket != self._ticket:
                return
            if orders.renew:
                self._reader.renew(rebooted=orders.rebooted)
                if orders.rebooted:
                    self._online = self._online_taken_at_ns = None
                orders.renew = orders.rebooted = False
            if not orders.wanted:
                orders.under_way = False
                return
        now_ns = self._now_ns()
        self._reader.gets(self._supply.pcpus, now_ns)
        due = self._reader.due_ns(now_ns) <= now_ns
        if not due and self.note is None:
            self._again()
            return
        try:
            self.find_job(hand)
        except CallFailed as failure:
            self._refused(failure)
            return
        if not due:
            self._again()
            return
        self._reader.begin(now_ns)
        whole = True
        while whole and (text := self._reader.next_command()) is not None:
            whole = self._exchange(hand, text) and self._go_on(hand)
        if Trouble.AGENT_SILENT in self._reader.troubles:
            self._probe(hand)
        self._again()

    def _exchange(self, hand: Hand, text: str) -> bool:
        began_ns = self._now_ns()
        try:
            answer, began_ns, ended_ns = self.ask(hand, text)
        except CallFailed as failure:
            self._denied = failure.meaning is Meaning.DENIED
            go_on = self._reader.failed(
                failure.meaning, began_ns=began_ns, ended_ns=self._now_ns()
            )
        else:
            self._denied = False
            before = self._reader.reading.accounting
            self._reader.answered(answer, began_ns=began_ns, ended_ns=ended_ns)
            after = self._reader.reading.accounting
            if after is not None and after is not before:
                self._saw(after.online, after.taken_at_ns)
            go_on = True
        self._publish()
        return go_on

    def _go_on(self, hand: Hand) -> bool:
        return self._orders.wanted and not hand.interrupted()

    def _probe(self, hand: Hand) -> None:
        """A silent agent: does QEMU itself answer? If not, the deadline finds it hung."""
        try:
            hand.call(self._patience.call_s, lambda link: link.ping(self._uuid))
        except CallFailed:
            return

    def _refused(self, failure: CallFailed) -> None:
        self._denied = failure.meaning is Meaning.DENIED
        if failure.meaning is Meaning.GONE:
            with self._lock:
                self._orders.wanted = self._orders.under_way = False
            return
        self._publish()
        self._schedule(self._now_ns() + _RETRY_NS)

    def _given_up(self) -> None:
        """Called from the supervisor; the thread that was reading is lost."""
        now_ns = self._now_ns()
        self._reader.failed(Meaning.HUNG, began_ns=now_ns, ended_ns=now_ns)
        self._publish()
        self._again()

    def _again(self) -> None:
        now_ns = self._now_ns()
        at_ns = self._reader.due_ns(now_ns)
        if self.note is not None:
            at_ns = min(at_ns, now_ns + JOB_LOOK_NS)
        with self._lock:
            self._schedule(now_ns if self._orders.renew else at_ns)

    def _schedule(self, at_ns: int) -> None:
        """Read at this time; whatever was scheduled before finds its ticket out of date."""
        with self._lock:
            ticket = self._ticket = next(self._tickets)
            errand = Errand(
                uuid=self._uuid, run=lambda hand: self._read(ticket, hand), given_up=self._given_up
            )
            self._crew.submit(errand, at_ns)

    def _saw(self, online: frozenset[int], at_ns: int) -> None:
        self._online, self._online_taken_at_ns = online, at_ns
        self._publish()

    def _publish(self) -> None:
        reader = self._reader
        troubles = reader.troubles
        if self._denied:
            troubles |= {Trouble.AGENT_BLOCKED}
        with self._lock:
            if self._orders.rebooted:
                return  # what is known is of the kernel before
            self.view = View(
                reading=reader.reading if reader.reading != GuestReading() else None,
                online=self._online,
                online_taken_at_ns=self._online_taken_at_ns,
                first_of_kernel=reader.first_of_kernel,
                disabled=reader.disabled,
                troubles=troubles,
                absurdities=reader.absurdities,
                job=self._job,
                note_failure=self._note_failure,
            )
