"""What each domain uses, waits for and is entitled to: the vocabulary of decisions.

Amounts are pCPUs (processor time per unit of time); instants are `_ns`. A figure that cannot be
told is None, and a domain whose data is wrong is held, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vcpud.model import Method, Mode, Trouble, Uuid


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress proxy J over one window between two guest accountings.

    Attributes:
        began_at_ns: Start of the window.
        ended_at_ns: End of the window.
        rate_pcpus: CPU time the host saw consumed, times the share of its busy time that the
            guest accounts as user and nice, and less the spinning that the guest's accounts do
            not show, per unit of time; times instructions per cycle where the hardware counts
            them, so that a loop of PAUSE does not pass for work.
        active_vcpus: vCPUs online at both ends; None when that changed in between.
        worth_ratio: What of the CPU time consumed counted as progress.
        most_pcpus: What `rate_pcpus` is at most: a guest without a steal clock accounts time that was
            stolen from it to whatever it was at, and waits for its turn mostly in its kernel. None
            where it is the same.
    """

    began_at_ns: int
    ended_at_ns: int
    rate_pcpus: float
    active_vcpus: int | None
    worth_ratio: float | None = None
    most_pcpus: float | None = None

    @property
    def used_pcpus(self) -> float | None:
        """CPU time the host saw consumed; None where none of it was progress."""
        return self.rate_pcpus / self.worth_ratio if self.worth_ratio else None


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainDemand:
    """One domain over the last window.

    Attributes:
        uuid: The key.
        name: For people.
        mode: What may be done.
        pool: Its pool.
        weight: Its relative share.
        active_vcpus: vCPUs the guest may schedule on.
        min_vcpus: Its floor.
        max_vcpus: The most it may come to have: what its terms allow, but no more than the domain's own
            maximum, nor than it came with.
        method: The actuator that works.
        used_pcpus: Run time per unit of time, smoothed; None when not known.
        run_delay_pcpus: Time runnable without a pCPU per unit of time, smoothed.
        last_delay_pcpus: The same between the latest two readings alone, for those with a pace of
            their own: whoever steps every second by what is smoothed over several goes too far.
        last_used_pcpus: Run time in the same way.
        read_at_ns: When the later of these two readings was taken.
        entitled_pcpus: What weights guarantee it now, given what the others want.
        lock_wait_ratio: Time waited for spinlocks per second of an active vCPU; None when not
            reported or not fresh.
        lock_wait_at_ns: When that was read.
        queued_tasks: Average number of tasks waiting on the guest's run queues.
        runnable_tasks: Runnable tasks at the last look.
        system_ratio: Share of the guest's busy time outside user mode.
        steal_ratio: Share of its CPUs' time that the guest calls stolen.
        progress: The latest window of the progress proxy.
        hold: Why nothing may be decided for it now, or None.
        engaged: Why no change of it would be begun now although its data is good: one is under way
            or on trial, it is paused, released, quarantined or backing off. None when it is free.
        home_vcpus: Active vCPUs it came with, before vcpud first touched it; None while it is
            untouched.
        most_pcpus: What its owner lets it use on all its vCPUs; None where only they bound it.
        loose: Its share is that of its vCPUs, and no weight makes up for fewer (`vcpud.shares`).
    """

    uuid: Uuid
    name: str
    mode: Mode
    pool: str
    weight: int
    active_vcpus: int
    min_vcpus: int
    max_vcpus: int
    method: Method
    used_pcpus: float | None = None
    run_delay_pcpus: float | None = None
    last_delay_pcpus: float | None = None
    last_used_pcpus: float | None = None
    read_at_ns: int | None = None
    entitled_pcpus: float | None = None
    lock_wait_ratio: float | None = None
    lock_wait_at_ns: int | None = None
    queued_tasks: float | None = None
    runnable_tasks: float | None = None
    system_ratio: float | None = None
    steal_ratio: float | None = None
    progress: Progress | None = None
    hold: Trouble | None = None
    engaged: str | None = None
    home_vcpus: int | None = None
    most_pcpus: float | None = None
    loose: bool = False

    @property
    def ceiling_pcpus(self) -> float:
        """The most it can use, whatever it wants."""
        return float(self.max_vcpus) if self.most_pcpus is None else self.most_pcpus


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDemand:
    """One pool over the last window.

    Attributes:
        pcpus: Size of the pool.
        available_pcpus: Size minus what unmanaged work uses.
        active_vcpus: Sum over its domains.
        overcommit_ratio: Active vCPUs per available pCPU.
        run_delay_ratio: Run delay per active vCPU and unit of time.
    """

    name: str
    pcpus: int
    available_pcpus: float
    active_vcpus: int
    overcommit_ratio: float
    run_delay_ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDemand:
    """All domains and pools over the last window."""

    window_ns: int
    pools: tuple[PoolDemand, ...]
    domains: tuple[DomainDemand, ...]


def wanted_pcpus(
    used_pcpus: float | None,
    run_delay_pcpus: float | None,
    queued_tasks: float | None,
    most_pcpus: float,
) -> float:
    """What a domain would use unhindered: use, run delay and its guest's own queue.

    Use alone will not do: a domain that was shrunk understates what it wants.
    """
    if used_pcpus is None:
        return most_pcpus
    wanted = used_pcpus + (run_delay_pcpus or 0.0) + (queued_tasks or 0.0)
    return min(wanted, most_pcpus)


Claim: TypeAlias = tuple[Uuid, float, float, float]
"""Who shares a pool: UUID, positive weight, wanted and most pCPUs."""


def water_filled(available_pcpus: float, claims: Sequence[Claim]) -> dict[Uuid, float]:
    """Weighted water-filling: weights are respected, nobody exceeds demand, nothing is wasted.

    What all leave over is open to each of them, so it is added to everybody's share, up to the
    domain's own maximum.

    Args:
        available_pcpus: What there is to share.
        claims: Of each who shares it.

    Returns:
        Entitled pCPUs by UUID.
    """
    share = {}
    left = available_pcpus
    weight = sum([mine for _, mine, _, _ in claims])
    thirsts = [want / mine for _, mine, want, _ in claims]
    for place in sorted(range(len(claims)), key=thirsts.__getitem__):
        uuid, mine, want, _ = claims[place]
        fair = left * mine / weight
        share[uuid] = taken = min(want, fair)
        left = left - taken if taken < left else 0.0
        weight -= mine
    return {
        uuid: most if (open_to := share[uuid] + left) > most else open_to
        for uuid, _, _, most in claims
    }
