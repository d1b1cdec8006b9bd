"""Which agent command comes next for one guest, and when to ask again.

Problem: a collapsed guest answers each command after a second or more, just when its numbers
matter most; and every command costs the guest CPU time that vcpud is there to save.
Approach: one command at a time, the most valuable part first; two readings at once at the start
and after a change, because a rate needs two; then a steady period, stretched so that the
agent's own CPU time, read through the agent itself, stays within its share. Pure: no clock and
no connection, only instants and answers passed in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from vcpud.hypervisor import agent
from vcpud.hypervisor.budget import Budget
from vcpud.hypervisor.failures import Meaning
from vcpud.hypervisor.handles import Handles
from vcpud.hypervisor.statement import Part, Statement
from vcpud.model import Trouble
from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from vcpud.guest import CpuAccounting, GuestReading


_CPUSTATS: Final = "guest-get-cpustats"
NEEDED: Final = frozenset({_CPUSTATS, "guest-set-vcpus", "guest-file-open", "guest-file-read"})
"""Commands without which something is missing; where one is switched off, the domain says so."""

PROMPT_NS: Final = NS_PER_S
_COST_FIRST: Final = (1, 3)
"""The guess at what a command costs is put right early; a difference needs two measurements."""
_COST_EVERY: Final = 8
_EXTRA_EVERY: Final = 3
_PREFERRED_EVERY: Final = 8
_PREFERRED_AT: Final = 2
_FILE_COMMANDS: Final = 3
_LOCKS_AT_LEAST_NS: Final = 30 * NS_PER_S
_FILE_TRY_AGAIN_NS: Final = 60 * NS_PER_S
_SILENCE_LIMIT_NS: Final = 30 * NS_PER_S
_PATIENCE: Final = 2


class _Verb(Enum):
    ASK = "ask"
    OPEN = "open"
    READ = "read"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class _Step:
    verb: _Verb
    part: Part | None = None
    handle: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a guest may be asked.

    Attributes:
        period_ns: Spacing of readings.
        cost_ratio: CPU time of the agent per unit of time.
    """

    period_ns: int
    cost_ratio: float


