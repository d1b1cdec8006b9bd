"""What one guest has said so far, and how much of it is believed. Pure.

Each part of a reading is as of its last good answer. A part that cannot be true, by itself or after
what was said before, is not used at all until a good one comes, and why is kept for people.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from vcpud.guest import CpuAccounting, GuestReading
from vcpud.hypervisor import agent, guestfiles
from vcpud.hypervisor.plausible import (
    began_anew,
    check_accounting,
    check_locks,
    check_run_queue,
)
from vcpud.preferred import SelfManagement

if TYPE_CHECKING:
    from vcpud.guest import LockWait, RunQueue


class Part(StrEnum):
    """Parts of a reading."""

    ACCOUNTING = "accounting"
    LOCKS = "locks"
    RUN_QUEUE = "run_queue"
    RUNNABLE = "runnable"
    COST = "cost"
    PREFERRED = "preferred"
    ABILITIES = "abilities"


_FIELDS: Final = {
    Part.ACCOUNTING: "accounting",
    Part.LOCKS: "locks",
    Part.RUN_QUEUE: "run_queue",
    Part.RUNNABLE: "runnable",
}
"""Where a part stands in the reading that the loop is given."""


class Statement:
    """Parts of a reading, each checked before it is believed.

    Attributes:
        reading: What is believed.
        first_of_kernel: What a kernel said first that had begun anew without a word of libvirt's:
            while there was no connection, or by kexec. None where that has not happened.
    """

    def __init__(self, max_vcpus: int) -> None:
        """Nothing has been said yet.

        Args:
            max_vcpus: The domain's maximum: more CPUs, or other ids, cannot be.
        """
        self._max_vcpus = max_vcpus
        self._absurd: dict[Part, str] = {}
        self._self_management = SelfManagement()
        self._base_accounting: CpuAccounting | None = None
        self._base_locks: LockWait | None = None
        self._base_run_queue: RunQueue | None = None
        self.reading = GuestReading()
        self.first_of_kernel: CpuAccounting | None = None

    @property
    def absurdities(self) -> tuple[str, ...]:
        """What was absurd, for people."""
        return tuple(f"{part}: {why}" for part, why in sorted(self._absurd.items()))

    @property
    def manages_itself(self) -> bool:
        """Whether the guest's kernel keeps work off some of the CPUs that are online."""
        return self._self_management.seen

    def forget(self) -> None:
        """Another kernel speaks from now on."""
        self.reading = GuestReading()
        self._base_accounting = self._base_locks = self._base_run_queue = None
        self._self_management = SelfManagement()
        self._absurd.clear()

    def took(self, latency_ns: int) -> None:
        """So long the last answer took."""
        self._note(latency_ns=latency_ns)

    def cost(self, cost_ns: int) -> None:
        """So long its agent has run."""
        self._absurd.pop(Part.COST, None)
        self._note(agent_cost_ns=cost_ns)

    def accounting(self, text: str, taken_at_ns: int) -> CpuAccounting | None:
        """Take in an answer to `guest-get-cpustats`; None when it is absurd."""
        try:
            found = agent.parse_cpustats(text, taken_at_ns=taken_at_ns, max_vcpus=self._max_vcpus)
            self._account(found)
        except agent.AbsurdError as error:
            self.refuse(Part.ACCOUNTING, error)
            return None
        self._absurd.pop(Part.ACCOUNTING, None)
        return found

    def _account(self, found: CpuAccounting) -> None:
        check_accounting(self._base_accounting, found)
        if began_anew(self._base_accounting, found):
            self.forget()
            self.first_of_kernel = found
        self._base_accounting = found
        self._note(accounting=found)

    def file(self, part: Part, content: str, taken_at_ns: int) -> None:
        """Take in the content of a part's file.

        Raises:
            AbsurdError: It cannot be true.
            DroppedError: Of locks, entries were lost.
            MissingError: It says that the signal is not there.
        """
        most = self._max_vcpus
        if part is Part.ACCOUNTING:
            self._account(guestfiles.parse_stat(content, taken_at_ns=taken_at_ns, max_vcpus=most))
        elif part is Part.LOCKS:
            locks = guestfiles.parse_lock_histogram(
                content, taken_at_ns=taken_at_ns, max_vcpus=most
            )
            check_locks(self._base_locks, locks, most)
            self._base_locks = locks
            self._note(locks=locks)
        elif part is Part.RUN_QUEUE:
            queue = guestfiles.parse_run_queue(content, taken_at_ns=taken_at_ns, max_vcpus=most)
            check_run_queue(self._base_run_queue, queue)
            self._base_run_queue = queue
            self._note(run_queue=queue)
        elif part is Part.RUNNABLE:
            self._note(runnable=guestfiles.parse_runnable(content, taken_at_ns=taken_at_ns))
        else:
            preferred = guestfiles.parse_preferred(content, max_vcpus=most)
            if self.reading.accounting is not None:
                self._self_management.looked(preferred, self.reading.accounting.online)
        self._absurd.pop(part, None)

    def refuse(self, part: Part, error: agent.AbsurdError) -> None:
        """A part cannot be true."""
        self._absurd[part] = str(error)
        self.withdraw(part)

    def withdraw(self, part: Part) -> None:
        """What was said of a part before holds no longer."""
        if part in _FIELDS:
            self._note(**{_FIELDS[part]: None})

    def _note(self, **parts: Any) -> None:
        self.reading = dataclasses.replace(self.reading, **parts)
