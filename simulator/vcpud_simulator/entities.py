"""pCPUs, vCPUs and domains, and the two contracts that meet in the host.

Plain `__slots__` classes, because the host touches them a million times a second. Instants and
durations are ns. Run states are closed under time, as in Xen's public/vcpu.h: for each vCPU they
add up to the elapsed time.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from vcpud_simulator.engine import Timer

if TYPE_CHECKING:
    from vcpud_simulator.host import Host


class RunState(IntEnum):
    """What a vCPU is doing, as the host sees it."""

    RUNNING = 0
    RUNNABLE = 1
    BLOCKED = 2
    OFFLINE = 3
    CO_STOPPED = 4


RUNNING: Final = 0
RUNNABLE: Final = 1
BLOCKED: Final = 2
OFFLINE: Final = 3
CO_STOPPED: Final = 4


class VcpuGuest(Protocol):
    """What runs on a vCPU. It may call `Host.block`, `yield_` and `offline` while it runs."""

    def resume(self, begin_ns: int) -> None:
        """The vCPU has a pCPU; its instructions execute from `begin_ns` (now or later) on."""

    def suspend(self, now_ns: int) -> None:
        """The vCPU has lost its pCPU. Not called when the guest itself gave it up."""


class Vcpu:
    """One virtual processor.

    Attributes:
        number: Unique on the host, also in traces.
        index: Within its domain.
        domain: Whose it is.
        guest: What runs on it.
        state: One of the run states.
        since_ns: When it entered that state.
        run_ns: Time it ran before `since_ns`; likewise runnable, blocked, offline and co-stopped.
        pcpu: Where it is queued or runs; where it was last while it is neither.
        ran_on: The pCPU it last ran on.
        due_ns: What it has to pay when it is dispatched, beside switch and migration.
        in_kernel: Whether the guest executes, or first will, in kernel mode (what PAUSE exits see).
        spinning: Whether it left the pCPU in a PAUSE loop (KVM's in_spin_loop).
        preemptions: Times the host took the pCPU away.
        migrations: Times it was dispatched on another pCPU than before.
        pause_exits: PAUSE-loop exits.
        woken_on: The pCPU of the vCPU whose interrupt woke it last; None: woken from outside.
        working_set: What it needs in a pCPU's caches; None where that is not modelled.
        sched: The scheduler's own data.
    """

    __slots__ = (
        "blocked_ns", "co_stopped_ns", "domain", "due_ns", "guest", "in_kernel", "index",
        "migrations", "number", "offline_ns", "pause_exits", "pcpu", "preemptions", "ran_on",
        "run_ns", "runnable_ns", "sched", "since_ns", "spinning", "state", "woken_on", "working_set",
    )  # fmt: skip

    guest: VcpuGuest
    pcpu: Pcpu
    ran_on: Pcpu | None
    woken_on: Pcpu | None
    working_set: WorkingSet | None
    sched: Any

    def __init__(self, number: int, index: int, domain: Domain, pcpu: Pcpu, now_ns: int) -> None:
        self.number = number
        self.index = index
        self.domain = domain
        self.state: int = BLOCKED
        self.since_ns = now_ns
        self.run_ns = self.runnable_ns = self.blocked_ns = self.offline_ns = self.co_stopped_ns = 0
        self.pcpu = pcpu
        self.ran_on = None
        self.due_ns = 0
        self.in_kernel = False
        self.spinning = False
        self.preemptions = 0
        self.migrations = 0
        self.pause_exits = 0
        self.woken_on = None
        self.working_set = None
        self.sched = None

    def __repr__(self) -> str:
        return f"{self.domain.name}.{self.index}"

    def in_state_ns(self, state: int, now_ns: int) -> int:
        """Time spent in a state until now."""
        spent_ns = (
            self.run_ns, self.runnable_ns, self.blocked_ns, self.offline_ns, self.co_stopped_ns
        )[state]  # fmt: skip
        return spent_ns + now_ns - self.since_ns if state == self.state else spent_ns

    def enter(self, state: int, now_ns: int) -> None:
        """Go into a state, and credit the time spent in the last one."""
        spent_ns = now_ns - self.since_ns
        before = self.state
        if before == RUNNING:
            self.run_ns += spent_ns
        elif before == RUNNABLE:
            self.runnable_ns += spent_ns
        elif before == BLOCKED:
            self.blocked_ns += spent_ns
        elif before == OFFLINE:
            self.offline_ns += spent_ns
        else:
            self.co_stopped_ns += spent_ns
        self.since_ns = now_ns
        self.state = state


class Pcpu:
    """One physical processor.

    Attributes:
        index: Its number.
        current: What runs on it, or None while it idles.
        last: The vCPU whose context it holds.
        loaded_ns: Time that working sets took to be loaded into its caches.
        since_ns: When it last became busy or idle.
        busy_ns: Busy time before `since_ns`.
        idle_ns: Idle time before `since_ns`.
        dispatches: Context switches to a vCPU.
        quantum: Ends the time given to `current`.
        ticker: The scheduler's periodic tick.
        reschedule: Has the host decide for it.
        phase_ns: Offset of its ticks.
        pending: Whether `schedule` will be called at this instant.
        sched: The scheduler's own data.
    """

    __slots__ = (
        "busy_ns", "current", "dispatches", "idle_ns", "index", "last", "loaded_ns", "pending",
        "phase_ns", "quantum", "reschedule", "sched", "since_ns", "ticker",
    )  # fmt: skip

    quantum: Timer
    ticker: Timer
    reschedule: Callable[[], None]
    current: Vcpu | None
    last: Vcpu | None
    sched: Any

    def __init__(self, index: int, phase_ns: int) -> None:
        self.index = index
        self.current = None
        self.last = None
        self.since_ns = 0
        self.busy_ns = 0
        self.idle_ns = 0
        self.dispatches = 0
        self.loaded_ns = 0
        self.pending = False
        self.phase_ns = phase_ns
        self.sched = None

    def __repr__(self) -> str:
        return f"pcpu{self.index}"

    def busy_until_ns(self, now_ns: int) -> int:
        """Busy time until now."""
        return self.busy_ns + (now_ns - self.since_ns if self.current is not None else 0)

    def idle_until_ns(self, now_ns: int) -> int:
        """Idle time until now."""
        return self.idle_ns + (now_ns - self.since_ns if self.current is None else 0)


class WorkingSet:
    """What a vCPU needs in the caches of a pCPU, as the time it takes to load.

    Caches are full: whatever is loaded displaces as much of what others had there. So a vCPU finds
    gone what others have loaded since it ran there, which is never more than they ran, nor more than
    they need themselves; on a pCPU that it comes to everything has to be loaded.

    Attributes:
        whole_ns: All of it.
        missing_ns: What its vCPU had yet to load when it came to the pCPU, or got it after others.
    """

    __slots__ = (
        "_holds", "_loads_from_ns", "_pcpu", "_seen_ns", "_vcpu", "missing_ns", "whole_ns",
    )  # fmt: skip

    def __init__(self, vcpu: Vcpu, whole_ns: int) -> None:
        self.whole_ns = whole_ns
        self.missing_ns = 0
        self._vcpu = vcpu
        self._pcpu: Pcpu | None = None
        self._holds = False
        self._loads_from_ns = self._seen_ns = 0

    def load(self, begin_ns: int) -> int:
        """Its vCPU has just been dispatched: what it will have to load, beyond what it still had to.

        Args:
            begin_ns: When its instructions begin to execute.
        """
        vcpu, before = self._vcpu, self._pcpu
        pcpu = vcpu.ran_on
        if before is not None:
            if pcpu is before and self._holds:
                return 0
            self.leave(before)
        gone_ns = self.whole_ns - self.missing_ns
        if pcpu is before and pcpu is not None:
            gone_ns = min(gone_ns, pcpu.loaded_ns - self._seen_ns)
        self.missing_ns += gone_ns
        self._loads_from_ns = vcpu.run_ns + begin_ns - vcpu.since_ns
        self._pcpu = pcpu
        self._holds = True
        return gone_ns

    def leave(self, pcpu: Pcpu) -> None:
        """Another vCPU gets the pCPU where it ran last, or it has gone to another pCPU."""
        if not self._holds or pcpu is not self._pcpu:
            return
        self._holds = False
        loaded_ns = min(self.missing_ns, max(0, self._vcpu.run_ns - self._loads_from_ns))
        self.missing_ns -= loaded_ns
        pcpu.loaded_ns += loaded_ns
        self._seen_ns = pcpu.loaded_ns


class Domain:
    """A guest as the host sees it.

    Attributes:
        name: For people.
        weight: Relative share; the scheduler decides whether it counts per domain or per vCPU.
        cap_pcpus: Hard ceiling of processor time, or None.
        vcpus: All it has, offline ones included.
        sched: The scheduler's own data.
    """

    __slots__ = ("cap_pcpus", "name", "sched", "vcpus", "weight")

    sched: Any

    def __init__(self, name: str, weight: int, cap_pcpus: float | None) -> None:
        self.name = name
        self.weight = weight
        self.cap_pcpus = cap_pcpus
        self.vcpus: list[Vcpu] = []
        self.sched = None

    def __repr__(self) -> str:
        return self.name


Dispatch: TypeAlias = tuple[Vcpu | None, int]
"""A decision: whom to run (None: idle), and the instant at which to decide again at the latest."""


class Scheduler(Protocol):
    """A hypervisor scheduler: decides, and owns no clock. Hooks have Xen's names (private.h).

    Attributes:
        name: As in scenarios.
        tick_ns: Period of `tick` on each pCPU, 0 for none.
        ticks_when_idle: Whether idle pCPUs tick too.
        ticks_together: Whether all pCPUs tick at the same instants.
        accounting_ns: Period of `account`, 0 for none.
        balance_ns: The longest an idle pCPU may overlook a waiting vCPU it could run.
        weight_per_domain: Whether a weight counts per domain rather than per vCPU.
        keeps_caps: Whether domains are kept to their ceilings.
    """

    name: str
    tick_ns: int
    ticks_when_idle: bool
    ticks_together: bool
    accounting_ns: int
    balance_ns: int
    weight_per_domain: bool
    keeps_caps: bool

    def attach(self, host: Host) -> None:
        """Prepare the pCPUs."""

    def insert(self, vcpu: Vcpu, now_ns: int) -> None:
        """A new vCPU, not yet runnable."""

    def wake(self, vcpu: Vcpu, now_ns: int) -> None:
        """It has become runnable and is not current anywhere: queue it, tickle a pCPU."""

    def sleep(self, vcpu: Vcpu, now_ns: int) -> None:
        """A waiting or withheld vCPU is no longer runnable; `schedule` sees that of a current one."""

    def yield_(self, vcpu: Vcpu, now_ns: int) -> None:
        """The current vCPU lets others pass; `schedule` follows at this instant."""

    def yield_to(self, vcpu: Vcpu, target: Vcpu, now_ns: int) -> bool:
        """The same, in favour of a waiting one; False where that cannot be done."""

    def adjust(self, domain: Domain, now_ns: int) -> None:
        """The domain's weight or cap has changed."""

    def schedule(self, pcpu: Pcpu, now_ns: int) -> Dispatch:
        """Choose for a pCPU.

        Its `current` may be None, running, runnable (blocked and woken at this instant) or no
        longer runnable. Whoever runs here and is not chosen must have been queued by the hook;
        whoever is chosen must have left its queue.
        """

    def tick(self, pcpu: Pcpu, now_ns: int) -> None:
        """The periodic tick of one pCPU."""

    def account(self, now_ns: int) -> None:
        """The periodic accounting of the host."""
