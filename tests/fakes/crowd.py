"""A crowd of domains whose counters grow as real ones do, for recordings and endurance runs.

A quarter is idle, half is moderately busy, a quarter wants all it can get; each fourth is
enforced and its guest speaks every five seconds. Same seed, same crowd.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

from vcpud.counters import VcpuCounters, VcpuSample
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
    DomainSample,
    HostSample,
    Method,
    Mode,
    Pool,
    ShareUnit,
    Terms,
)
from vcpud.units import NS_PER_MS, NS_PER_S

BOOT_ID = "11111111-2222-3333-4444-555555555555"
GUEST_EVERY = 5
TICK_NS = 10 * NS_PER_MS


class Member:
    """One domain of the crowd."""

    def __init__(self, number: int, random_: random.Random) -> None:
        self.random = random_
        self.vcpus = random_.choice((1, 2, 2, 2, 4, 4, 4, 8))
        self.load = (0.0, 0.3, 0.3, 1.0)[number % 4]
        self.enforced = number % 4 == 3
        self.terms = Terms(mode=Mode.ENFORCE if self.enforced else Mode.OBSERVE)
        self.uuid = str(uuid.UUID(int=random_.getrandbits(128)))
        self.name = f"crowd-{number:04d}"
        self.run_ns = [0] * self.vcpus
        self.delay_ns = [0] * self.vcpus
        self.poll_ns = [0] * self.vcpus
        self.preempted = [0] * self.vcpus
        self.yields = [0] * self.vcpus
        self.queue_ns = [0] * self.vcpus
        self.times = [[0, 0, 0, 0] for _ in range(self.vcpus)]
        self.waits = self.wait_ns = 0
        self.guest: GuestReading | None = None
        self.seen = VcpuCounters.of(map(self._vcpu, range(self.vcpus)))

    def pass_on(self, cycle: int, now_ns: int) -> DomainSample:
        """One second goes by."""
        chance = self.random.random
        changed = False
        for at in range(self.vcpus):
            busy = self.load * (0.5 + 0.5 * chance()) if chance() < 0.9 else 0.0
            if not busy and chance() < 0.7:
                continue
            changed = True
            run_ns = int(busy * 0.6 * NS_PER_S)
            self.run_ns[at] += run_ns // TICK_NS * TICK_NS
            self.delay_ns[at] += int(busy * 0.4 * NS_PER_S * chance()) + 1000
            self.poll_ns[at] += int(chance() * 1e6)
            self.preempted[at] += int(busy * 200 * chance())
            self.yields[at] += int(busy * 50 * chance())
            self.queue_ns[at] += int(busy * chance() * 0.1 * NS_PER_S)
            user_ns = int(run_ns * 0.7)
            for place, part in enumerate((user_ns, run_ns - user_ns, NS_PER_S - run_ns, 0)):
                self.times[at][place] += part
        if changed:
            self.seen = VcpuCounters.of(map(self._vcpu, range(self.vcpus)))
        if self.enforced and (cycle + self.vcpus) % GUEST_EVERY == 0:
            self.guest = self._speak(now_ns)
        return DomainSample(
            uuid=self.uuid,
            name=self.name,
            incarnation=f"{self.name}@1",
            taken_at_ns=now_ns,
            terms=self.terms,
            live_vcpus=self.vcpus,
            max_vcpus=self.vcpus,
            pool="host",
            share_unit=ShareUnit.DOMAIN,
            online=frozenset(range(self.vcpus)) if self.guest else None,
            online_taken_at_ns=self.guest.accounting.taken_at_ns
            if self.guest and self.guest.accounting
            else None,
            method=Method.AGENT if self.enforced else Method.NONE,
            booted_for_ns=now_ns,
            vcpus=self.seen,
            guest=self.guest,
        )

    def _vcpu(self, at: int) -> VcpuSample:
        return VcpuSample(
            index=at,
            run_ns=self.run_ns[at],
            run_delay_ns=self.delay_ns[at],
            halt_poll_ns=self.poll_ns[at],
            preemptions=self.preempted[at],
            directed_yields=self.yields[at],
        )

    def _speak(self, now_ns: int) -> GuestReading:
        self.waits += int(self.random.random() * 1000)
        self.wait_ns += int(self.random.random() * 50 * NS_PER_MS)
        taken_at_ns = now_ns - 100 * NS_PER_MS
        return GuestReading(
            accounting=CpuAccounting(
                taken_at_ns=taken_at_ns,
                cpus=tuple(
                    CpuTimes(index=at, user_ns=u, system_ns=s, idle_ns=i, steal_ns=steal)
                    for at, (u, s, i, steal) in enumerate(self.times)
                ),
            ),
            locks=LockWait(taken_at_ns=taken_at_ns, waits=self.waits, wait_ns=self.wait_ns),
            run_queue=RunQueue(
                taken_at_ns=taken_at_ns,
                cpus=tuple(
                    RunQueueWait(index=at, wait_ns=wait_ns)
                    for at, wait_ns in enumerate(self.queue_ns)
                ),
            ),
            runnable=RunnableTasks(
                taken_at_ns=taken_at_ns, runnable=self.random.randrange(1, 2 + self.vcpus)
            ),
            latency_ns=int(self.random.random() * 20 * NS_PER_MS),
            agent_cost_ns=now_ns // 1000,
        )


def crowd(domains: int, cycles: int, *, seed: int = 1) -> Iterator[HostSample]:
    """One sample a second of a host with so many domains."""
    random_ = random.Random(seed)  # noqa: S311  no secret
    members = sorted((Member(n, random_) for n in range(domains)), key=lambda one: one.uuid)
    pcpus = max(2, sum(member.vcpus for member in members) // 3)
    busy_ns = 0
    for cycle in range(cycles):
        now_ns = (1000 + cycle) * NS_PER_S
        busy_ns += int(0.9 * pcpus * NS_PER_S)
        yield HostSample(
            taken_at_ns=now_ns,
            boot_id=BOOT_ID,
            pools=(Pool(name="host", pcpus=pcpus),),
            domains=tuple(member.pass_on(cycle, now_ns) for member in members),
            busy_ns=busy_ns,
        )
