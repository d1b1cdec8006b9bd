"""One domain's bulk statistics -> counters. Pure, and safe with whatever stands in them.

References: libvirt `virConnectGetAllDomainStats`. `vcpu.N.wait` is never used: libvirt 9.0
reports 0 on current kernels. `vcpu.N.delay` is run delay, from libvirt 7.2 on. Counters of KVM
(`*.sum`) are each optional: absent under TCG, on older QEMU or kernels, and whenever the domain
was busy while it was asked. `perf.*` is there for the events that the domain's `<perf>` switches on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from vcpud.counters import VcpuCounters
from vcpud.model import Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping

COUNTER_LIMIT: Final = 2**63
"""No counter of nanoseconds or events reaches this in the life of a machine."""
VCPU_LIMIT: Final = 4096
"""More vCPUs than any hypervisor offers; a larger id is nonsense."""

_RUNNING_STATES: Final = frozenset({1, 2})  # VIR_DOMAIN_RUNNING, VIR_DOMAIN_BLOCKED
_PAUSED_STATES: Final = frozenset({3, 7})  # VIR_DOMAIN_PAUSED, VIR_DOMAIN_PMSUSPENDED


class RunState(StrEnum):
    """Whether a domain's vCPUs can run."""

    RUNNING = "running"
    PAUSED = "paused"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What one dictionary says.

    Attributes:
        state: Running, paused, or on its way out.
        live_vcpus: vCPUs present, None when not reported.
        max_vcpus: The domain's maximum, None when not reported.
        vcpus: Counters of the vCPUs; ids may be sparse.
        cycles: Of all of them, where the domain's perf events are on.
        instructions: The same.
        troubles: COUNTER_ABSURD where a value was unusable.
    """

    state: RunState
    live_vcpus: int | None
    max_vcpus: int | None
    vcpus: VcpuCounters
    cycles: int | None
    instructions: int | None
    troubles: frozenset[Trouble]


class _Reader:
    """Reads numbers and remembers whether one was absurd."""

    __slots__ = ("absurd", "raw")

    def __init__(self, raw: Mapping[Any, Any]) -> None:
        self.raw = raw
        self.absurd = False

    def number(self, key: str, limit: int = COUNTER_LIMIT) -> int | None:
        value = self.raw.get(key)
        if value is None:
            return None
        if type(value) is int and 0 <= value < limit:
            return value
        self.absurd = True
        return None

    def total(self, *keys: str) -> int | None:
        """Sum of those that are there, None when none is."""
        found = [value for key in keys if (value := self.number(key)) is not None]
        return sum(found) if found else None


def parse_counters(raw: Mapping[Any, Any]) -> Counters:
    """Read one dictionary; never raises.

    Args:
        raw: As libvirt gave it, or anything else.
    """
    reader = _Reader(raw)
    state = reader.number("state.state")
    vcpus = _vcpus(reader)
    return Counters(
        state=_run_state(state),
        live_vcpus=reader.number("vcpu.current", VCPU_LIMIT + 1),
        max_vcpus=reader.number("vcpu.maximum", VCPU_LIMIT + 1),
        vcpus=vcpus,
        cycles=reader.number("perf.cpu_cycles"),
        instructions=reader.number("perf.instructions"),
        troubles=frozenset({Trouble.COUNTER_ABSURD}) if reader.absurd else frozenset(),
    )


def _run_state(state: int | None) -> RunState:
    if state in _RUNNING_STATES:
        return RunState.RUNNING
    return RunState.PAUSED if state in _PAUSED_STATES else RunState.OTHER


def _indices(reader: _Reader) -> list[int]:
    """Ids of vCPUs for which anything is reported."""
    found: set[int] = set()
    for key in reader.raw:
        if not isinstance(key, str) or not key.startswith("vcpu."):
            continue
        index, dot, _ = key[5:].partition(".")
        if not dot:
            continue
        plain = index.isascii() and index.isdigit() and len(index) <= len(str(VCPU_LIMIT))
        if plain and int(index) < VCPU_LIMIT:
            found.add(int(index))
        else:
            reader.absurd = True
    return sorted(found)


def _vcpus(reader: _Reader) -> VcpuCounters:
    indices = _indices(reader)
    rows = [_row(reader, f"vcpu.{index}.") for index in indices]
    return VcpuCounters.of_columns(tuple(indices), list(zip(*rows, strict=True)))


def _row(reader: _Reader, prefix: str) -> tuple[int | None, ...]:
    """One vCPU's counters, in the order of `COUNTERS`."""
    return (
        reader.number(prefix + "time"),
        reader.number(prefix + "delay"),
        reader.total(prefix + "halt_poll_success_ns.sum", prefix + "halt_poll_fail_ns.sum"),
        reader.total(prefix + "preemption_reported.sum", prefix + "preemption_other.sum"),
        reader.number(prefix + "directed_yield_attempted.sum"),
    )
