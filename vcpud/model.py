"""The vocabulary of the one pass: what is sampled, what is changed, what is remembered.

Every value is immutable. Durations and instants are nanoseconds on the monotonic clock of the
`Clock` port, amounts of processor are pCPUs or vCPUs (fractions allowed). `None` means "not
reported" and never zero. Counters are cumulative; `rates` and `heard` take their differences.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from vcpud.counters import NO_COUNTERS, VcpuCounters
from vcpud.guest import GuestReading

Uuid: TypeAlias = str
"""A domain's UUID as libvirt prints it; the only key that survives a rename."""


class Mode(StrEnum):
    """What vcpud may do with a domain."""

    ENFORCE = "enforce"
    OBSERVE = "observe"
    OFF = "off"


class Method(StrEnum):
    """The rungs of the actuator ladder, best first."""

    AGENT = "guest_agent"
    HOTPLUG = "hotplug"
    XENSTORE = "xenstore"
    GROW_ONLY = "grow_only"
    NONE = "none"


class ShareUnit(StrEnum):
    """What a scheduler's weight counts: decides whether fewer vCPUs mean a smaller share."""

    DOMAIN = "domain"
    SESSION = "session"
    VCPU = "vcpu"
    UNKNOWN = "unknown"


class Trouble(StrEnum):
    """Why a domain, or one of its signals, cannot be relied upon right now."""

    PAUSED = "paused"
    STALE = "stale"
    JOB = "job"
    BOOTING = "booting"
    PINNED = "pinned"
    POOLS_OVERLAP = "pools_overlap"
    REALTIME = "realtime"
    ONE_VCPU = "one_vcpu"
    NO_ACTUATOR = "no_actuator"
    AGENT_MISSING = "agent_missing"
    AGENT_SILENT = "agent_silent"
    AGENT_BLOCKED = "agent_blocked"
    AGENT_ABSURD = "agent_absurd"
    LOCK_SIGNAL_MISSING = "lock_signal_missing"
    LOCK_SIGNAL_DROPPED = "lock_signal_dropped"
    COUNTER_RESET = "counter_reset"
    COUNTER_ABSURD = "counter_absurd"
    METADATA_INVALID = "metadata_invalid"
    HUNG = "hung"
    SLOW_COUNTERS = "slow_counters"
    SELF_MANAGED = "self_managed"


