"""What each platform lets vcpud see and do, and how it configures guests, as a table.

A simulated domain shows no more than the platform it stands for would: queued kernel-lock waits
where the guest can be asked, never a spin in user mode or on a test-and-set lock, and processor
times as the guest's own ticks account for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from vcpud.model import Method
from vcpud_simulator.guest.costs import TCG


class Signal(StrEnum):
    """What can be read of a domain."""

    RUN = "run"
    RUN_DELAY = "run_delay"
    PERF = "perf"
    ACCOUNTING = "accounting"
    LOCKS = "locks"
    RUN_QUEUE = "run_queue"
    RUNNABLE = "runnable"
    PREFERRED = "preferred"


GUEST_SIGNALS: Final = (
    Signal.ACCOUNTING,
    Signal.LOCKS,
    Signal.PREFERRED,
    Signal.RUN_QUEUE,
    Signal.RUNNABLE,
)
"""Those that the guest itself must be asked for, the most valuable first."""

TICK_NS: Final = 10_000_000
"""What Linux counts processor time in for programs, whatever its own clock is (`USER_HZ`)."""
CYCLES_PER_NS: Final = 2.5
"""A server's clock; only ratios of counters mean anything."""
WORK_IPC: Final = 1.2
"""Instructions per cycle of compiled code that computes (SPEC CPU: 0.5 to 2)."""
KERNEL_IPC: Final = 0.5
"""Of switches, interrupts and wake-ups: cold caches, serialising instructions."""
SPIN_IPC: Final = 5 / 140
"""Of a loop of five instructions with one PAUSE, which takes 140 cycles since Skylake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A kind of host.

    Attributes:
        signals: What can be read.
        method: The best rung of the actuator ladder.
        directed_yield: Whether a PAUSE exit yields to a sibling (KVM) or to nobody (Xen).
        publishes: Whether guests write what they know by themselves, for whoever reads it, and answer nobody.
        estimates_delay: Whether run delay is estimated from looks at who is blocked, because nobody counts it.
        run_tick_ns: What run times are counted in: libvirt has those of QEMU's threads from /proc, Xen counts itself.
        sets_weights: Whether a weight can be set where it counts per vCPU, so that fewer vCPUs keep
            their share: Xen's tools do; a QEMU without a cgroup of its own has none to be set.
        guest: Fields of `GuestConfig` that differ there.
        note: What `status` says of it.
    """

    signals: frozenset[Signal]
    method: Method
    directed_yield: bool
    publishes: bool = False
    estimates_delay: bool = False
    run_tick_ns: int = 1
    sets_weights: bool = False
    guest: Mapping[str, Any] = field(default_factory=dict)
    note: str

    @property
    def asks_guests(self) -> bool:
        """Whether anything in the guest answers."""
        return not self.signals.isdisjoint(GUEST_SIGNALS)


_HOST: Final = frozenset({Signal.RUN, Signal.RUN_DELAY})
_AGENT: Final = frozenset(GUEST_SIGNALS)
_REPORTED: Final = _AGENT - {Signal.PREFERRED}
"""A reporter's line has no room for which CPUs its kernel prefers."""
_TCG: Final = {
    item.name: getattr(TCG, item.name)
    for item in fields(TCG)
    if getattr(TCG, item.name) != item.default
}

PLATFORMS: Final[Mapping[str, Platform]] = {
    "kvm": Platform(
        signals=_HOST | _AGENT,
        method=Method.AGENT,
        directed_yield=True,
        run_tick_ns=TICK_NS,
        note="stands for KVM: lock waits and accounting through the guest agent",
    ),
    "kvm-perf": Platform(
        signals=_HOST | _AGENT | {Signal.PERF},
        method=Method.AGENT,
        directed_yield=True,
        run_tick_ns=TICK_NS,
        note="stands for KVM with libvirt's perf statistics: instructions and cycles as well",
    ),
    "xen": Platform(
        signals=_HOST,
        method=Method.XENSTORE,
        directed_yield=False,
        estimates_delay=True,
        sets_weights=True,
        note="stands for Xen without a guest reporter: host signals only",
    ),
    "xen-reporter": Platform(
        signals=_HOST | _REPORTED,
        method=Method.XENSTORE,
        directed_yield=False,
        publishes=True,
        estimates_delay=True,
        sets_weights=True,
        note="stands for Xen with a guest reporter in xenstore",
    ),
    "tcg": Platform(
        signals=_HOST | _AGENT,
        method=Method.AGENT,
        directed_yield=True,
        run_tick_ns=TICK_NS,
        guest=_TCG,
        note="stands for QEMU's emulation, as in the lab: no steal clock, dear interrupts",
    ),
}