class Reader:
    """The conversation with one guest's agent, without the talking."""

    def __init__(self, *, pace: Pace, max_vcpus: int, now_ns: int) -> None:
        self._pace = pace
        self._statement = Statement(max_vcpus)
        self._budget = Budget(ratio=pace.cost_ratio, now_ns=now_ns)
        self._steps: deque[_Step] = deque()
        self._current: _Step | None = None
        self._handles = Handles()
        self._began_ns: int | None = None
        self._hurried = 2
        self._sessions = 0
        self._silences = 0
        self._abilities_known = False
        self._disabled: frozenset[str] = frozenset()
        self._locks_missing = False
        self._locks_dropped = False
        self._locks_path = 0
        self._locks_again_ns: int | None = None
        self._locks_asked_ns: int | None = None
        self._cost_ns: int | None = None
        self._preferred_missing = False

    # ------------------------------------------------------------------ what is known

    @property
    def reading(self) -> GuestReading:
        """What the guest has said so far, each part as of its last good answer."""
        return self._statement.reading

    @property
    def first_of_kernel(self) -> CpuAccounting | None:
        """What a kernel said first that had begun anew unheard; None where none has."""
        return self._statement.first_of_kernel

    @property
    def disabled(self) -> frozenset[str]:
        """Commands that this agent refuses to carry out."""
        return self._disabled

    @property
    def troubles(self) -> frozenset[Trouble]:
        """What is missing or wrong."""
        found = set()
        if self._silences:
            found.add(Trouble.AGENT_SILENT)
        if self._disabled & NEEDED - ({_CPUSTATS} if self._accounts_by_file else set()):
            found.add(Trouble.AGENT_BLOCKED)
        if self._statement.absurdities:
            found.add(Trouble.AGENT_ABSURD)
        if self._statement.manages_itself:
            found.add(Trouble.SELF_MANAGED)
        if self._locks_dropped:
            found.add(Trouble.LOCK_SIGNAL_DROPPED)
        if self._locks_missing or self._files_blocked:
            found.add(Trouble.LOCK_SIGNAL_MISSING)
        return frozenset(found)

    @property
    def absurdities(self) -> tuple[str, ...]:
        """What was absurd, for people."""
        return self._statement.absurdities

    def due_ns(self, now_ns: int) -> int:
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
        commands = _FILE_COMMANDS if self._accounts_by_file else 1
        return self._began_ns + max(self._pace.period_ns, self._budget.spacing_ns(commands))

    # ------------------------------------------------------------------ what is wanted

    def hurry(self) -> None:
        """Take the next two readings at once: something has changed.

        What the change itself cost the agent is no cost of reading: measuring begins anew.
        """
        self._hurried = max(self._hurried, 2)
        self._cost_ns = None

    def lacks(self, command: str) -> None:
        """The agent has refused to carry out this command, whoever sent it."""
        self._disabled |= {command}

    def renew(self, *, rebooted: bool) -> None:
        """Begin anew: another agent process answers, after a reboot another kernel too."""
        self._steps.clear()
        self._handles = Handles()
        self._silences = 0
        self._abilities_known = False
        self._disabled = frozenset()
        self._preferred_missing = False
        self._statement.withdraw(Part.PREFERRED)
        self._locks_again_ns = None
        self._cost_ns = None
        self._began_ns = None
        if rebooted:
            self._statement.forget()
        self.hurry()

    def begin(self, now_ns: int) -> None:
        """Start a reading: plan its parts. What an earlier one left open is closed first."""
        self._steps.clear()
        self._current = None
        self._steps.extend(_Step(_Verb.CLOSE, handle=handle) for handle in self._handles.left)
        self._began_ns = now_ns
        hurried = self._hurried > 0
        for part in self._parts(now_ns, hurried=hurried):
            asked = part is Part.ABILITIES or (
                part is Part.ACCOUNTING and not self._accounts_by_file
            )
            self._steps.append(_Step(_Verb.ASK if asked else _Verb.OPEN, part))
        self._sessions += 1
        self._hurried = max(0, self._hurried - 1)

    def next_command(self) -> str | None:
        """The text to send now, or None when the reading is complete."""
        if not self._steps:
            return None
        step = self._current = self._steps.popleft()
        if step.verb is _Verb.OPEN and step.part is not None:
            return agent.command("guest-file-open", path=self._path(step.part), mode="r")
        if step.verb is _Verb.READ:
            return agent.command("guest-file-read", handle=step.handle, count=agent.FILE_LIMIT)
        if step.verb is _Verb.CLOSE:
            return agent.command("guest-file-close", handle=step.handle)
        return agent.command("guest-info" if step.part is Part.ABILITIES else _CPUSTATS)

    # ------------------------------------------------------------------ what came back

    def answered(self, text: str, *, began_ns: int, ended_ns: int) -> None:
        """Take in the answer to the last command.

        Args:
            text: As it came.
            began_ns: When it was asked.
            ended_ns: When it was answered; the middle counts as the moment of the reading.
        """
        step, self._current = self._current, None
        self._heard(began_ns, ended_ns)
        if step is None:
            return
        if step.part is None:  # only closing has no part
            self._handles.closed(step.handle)
            return
        middle_ns = (began_ns + ended_ns) // 2
        try:
            self._take(step.verb, step.part, text, middle_ns)
        except agent.AbsurdError as error:
            self._statement.refuse(step.part, error)
        except agent.DroppedError:
            self._locks_dropped = True
            self._statement.withdraw(Part.LOCKS)
        except agent.MissingError:
            self._missing(step.part, ended_ns)

    def take_accounting(self, text: str, middle_ns: int) -> CpuAccounting | None:
        """Take in an answer to `guest-get-cpustats`, whoever asked; None when it is absurd."""
        return self._statement.accounting(text, middle_ns)

    def failed(self, meaning: Meaning, *, began_ns: int, ended_ns: int) -> bool:
        """The last command got no answer.

        Returns:
            Whether the rest of this reading is still worth asking for.
        """
        step, self._current = self._current, None
        if meaning not in {Meaning.AGENT_BLOCKED, Meaning.AGENT_FAILED}:
            if step is not None and step.verb is _Verb.OPEN:
                self._handles.unanswered()
            self._silences += meaning in {Meaning.AGENT_SILENT, Meaning.HUNG}
            self._steps.clear()
            return False
        self._heard(began_ns, ended_ns)
        if step is None:
            return True
        if step.verb is _Verb.CLOSE:
            self._handles.closed(step.handle)  # the agent was restarted
        elif meaning is Meaning.AGENT_BLOCKED:
            self._blocked(step)
        elif step.part is not None and step.verb is _Verb.OPEN:
            self._missing(step.part, ended_ns)
        elif step.part is Part.ABILITIES:
            self._abilities_known = True
        return True

    # ------------------------------------------------------------------ details

    @property
    def _files_blocked(self) -> bool:
        return bool(self._disabled & {"guest-file-open", "guest-file-read"})

    @property
    def _accounts_by_file(self) -> bool:
        """An agent older than 7.1 does not know the command, but reads the file behind it."""
        return _CPUSTATS in self._disabled and not self._files_blocked

    def _parts(self, now_ns: int, *, hurried: bool) -> list[Part]:
        """The most valuable first; what the budget does not allow now waits for another time."""
        parts = []
        session = self._sessions
        solvent = self._budget.solvent(now_ns)
        if _CPUSTATS not in self._disabled or self._accounts_by_file:
            parts.append(Part.ACCOUNTING)
        if self._files_blocked:
            return parts if self._abilities_known else [*parts, Part.ABILITIES]
        if (hurried or solvent or self._overdue(now_ns)) and (
            self._locks_again_ns is None or now_ns >= self._locks_again_ns
        ):
            self._locks_asked_ns = now_ns
            parts.append(Part.LOCKS)
        if session and (self._budget.ample(now_ns) or (solvent and session % _EXTRA_EVERY == 0)):
            parts.append(Part.RUN_QUEUE if session % 2 else Part.RUNNABLE)
        if session and not self._abilities_known:
            parts.append(Part.ABILITIES)
        if session in _COST_FIRST or (session and not session % _COST_EVERY):
            parts.append(Part.COST)
        look = session % _PREFERRED_EVERY == _PREFERRED_AT and not self._preferred_missing
        if look and solvent:
            parts.append(Part.PREFERRED)
        return parts

    def _overdue(self, now_ns: int) -> bool:
        """Whether the lock histogram, though there is debt, must be read once more."""
        if self._locks_asked_ns is None:
            return True
        # The other half of the budget pays for this and, now and then, for measuring the cost.
        spacing_ns = max(_LOCKS_AT_LEAST_NS, self._budget.spacing_ns(_FILE_COMMANDS + 1))
        return now_ns - self._locks_asked_ns >= spacing_ns

    def _path(self, part: Part) -> str:
        if part is Part.LOCKS:
            return agent.LOCK_HISTOGRAMS[self._locks_path]
        return {
            Part.ACCOUNTING: "/proc/stat",
            Part.RUN_QUEUE: "/proc/schedstat",
            Part.RUNNABLE: "/proc/loadavg",
            Part.COST: "/proc/self/schedstat",
            Part.PREFERRED: "/sys/devices/system/cpu/preferred",
        }[part]

    def _heard(self, began_ns: int, ended_ns: int) -> None:
        self._silences = 0
        self._budget.spend_command(ended_ns)
        self._statement.took(max(0, ended_ns - began_ns))

    def _take(self, verb: _Verb, part: Part, text: str, middle_ns: int) -> None:
        if verb is _Verb.OPEN:
            self._opened(part, agent.parse_handle(text))
        elif verb is _Verb.READ:
            self._take_file(part, agent.parse_file(text), middle_ns)
        elif part is Part.ABILITIES:
            self._disabled |= agent.parse_disabled(text)
            self._abilities_known = True
        else:
            self.take_accounting(text, middle_ns)

    def _opened(self, part: Part, handle: int) -> None:
        strays = self._handles.opened(handle)
        self._steps.appendleft(_Step(_Verb.CLOSE, handle=handle))
        self._steps.appendleft(_Step(_Verb.READ, part, handle))
        self._steps.extend(_Step(_Verb.CLOSE, handle=stray) for stray in strays)

    def _blocked(self, step: _Step) -> None:
        command = {
            _Verb.OPEN: "guest-file-open",
            _Verb.READ: "guest-file-read",
        }.get(step.verb, _CPUSTATS)
        if step.part is Part.ABILITIES:
            self._abilities_known = True
            return
        self._disabled |= {command}
        if step.part is Part.ACCOUNTING and self._accounts_by_file:
            self._steps.appendleft(_Step(_Verb.OPEN, Part.ACCOUNTING))
            return
        self._steps = deque(s for s in self._steps if s.verb in {_Verb.CLOSE, _Verb.ASK})

    def _missing(self, part: Part, now_ns: int) -> None:
        if part is Part.PREFERRED:
            self._preferred_missing = True
            self._statement.withdraw(part)
        if part is not Part.LOCKS:
            return
        self._statement.withdraw(part)
        self._locks_path = (self._locks_path + 1) % len(agent.LOCK_HISTOGRAMS)
        if self._locks_path:
            self._steps.appendleft(_Step(_Verb.OPEN, Part.LOCKS))
        else:
            self._locks_missing = True
            self._locks_again_ns = now_ns + _FILE_TRY_AGAIN_NS

    def _take_file(self, part: Part, content: str, middle_ns: int) -> None:
        if part is Part.COST:
            self._measured(agent.parse_own_cost(content))
            return
        self._statement.file(part, content, middle_ns)
        if part is Part.LOCKS:
            self._locks_missing = self._locks_dropped = False
            self._locks_again_ns = None

    def _measured(self, cost_ns: int) -> None:
        self._statement.cost(cost_ns)
        if self._cost_ns is not None and cost_ns >= self._cost_ns:
            self._budget.measured(cost_ns - self._cost_ns)
        else:
            self._budget.measuring()
        self._cost_ns = cost_ns
