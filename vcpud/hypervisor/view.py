"""What is known of one domain beside libvirt's counters: the guest's own word, and its jobs.

A view is one immutable value, made on a worker's thread and picked up by the loop's whenever it
samples. Who makes it depends on the platform: a conversation with an agent, or a reporter's key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vcpud.guest import CpuAccounting, GuestReading
    from vcpud.model import Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is known through the agent and about the domain's jobs, at one moment.

    Attributes:
        reading: The guest's own word.
        online: Guest CPUs online.
        online_taken_at_ns: When that was read.
        first_of_kernel: What a kernel said first that had begun anew unheard.
        disabled: Commands that the agent refuses.
        troubles: What is missing or wrong.
        absurdities: What was absurd, for people.
        job: A job in progress.
        note_failure: Why no hand-over note could be left, empty when one could.
    """

    reading: GuestReading | None = None
    online: frozenset[int] | None = None
    online_taken_at_ns: int | None = None
    first_of_kernel: CpuAccounting | None = None
    disabled: frozenset[str] = frozenset()
    troubles: frozenset[Trouble] = frozenset()
    absurdities: tuple[str, ...] = ()
    job: str | None = None
    note_failure: str = ""


NO_VIEW: Final = View()