# ---------------------------------------------------------------------------- what is sampled


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the operator allows for one domain.

    Attributes:
        mode: enforce, observe or off.
        min_vcpus: Never fewer active vCPUs than this (at least 1).
        max_vcpus: Never more than this, or None for the domain's own maximum.
        guest_signals: Ask the guest's agent even where nothing may be changed.
        source: Where this came from, for `status` ("default", "config:web-*", "metadata", ...).
    """

    mode: Mode = Mode.OBSERVE
    min_vcpus: int = 1
    max_vcpus: int | None = None
    guest_signals: bool = False
    source: str = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSample:
    """One domain's latest complete readings.

    Attributes:
        uuid: The key.
        name: For people.
        incarnation: Domain id and start time of its process: changes when it is started anew.
        boots: Guest reboots seen inside this incarnation.
        taken_at_ns: When the host-side counters were read.
        terms: What the operator allows.
        pool: Name of the pool of pCPUs it runs in.
        weight: Relative share, in the scheduler's own unit.
        share_unit: What the weight counts.
        weight_adjustable: Setting the weight changes its share, and so makes up for fewer vCPUs.
        quota_pcpus_per_vcpu: KVM's `vcpu_quota / vcpu_period`, None when unlimited.
        cap_pcpus: Ceiling of the domain as a whole (KVM's `global_quota`, Xen's cap), None when unlimited.
        online: Guest CPUs that are online, None when nobody can tell.
        online_taken_at_ns: When `online` was read; None also while a command is, or may still be,
            under way that makes it untrue.
        live_vcpus: vCPUs present in the live domain (libvirt's count).
        max_vcpus: The domain's own maximum.
        unpluggable: vCPU ids that can be unplugged as devices.
        method: The best rung of the actuator ladder that works here.
        job: A migration, save, dump or other job in progress.
        in_flight: A change begun and not yet answered.
        booted_for_ns: Time since the guest started or rebooted, None when unknown.
        vcpus: Host-side counters.
        cycles: Unhalted cycles of all its vCPUs, where libvirt's perf statistics are on.
        instructions: Instructions retired in them: few a cycle are work, next to none are waiting.
        guest: What the guest says.
        troubles: What is missing or wrong, each named once.
        handed_over: What a vcpud on another host, or before a save, still owed it when it came.
        own_note: What a vcpud of this host wrote into the domain's metadata that it owes this run.
    """

    uuid: Uuid
    name: str
    incarnation: str
    taken_at_ns: int
    terms: Terms
    live_vcpus: int
    max_vcpus: int
    boots: int = 0
    pool: str = "host"
    weight: int = 1024
    share_unit: ShareUnit = ShareUnit.UNKNOWN
    weight_adjustable: bool = False
    quota_pcpus_per_vcpu: float | None = None
    cap_pcpus: float | None = None
    online: frozenset[int] | None = None
    online_taken_at_ns: int | None = None
    unpluggable: frozenset[int] = frozenset()
    method: Method = Method.NONE
    job: str | None = None
    in_flight: Change | None = None
    booted_for_ns: int | None = None
    vcpus: VcpuCounters = NO_COUNTERS
    cycles: int | None = None
    instructions: int | None = None
    guest: GuestReading | None = None
    troubles: frozenset[Trouble] = frozenset()
    handed_over: Original | None = None
    own_note: Original | None = None

    @property
    def active(self) -> frozenset[int]:
        """vCPUs the guest may schedule on: those online, or all that are present."""
        return self.online if self.online is not None else frozenset(range(self.live_vcpus))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """pCPUs shared by the domains whose cpusets are the same."""

    name: str
    pcpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSample:
    """The host at one instant; domains in a fixed order (by UUID).

    Attributes:
        taken_at_ns: When the bulk reading was taken (midpoint of the call).
        boot_id: The host's boot, so that a ledger of another boot is never applied.
        hypervisor: Which of the host's hypervisors this is, by the name it has in the ledger; "" where
            there is no other to confuse it with.
        pools: Pools of pCPUs.
        domains: Running and paused domains.
        busy_ns: Busy time of the pools' pCPUs, cumulative, whoever used it.
        connected: False while the hypervisor cannot be asked: the rest is then the last known.
        lost_threads: Calls given up and still blocked in the library.
        notes: What an operator should know of this platform, shown by `status`.
        undescribed: Domains that are there, but of which no more is known yet.
    """

    taken_at_ns: int
    boot_id: str
    pools: tuple[Pool, ...]
    domains: tuple[DomainSample, ...]
    busy_ns: int | None = None
    connected: bool = True
    lost_threads: int = 0
    hypervisor: str = ""
    notes: tuple[str, ...] = ()
    undescribed: frozenset[Uuid] = frozenset()


# ---------------------------------------------------------------------------- what is changed


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOnline:
    """Have exactly these guest CPUs online.

    Attributes:
        original: What the domain is owed, for a note that travels with it; no part of the change.
    """

    uuid: Uuid
    online: frozenset[int]
    original: Original | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLive:
    """Have this many vCPU devices present; `original` as in `SetOnline`."""

    uuid: Uuid
    count: int
    original: Original | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetWeight:
    """Have this scheduler weight."""

    uuid: Uuid
    weight: int


Change: TypeAlias = SetOnline | SetLive | SetWeight


@dataclass(frozen=True, slots=True)
class Accepted:
    """The change is under way; its result shows in later samples."""


class Reason(StrEnum):
    """Why a change was not begun, or did not end well. Bounded: used as a metric label."""

    DRY_RUN = "dry_run"
    GONE = "gone"
    JOB = "job"
    IN_FLIGHT = "in_flight"
    HUNG = "hung"
    NOT_CONNECTED = "not_connected"
    NO_ACTUATOR = "no_actuator"
    OUT_OF_BOUNDS = "out_of_bounds"
    UNSUPPORTED = "unsupported"
    DENIED = "denied"
    AGENT_SILENT = "agent_silent"
    TIMEOUT = "timeout"
    LEDGER = "ledger"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Refused:
    """The change was not begun, and nothing was done."""

    reason: Reason
    detail: str = ""


Effect: TypeAlias = Accepted | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """What a domain had before vcpud first touched it; all that restoring needs.

    `weight` and `live_vcpus` are restored only where vcpud changed them.

    Attributes:
        unplug_from: vCPUs present when an unplug was asked for whose end nobody has seen: the guest
            may still carry it out, silently and at any time. None when there is no such.
        hypervisor: Whose domain it is (`HostSample.hypervisor`), "" where that was not written down:
            that another one has no such domain says nothing of it.
    """

    boot_id: str
    uuid: Uuid
    name: str
    incarnation: str
    online: frozenset[int] | None
    live_vcpus: int
    weight: int | None = None
    unplug_from: int | None = None
    hypervisor: str = ""
    schema: int = 1

    @property
    def home_vcpus(self) -> int:
        """Active vCPUs the domain had."""
        return self.live_vcpus if self.online is None else len(self.online)


UNKNOWN_START = "?"
"""Stands in an incarnation for the start of a process that could not be read."""


def same_run(one: str, other: str) -> bool:
    """Whether two incarnations may name the same run of a domain.

    A process that cannot be read yet, or not by everybody, makes no other run: libvirt's id then
    decides alone. It is given twice within one boot only where libvirtd was restarted after the
    latest of its domains had ended.
    """
    if one == other:
        return True
    (number, _, start), (other_number, _, other_start) = one.partition(":"), other.partition(":")
    return number == other_number and UNKNOWN_START in (start, other_start)
