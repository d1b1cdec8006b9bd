"""The host's side of every sample: one bulk call per period, on a thread that may be lost.

Problem: one QEMU that does not answer its monitor blocks the bulk call for ever, for all.
Approach: the call runs on a thread of its own, and the loop, which waits for it anyway, watches
over it. Past its deadline it is given up; the next one, on a fresh connection, passes by the domain
whose job the lost call still holds (NOWAIT), and libvirt then tells which domain's control
interface is occupied: that one is quarantined.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vcpud.hypervisor.describer import Describer
from vcpud.hypervisor.errands import AbandonedError, Errand, Hand
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.link import Control, Happening, RawEvent, Row
from vcpud.hypervisor.workers import Crew, Losses
from vcpud.units import NS_PER_MS, NS_PER_S, ns, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcpud.hypervisor.describer import Facts
    from vcpud.hypervisor.link import Library, Link, Listener
    from vcpud.hypervisor.proc import ProcFiles
    from vcpud.model import Uuid

CHEAP_COUNTERS_VERSION: Final = 8_001_000
"""From QEMU 8.1 on, reading KVM's counters no longer interrupts the vCPUs."""
SLOW_COUNTERS_NS: Final = 5 * NS_PER_S

_FIRST_RETRY_NS: Final = NS_PER_S // 2
_LONGEST_RETRY_NS: Final = 30 * NS_PER_S
_PATIENCE: Final = 4
_LOOKS: Final = 5
_VERSION_PATIENCE: Final = 15
_NOBODY: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """One finished poll.

    Attributes:
        serial: Rises with every poll; given when it is finished.
        began_ns: When it was asked.
        taken_at_ns: The midpoint of the bulk call.
        rows: Domains that have a QEMU, running or not.
        facts: Of domains described in this poll.
        occupied: Domains whose QEMU has not answered libvirt for longer than the deadline.
        free: Domains in doubt whose control interface is free.
        slow: KVM's counters are read rarely on this host, because reading disturbs.
        failure: Why there are no rows: the connection is lost.
    """

    serial: int = 0
    began_ns: int
    taken_at_ns: int
    rows: tuple[Row, ...] = ()
    facts: dict[Uuid, Facts]
    occupied: frozenset[Uuid] = frozenset()
    free: frozenset[Uuid] = frozenset()
    slow: bool = False
    failure: str | None = None


