"""What a simulated host knows of one domain, and what is under way with it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from vcpud.counters import VcpuCounters, VcpuSample
from vcpud.events import EventKind
from vcpud.model import (
    Change,
    DomainSample,
    Method,
    Mode,
    Reason,
    Refused,
    SetLive,
    SetOnline,
    SetWeight,
    ShareUnit,
    Terms,
    Trouble,
    Uuid,
)
from vcpud.terms import TermsBook, Wishes
from vcpud.units import NS_PER_S
from vcpud_simulator.engine import Timer
from vcpud_simulator.enquiry import Bulletin, Enquiry
from vcpud_simulator.entities import RUNNABLE, RUNNING
from vcpud_simulator.looks import Looks
from vcpud_simulator.platform import (
    CYCLES_PER_NS,
    KERNEL_IPC,
    SPIN_IPC,
    WORK_IPC,
    Signal,
)
from vcpud_simulator.signals import Counted, Feed

if TYPE_CHECKING:
    from vcpud_simulator.world import Resident, World

PATIENCE_NS: Final = 5 * NS_PER_S
"""How long the answer to a change is waited for: vcpud's `agent_timeout`."""
BOOT_GRACE_NS: Final = 10 * NS_PER_S
"""A domain that has just started is left alone so long: vcpud's `boot_grace`."""
UP_FOR_NS: Final = 3600 * NS_PER_S
"""How long domains have been up that are there within the first second."""
WEIGHTS: Final = range(1, 65_536)

_BY_DEVICE: Final = frozenset({Method.HOTPLUG, Method.XENSTORE, Method.GROW_ONLY})


class Tell(Protocol):
    """Lets the loop hear of something, early."""

    def __call__(
        self, kind: EventKind, book: Book, reason: Reason | None = None, detail: str = ""
    ) -> None:
        """It happens now."""


