"""Which agent command comes next for one guest, and what came back of it. Pure.

Problem: a collapsed guest answers each command after a second or more, just when its numbers
matter most; and every command costs the guest CPU time that vcpud is there to save.
Approach: one command at a time, in the order of the timetable's parts; a file is opened, read and
closed at once, and one whose answer got lost is closed first the next time. No clock and no
connection, only instants and answers passed in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from vcpud.hypervisor import agent, guestfiles
from vcpud.hypervisor.abilities import CPUSTATS, Abilities
from vcpud.hypervisor.failures import Meaning
from vcpud.hypervisor.handles import Handles
from vcpud.hypervisor.statement import Part, Statement
from vcpud.hypervisor.timetable import Pace, Timetable
from vcpud.model import Trouble

if TYPE_CHECKING:
    from vcpud.guest import CpuAccounting, GuestReading


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


class Reader:
    """The conversation with one guest's agent, without the talking."""

    def __init__(self, *, pace: Pace, max_vcpus: int, now_ns: int) -> None:
        self._timetable = Timetable(pace, now_ns)
        self._statement = Statement(max_vcpus)
        self._abilities = Abilities()
        self._handles = Handles()
        self._steps: deque[_Step] = deque()
        self._current: _Step | None = None
        self._locks_missing = False
        self._locks_dropped = False
        self._locks_path = 0

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
        return self._abilities.disabled

    @property
    def troubles(self) -> frozenset[Trouble]:
        """What is missing or wrong."""
        conditions = {
            Trouble.AGENT_SILENT: self._timetable.silent,
            Trouble.AGENT_BLOCKED: self._abilities.lacking,
            Trouble.AGENT_ABSURD: bool(self._statement.absurdities),
            Trouble.SELF_MANAGED: self._statement.manages_itself,
            Trouble.LOCK_SIGNAL_DROPPED: self._locks_dropped,
            Trouble.LOCK_SIGNAL_MISSING: self._locks_missing or self._abilities.files_blocked,
        }
        return frozenset(trouble for trouble, present in conditions.items() if present)

    @property
    def absurdities(self) -> tuple[str, ...]:
        """What was absurd, for people."""
        return self._statement.absurdities

    def due_ns(self, now_ns: int) -> int:
        """When the next reading should begin."""
        return self._timetable.due_ns(now_ns, self._abilities)

    # ------------------------------------------------------------------ what is wanted

    def gets(self, pcpus: float | None, now_ns: int) -> None:
        """So many pCPUs the guest lately got, None while that is unknown."""
        self._timetable.gets(pcpus, now_ns)

    def hurry(self) -> None:
        """Take the next two readings at once: something has changed."""
        self._timetable.hurry()

    def lacks(self, command: str) -> None:
        """The agent has refused to carry out this command, whoever sent it."""
        self._abilities.disabled |= {command}

    def renew(self, *, rebooted: bool) -> None:
        """Begin anew: another agent process answers, after a reboot another kernel too."""
        self._steps.clear()
        self._handles = Handles()
        self._abilities = Abilities()
        self._timetable.renew()
        if rebooted:
            self._statement.forget()

    def begin(self, now_ns: int) -> None:
        """Start a reading: plan its parts. What an earlier one left open is closed first."""
        self._steps.clear()
        self._current = None
        self._steps.extend(_Step(_Verb.CLOSE, handle=handle) for handle in self._handles.left)
        for part in self._timetable.begin(now_ns, self._abilities):
            asked = part is Part.ABILITIES or (
                part is Part.ACCOUNTING and not self._abilities.accounts_by_file
            )
            self._steps.append(_Step(_Verb.ASK if asked else _Verb.OPEN, part))

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
        return agent.command("guest-info" if step.part is Part.ABILITIES else CPUSTATS)

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
        except guestfiles.DroppedError:
            self._locks_dropped = True
            self._statement.withdraw(Part.LOCKS)
        except guestfiles.MissingError:
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
            if meaning in {Meaning.AGENT_SILENT, Meaning.HUNG}:
                self._timetable.unheard()
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
            self._abilities.told = True
        return True

    # ------------------------------------------------------------------ details

    def _path(self, part: Part) -> str:
        if part is Part.LOCKS:
            return guestfiles.LOCK_HISTOGRAMS[self._locks_path]
        return {
            Part.ACCOUNTING: "/proc/stat",
            Part.RUN_QUEUE: "/proc/schedstat",
            Part.RUNNABLE: "/proc/loadavg",
            Part.COST: "/proc/self/schedstat",
            Part.PREFERRED: "/sys/devices/system/cpu/preferred",
        }[part]

    def _heard(self, began_ns: int, ended_ns: int) -> None:
        self._timetable.heard(ended_ns)
        self._statement.took(max(0, ended_ns - began_ns))

    def _take(self, verb: _Verb, part: Part, text: str, middle_ns: int) -> None:
        if verb is _Verb.OPEN:
            self._opened(part, agent.parse_handle(text))
        elif verb is _Verb.READ:
            self._take_file(part, agent.parse_file(text), middle_ns)
        elif part is Part.ABILITIES:
            self._abilities.disabled |= agent.parse_disabled(text)
            self._abilities.told = True
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
        }.get(step.verb, CPUSTATS)
        if step.part is Part.ABILITIES:
            self._abilities.told = True
            return
        self._abilities.disabled |= {command}
        if step.part is Part.ACCOUNTING and self._abilities.accounts_by_file:
            self._steps.appendleft(_Step(_Verb.OPEN, Part.ACCOUNTING))
            return
        self._steps = deque(s for s in self._steps if s.verb in {_Verb.CLOSE, _Verb.ASK})

    def _missing(self, part: Part, now_ns: int) -> None:
        if part not in {Part.LOCKS, Part.PREFERRED}:
            return
        self._statement.withdraw(part)
        if part is Part.LOCKS:
            self._locks_path = (self._locks_path + 1) % len(guestfiles.LOCK_HISTOGRAMS)
            if self._locks_path:
                self._steps.appendleft(_Step(_Verb.OPEN, Part.LOCKS))
                return
            self._locks_missing = True
        self._timetable.missed(part, now_ns)

    def _take_file(self, part: Part, content: str, middle_ns: int) -> None:
        if part is Part.COST:
            cost_ns = guestfiles.parse_own_cost(content)
            self._statement.cost(cost_ns)
            self._timetable.measured(cost_ns)
            return
        self._statement.file(part, content, middle_ns)
        self._timetable.found(part)
        if part is Part.LOCKS:
            self._locks_missing = self._locks_dropped = False
