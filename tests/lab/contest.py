"""Every allocation policy on the same real guests: against unmanaged and the best static count, in turns.

Problem: policies differ by less than a shared machine drifts in an hour. Approach: every turn of a policy starts a new
vcpud into guests with all vCPUs online, waits until it has found its counts, and measures. Who is compared with whom is
measured in the same round (`sitting`).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from lab.arms import SETTLE_S, set_online
from lab.board import IDLE, Kind, Order
from lab.cells import BLOCK_S, measure
from lab.scenarios import CLEARLY_BETTER, STATIC_BLOCK_S
from lab.stage import say
from lab.standings import BEST, UNMANAGED, Claim, geometric, only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lab.cells import Block
    from lab.domain import Guest
    from lab.managed import Vcpud
    from lab.stage import Stage
    from lab.turns import Book

LEAST_S: Final = 30.0
"""For a policy that does nothing: one may want several readings of the guest, and there is one every 5 s."""
QUIET_S: Final = 8.0
"""After its last change one that has done something is taken to be done; between two shrinks lie 5 s at least."""
MOST_S: Final = 60.0
"""How long a move may be under judgement. Who never rests is measured after the least time."""
FOUND_OUT_S: Final = 10.0
"""Of idle guests, before the first phase: vcpud runs before its guests work."""
PHASE_S: Final = 60.0

_LOCK = Order(kind=Kind.KERNEL_LOCK)
_INDEPENDENT = Order(kind=Kind.INDEPENDENT)
PHASES: Final = {"kernel_lock": _LOCK, "independent": _INDEPENDENT}
ENTITLED: Final = "entitled"
"""The independent guest of a mixed pair alone, on what it is entitled to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one turn has shown, before it is known whose and of which round it is."""

    rates: Mapping[str, float]
    active: Mapping[str, int]
    waited_s: float = 0.0
    changes: int = 0


class Part(ABC):
    """One workload, with everybody's turns.

    Attributes:
        others_a_round: How many of the other policies take a turn in each round.
        guest_set: The guests.
    """

    others_a_round: ClassVar[int] = 2
    guest_set: ClassVar[str] = "pair"

    def __init__(self, stage: Stage) -> None:
        """Bring up the guests; no vcpud runs."""
        self.stage = stage
        stage.end_vcpud()
        self.guests = stage.guests(self.guest_set)

    @abstractmethod
    def begin(self, book: Book) -> None:
        """Give the guests their orders, and find the best static count where the book does not say it."""

    @abstractmethod
    def yardsticks(self, book: Book) -> dict[str, Callable[[], Seen]]:
        """What policies are compared with, a turn in every round."""

    @abstractmethod
    def policy(self, name: str) -> Seen:
        """A turn of one policy."""

    def fixed(self, counts: Mapping[str, int]) -> None:
        """Put every guest at a count, all vCPUs where none is said, without vcpud; those may have to collapse first."""
        self.stage.end_vcpud()
        every = {guest.name: guest.shape.vcpus for guest in self.guests}
        wanted = every | dict(counts)
        set_online(self.guests, wanted)
        time.sleep(SETTLE_S + (self.stage.pace.collapse_s if wanted == every else 0.0))

    def started(self, name: str) -> Vcpud:
        """Return a new vcpud with this policy, from all vCPUs online."""
        self.stage.end_vcpud()
        set_online(self.guests, {guest.name: guest.shape.vcpus for guest in self.guests})
        return self.stage.fresh_vcpud(policy=name)

    def rested(self, name: str, workers: Sequence[Guest]) -> Seen:
        """A turn that is measured once a new vcpud has found its counts."""
        vcpud = self.started(name)
        waited_s = wait_until_rested(self.guests, vcpud)
        block = measure(workers, name, BLOCK_S)
        return Seen(
            rates=block.rates, active=block.active, waited_s=waited_s, changes=_changes(vcpud)
        )

    def best_of(
        self, workers: Sequence[Guest], counts: Iterable[int]
    ) -> tuple[str, dict[str, float]]:
        """Return the best static count, and every count's rate; all vCPUs unless another is clearly better."""
        most = max(guest.shape.vcpus for guest in workers)
        rates = {}
        for count in counts:
            self.fixed({guest.name: min(count, guest.shape.vcpus) for guest in workers})
            rates[str(count)] = measure(workers, str(count), STATIC_BLOCK_S).rate
            say(f"  {count} active: {rates[str(count)]:,.1f}/s")
        best = max(rates, key=lambda name: rates[name])
        return (best if rates[best] > CLEARLY_BETTER * rates[str(most)] else str(most)), rates