class Book:
    """One domain from its arrival to its departure.

    Attributes:
        uuid: Its key.
        name: For people.
        method: The rung of the actuator ladder.
        terms: What may be done with it.
        in_flight: A change begun and not yet answered.
    """

    def __init__(self, resident: Resident, world: World, tell: Tell) -> None:
        plan, kernel = resident.plan, resident.inhabitant.kernel
        self.name = plan.name
        self.uuid = uuid_of(world.scenario.name, plan.name)
        self.method = plan.method or world.platform.method
        self.terms = Terms()
        self.in_flight: Change | None = None
        self._plan = plan
        self._kernel = kernel
        self._agent = resident.inhabitant.agent
        self._engine = world.engine
        self._tell = tell
        self._actuation = world.scenario.actuation
        self._by_domain = world.lab.host.scheduler.weight_per_domain
        self._sets_weights = world.platform.sets_weights
        self._incarnation = f"{resident.number}:{resident.inhabitant.started_ns}"
        up_ns = UP_FOR_NS if resident.inhabitant.started_ns <= NS_PER_S else 0
        self._booted_at_ns = resident.inhabitant.started_ns - up_ns
        self._signals = world.platform.signals - frozenset(plan.missing)
        self._luck = kernel.host.chance.stream("actuation", plan.name)
        chance = kernel.host.chance.stream("signals", plan.name)
        self._feeds = {
            signal: Feed(world.scenario.signals.of(signal), chance)
            for signal in (Signal.RUN, Signal.RUN_DELAY, Signal.PERF)
        }
        looked = world.platform.estimates_delay and Signal.RUN_DELAY in self._signals
        luck = kernel.host.chance.stream("looks", plan.name)
        self._looks = Looks(resident, world, luck) if looked else None
        self._deadline = Timer(self._overdue)
        self._enquiry = (Bulletin if world.platform.publishes else Enquiry)(
            resident, world, chance
        )
        self._run_tick_ns = world.platform.run_tick_ns

    # ------------------------------------------------------------------ what may be done

    def agree(self, book: TermsBook) -> None:
        """What the operator, and the domain's owner in its metadata, allow."""
        wishes = Wishes(mode=self._plan.mode, min_vcpus=self._plan.min_vcpus)
        self.terms = book.terms(self.uuid, self.name, wishes)
        asked = self.terms.mode is Mode.ENFORCE or self.terms.guest_signals
        self._enquiry.want(asked and self.terms.mode is not Mode.OFF)

    def close(self) -> None:
        """It is gone: nothing more is asked or awaited."""
        self._enquiry.close()
        if self._looks is not None:
            self._looks.close()
        self._deadline.cancel()

    # ------------------------------------------------------------------ what the host sees

    def sample(self, now_ns: int) -> DomainSample:
        """The latest complete readings."""
        taken_at_ns, runs = self._runs(now_ns)
        delays = self._delays(now_ns)
        cycles, instructions = self._perf(now_ns)
        guest = self._enquiry.latest(now_ns)
        knows_online = self.method is Method.AGENT
        vcpus, tick_ns = self._kernel.domain.vcpus, self._run_tick_ns
        return DomainSample(
            uuid=self.uuid,
            name=self.name,
            incarnation=self._incarnation,
            taken_at_ns=taken_at_ns,
            terms=self.terms,
            live_vcpus=len(vcpus) if knows_online else len(self._kernel.online_cpus),
            max_vcpus=len(vcpus),
            pool=POOL,
            weight=self._kernel.domain.weight,
            cap_pcpus=self._kernel.domain.cap_pcpus,
            share_unit=ShareUnit.DOMAIN if self._by_domain else ShareUnit.VCPU,
            weight_adjustable=self._sets_weights and not self._by_domain,
            online=self._enquiry.online if knows_online else None,
            online_taken_at_ns=self._enquiry.online_taken_at_ns if knows_online else None,
            unpluggable=self._unpluggable,
            method=self.method,
            in_flight=self.in_flight,
            booted_for_ns=now_ns - self._booted_at_ns,
            vcpus=VcpuCounters.of(
                VcpuSample(
                    index=vcpu.index,
                    run_ns=None if runs is None else runs[vcpu.index] // tick_ns * tick_ns,
                    run_delay_ns=None if delays is None else delays[vcpu.index][0],
                    run_delay_error_ns=None if delays is None else delays[vcpu.index][1],
                )
                for vcpu in vcpus
            ),
            cycles=cycles,
            instructions=instructions,
            guest=guest,
            troubles=self._troubles(now_ns),
        )

    @property
    def _unpluggable(self) -> frozenset[int]:
        if self.method is not Method.HOTPLUG:
            return frozenset()
        return frozenset(cpu.index for cpu in self._kernel.online_cpus) - {0}

    def _runs(self, now_ns: int) -> tuple[int, list[int] | None]:
        """When the run time of each vCPU was read, and what it was, as far as that has arrived."""
        if Signal.RUN not in self._signals:
            return now_ns, None
        vcpus = self._kernel.domain.vcpus

        def times(counted: Counted) -> list[int]:
            return [counted(v.index, v.in_state_ns(RUNNING, now_ns)) for v in vcpus]

        feed = self._feeds[Signal.RUN]
        feed.take(now_ns, times)
        taken_at_ns, found = feed.latest(now_ns)
        return max(taken_at_ns, 0), found

    def _delays(self, now_ns: int) -> list[tuple[int | None, int | None]] | None:
        """How long each vCPU has waited, and the standard error of that where it is estimated."""
        if Signal.RUN_DELAY not in self._signals:
            return None
        looks, vcpus = self._looks, self._kernel.domain.vcpus

        def times(counted: Counted) -> list[tuple[int | None, int | None]]:
            if looks is None:
                return [(counted(v.index, v.in_state_ns(RUNNABLE, now_ns)), None) for v in vcpus]
            told = enumerate(looks.delays(now_ns))
            return [
                (None if delay is None else counted(index, delay), error)
                for index, (delay, error) in told
            ]

        feed = self._feeds[Signal.RUN_DELAY]
        feed.take(now_ns, times)
        found: list[tuple[int | None, int | None]] | None = feed.latest(now_ns)[1]
        return found

    def _perf(self, now_ns: int) -> tuple[int | None, int | None]:
        """Cycles and instructions of all vCPUs, as the hardware counts them."""
        if Signal.PERF not in self._signals:
            return None, None

        def count(counted: Counted) -> tuple[int, int]:
            cpus = self._kernel.cpus
            for cpu in cpus:
                cpu.advance()
            work_ns = sum(cpu.true_work_ns for cpu in cpus)
            spin_ns = sum(cpu.true_spin_ns for cpu in cpus)
            kernel_ns = sum(cpu.true_overhead_ns for cpu in cpus)
            retired = WORK_IPC * work_ns + SPIN_IPC * spin_ns + KERNEL_IPC * kernel_ns
            cycles_ns = work_ns + spin_ns + kernel_ns
            return (
                counted("cycles", round(CYCLES_PER_NS * cycles_ns)),
                counted("instructions", round(CYCLES_PER_NS * retired)),
            )

        feed = self._feeds[Signal.PERF]
        feed.take(now_ns, count)
        found: tuple[int, int] | None = feed.latest(now_ns)[1]
        return (None, None) if found is None else found

    def _troubles(self, now_ns: int) -> frozenset[Trouble]:
        conditions = {
            Trouble.BOOTING: now_ns - self._booted_at_ns < BOOT_GRACE_NS,
            Trouble.ONE_VCPU: len(self._kernel.cpus) == 1,
            Trouble.NO_ACTUATOR: self.method is Method.NONE,
            Trouble.AGENT_MISSING: not self._enquiry.asked,
            Trouble.LOCK_SIGNAL_MISSING: Signal.LOCKS not in self._enquiry.asked,
            Trouble.SELF_MANAGED: self._enquiry.manages_itself,
        }
        return frozenset(trouble for trouble, present in conditions.items() if present)

    # ------------------------------------------------------------------ changes

    def refusal(self, change: Change) -> Refused | None:
        """Why a change cannot be begun; None when it can."""
        if self.in_flight is not None:
            return Refused(Reason.IN_FLIGHT, "another change is under way")
        everybody = frozenset(range(len(self._kernel.cpus)))
        match change:
            case SetOnline(online=online):
                can, within = self.method is Method.AGENT, 0 in online and online <= everybody
            case SetLive(count=count):
                can, within = self.method in _BY_DEVICE, 1 <= count <= len(everybody)
                if self.method is Method.GROW_ONLY:
                    can = count >= len(self._kernel.online_cpus)
            case SetWeight(weight=weight):
                can, within = True, weight in WEIGHTS
                if not (self._by_domain or self._sets_weights):
                    return Refused(Reason.UNSUPPORTED, "it has no cgroup of its own to weigh")
            case _:
                assert_never(change)
        if not can:
            return Refused(Reason.NO_ACTUATOR, f"not with the actuator {self.method}")
        if not within:
            return Refused(Reason.OUT_OF_BOUNDS, f"the domain has {len(everybody)} vCPUs")
        return None

    def begin(self, change: Change) -> None:
        """Start a change; its end is told."""
        self.in_flight = change
        self._enquiry.occupied = True
        actuation = self._actuation
        fails = bool(actuation.failure_ratio) and self._luck.unit() < actuation.failure_ratio
        lost = bool(actuation.lost_answer_ratio)
        lost = lost and self._luck.unit() < actuation.lost_answer_ratio

        def reach() -> None:
            if self.in_flight is not change:
                return
            if fails:
                self._end(Reason.FAILED, "as the scenario has it")
            elif isinstance(change, SetWeight):
                self._kernel.host.adjust(self._kernel.domain, weight=change.weight)
                self._end(None)
            else:
                self._engine.arm(self._deadline, self._engine.now_ns + PATIENCE_NS)
                self._enquiry.when_free(lambda: self._set_online(change, lost=lost))

        self._engine.after(actuation.latency_ns, reach)

    def _set_online(self, change: SetOnline | SetLive, *, lost: bool) -> None:
        online = change.online if isinstance(change, SetOnline) else frozenset(range(change.count))

        def done(_: bool) -> None:
            if self.in_flight is not change or lost:
                return
            in_use = frozenset(cpu.index for cpu in self._kernel.online_cpus)
            self._enquiry.learn(in_use, self._engine.now_ns)
            self._end(None)

        self._agent.request(online, done)

    def _overdue(self) -> None:
        """No answer: the guest may still do it, and what it is will be read back."""
        self._end(Reason.TIMEOUT, "the guest has not answered in time")

    def _end(self, reason: Reason | None, detail: str = "") -> None:
        self.in_flight = None
        self._deadline.cancel()
        self._enquiry.occupied = False
        self._enquiry.hurry()
        kind = EventKind.CHANGE_DONE if reason is None else EventKind.CHANGE_FAILED
        self._tell(kind, self, reason, detail)


POOL: Final = "host"


def uuid_of(scenario: str, domain: str) -> Uuid:
    """The same for the same names, in every run."""
    digest = hashlib.blake2b(f"{scenario}/{domain}".encode(), digest_size=16).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"
