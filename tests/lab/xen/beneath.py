"""What the machine that emulates Xen's did meanwhile: its processors are not Xen's to account.

Problem: Xen's clock goes on while something else has the emulator's cores, or while it translates anew what it had
translated, and whoever ran is charged for it: a guest then does less in the same pCPU time.
Approach: outside, once a second, what tells so is written into the directory shared with dom0; inside, it is noted
beside the CPU times of the domains, with the same clock, so that it can be told for every block.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "beneath.json"
QEMU: Final = "qemu"
"""Processor time of the emulator."""
OTHERS: Final = "others"
"""Processor time of everything else there."""
STOLEN: Final = "stolen"
"""Time in which that machine, virtual itself, was kept from processors it wanted."""
FLUSHES: Final = "flushes"
"""How often all translated code was thrown away, its buffer being full."""
AT: Final = "at"
"""When that was so, by the clock there: what is told is a little old, and differently old each time."""
TIMES: Final = (QEMU, OTHERS, STOLEN)
_IDLE: Final = (3, 4)
_STEAL: Final = 7
_GUEST: Final = 8
"""From here on the fields of /proc/stat repeat what is in the first ones."""
_FLUSH_COUNT: Final = re.compile(r"TB flush count\s+(\d+)")


def process_ticks(stat: str) -> int:
    """Return user and system time of a process, in ticks, from its /proc/PID/stat."""
    fields = stat.rpartition(")")[2].split()  # a process's name may hold anything
    return int(fields[11]) + int(fields[12])


def machine_ticks(stat: str) -> tuple[int, int]:
    """Return busy and stolen time of a machine, in ticks, from its /proc/stat."""
    fields = [int(word) for word in stat.split("\n", 1)[0].split()[1 : _GUEST + 1]]
    busy = sum(fields[:_STEAL]) - sum(fields[index] for index in _IDLE)
    return busy, fields[_STEAL]


def flush_count(told: str) -> int | None:
    """Return how often QEMU has emptied its translation buffer, from its `info jit`."""
    found = _FLUSH_COUNT.search(told)
    return None if found is None else int(found[1])


def counters(folder: Path) -> dict[int | str, int]:
    """Return, in dom0, what was told last; nothing where nobody tells."""
    try:
        found: dict[int | str, int] = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found
