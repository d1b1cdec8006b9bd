"""Reading what one guest publishes, again and again, on a worker's thread.

What is known is handed to the loop as one immutable value. Nothing that a guest writes is worth a
second look at once, and nothing it does not write is waited for: the loop never waits on a guest.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Final

from vcpud.hypervisor.agent import AbsurdError
from vcpud.hypervisor.errands import Errand, Hand
from vcpud.hypervisor.failures import CallFailed
from vcpud.hypervisor.plausible import check_accounting, check_locks, check_run_queue
from vcpud.hypervisor.view import View
from vcpud.hypervisor.workers import Crew
from vcpud.hypervisor.xen.report import Report, parse_report, parse_up
from vcpud.model import Trouble
from vcpud.thrift import RAREST_NS
from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcpud.hypervisor.xen.tools import Toolstack
    from vcpud.model import Uuid

SILENT_NS: Final = 2 * RAREST_NS
"""A guest that has written nothing for so long has no reporter any more."""
_RESUMED_NS: Final = 5 * NS_PER_S
"""So far behind the fastest line means a guest that was stopped, not one that was slow to write."""


class Listening:
    """Reads one guest's key while it is wanted."""

    def __init__(  # noqa: PLR0913  each is a fact of the daemon around it
        self,
        uuid: Uuid,
        number: int,
        crew: Crew,
        tools: Toolstack,
        *,
        period_ns: int,
        deadline_s: float,
        max_vcpus: int,
        now_ns: Callable[[], int],
    ) -> None:
        self._uuid = uuid
        self._number = number
        self._crew = crew
        self._tools = tools
        self._period_ns = period_ns
        self._deadline_s = deadline_s
        self._max_vcpus = max_vcpus
        self._now_ns = now_ns
        self._tickets = itertools.count(1)
        self._ticket = 0
        self._wanted = False
        self._absurd = ""
        self._up_ns: int | None = None
        self._last: Report | None = None
        self._heard_at_ns: int | None = None
        self._booted_at_ns: int | None = None
        self.dropped = 0
        self.view = View(troubles=frozenset({Trouble.LOCK_SIGNAL_MISSING}))

    def want(self, *, wanted: bool) -> None:
        """Read on, or stop."""
        if wanted and not self._wanted:
            self._schedule(self._now_ns())
        self._wanted = wanted

    @property
    def heard(self) -> bool:
        """Whether the guest reports."""
        at_ns = self._heard_at_ns
        return at_ns is not None and self._now_ns() - at_ns < SILENT_NS

    # ------------------------------------------------------------------ on a worker's thread

    def _schedule(self, at_ns: int) -> None:
        ticket = self._ticket = next(self._tickets)
        self._crew.submit(
            Errand(
                uuid=self._uuid,
                run=lambda hand: self._read(ticket, hand),
                given_up=lambda: self._schedule(self._now_ns() + self._period_ns),
            ),
            at_ns,
        )

    def _read(self, ticket: int, hand: Hand) -> None:
        if ticket != self._ticket or not self._wanted:
            return
        began_ns = self._now_ns()
        try:
            line = hand.call(self._deadline_s, lambda _link: self._tools.report(self._number))
        except CallFailed:
            line = None
        if line is not None:
            self._take(line, self._now_ns())
        self._publish()
        self._schedule(began_ns + self._period_ns)

    def _take(self, line: bytes, now_ns: int) -> None:
        up_ns = parse_up(line)
        if up_ns is not None and up_ns == self._up_ns and not self._absurd:
            return  # the same line again
        taken_at_ns = self._written_at(up_ns, now_ns)
        before, self._last = self._last, None
        again = up_ns == self._up_ns and bool(self._absurd)
        self._up_ns = up_ns
        try:
            report = parse_report(line, taken_at_ns=taken_at_ns, max_vcpus=self._max_vcpus)
            if before is not None:
                _check(before, report, self._max_vcpus)
        except AbsurdError as error:
            # What comes next is held against nothing that was said before.
            self._absurd = str(error)
            self.dropped += not again
            return
        self._absurd = ""
        self._heard_at_ns = now_ns
        reading = dataclasses.replace(report.reading, latency_ns=now_ns - taken_at_ns)
        self._last = dataclasses.replace(report, reading=reading)

    def _written_at(self, up_ns: int | None, now_ns: int) -> int:
        """When a line was written, by the line that came the fastest so far.

        The guest's word moves this between the last reading and now, and no further.
        """
        if up_ns is None:
            return now_ns
        booted_ns = now_ns - up_ns
        if self._booted_at_ns is None or not 0 <= booted_ns - self._booted_at_ns < _RESUMED_NS:
            self._booted_at_ns = booted_ns
        earliest_ns = self._heard_at_ns if self._heard_at_ns is not None else now_ns
        return min(max(self._booted_at_ns + up_ns, earliest_ns), now_ns)

    def _publish(self) -> None:
        found = set()
        if self._absurd:
            found.add(Trouble.AGENT_ABSURD)
        reading = None if self._last is None else self._last.reading
        if reading is None or reading.locks is None:
            found.add(Trouble.LOCK_SIGNAL_MISSING)
        self.view = View(
            reading=reading,
            troubles=frozenset(found),
            absurdities=(self._absurd,) if self._absurd else (),
        )


def _check(before: Report, found: Report, max_vcpus: int) -> None:
    """Hold a report against the one before.

    A CPU's own times never fall while it is there, whatever kernels do to idle and stolen ones.

    Raises:
        AbsurdError: It cannot follow on it.
    """
    if found.up_ns < before.up_ns:
        raise AbsurdError("it has been up for less time than before")
    was, now = before.reading, found.reading
    if was.accounting is not None and now.accounting is not None:
        earlier = {cpu.index: cpu for cpu in was.accounting.cpus}
        for cpu in now.accounting.cpus:
            old = earlier.get(cpu.index)
            if old is not None and (cpu.user_ns < old.user_ns or cpu.system_ns < old.system_ns):
                raise AbsurdError(f"the times of CPU {cpu.index} fell")
        check_accounting(was.accounting, now.accounting)
    if now.locks is not None:
        check_locks(was.locks, now.locks, max_vcpus)
    if now.run_queue is not None:
        check_run_queue(was.run_queue, now.run_queue)