def _yardstick(block: Block) -> Seen:
    """What is compared with: who got nothing done counts with the one iteration that was just not finished."""
    least = 1e9 / (block.ended_ns - block.began_ns)
    rates = {name: max(rate, least) for name, rate in block.rates.items()}
    return Seen(rates=rates, active=block.active)


def _changes(vcpud: Vcpud) -> int:
    return round(sum(vcpud.metrics("vcpud_changes_total", result="reached")))


def wait_until_rested(guests: Sequence[Guest], vcpud: Vcpud) -> float:
    """Wait until vcpud has found its counts, or will not; returns the seconds it took."""
    began_s = changed_s = time.monotonic()
    first = seen = [guest.board.online for guest in guests]
    moved = False
    while True:
        time.sleep(0.5)
        now_s = time.monotonic()
        found = [guest.board.online for guest in guests]
        if found != seen:
            seen, changed_s = found, now_s
        moved = moved or found != first
        waited_s = now_s - began_s
        early = moved and now_s - changed_s >= QUIET_S
        if waited_s >= MOST_S or ((early or waited_s >= LEAST_S) and not vcpud.amid_a_move()):
            return waited_s


class Pair(Part):
    """Two guests that do the same, or one that works beside an idle one."""

    def __init__(self, stage: Stage, order: Order, *, alone: bool) -> None:
        """Take what they work on, or the first of them does."""
        super().__init__(stage)
        self._orders = {"g1": order, "g2": IDLE if alone else order}
        self._workers: list[Guest] = []

    def begin(self, book: Book) -> None:
        """Give the order; every count is tried once."""
        self._workers = self.stage.give(self.guests, self._orders)
        if not book.best:
            most = max(guest.shape.vcpus for guest in self._workers)
            book.best[self.guest_set], book.static = self.best_of(
                self._workers, range(1, most + 1)
            )

    def yardsticks(self, book: Book) -> dict[str, Callable[[], Seen]]:
        """All vCPUs, and the best count where that is another one."""
        most = max(guest.shape.vcpus for guest in self._workers)
        best = int(book.best[self.guest_set])
        found = {UNMANAGED: lambda: self._at(UNMANAGED, most)}
        if best != most:
            found[BEST] = lambda: self._at(BEST, best)
        return found

    def _at(self, arm: str, count: int) -> Seen:
        self.fixed({guest.name: count for guest in self._workers})
        return _yardstick(measure(self._workers, arm, BLOCK_S))

    def policy(self, name: str) -> Seen:
        """A turn of one policy."""
        return self.rested(name, self._workers)


