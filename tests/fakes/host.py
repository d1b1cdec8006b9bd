"""A small host that behaves the same every time: domains, counters, settable failures.

Problem: the loop, the daemon's rim and the commands need a hypervisor that can be told exactly
what to do. Approach: pCPUs are shared evenly by all active vCPUs; counters are integrated when
simulated time moves. A lock-bound domain makes progress only while every active vCPU in its pool
has a pCPU of its own; otherwise it spins. Changes take `latency_ns`. No threads, no randomness.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fakes.ports import SimulatedClock
from vcpud.backend import BackendOptions
from vcpud.counters import VcpuCounters, VcpuSample
from vcpud.events import EventKind, HostEvent
from vcpud.guest import (
    CpuAccounting,
    CpuTimes,
    GuestReading,
    LockWait,
    RunnableTasks,
    RunQueue,
    RunQueueWait,
)
from vcpud.model import (
    Accepted,
    Change,
    DomainSample,
    Effect,
    HostSample,
    Method,
    Mode,
    Original,
    Pool,
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
from vcpud.ports import RESTORE_NS
from vcpud.terms import TermsBook
from vcpud.units import NS_PER_MS, NS_PER_S

BOOT_ID = "11111111-2222-3333-4444-555555555555"


@dataclass(kw_only=True)
class FakeDomain:
    """One domain and what is wrong with it today.

    Attributes:
        lock_bound: Synchronises through a kernel lock; otherwise its vCPUs are independent.
        demand_vcpus: How many vCPUs' worth of work it has.
        refuse: Answer every change so.
        fail: Accept every change, then fail it with this reason.
        fail_unplugs_only: Fail only those that take a device away.
        fail_gifts_only: Fail only those that give vCPUs: what it once lost it does not take back.
        late_ns: An unplug that fails is carried out so much later all the same, once.
        hung: Accept changes and never finish them; guest readings stop.
        agent: Whether the guest's agent answers.
        present: vCPUs present as devices, where not all are although the agent changes them.
        tells_online: The agent tells which CPUs are online although it cannot change them.
        untold: The agent has not told which are online yet, although it can change them.
    """

    name: str
    vcpus: int
    uuid: Uuid = ""
    lock_bound: bool = False
    demand_vcpus: int | None = None
    terms: Terms | None = None
    method: Method = Method.AGENT
    pool: str = "host"
    weight: int = 1024
    share_unit: ShareUnit = ShareUnit.DOMAIN
    weight_adjustable: bool = False
    incarnation: str = "1@0"
    boots: int = 0
    online: frozenset[int] = frozenset()
    job: str | None = None
    latency_ns: int = 200 * NS_PER_MS
    refuse: Reason | None = None
    fail: Reason | None = None
    fail_unplugs_only: bool = False
    fail_gifts_only: bool = False
    late_ns: int | None = None
    hung: bool = False
    agent: bool = True
    present: int | None = None
    tells_online: bool = False
    untold: bool = False
    troubles: frozenset[Trouble] = frozenset()
    in_flight: Change | None = None
    run_ns: dict[int, float] = field(default_factory=dict)
    delay_ns: dict[int, float] = field(default_factory=dict)
    user_ns: dict[int, float] = field(default_factory=dict)
    system_ns: dict[int, float] = field(default_factory=dict)
    idle_ns: dict[int, float] = field(default_factory=dict)
    queue_ns: dict[int, float] = field(default_factory=dict)
    wait_ns: float = 0.0
    waits: float = 0.0
    work: float = 0.0
    booted_at_ns: int = 0
    handed_over: Original | None = None
    own_note: Original | None = None

    def __post_init__(self) -> None:
        self.uuid = self.uuid or f"00000000-0000-0000-0000-{abs(hash_of(self.name)):012d}"
        self.online = self.online or frozenset(range(self.vcpus))
        for counter in (self.run_ns, self.delay_ns, self.user_ns, self.system_ns):
            counter.update(dict.fromkeys(range(self.vcpus), 0.0))
        self.idle_ns.update(dict.fromkeys(range(self.vcpus), 0.0))
        self.queue_ns.update(dict.fromkeys(range(self.vcpus), 0.0))


def hash_of(name: str) -> int:
    """A number for a name that is the same in every run."""
    return sum((place + 1) * ord(letter) for place, letter in enumerate(name)) % 10**12


class FakeHost:
    """The `Hypervisor` port, and a `Backend` around it."""

    def __init__(
        self,
        *domains: FakeDomain,
        clock: SimulatedClock | None = None,
        pcpus: int = 2,
        guest_period_ns: int = NS_PER_S,
    ) -> None:
        self.simulated = clock or SimulatedClock()
        self.simulated.advance = self._advance
        self.domains: dict[Uuid, FakeDomain] = {domain.uuid: domain for domain in domains}
        self.pcpus = pcpus
        self.guest_period_ns = guest_period_ns
        self.called = ""
        self.connected = True
        self.book = TermsBook()
        self.begun: list[Change] = []
        self.restore_ns = RESTORE_NS
        self.closed = False
        self.writable = True
        self.sample_error: Exception | None = None
        self.late_reading = False
        self._last_seen: dict[Uuid, tuple[frozenset[int], int]] = {}
        self.unmanaged_pcpus = 0.0
        self.tells_busy = True
        self._busy_ns = 0.0
        self._events: list[HostEvent] = []
        self._readings: dict[Uuid, GuestReading] = {}
        for domain in domains:
            domain.booted_at_ns = self.simulated.now_ns() - 3600 * NS_PER_S

    # -- Backend

    @property
    def hypervisor(self) -> FakeHost:
        return self

    @property
    def clock(self) -> SimulatedClock:
        return self.simulated

    def adopt(self, terms: TermsBook) -> None:
        self.book = terms

    def close(self) -> None:
        self.closed = True

    def open(self, options: BackendOptions) -> FakeHost:
        """As a backend's entry point does."""
        self.book = options.terms
        self.writable = options.writable
        return self

    # -- Hypervisor

    def sample(self) -> HostSample:
        if self.sample_error is not None:
            raise self.sample_error
        now_ns = self.simulated.now_ns()
        ordered = sorted(self.domains.values(), key=lambda domain: domain.uuid)
        return HostSample(
            taken_at_ns=now_ns,
            boot_id=BOOT_ID,
            pools=(Pool(name="host", pcpus=self.pcpus),),
            domains=tuple(self._domain(domain, now_ns) for domain in ordered),
            busy_ns=round(self._busy_ns) if self.tells_busy else None,
            connected=self.connected,
            hypervisor=self.called,
        )

    def begin(self, change: Change) -> Effect:
        domain = self.domains.get(change.uuid)
        if not self.connected:
            return Refused(Reason.NOT_CONNECTED)
        if domain is None:
            return Refused(Reason.GONE)
        if domain.refuse is not None:
            return Refused(domain.refuse, "as told")
        if domain.in_flight is not None:
            return Refused(Reason.IN_FLIGHT)
        gives = isinstance(change, SetOnline) and change.online >= domain.online
        if domain.job is not None and not gives:
            return Refused(Reason.JOB, domain.job)
        self.begun.append(change)
        domain.in_flight = change
        if not domain.hung:
            self.simulated.after(domain.latency_ns, lambda: self._finish(change))
        return Accepted()

    def events(self) -> tuple[HostEvent, ...]:
        events, self._events = tuple(self._events), []
        return events

    # -- what tests do to it

    def tell(self, kind: EventKind, domain: FakeDomain | None = None, **more: str) -> None:
        """Let the loop hear of something, and ring the clock as a backend does."""
        self._events.append(
            HostEvent(
                kind=kind,
                at_ns=self.simulated.now_ns(),
                uuid=domain.uuid if domain else None,
                name=domain.name if domain else "",
                detail=more.get("detail", ""),
            )
        )
        self.simulated.wake()

    def destroy(self, domain: FakeDomain) -> None:
        """The domain ends between two cycles."""
        self.domains.pop(domain.uuid, None)
        self.tell(EventKind.GONE, domain)

    def reboot(self, domain: FakeDomain) -> None:
        """The guest reboots inside the same process: every CPU comes back online."""
        domain.boots += 1
        domain.online = frozenset(range(domain.vcpus))
        domain.booted_at_ns = self.simulated.now_ns()
        for counter in (domain.user_ns, domain.system_ns, domain.idle_ns, domain.queue_ns):
            counter.update(dict.fromkeys(counter, 0.0))
        domain.wait_ns = domain.waits = 0.0
        self.tell(EventKind.REBOOTED, domain)

    def recover(self, domain: FakeDomain) -> None:
        """A hung domain answers again; what it was asked before fails."""
        domain.hung = False
        if domain.in_flight is not None:
            domain.in_flight = None
            self.tell(EventKind.CHANGE_FAILED, domain)

    # -- mechanism

    def _finish(self, change: Change) -> None:
        domain = self.domains.get(change.uuid)
        if domain is None or domain.in_flight is not change or domain.hung:
            return
        domain.in_flight = None
        failed = domain.fail
        unplugs = isinstance(change, SetLive) and change.count < _live(domain)
        spared = (domain.fail_unplugs_only and not unplugs) or (
            domain.fail_gifts_only and not _gives(domain, change)
        )
        if failed is None or spared:
            failed = None
            _carry_out(domain, change)
        elif unplugs and domain.late_ns is not None:
            late_ns, domain.late_ns = domain.late_ns, None
            self.simulated.after(late_ns, lambda: _carry_out(domain, change))
        # The agent is asked again at once, so that the next sample knows.
        self._readings.pop(domain.uuid, None)
        kind = EventKind.CHANGE_DONE if failed is None else EventKind.CHANGE_FAILED
        event = HostEvent(
            kind=kind,
            at_ns=self.simulated.now_ns(),
            uuid=domain.uuid,
            name=domain.name,
            reason=failed,
        )
        self._events.append(event)
        self.simulated.wake()

    def _advance(self, before_ns: int, after_ns: int) -> None:
        span = after_ns - before_ns
        self._busy_ns += span * self.unmanaged_pcpus
        wanted = {
            uuid: min(len(domain.online), domain.demand_vcpus or len(domain.online))
            for uuid, domain in self.domains.items()
            if not domain.hung
        }
        active = sum(wanted.values())
        rate = min(1.0, self.pcpus / active) if active else 0.0
        fits = active <= self.pcpus
        for uuid, count in wanted.items():
            domain = self.domains[uuid]
            ordered = sorted(domain.online)
            for place, index in enumerate(ordered):
                if place >= count:
                    domain.idle_ns[index] += span
                    continue
                domain.run_ns[index] += span * rate
                domain.delay_ns[index] += span * (1 - rate)
                collapsed = domain.lock_bound and not fits and len(ordered) > 1
                user = 0.02 if collapsed else (0.5 if domain.lock_bound else 0.98)
                domain.user_ns[index] += span * rate * user
                domain.system_ns[index] += span * rate * (1 - user)
                domain.work += span * rate * user
                if domain.lock_bound:
                    domain.wait_ns += span * (0.9 if collapsed else 0.05)
                    domain.waits += span / (50 * NS_PER_MS if collapsed else NS_PER_MS)
            self._busy_ns += span * rate * count

    def _domain(self, domain: FakeDomain, now_ns: int) -> DomainSample:
        terms = domain.terms or self.book.terms(domain.uuid, domain.name, None)
        asked = terms.mode is Mode.ENFORCE or terms.guest_signals
        return DomainSample(
            uuid=domain.uuid,
            name=domain.name,
            incarnation=domain.incarnation,
            boots=domain.boots,
            taken_at_ns=now_ns,
            terms=terms,
            pool=domain.pool,
            weight=domain.weight,
            share_unit=domain.share_unit,
            weight_adjustable=domain.weight_adjustable,
            online=(
                self._seen(domain, now_ns)[0]
                if not domain.untold and (domain.method is Method.AGENT or domain.tells_online)
                else None
            ),
            online_taken_at_ns=self._seen(domain, now_ns)[1],
            live_vcpus=_live(domain),
            max_vcpus=domain.vcpus,
            unpluggable=domain.online - {0} if domain.method is Method.HOTPLUG else frozenset(),
            method=domain.method,
            job=domain.job,
            in_flight=domain.in_flight,
            handed_over=domain.handed_over,
            own_note=domain.own_note,
            booted_for_ns=now_ns - domain.booted_at_ns,
            vcpus=VcpuCounters.of(
                VcpuSample(
                    index=index,
                    run_ns=round(domain.run_ns[index]),
                    run_delay_ns=round(domain.delay_ns[index]),
                )
                for index in range(domain.vcpus)
            ),
            guest=self._reading(domain, now_ns) if asked else None,
            troubles=domain.troubles | ({Trouble.HUNG} if domain.hung else set()),
        )

    def _seen(self, domain: FakeDomain, now_ns: int) -> tuple[frozenset[int], int]:
        """What is known of the guest's CPUs: while a change is in flight, what was read before."""
        if not self.late_reading or domain.in_flight is None:
            self._last_seen[domain.uuid] = (domain.online, now_ns)
        return self._last_seen.setdefault(domain.uuid, (domain.online, now_ns))

    def _reading(self, domain: FakeDomain, now_ns: int) -> GuestReading | None:
        last = self._readings.get(domain.uuid)
        fresh = (
            last is not None
            and last.accounting is not None
            and now_ns - last.accounting.taken_at_ns < self.guest_period_ns
        )
        if fresh or domain.hung or not domain.agent:
            return last
        online = sorted(domain.online)
        reading = GuestReading(
            accounting=CpuAccounting(
                taken_at_ns=now_ns,
                cpus=tuple(
                    CpuTimes(
                        index=index,
                        user_ns=round(domain.user_ns[index]),
                        system_ns=round(domain.system_ns[index]),
                        idle_ns=round(domain.idle_ns[index]),
                        steal_ns=None,
                    )
                    for index in online
                ),
            ),
            locks=LockWait(
                taken_at_ns=now_ns, waits=round(domain.waits), wait_ns=round(domain.wait_ns)
            ),
            run_queue=RunQueue(
                taken_at_ns=now_ns,
                cpus=tuple(
                    RunQueueWait(index=index, wait_ns=round(domain.queue_ns[index]))
                    for index in online
                ),
            ),
            runnable=RunnableTasks(taken_at_ns=now_ns, runnable=len(online)),
            latency_ns=5 * NS_PER_MS,
        )
        self._readings[domain.uuid] = reading
        return reading


def _carry_out(domain: FakeDomain, change: Change) -> None:
    match change:
        case SetOnline():
            domain.online = change.online & frozenset(range(domain.vcpus))
        case SetLive():
            domain.online = frozenset(range(change.count))
            domain.present = None if domain.present is None else change.count
        case SetWeight():
            domain.weight = change.weight


def _gives(domain: FakeDomain, change: Change) -> bool:
    match change:
        case SetOnline(online=online):
            return online > domain.online
        case SetLive(count=count):
            return count > _live(domain)
        case SetWeight():
            return False


def _live(domain: FakeDomain) -> int:
    if domain.present is not None:
        return domain.present
    return domain.vcpus if domain.method is Method.AGENT else len(domain.online)
