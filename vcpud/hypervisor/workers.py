"""Threads that may hang so that nothing else does: deadlines, abandoned calls, quarantine.

Problem: a call into libvirt cannot be cancelled, and one that needs a hung QEMU never returns.
Approach: every call is made by a worker thread on a connection of its own and has a deadline. A
call past its deadline is given up together with its thread and its connection; the domain is
quarantined and its place in the crew is filled. When the lost call does return, the thread ends
and the quarantine with it. At most four lost threads are replaced, so a host full of hung
domains cannot exhaust libvirtd or this process. One errand per domain runs at a time; urgent
ones (changes) go first and have threads in reserve, so slow agents cannot starve them.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Final

from vcpud.hypervisor.backlog import Backlog
from vcpud.hypervisor.errands import AbandonedError, Errand, Hand
from vcpud.hypervisor.quarantine import Quarantine
from vcpud.units import NS_PER_S, ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcpud.hypervisor.link import Link
    from vcpud.model import Uuid

LOST_LIMIT: Final = 4
URGENT_THREADS: Final = 10


class Losses:
    """Lost threads of all crews together."""

    def __init__(self, limit: int = LOST_LIMIT) -> None:
        self.limit = limit
        self.count = 0


class Crew:
    """Worker threads and what waits for them."""

    def __init__(  # noqa: PLR0913  each is a fact of the daemon around it
        self,
        name: str,
        *,
        open_link: Callable[[], Link],
        now_ns: Callable[[], int],
        size: int,
        reserve: int = 0,
        losses: Losses | None = None,
        supervised: bool = True,
    ) -> None:
        """Prepare a crew; threads start when there is work.

        Args:
            name: Of the threads.
            open_link: Makes a connection.
            now_ns: The monotonic clock.
            size: Threads for errands that are not urgent.
            reserve: Further threads for urgent ones.
            losses: Shared count of lost threads.
            supervised: False where somebody else calls `supervise` often enough.
        """
        self.open_link = open_link
        self.losses = losses if losses is not None else Losses()
        self._name = name
        self._now_ns = now_ns
        self._size = size
        self._reserve = reserve
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._alarm = threading.Condition(self._lock)
        self._alarm_ns: int | None = None
        self._backlog = Backlog()
        self._numbers = itertools.count()
        self._hands: set[Hand] = set()
        self._lost: set[Hand] = set()
        self._idle = 0
        self._quarantine = Quarantine()
        self._closing = False
        self._threads: list[threading.Thread] = []
        if supervised:
            watch = threading.Thread(target=self._watch, name=f"{name}-watch", daemon=True)
            self._threads.append(watch)
            watch.start()

    # ------------------------------------------------------------------ from outside

    def submit(self, errand: Errand, at_ns: int | None = None) -> None:
        """Have an errand run as soon as there is a thread, not before `at_ns`."""
        with self._lock:
            if self._closing:
                return
            if at_ns is not None and at_ns > self._now_ns():
                self._postpone(errand, at_ns)
            else:
                self._enqueue(errand)

    def urgent_waits(self, uuid: Uuid) -> bool:
        """Whether something urgent waits for this domain, or nothing should go on at all."""
        with self._lock:
            return self._closing or self._backlog.has_urgent(uuid)

    def hung(self, uuid: Uuid) -> bool:
        """Whether this domain is quarantined."""
        return uuid in self._quarantine

    def hung_because(self, uuid: Uuid) -> str:
        """Why it is, for people."""
        return self._quarantine.why(uuid)

    def held_back(self, uuid: Uuid) -> bool:
        """Whether no call for this domain would be made now, not even to try it."""
        with self._lock:
            return self._held_back(uuid)

    def quarantined(self) -> frozenset[Uuid]:
        """All domains that are."""
        return self._quarantine.everybody()

    def waits_for(self, uuid: Uuid) -> bool:
        """Whether a lost call for this domain may still be answered."""
        with self._lock:
            return self._waits_for(uuid)

    def quarantine(self, uuid: Uuid, why: str) -> None:
        """Make no call for this domain for a while, longer each time."""
        with self._lock:
            displaced = self._hold_back(uuid, why)
        for errand in displaced:
            errand.given_up()

    def pardon(self, uuid: Uuid) -> None:
        """The domain answers again."""
        with self._lock:
            self._pardon(uuid)

    def supervise(self) -> int | None:
        """Give up what is overdue and start what is due.

        Returns:
            When to look again, None when nothing is expected.
        """
        abandoned: list[Errand] = []
        with self._lock:
            now_ns = self._now_ns()
            for hand in tuple(self._hands):
                if hand.expires_ns is not None and hand.expires_ns <= now_ns:
                    abandoned += self._abandon(hand)
            for errand in self._backlog.take_due(now_ns):
                self._enqueue(errand)
            self._alarm_ns = self._next_alarm_ns()
        for errand in abandoned:
            errand.given_up()
        return self._alarm_ns

    def close(self, timeout_s: float = 1.0) -> None:
        """Stop; threads that do not return in time are left behind, as daemons."""
        with self._lock:
            self._closing = True
            self._backlog.clear()
            self._work.notify_all()
            self._alarm.notify_all()
            threads = list(self._threads)
        deadline_ns = self._now_ns() + ns(timeout_s)
        for thread in threads:
            thread.join(max(0.0, (deadline_ns - self._now_ns()) / NS_PER_S))

    # ------------------------------------------------------------------ from the hands

    def call_begins(self, hand: Hand, deadline_ns: int) -> None:
        """Note when a call has to be over."""
        with self._lock:
            hand.expires_ns = self._now_ns() + deadline_ns
            self._ring_by(hand.expires_ns)

    def call_ended(self, hand: Hand, *, answered: bool) -> None:
        """A call is over.

        Raises:
            AbandonedError: It had been given up.
        """
        with self._lock:
            hand.expires_ns = None
            uuid = hand.errand.uuid if hand.errand is not None else ""
            if answered:
                self._pardon(uuid)
            if hand.lost:
                raise AbandonedError

    # ------------------------------------------------------------------ the threads

    def _toil(self) -> None:
        hand = Hand(self)
        try:
            while (errand := self._next(hand)) is not None:
                try:
                    errand.run(hand)
                except AbandonedError:
                    raise
                except BaseException:
                    errand.given_up()  # a mistake of ours: nobody is to wait for it for ever
                    raise
                finally:
                    with self._lock:
                        hand.errand = None
        except AbandonedError:
            pass
        finally:
            with self._lock:
                self._hands.discard(hand)
                if hand in self._lost:
                    self._lost.discard(hand)
                    self.losses.count -= 1
                self._threads.remove(threading.current_thread())
                if self._backlog.ready and not self._closing and len(self._hands) < self._size:
                    self._start_thread()  # it was not replaced while it was lost
            hand.disconnect()

    def _next(self, hand: Hand) -> Errand | None:
        with self._lock:
            self._hands.add(hand)
            while not self._closing:
                errand = self._pick()
                if errand is not None:
                    hand.errand = errand
                    return errand
                self._idle += 1
                self._work.wait()
                self._idle -= 1
            return None

    def _watch(self) -> None:
        while True:
            self.supervise()
            with self._lock:
                if self._closing:
                    return
                alarm_ns = self._next_alarm_ns()
                self._alarm_ns = alarm_ns
                if alarm_ns is None:
                    self._alarm.wait()
                elif (rest_ns := alarm_ns - self._now_ns()) > 0:
                    self._alarm.wait(rest_ns / NS_PER_S)

    # ------------------------------------------------------------------ with the lock held

    def _enqueue(self, errand: Errand) -> None:
        if self._held_back(errand.uuid):
            until_ns = self._quarantine.until_ns(errand.uuid) or 0
            self._postpone(errand, max(until_ns, self._now_ns() + NS_PER_S))
            return
        self._backlog.add(errand)
        if self._idle:
            self._work.notify()
        room = self._size + (self._reserve if errand.urgent else 0)
        if len(self._hands) < room and self._idle < self._backlog.ready:
            self._start_thread()

    def _start_thread(self) -> None:
        thread = threading.Thread(
            target=self._toil, name=f"{self._name}-{next(self._numbers)}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _postpone(self, errand: Errand, at_ns: int) -> None:
        self._backlog.postpone(errand, at_ns)
        self._ring_by(at_ns)

    def _ring_by(self, at_ns: int) -> None:
        if self._alarm_ns is None or at_ns < self._alarm_ns:
            self._alarm_ns = at_ns
            self._alarm.notify_all()

    def _next_alarm_ns(self) -> int | None:
        times = [hand.expires_ns for hand in self._hands if hand.expires_ns is not None]
        next_ns = self._backlog.next_ns
        if next_ns is not None:
            times.append(next_ns)
        return min(times, default=None)

    def _pick(self) -> Errand | None:
        """The first errand whose domain is free; ordinary ones only on the ordinary threads."""
        under_way = [hand.errand for hand in self._hands if hand.errand is not None]
        ordinary = sum(not errand.urgent for errand in under_way)
        return self._backlog.take(
            {errand.uuid for errand in under_way}, only_urgent=ordinary >= self._size
        )

    def _abandon(self, hand: Hand) -> list[Errand]:
        """Give up a call; returns the errands to be told."""
        errand = hand.errand
        hand.expires_ns = None
        if errand is None:
            return []
        hand.lost = True
        self._lost.add(hand)
        self.losses.count += 1
        if self.losses.count <= self.losses.limit:
            self._hands.discard(hand)  # beyond the limit it keeps its place: no replacement
        displaced = []
        if errand.uuid:
            displaced = self._hold_back(errand.uuid, "a call has not been answered")
        if self._backlog.ready and len(self._hands) < self._size + self._reserve:
            self._start_thread()
        return [errand, *displaced]

    def _held_back(self, uuid: Uuid) -> bool:
        """Not for the one try after the spell, unless an earlier one is still waiting for its answer."""
        until_ns = self._quarantine.until_ns(uuid)
        if until_ns is None:
            return False
        full = self.losses.count >= self.losses.limit
        return full or self._waits_for(uuid) or self._now_ns() < until_ns

    def _waits_for(self, uuid: Uuid) -> bool:
        return any(hand.errand and hand.errand.uuid == uuid for hand in self._lost)

    def _hold_back(self, uuid: Uuid, why: str) -> list[Errand]:
        """Quarantine a domain; returns urgent errands of it, which cannot wait."""
        until_ns = self._quarantine.begin(uuid, why, self._now_ns())
        waiting = self._backlog.take_ready_of(uuid)
        for errand in waiting:
            if not errand.urgent:
                self._postpone(errand, until_ns)
        return [errand for errand in waiting if errand.urgent]

    def _pardon(self, uuid: Uuid) -> None:
        if self._quarantine.end(uuid):
            for errand in self._backlog.take_later_of(uuid):
                self._enqueue(errand)
