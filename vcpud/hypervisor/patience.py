"""How long calls into libvirt may take before they are given up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

SYNC_S: Final = 5.0
"""libvirt first synchronises with the agent and waits so long for it, whatever the timeout."""
_JOB_QUEUE_S: Final = 6.0
"""Somebody else's unplug keeps a domain's job for 5 s: that is busy, not hung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long calls may take.

    Attributes:
        call_s: A call that no guest has a part in.
        agent_s: The agent's answer to one command.
    """

    call_s: float
    agent_s: float

    @property
    def agent_timeout_s(self) -> int:
        """What libvirt is told: whole seconds, at least one."""
        return max(1, math.ceil(self.agent_s))

    def agent_deadline_s(self, timeout_s: int) -> float:
        """When an agent call is overdue even by libvirt's own reckoning."""
        return SYNC_S + timeout_s + self.call_s

    @property
    def job_deadline_s(self) -> float:
        """A question that queues behind another client's job."""
        return self.call_s + _JOB_QUEUE_S
