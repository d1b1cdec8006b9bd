"""Something to do with one domain, and the supervised calls by which a worker does it.

A call that has been given up may return all the same: its worker then learns that whatever it was
doing is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.units import ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcpud.hypervisor.link import Link
    from vcpud.hypervisor.workers import Crew
    from vcpud.model import Uuid

T = TypeVar("T")


class AbandonedError(Exception):
    """Raised in a lost thread when its call returns after all: whatever it was doing is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """Something to do with one domain (or with the host, where `uuid` is empty).

    Attributes:
        uuid: One errand per domain runs at a time.
        run: Does it, with the calls it makes on its `Hand`; handles their failures.
        given_up: Called instead of the rest of `run`: from another thread when a call of it passed
            its deadline, from its own when it broke.
        urgent: Goes before others, and may use a thread of the reserve.
    """

    uuid: Uuid
    run: Callable[[Hand], None]
    given_up: Callable[[], None]
    urgent: bool = False


class Hand:
    """A worker's connection, used only through supervised calls."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._link: Link | None = None
        self._distrusted = False
        self.errand: Errand | None = None
        self.expires_ns: int | None = None
        self.lost = False

    def call(self, deadline_s: float, ask: Callable[[Link], T]) -> T:
        """Make one call, opening the connection first where there is none.

        Raises:
            CallFailed: libvirt refused, or the connection is gone.
            AbandonedError: It returned after it had been given up.
        """
        answered = False
        self._crew.call_begins(self, ns(deadline_s))
        try:
            if self._link is not None and (self._distrusted or not self._link.alive()):
                self.disconnect()
            self._distrusted = False
            if self._link is None:
                self._link = self._crew.open_link()
            result = ask(self._link)
            answered = True
        except CallFailed as failure:
            if failure.meaning is Meaning.LOST:
                self.disconnect()
            raise
        finally:
            self._crew.call_ended(self, answered=answered)
        return result

    def interrupted(self) -> bool:
        """Whether an urgent errand waits for the same domain, or the crew is closing."""
        return self.errand is not None and self._crew.urgent_waits(self.errand.uuid)

    def distrust(self) -> None:
        """Have the next call let go of the connection, which takes time, and open another one."""
        self._distrusted = True

    def disconnect(self) -> None:
        """Let go of the connection."""
        if self._link is not None:
            self._link.close()
            self._link = None
