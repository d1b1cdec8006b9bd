"""Everything the control loop may do to the world: five ports, nothing else.

libvirt on KVM, libvirt on Xen, the simulated host and a recording differ only behind them, so the
loop that ships is the loop that is simulated, replayed and property-tested.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from vcpud.events import HostEvent
    from vcpud.model import Change, Effect, HostSample, Original, Uuid
    from vcpud.record import CycleRecord
    from vcpud.requests import Request

RESTORE_NS: Final = 10 * NS_PER_S
"""Enough to give everything back where a change takes a guest no more than seconds."""


class Wake(Enum):
    """Why a wait ended."""

    TIMER = "timer"
    EVENT = "event"
    STOP = "stop"


class Clock(Protocol):
    """Time, and the only place where the loop waits."""

    def now_ns(self) -> int:
        """The monotonic clock."""

    def wait_until(self, deadline_ns: int) -> Wake:
        """Wait for the deadline, an event worth an early cycle, or a request to stop.

        STOP is reported once per request to stop; a simulated clock runs its engine meanwhile.
        """


class Hypervisor(Protocol):
    """A host and its domains."""

    @property
    def restore_ns(self) -> int:
        """How long a stop waits for every domain to be back at its original.

        A change that is under way is let end, so it is time for that one and for what gives back.
        """

    def sample(self) -> HostSample:
        """The latest complete readings, each with its own timestamp; never waits on a guest."""

    def begin(self, change: Change) -> Effect:
        """Start a change and return at once; its result shows in later samples and events."""

    def events(self) -> tuple[HostEvent, ...]:
        """What happened since the last call, oldest first."""


class Ledger(Protocol):
    """Originals, kept durably before the first change."""

    @property
    def lost(self) -> bool:
        """There was none when it was opened: what domains are owed, their own notes say at best."""

    def remember(self, *originals: Original) -> None:
        """Write them through to the disk at once; a second one of a domain changes nothing.

        Raises:
            LedgerError: It could not be made durable: the change must not be begun.
        """

    def amend(self, original: Original) -> None:
        """Replace what a domain is owed, in one step: somebody else has set it otherwise.

        Raises:
            LedgerError: It could not be made durable; what was owed still is.
        """

    def forget(self, *uuids: Uuid) -> None:
        """These domains are back at their originals, or gone; written down all at once.

        Raises:
            LedgerError: It could not be made durable; harmless, it will be tried again.
        """

    def outstanding(self) -> tuple[Original, ...]:
        """Every original not yet restored."""


class Inbox(Protocol):
    """Requests of operators."""

    def drain(self) -> tuple[Request, ...]:
        """What was asked since the last call, oldest first, each with its peer's uid."""


class Recorder(Protocol):
    """Where finished cycles go: metrics, log, status, watchdog, recording."""

    def record(self, record: CycleRecord) -> None:
        """Take note of one finished cycle; must not raise."""
