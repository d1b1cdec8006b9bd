"""The simulated host as the loop's `Hypervisor` and `Clock`: what a real one would show, no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud.events import EventKind, HostEvent
from vcpud.model import (
    Accepted,
    Change,
    Effect,
    HostSample,
    Pool,
    Reason,
    Refused,
    Uuid,
)
from vcpud.ports import RESTORE_NS, Wake
from vcpud.terms import TermsBook
from vcpud.units import NS_PER_MS
from vcpud_simulator.book import POOL, Book

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcpud_simulator.world import Resident, World

STEP_NS: Final = 10 * NS_PER_MS
"""How finely time is moved while something may happen that is worth an early cycle."""


class SimulatedHypervisor:
    """A world as the loop sees it.

    Attributes:
        world: The world itself, which no sample leads to.
        bell: Set when something happened that is worth an early cycle.
    """

    def __init__(
        self,
        world: World,
        *,
        terms: TermsBook | None = None,
        boot_id: str = "simulated",
        writable: bool = True,
        notes: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        """Open it.

        Args:
            world: What there is.
            terms: What the operator allows.
            boot_id: This run of the host.
            writable: False where every change is to be refused.
            notes: What an operator should know besides what the platform is.
        """
        self.world = world
        self.bell = False
        self.restore_ns = RESTORE_NS
        self._terms = terms or TermsBook()
        self._adopted: TermsBook | None = None
        self._notes = notes
        self._boot_id = boot_id
        self._writable = writable
        self._events: list[HostEvent] = []
        self._books: dict[Uuid, Book] = {}
        for resident in world.residents.values():
            self._open(resident)
        world.arrived = self._arrived
        world.left = self._left

    # ------------------------------------------------------------------ the port

    def sample(self) -> HostSample:
        if self._adopted is not None:
            self._terms, self._adopted = self._adopted, None
            for book in self._books.values():
                book.agree(self._terms)
        now_ns = self.world.engine.now_ns
        pcpus = self.world.lab.host.pcpus
        return HostSample(
            taken_at_ns=now_ns,
            boot_id=self._boot_id,
            hypervisor="simulated",
            pools=(Pool(name=POOL, pcpus=len(pcpus)),),
            domains=tuple(self._books[uuid].sample(now_ns) for uuid in sorted(self._books)),
            busy_ns=sum(pcpu.busy_until_ns(now_ns) for pcpu in pcpus),
            notes=(*self._notes(), self.world.platform.note),
        )

    def begin(self, change: Change) -> Effect:
        book = self._books.get(change.uuid)
        if not self._writable:
            return Refused(Reason.DENIED, "opened read-only")
        if book is None:
            return Refused(Reason.GONE, "no such domain is running")
        refusal = book.refusal(change)
        if refusal is not None:
            return refusal
        book.begin(change)
        return Accepted()

    def events(self) -> tuple[HostEvent, ...]:
        happened, self._events = tuple(self._events), []
        return happened

    # ------------------------------------------------------------------ around the port

    def adopt(self, terms: TermsBook) -> None:
        """Other terms from the next sample on; may be called from any thread."""
        self._adopted = terms

    def _open(self, resident: Resident) -> Book:
        book = Book(resident, self.world, self._tell)
        book.agree(self._terms)
        self._books[book.uuid] = book
        return book

    def _arrived(self, resident: Resident) -> None:
        self._tell(EventKind.STARTED, self._open(resident))

    def _left(self, resident: Resident) -> None:
        book = next(one for one in self._books.values() if one.name == resident.plan.name)
        del self._books[book.uuid]
        if book.in_flight is not None:
            self._tell(EventKind.CHANGE_FAILED, book, Reason.GONE, "it was destroyed")
        book.close()
        self._tell(EventKind.GONE, book)

    def _tell(
        self, kind: EventKind, book: Book, reason: Reason | None = None, detail: str = ""
    ) -> None:
        self._events.append(
            HostEvent(
                kind=kind,
                at_ns=self.world.engine.now_ns,
                uuid=book.uuid,
                name=book.name,
                reason=reason,
                detail=detail,
            )
        )
        self.bell = True


class SimulatedClock:
    """Time as the engine has it; waiting lets it pass.

    Attributes:
        ends_ns: When a wait reports STOP, or None.
    """

    def __init__(self, hypervisor: SimulatedHypervisor, ends_ns: int | None = None) -> None:
        self._hypervisor = hypervisor
        self._engine = hypervisor.world.engine
        self.ends_ns = ends_ns

    def now_ns(self) -> int:
        return self._engine.now_ns

    def wait_until(self, deadline_ns: int) -> Wake:
        engine, hypervisor = self._engine, self._hypervisor
        limit_ns = deadline_ns if self.ends_ns is None else min(deadline_ns, self.ends_ns)
        while True:
            if hypervisor.bell:
                hypervisor.bell = False
                return Wake.EVENT
            if self.ends_ns is not None and engine.now_ns >= self.ends_ns:
                self.ends_ns = None
                return Wake.STOP
            if engine.now_ns >= limit_ns:
                return Wake.TIMER
            engine.run_until(min(limit_ns, engine.now_ns + STEP_NS))
