"""Looking now and then which vCPUs are blocked, on a thread of its own.

Looks are spread over time: one in each slot, at a random instant of it, so that they fall in step
with nothing the guests do. Slots are as long as the cost of a look demands (`ration`), and domains take
turns, but for those of which too little is known yet. While libvirt is away nobody is looked at: whoever
polls it finds out when it is back, and has the looks go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from vcpud.hypervisor.errands import Errand, Hand
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.workers import Crew, Losses
from vcpud.hypervisor.xen.ration import Ration
from vcpud.units import NS_PER_S
from vcpud.waiting import READY_SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcpud.hypervisor.link import Library, VcpuState
    from vcpud.model import Uuid

LONGEST_SLOT_NS: Final = 10 * NS_PER_S
_REMEMBERED: Final = 4096


class Look(NamedTuple):
    """What was seen of one domain at one instant."""

    uuid: Uuid
    at_ns: int
    states: tuple[VcpuState, ...]


class Sampler:
    """Takes looks and keeps them until the loop fetches them."""

    def __init__(  # noqa: PLR0913  each is a fact of the daemon around it
        self,
        library: Library,
        *,
        ratio: float,
        period_ns: int,
        deadline_s: float,
        now_ns: Callable[[], int],
        losses: Losses,
        supervised: bool = True,
        random: Random | None = None,
    ) -> None:
        self._deadline_s = deadline_s
        self._now_ns = now_ns
        self._random = random if random is not None else Random()  # noqa: S311  no secret
        self._crew = Crew(
            "blocked",
            open_link=lambda: library.open(writable=False),
            now_ns=now_ns,
            size=1,
            losses=losses,
            supervised=supervised,
        )
        self.ration = Ration(ratio=ratio, least_ns=period_ns, most_ns=LONGEST_SLOT_NS)
        self._looks: deque[Look] = deque(maxlen=_REMEMBERED)
        self._watched: tuple[tuple[Uuid, int], ...] = ()
        self._turn = 0
        self._taken: dict[Uuid, int] = {}
        self._slot_ns: int | None = None
        self._under_way = False

    def watch(self, domains: Mapping[Uuid, int]) -> None:
        """Take looks at these from now on, each with its maximum of vCPUs; libvirt is there."""
        self._watched = tuple(domains.items())
        if self._watched and not self._under_way:
            self._under_way = True
            self._slot_ns = self._now_ns()
            self._next()

    def fetch(self) -> list[Look]:
        """The looks since the last call, oldest first."""
        found = []
        while self._looks:
            found.append(self._looks.popleft())
        return found

    def supervise(self) -> None:
        """For tests: look for what is due or overdue."""
        self._crew.supervise()

    def close(self, timeout_s: float) -> None:
        """Take no more looks."""
        self._watched = ()
        self._crew.close(timeout_s)

    def _next(self) -> None:
        """One look in the next slot, at an instant that nobody can foresee."""
        watched = self._watched  # others may be watched from now on, or nobody
        if not watched:
            self._under_way = False
            return
        spacing_ns = self.ration.spacing_ns(len(watched))
        now_ns = self._now_ns()
        slot_ns = max(self._slot_ns or now_ns, now_ns - spacing_ns)
        self._slot_ns = slot_ns + spacing_ns
        uuid, most = self._choose(watched)
        errand = Errand(
            uuid=uuid, run=lambda hand: self._look(hand, uuid, most), given_up=self._next
        )
        self._crew.submit(errand, slot_ns + round(self._random.random() * spacing_ns))

    def _choose(self, watched: tuple[tuple[Uuid, int], ...]) -> tuple[Uuid, int]:
        """Who is looked at next: nobody who is held back, as long as there is anybody else."""
        self._turn += 1
        free = [one for one in watched if not self._crew.held_back(one[0])] or watched
        taken = self._taken
        self._taken = {uuid: taken.get(uuid, 0) for uuid, _ in watched}
        chosen = free[self._turn % len(free)]
        unknown = [one for one in free if self._taken[one[0]] <= READY_SAMPLES]
        if unknown and chosen not in unknown:
            chosen = unknown[self._turn % len(unknown)]
        self._taken[chosen[0]] += 1
        return chosen

    def _look(self, hand: Hand, uuid: Uuid, most: int) -> None:
        began_ns = self._now_ns()
        try:
            states = hand.call(self._deadline_s, lambda link: link.states(uuid, most))
        except CallFailed as failure:
            if failure.meaning is Meaning.LOST:
                self._under_way = False
                return
            states = ()
        ended_ns = self._now_ns()
        self.ration.spent(ended_ns - began_ns)
        if states:
            self._looks.append(Look(uuid, (began_ns + ended_ns) // 2, states))
        self._next()