class Mixed(Part):
    """A lock-bound guest beside an independent one, which must keep the smaller of what it had and its entitlement."""

    guest_set = "mixed"
    _orders: ClassVar[dict[str, Order]] = {"m1": _LOCK, "m2": _INDEPENDENT}

    def begin(self, book: Book) -> None:
        """Nothing is to be found out."""

    def yardsticks(self, book: Book) -> dict[str, Callable[[], Seen]]:  # noqa: ARG002  no count is compared with
        """All vCPUs, and the independent guest alone on its half of the host."""
        return {UNMANAGED: self._unmanaged, ENTITLED: self._entitled}

    def _unmanaged(self) -> Seen:
        self._give(self._orders)
        self.fixed({})
        return _yardstick(measure(self.guests, UNMANAGED, BLOCK_S))

    def _entitled(self) -> Seen:
        self._give({"m2": _INDEPENDENT})
        self.fixed({"m2": self.stage.pcpus // 2})
        return _yardstick(measure(self.guests[1:], ENTITLED, BLOCK_S))

    def _give(self, orders: Mapping[str, Order]) -> None:
        self.stage.end_vcpud()
        self.stage.give(self.guests, orders)

    def policy(self, name: str) -> Seen:
        """A turn of one policy."""
        self._give(self._orders)
        return self.rested(name, self.guests)


class Phases(Part):
    """Both guests alternate between a kernel lock and independent work, a minute each; transients count.

    A turn begins with guests that idle and have not been met, so its first phase is a first encounter; the third asks
    for what the first has taught.
    """

    others_a_round = 1
    _course = ("kernel_lock", "independent", "kernel_lock")

    def begin(self, book: Book) -> None:
        """Find the best count of each kind of phase: one vCPU, as many as there are pCPUs, or all."""
        if book.best:
            return
        most = max(guest.shape.vcpus for guest in self.guests)
        for kind, order in PHASES.items():
            say(f"  {kind}")
            self._work_on(order)
            book.best[kind], rates = self.best_of(self.guests, (1, self.stage.pcpus, most))
            book.static |= {f"{kind} {count}": rate for count, rate in rates.items()}

    def yardsticks(self, book: Book) -> dict[str, Callable[[], Seen]]:
        """The best count of each kind of phase, one after the other."""
        return {BEST: lambda: self._best(book)}

    def _best(self, book: Book) -> Seen:
        rates, block = {}, None
        for kind, order in PHASES.items():
            self._work_on(order)
            self.fixed(dict.fromkeys(("g1", "g2"), int(book.best[kind])))
            block = measure(self.guests, BEST, BLOCK_S)
            rates[kind] = block.rate
        return Seen(rates=rates, active={} if block is None else block.active)

    def _work_on(self, order: Order) -> None:
        self.stage.end_vcpud()
        self.stage.give(self.guests, dict.fromkeys(("g1", "g2"), order))

    def policy(self, name: str) -> Seen:
        """A turn of one policy: all phases, without a pause."""
        self._work_on(IDLE)
        vcpud = self.started(name)
        time.sleep(FOUND_OUT_S)
        blocks: dict[str, list[Block]] = {kind: [] for kind in PHASES}
        for kind in self._course:
            for guest in self.guests:
                guest.board.give(PHASES[kind])
            blocks[kind].append(measure(self.guests, name, PHASE_S))
        return Seen(
            rates={
                kind: sum(block.rate for block in found) / len(found)
                for kind, found in blocks.items()
            },
            active=blocks[self._course[-1]][-1].active,
            changes=_changes(vcpud),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A part of the contest.

    Attributes:
        part: Plays it.
        claims: What is asked of whom.
        round_s: What a round is expected to last.
    """

    part: Callable[[Stage], Part]
    claims: tuple[Claim, ...]
    round_s: float = 160.0


def _pair(
    kind: Kind,
    *,
    pause: bool = False,
    alone: bool = False,
    best: float | None = None,
    unmanaged: float | None = None,
) -> Entry:
    order = Order(kind=kind, pause=pause)
    return Entry(
        part=lambda stage: Pair(stage, order, alone=alone),
        claims=(
            Claim(figure="over_best_static", against=(BEST,), limit=best),
            Claim(figure="over_unmanaged", against=(UNMANAGED,), limit=unmanaged),
        ),
    )


PARTS: Final[Mapping[str, Entry]] = {
    "kernel_lock": _pair(Kind.KERNEL_LOCK, best=0.90),
    "blocking_barrier": _pair(Kind.BLOCKING_BARRIER, best=0.90),
    "user_spin_pair_pause": _pair(Kind.USER_SPIN, pause=True, unmanaged=0.97),
    "user_spin_alone": _pair(Kind.USER_SPIN, alone=True, unmanaged=0.97),
    "phases": Entry(
        part=Phases,
        round_s=440.0,
        claims=(
            Claim(figure="over_best_static", against=(BEST,), limit=0.85, score=geometric),
            *(
                Claim(figure=f"{kind}_over_best_static", against=(BEST,), score=only(kind))
                for kind in PHASES
            ),
        ),
    ),
    "independent": _pair(Kind.INDEPENDENT, unmanaged=0.97),
    "mixed": Entry(
        part=Mixed,
        claims=(
            Claim(figure="lock_over_unmanaged", against=(UNMANAGED,), limit=5.0, score=only("m1")),
            Claim(
                figure="independent_over_due",
                against=(UNMANAGED, ENTITLED),
                limit=0.97,
                score=only("m2"),
            ),
        ),
    ),
}
