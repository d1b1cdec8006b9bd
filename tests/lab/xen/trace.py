"""What Xen's own trace says of every vCPU: how long it ran, could have run, slept."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from lab.xen.toolstack import ToolError, tool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

SCHEDULER_EVENTS: Final = "0x0002f000"
_DOMAIN: Final = re.compile(r"^\|-- Domain (\d+) --\|$")
_VCPU: Final = re.compile(r"^-- v(\d+) --$")
_STATE: Final = re.compile(r"^  +(running|runnable|blocked|offline): +\d+ +([\d.]+)s")
_FILE: Final = Path("/run/vcpud-lab.trace")
_END_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How one vCPU spent the traced time, in seconds of an unknown length: xenalyze guesses the clock.

    Attributes:
        running: On a pCPU.
        runnable: Waiting for one.
        blocked: With nothing to do.
        offline: Taken from the guest, or stopped.
    """

    running: float = 0.0
    runnable: float = 0.0
    blocked: float = 0.0
    offline: float = 0.0

    @property
    def runnable_ratio(self) -> float | None:
        """Share of the time it waited for a pCPU; None when nothing was seen of it."""
        whole = self.running + self.runnable + self.blocked + self.offline
        return self.runnable / whole if whole else None

    @property
    def served_ratio(self) -> float | None:
        """Share of the time it wanted a pCPU that it had one; None when nothing was seen of it."""
        wanted = self.running + self.runnable
        return self.running / wanted if wanted else None


def parse(summary: str) -> dict[tuple[int, int], Times]:
    """Return the times by domain id and vCPU from what ``xenalyze --summary`` prints."""
    found: dict[tuple[int, int], dict[str, float]] = {}
    domain = vcpu = -1
    for line in summary.splitlines():
        if heading := _DOMAIN.match(line):
            domain, vcpu = int(heading[1]), -1
        elif heading := _VCPU.match(line):
            vcpu = int(heading[1])
        elif vcpu >= 0 and (state := _STATE.match(line)):
            found.setdefault((domain, vcpu), {}).setdefault(state[1], float(state[2]))
    return {key: Times(**times) for key, times in found.items()}


class Trace:
    """Traces the scheduler from entering to leaving its context."""

    def __init__(self) -> None:
        """Nothing is traced yet."""
        self._process: subprocess.Popen[bytes] | None = None
        self.times: Mapping[tuple[int, int], Times] = {}

    def __enter__(self) -> Self:
        """Start."""
        _FILE.unlink(missing_ok=True)
        words = ["xentrace", "-D", "-e", SCHEDULER_EVENTS, str(_FILE)]
        self._process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline_s = time.monotonic() + _END_S
        while not (_FILE.exists() and _FILE.stat().st_size):
            if time.monotonic() > deadline_s:
                raise ToolError("xentrace writes nothing")
            time.sleep(0.1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and read what was traced."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(_END_S)
        self.times = parse(tool("xenalyze", "--summary", str(_FILE)))
        _FILE.unlink(missing_ok=True)
