"""When a guest's agent is asked next, and for which parts, within what that may cost. Pure.

Two readings at once at the start and after a change, because a rate needs two; then a steady
period, stretched so that the agent's own CPU time, read through the agent itself, stays within its
share, which is less for a guest that gets little. The most valuable part is asked for first; what
there is no budget for waits for another time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vcpud.hypervisor.budget import Budget
from vcpud.hypervisor.statement import Part
from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from vcpud.hypervisor.abilities import Abilities

PROMPT_NS: Final = NS_PER_S
_COST_FIRST: Final = (1, 3)
"""The guess at what a command costs is put right early; a difference needs two measurements."""
_COST_EVERY: Final = 8
_EXTRA_EVERY: Final = 3
_FILE_COMMANDS: Final = 3
_MEASURING: Final = 2
_AT_LEAST_NS: Final = 30 * NS_PER_S
_FILE_TRY_AGAIN_NS: Final = 60 * NS_PER_S
_SILENCE_LIMIT_NS: Final = 30 * NS_PER_S
_PATIENCE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a guest may be asked.

    Attributes:
        period_ns: Spacing of readings.
        cost_ratio: CPU time of the agent per unit of time.
    """

    period_ns: int
    cost_ratio: float


class Timetable:
    """The readings of one guest: when each begins, and what it consists of."""

    def __init__(self, pace: Pace, now_ns: int) -> None:
        self._pace = pace
        self._budget = Budget(ratio=pace.cost_ratio, now_ns=now_ns)
        self._began_ns: int | None = None
        self._hurried = 2
        self._sessions = 0
        self._silences = 0
        self._locks_again_ns: int | None = None
        self._asked_ns: int | None = None
        self._cost_ns: int | None = None
        self._preferred_missing = False

    def due_ns(self, now_ns: int, abilities: Abilities) -> int:
        """When the next reading should begin."""
        if self._began_ns is None:
            return now_ns
        if self._silences > _PATIENCE:
            doublings = min(self._silences - _PATIENCE, 8)
            wait_ns = min(self._pace.period_ns << doublings, _SILENCE_LIMIT_NS)
            return self._began_ns + max(wait_ns, self._pace.period_ns)
        if self._hurried > 0 and self._budget.tolerable(now_ns):
            return self._began_ns + min(PROMPT_NS, self._pace.period_ns)
        # The accounting alone is what every reading has: half the budget is its.
        commands = _FILE_COMMANDS if abilities.accounts_by_file else 1
        return self._began_ns + max(self._pace.period_ns, self._budget.spacing_ns(commands))

    def begin(self, now_ns: int, abilities: Abilities) -> list[Part]:
        """A reading begins; its parts, the most valuable first."""
        self._began_ns = now_ns
        parts = self._parts(now_ns, abilities)
        self._sessions += 1
        self._hurried = max(0, self._hurried - 1)
        return parts

    def gets(self, pcpus: float | None, now_ns: int) -> None:
        """So much the guest lately got, None while that is unknown."""
        self._budget.gets(pcpus, now_ns)

    def hurry(self) -> None:
        """Take the next two readings at once: something has changed.

        What the change itself cost the agent is no cost of reading: measuring begins anew.
        """
        self._hurried = max(self._hurried, 2)
        self._cost_ns = None

    def renew(self) -> None:
        """Another agent process answers: begin at once, as if it had never been silent."""
        self._began_ns = None
        self._silences = 0
        self._locks_again_ns = None
        self._preferred_missing = False
        self.hurry()

    # ------------------------------------------------------------------ what came back

    @property
    def silent(self) -> bool:
        """Whether the agent did not answer when it was last asked."""
        return self._silences > 0

    def heard(self, now_ns: int) -> None:
        """A command was answered, which has its price."""
        self._silences = 0
        self._budget.spend_command(now_ns)

    def unheard(self) -> None:
        """A command was not answered."""
        self._silences += 1

    def measured(self, cost_ns: int) -> None:
        """So long the agent has run."""
        if self._cost_ns is not None and cost_ns >= self._cost_ns:
            self._budget.measured(cost_ns - self._cost_ns)
        else:
            self._budget.measuring()
        self._cost_ns = cost_ns

    def found(self, part: Part) -> None:
        """A part is there."""
        if part is Part.LOCKS:
            self._locks_again_ns = None

    def missed(self, part: Part, now_ns: int) -> None:
        """A part is not there: locks may come, preferred CPUs only with another agent."""
        if part is Part.LOCKS:
            self._locks_again_ns = now_ns + _FILE_TRY_AGAIN_NS
        elif part is Part.PREFERRED:
            self._preferred_missing = True

    # ------------------------------------------------------------------ details

    def _parts(self, now_ns: int, abilities: Abilities) -> list[Part]:
        parts = []
        session = self._sessions
        solvent = self._budget.solvent(now_ns)
        if abilities.accounts:
            parts.append(Part.ACCOUNTING)
        if abilities.files_blocked:
            return parts if abilities.told else [*parts, Part.ABILITIES]
        if self._hurried > 0 or solvent or self._overdue(now_ns):
            self._asked_ns = now_ns
            if self._locks_again_ns is None or now_ns >= self._locks_again_ns:
                parts.append(Part.LOCKS)
            # Nobody who manages itself is to be changed for its locks before that is known.
            if not self._preferred_missing:
                parts.append(Part.PREFERRED)
        if session and (self._budget.ample(now_ns) or (solvent and session % _EXTRA_EVERY == 0)):
            parts.append(Part.RUN_QUEUE if session % 2 else Part.RUNNABLE)
        if session and not abilities.told:
            parts.append(Part.ABILITIES)
        if session in _COST_FIRST or (session and not session % _COST_EVERY):
            parts.append(Part.COST)
        return parts

    def _overdue(self, now_ns: int) -> bool:
        """Whether locks and preferred CPUs, though there is debt, must be asked for once more."""
        if self._asked_ns is None:
            return True
        files = 1 if self._preferred_missing else 2
        # The other half of the budget pays for this, and for measuring the cost with every eighth
        # reading: with too little for that debt would grow for ever, and no change be followed at once.
        spacing_ns = max(
            _AT_LEAST_NS, self._budget.spacing_ns(files * (_FILE_COMMANDS + _MEASURING))
        )
        return now_ns - self._asked_ns >= spacing_ns