class Poller:
    """Polls on request, at most one at a time."""

    def __init__(  # noqa: PLR0913  each is a fact of the daemon around it
        self,
        library: Library,
        proc: ProcFiles,
        listener: Listener,
        *,
        now_ns: Callable[[], int],
        deadline_s: float,
        bulk_deadline_s: float,
        losses: Losses,
        supervised: bool = True,
    ) -> None:
        self._library = library
        self._tell = listener
        self._now_ns = now_ns
        self._deadline_s = deadline_s
        self._bulk_deadline_s = min(bulk_deadline_s, deadline_s)
        self._crew = Crew(
            "poll",
            open_link=self._open,
            now_ns=now_ns,
            size=1,
            losses=losses,
            supervised=False,
        )
        self._supervised = supervised
        self._errand = Errand(uuid="", run=self._poll, given_up=self._given_up)
        self._done = threading.Condition()
        self._busy = False
        self._latest: Poll | None = None
        self._untaken: dict[Uuid, Facts] = {}
        self._serial = 0
        self._listening: Link | None = None
        self._deaf = True
        self._describer = Describer(proc, now_ns)
        self._version: int | None = None
        self._counters_at_ns: int | None = None
        self._suspicious = 0
        self.watched: frozenset[Uuid] = frozenset()
        self._retry_at_ns = 0
        self._retry_ns = _FIRST_RETRY_NS
        self._usual_s = 0.0

    # ------------------------------------------------------------------ from the loop

    def ask(self) -> None:
        """Have a poll made, unless one is under way or the connection rests before a retry."""
        with self._done:
            if self._busy or self._now_ns() < self._retry_at_ns:
                return
            self._busy = True
        self._crew.submit(self._errand)

    def wait(self, timeout_s: float) -> Poll | None:
        """The latest poll, after waiting for the one under way, if any, for at most so long.

        A call of it that is overdue is given up meanwhile.
        """
        ends_s = time.monotonic() + timeout_s
        ended = False
        while not ended:
            left_s = max(0.0, ends_s - time.monotonic())
            ended = self._ended(min(left_s, self._overdue_in_s())) or not left_s
        with self._done:
            self._untaken = {}
            return self._latest

    def _ended(self, timeout_s: float) -> bool:
        with self._done:
            return self._done.wait_for(lambda: not self._busy, timeout_s)

    def _overdue_in_s(self) -> float:
        """After giving up what is overdue: when a call of a poll just asked for may be, at first."""
        alarm_ns = self._crew.supervise() if self._supervised else None
        if alarm_ns is None:
            return self._bulk_deadline_s
        return max(0.0, seconds(alarm_ns - self._now_ns()))

    def forget(self, uuid: Uuid) -> None:
        """Have a domain described anew with the next poll, though it is being described just now."""
        self._describer.forget(uuid)

    def supervise(self) -> None:
        """For tests: look for calls past their deadline."""
        self._crew.supervise()

    def close(self, timeout_s: float) -> None:
        """Stop polling and listening; a libvirt that does not answer is left to itself in time."""
        self._crew.close(timeout_s)
        listening, self._listening = self._listening, None
        if listening is not None:
            closing = threading.Thread(target=listening.close, name="poll-close", daemon=True)
            closing.start()
            closing.join(timeout_s)

    # ------------------------------------------------------------------ on the thread

    def _open(self) -> Link:
        return self._library.open(writable=False)

    def _poll(self, hand: Hand) -> None:
        began_ns = self._now_ns()
        try:
            poll = self._polled(hand, began_ns)
        except CallFailed as failure:
            # Whatever it was, this connection is not worth keeping.
            hand.distrust()
            self._fail(began_ns, failure.message)
        except AbandonedError:
            raise
        except BaseException as error:
            self._fail(began_ns, f"polling broke: {error!r}")
            raise
        else:
            self._finish(poll, retry=False)

    def _polled(self, hand: Hand, began_ns: int) -> Poll:
        deadline_s = max(self._deadline_s, _PATIENCE * self._usual_s)
        if self._deaf or self._listening is None:
            self._listen(hand, deadline_s)
        slow = self._slow(hand)
        counters = not slow or (
            self._counters_at_ns is None or began_ns - self._counters_at_ns >= SLOW_COUNTERS_NS
        )
        asked_ns = self._now_ns()
        bulk_s = max(self._bulk_deadline_s, _PATIENCE * self._usual_s)
        rows = hand.call(bulk_s, lambda link: link.bulk(counters=counters))
        answered_ns = self._now_ns()
        self._usual_s += (seconds(answered_ns - asked_ns) - self._usual_s) / _PATIENCE
        if counters:
            self._counters_at_ns = answered_ns
        else:
            rows = self._with_cheap_counters(hand, deadline_s, rows)
        occupied, free = self._find_occupied(hand, deadline_s, rows)
        return Poll(
            began_ns=began_ns,
            taken_at_ns=(asked_ns + answered_ns) // 2,
            rows=tuple(rows),
            facts=self._describer.describe(hand, deadline_s, rows, but=occupied),
            occupied=occupied,
            free=free,
            slow=slow,
        )

    def _listen(self, hand: Hand, deadline_s: float) -> None:
        stale, self._listening = self._listening, None
        self._deaf = False  # before listening: it may be over again while this thread is not back
        opened: list[Link] = []

        def listen(_: Link) -> None:
            if stale is not None:
                stale.close()
            opened.append(self._library.listen(self._heard))

        try:
            hand.call(deadline_s, listen)
        except AbandonedError:
            # Whoever polls now listens, too: nothing is to be told twice, and none left open.
            for late in opened:
                late.close()
            raise
        (self._listening,) = opened
        self._version = None
        self._describer.forget_all()

    def _heard(self, event: RawEvent) -> None:
        """An event, on libvirt's own thread."""
        if event.happening is Happening.CLOSED:
            self._deaf = True
        self._tell(event)

    def _slow(self, hand: Hand) -> bool:
        """Whether asking for counters disturbs some guest."""
        if not self._describer.any_kvm:
            return False
        if self._version is None:
            # After its own start libvirtd runs every QEMU once before it can answer this.
            patience_s = _VERSION_PATIENCE * self._deadline_s
            self._version = hand.call(patience_s, lambda link: link.hypervisor_version())
        return 0 < self._version < CHEAP_COUNTERS_VERSION

    def _with_cheap_counters(self, hand: Hand, deadline_s: float, rows: list[Row]) -> list[Row]:
        """Counters of domains without KVM, whose vCPUs nothing interrupts."""
        cheap = tuple(row.uuid for row in rows if self._describer.kvm(row.uuid) is False)
        if not cheap:
            return rows
        try:
            found = hand.call(deadline_s, lambda link: link.some(cheap))
        except CallFailed as failure:
            if failure.meaning is Meaning.GONE:
                return rows
            raise
        full = {row.uuid: row for row in found}
        return [full.get(row.uuid, row) for row in rows]

    def _find_occupied(
        self, hand: Hand, deadline_s: float, rows: list[Row]
    ) -> tuple[frozenset[Uuid], frozenset[Uuid]]:
        """Whose QEMU does not answer, and who of those in doubt does.

        After a poll that had to be given up everybody is in doubt, else those quarantined.
        """
        if not self._suspicious and not self.watched:
            return _NOBODY, _NOBODY
        listed = {row.uuid for row in rows}
        doubtful = listed if self._suspicious else self.watched & listed
        occupied, free = set(), set()
        for uuid in doubtful:
            try:
                state = hand.call(deadline_s, lambda link, uuid=uuid: link.control(uuid))  # type: ignore[misc]
            except CallFailed as failure:
                if failure.meaning is Meaning.LOST:
                    raise
                continue
            long = state.for_ms * NS_PER_MS >= ns(self._bulk_deadline_s) // 2
            if state.control is Control.OCCUPIED and (long or uuid in self.watched):
                occupied.add(uuid)
            elif state.control is Control.FREE:
                free.add(uuid)
        # Its own questions may still have been waiting in line: look again a few times.
        self._suspicious = max(0, self._suspicious - 1) if not occupied else 0
        return frozenset(occupied), frozenset(free)

    # ------------------------------------------------------------------ how it ended

    def _given_up(self) -> None:
        """The call is lost with its thread: another poll, on another connection, at once."""
        if self._busy:  # else the poll has ended, if badly
            self._suspicious = _LOOKS
            self._crew.submit(self._errand)

    def _fail(self, began_ns: int, why: str) -> None:
        self._describer.forget_all()
        self._deaf = True
        poll = Poll(began_ns=began_ns, taken_at_ns=began_ns, facts={}, failure=why)
        self._finish(poll, retry=True)

    def _finish(self, poll: Poll, *, retry: bool) -> None:
        with self._done:
            self._serial += 1
            # Facts are told once: those of a poll that nobody waited for go with the next.
            self._untaken = {**self._untaken, **poll.facts}
            self._latest = dataclasses.replace(poll, serial=self._serial, facts=self._untaken)
            if retry:
                self._retry_at_ns = self._now_ns() + self._retry_ns
                self._retry_ns = min(2 * self._retry_ns, _LONGEST_RETRY_NS)
            else:
                self._retry_ns = _FIRST_RETRY_NS
            self._busy = False
            self._done.notify_all()
