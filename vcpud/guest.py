"""What a guest says of itself: its CPUs, its locks, its run queues.

Untrusted, every value of it, and immutable. Each part has its own timestamp, on the monotonic clock
of the `Clock` port, or is absent: `None` means "not reported" and never zero. Counters are cumulative.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """One guest CPU as the guest accounts it (`guest-get-cpustats`), cumulative."""

    index: int
    user_ns: int
    system_ns: int
    idle_ns: int
    steal_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuAccounting:
    """User, system and idle time of every *online* guest CPU: also says which are online."""

    taken_at_ns: int
    cpus: tuple[CpuTimes, ...]

    @property
    def online(self) -> frozenset[int]:
        return frozenset([cpu.index for cpu in self.cpus])


@dataclass(frozen=True, slots=True, kw_only=True)
class LockWait:
    """Waiting for queued spinlocks inside the guest, cumulative since the histogram was armed.

    Wall time, preemption included, so it may exceed CPU time. A lower bound with two or fewer
    active vCPUs. Test-and-set locks do not show.
    """

    taken_at_ns: int
    waits: int
    wait_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQueueWait:
    """Time tasks waited on the run queue of one guest CPU (`/proc/schedstat`), cumulative."""

    index: int
    wait_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQueue:
    """Run-queue wait of every online guest CPU."""

    taken_at_ns: int
    cpus: tuple[RunQueueWait, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnableTasks:
    """Runnable tasks at one instant (`/proc/loadavg`, fourth field)."""

    taken_at_ns: int
    runnable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestReading:
    """What the guest says of itself: untrusted, each part with its own timestamp or absent.

    Attributes:
        latency_ns: How long the last answered agent command took.
        agent_cost_ns: CPU time the agent has used so far, as far as it can be told.
    """

    accounting: CpuAccounting | None = None
    locks: LockWait | None = None
    run_queue: RunQueue | None = None
    runnable: RunnableTasks | None = None
    latency_ns: int | None = None
    agent_cost_ns: int | None = None
