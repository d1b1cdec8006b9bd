"""Arms of a comparison: the states the same guests are put into before they are measured."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.domain import Guest
    from lab.managed import Vcpud

SETTLE_S = 3.0
BOARD_S = 5.0
"""A board in a busy guest lags behind its kernel by a second or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things take where the lab runs; nothing is judged by it.

    Attributes:
        collapse_s: Until a collapse, which feeds on itself, has formed.
        watch_s: From the start of vcpud until it should have done what it will do.
        least_s: From letting vcpud decide until its counts may be taken for quiet.
        quiet_s: For which no count changes when they are.
        most_s: After which what there is is measured.
        given_back_s: Within which vcpud gives everything back.
    """

    collapse_s: float = 5.0
    watch_s: float = 45.0
    least_s: float = 10.0
    quiet_s: float = 5.0
    most_s: float = 30.0
    given_back_s: float = 30.0


PACE: Final = Pace()
"""Of guests that are processes of this host."""


def set_online(guests: Sequence[Guest], counts: Mapping[str, int]) -> None:
    """Put every guest on its lowest ``counts[name]`` CPUs, all guests at the same time."""
    with ThreadPoolExecutor(max_workers=len(guests)) as pool:
        list(pool.map(lambda guest: guest.set_online(range(counts[guest.name])), guests))


def wait_until_quiet(guests: Sequence[Guest], pace: Pace = PACE) -> float:
    """Wait until no guest's online set has changed for some time; returns the seconds it took."""
    began_s = changed_s = time.monotonic()
    seen = [guest.board.online for guest in guests]
    while True:
        time.sleep(0.1)
        now_s = time.monotonic()
        found = [guest.board.online for guest in guests]
        if found != seen:
            seen, changed_s = found, now_s
        waited_s = now_s - began_s
        if waited_s >= pace.most_s or (
            waited_s >= pace.least_s and now_s - changed_s >= pace.quiet_s
        ):
            return waited_s


class ArmError(Exception):
    """The guests are not in the state that is to be measured."""


def let_go(vcpud: Vcpud, within_s: float = PACE.given_back_s) -> None:
    """Pause vcpud and wait until nothing is left in its ledger.

    Raises:
        ArmError: Something is.
    """
    vcpud.pause()
    deadline_s = time.monotonic() + within_s
    while left := vcpud.status()["outstanding"]:
        if time.monotonic() > deadline_s:
            names = ", ".join(str(entry["name"]) for entry in left)
            raise ArmError(f"not given back within {within_s:g} s of pause --restore: {names}")
        time.sleep(0.2)


def give_back(guests: Sequence[Guest], vcpud: Vcpud, pace: Pace = PACE) -> None:
    """Pause vcpud, wait until it has let go, and check in the guests that all CPUs are online.

    Raises:
        ArmError: They are not.
    """
    let_go(vcpud, pace.given_back_s)
    deadline_s = time.monotonic() + BOARD_S
    while any(guest.board.online != guest.every_cpu for guest in guests):
        if time.monotonic() > deadline_s:
            shown = {guest.name: sorted(guest.board.online) for guest in guests}
            raise ArmError(f"vcpud has let go, but the guests have online {shown}")
        time.sleep(0.1)


class Arms:
    """Switches guests between unmanaged, static and managed; entering the same arm is free."""

    def __init__(self, guests: Sequence[Guest], vcpud: Vcpud | None, pace: Pace = PACE) -> None:
        """Take the guests and the vcpud that may manage them, which is paused or not started."""
        self._guests = tuple(guests)
        self._pace = pace
        self._vcpud = vcpud
        self._current = ""
        self._managing = False

    @property
    def every(self) -> dict[str, int]:
        """All vCPUs of every guest."""
        return {guest.name: guest.shape.vcpus for guest in self._guests}

    def adopt(self, vcpud: Vcpud) -> None:
        """Take over a vcpud that is running and managing."""
        self._vcpud = vcpud
        self._managing = True
        self._current = "managed"

    def hands_off(self) -> None:
        """Pause vcpud, if it manages, and wait until it has given everything back."""
        if self._managing and self._vcpud is not None:
            give_back(self._guests, self._vcpud, self._pace)
            self._managing = False

    def static(self, counts: Mapping[str, int], name: str) -> None:
        """Have every guest at a fixed count, vcpud paused."""
        if self._current == name:
            self.verify(counts)
            return
        self.hands_off()
        set_online(self._guests, counts)
        self._current = name
        time.sleep(SETTLE_S)
        self.verify(counts)

    def verify(self, counts: Mapping[str, int]) -> None:
        """Check that nobody else has changed a count.

        Raises:
            ArmError: Somebody has, so that what would be measured is not what it is called.
        """
        found = {guest.name: len(guest.board.online) for guest in self._guests}
        if any(found[name] != counts[name] for name in found):
            raise ArmError(f"{self._current}: wanted {dict(counts)} active, found {found}")

    def unmanaged(self) -> None:
        """Have every guest at all its vCPUs, vcpud paused."""
        self.static(self.every, "unmanaged")

    def managed(self) -> None:
        """Let vcpud manage, from all vCPUs online, until the counts are quiet."""
        if self._current == "managed" or self._vcpud is None:
            return
        set_online(self._guests, self.every)
        self._vcpud.resume()
        self._managing = True
        self._current = "managed"
        wait_until_quiet(self._guests, self._pace)
