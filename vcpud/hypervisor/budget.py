"""What asking a guest's agent may cost that guest: a bucket of CPU time. Pure.

The bucket fills at the allowed ratio, or at the guest's own share of what it gets where that is
less (`vcpud.thrift`), and holds half a minute's worth: about what the two readings
at the start and the two after a first change cost at the first guess, so that these may come at
once. Between two measurements each command is charged at what commands cost
so far; a measurement (`/proc/self/schedstat` of the agent) puts the account right.
"""

from __future__ import annotations

from typing import Final

from vcpud.thrift import DEAREST_NS, RAREST_NS, SHARE
from vcpud.units import NS_PER_MS, NS_PER_S

_HELD_NS: Final = 30 * NS_PER_S
_DEBT_NS: Final = 240 * NS_PER_S
"""A collapsed guest's commands are dear just when they matter: so much may be owed for them."""
_FIRST_GUESS_NS: Final = 2 * NS_PER_MS
_LEAST_COMMANDS: Final = 5
"""What must be affordable every `RAREST_NS`: a file, and now and then measuring what asking costs."""


class Budget:
    """CPU time that an agent may still use."""

    __slots__ = ("_at_ns", "_commands", "_most", "_pcpus", "_tokens_ns", "command_cost_ns")

    def __init__(self, *, ratio: float, now_ns: int) -> None:
        self._most = ratio
        self._pcpus: float | None = None
        self._tokens_ns = ratio * _HELD_NS
        self._at_ns = now_ns
        self._commands = 0
        self.command_cost_ns: float = _FIRST_GUESS_NS

    def gets(self, pcpus: float | None, now_ns: int) -> None:
        """So much the guest lately got, None while that is unknown.

        Who comes to use less owes less: what is owed is paid back in the time that it would have
        taken, or a guest that collapses would be the last to be asked at once.
        """
        if pcpus == self._pcpus:
            return
        self._fill(now_ns)
        before = self._ratio
        self._pcpus = pcpus
        if self._tokens_ns < 0:
            self._tokens_ns *= min(1.0, self._ratio / before)

    def spend_command(self, now_ns: int) -> None:
        """One command was carried out."""
        self._fill(now_ns)
        self._tokens_ns -= self.command_cost_ns
        self._commands += 1

    def measuring(self) -> None:
        """A first measurement: commands are counted from here."""
        self._commands = 0

    def measured(self, spent_ns: int) -> None:
        """The agent used so much since the last measurement.

        What other users of the same agent cost is charged too, up to a limit per command.
        """
        if not self._commands:
            return
        charged_ns = self.command_cost_ns * self._commands
        true_ns = min(spent_ns, DEAREST_NS * self._commands)
        self._tokens_ns += charged_ns - true_ns
        self.command_cost_ns = true_ns / self._commands
        self._commands = 0

    def tolerable(self, now_ns: int) -> bool:
        """Whether a reading that cannot wait may run further into debt."""
        self._fill(now_ns)
        return self._tokens_ns > -self._ratio * _DEBT_NS

    def solvent(self, now_ns: int) -> bool:
        """Whether there is something left to spend."""
        self._fill(now_ns)
        return self._tokens_ns >= 0

    def ample(self, now_ns: int) -> bool:
        """Whether there is enough for what is only nice to know."""
        self._fill(now_ns)
        return self._tokens_ns >= self._ratio * _HELD_NS / 2

    def spacing_ns(self, commands: int) -> int:
        """How far apart so many commands must be to use half of what is allowed."""
        return round(commands * self.command_cost_ns / (self._ratio / 2))

    @property
    def _ratio(self) -> float:
        """CPU time that may be used per unit of time."""
        if self._pcpus is None:
            return self._most
        # Each half of the budget has commands of its own: see `Timetable`.
        least = 2 * _LEAST_COMMANDS * max(self.command_cost_ns, 1.0) / RAREST_NS
        return min(self._most, max(SHARE * self._pcpus, least))

    def _fill(self, now_ns: int) -> None:
        ratio = self._ratio
        gained_ns = ratio * max(0, now_ns - self._at_ns)
        self._tokens_ns = min(ratio * _HELD_NS, self._tokens_ns + gained_ns)
        self._at_ns = max(self._at_ns, now_ns)
