"""Guests of a few lines for tests of hypervisor schedulers, and a tiny host to put them on."""

from __future__ import annotations

from vcpud_simulator.engine import Engine, Timer
from vcpud_simulator.entities import (
    BLOCKED,
    CO_STOPPED,
    RUNNABLE,
    RUNNING,
    Domain,
    Pcpu,
    Scheduler,
    Vcpu,
)
from vcpud_simulator.host import FREE, Host, HostCosts
from vcpud_simulator.rng import Chance
from vcpud_simulator.trace import Recording

MS = 1_000_000


class Hog:
    """Always has something to do."""

    def resume(self, begin_ns: int) -> None:
        pass

    def suspend(self, now_ns: int) -> None:
        pass


class Periodic:
    """Works for a while, blocks for a while, and so on.

    Attributes:
        delays_ns: From each wake-up to the dispatch that followed.
    """

    def __init__(self, host: Host, vcpu: Vcpu, *, work_ns: int, sleep_ns: int) -> None:
        self._host = host
        self._vcpu = vcpu
        self._work_ns = work_ns
        self._sleep_ns = sleep_ns
        self._left_ns = work_ns
        self._begun_ns = 0
        self._woken_ns: int | None = None
        self._timer = Timer(self._done)
        self._alarm = Timer(self.wake)
        self.delays_ns: list[int] = []

    def wake(self) -> None:
        self._woken_ns = self._host.engine.now_ns
        self._host.wake(self._vcpu)

    def resume(self, begin_ns: int) -> None:
        if self._woken_ns is not None:
            self.delays_ns.append(self._host.engine.now_ns - self._woken_ns)
            self._woken_ns = None
        self._begun_ns = begin_ns
        self._host.engine.arm(self._timer, begin_ns + self._left_ns)

    def suspend(self, now_ns: int) -> None:
        self._left_ns -= max(0, now_ns - self._begun_ns)
        self._timer.cancel()

    def _done(self) -> None:
        self._left_ns = self._work_ns
        engine = self._host.engine
        engine.arm(self._alarm, engine.now_ns + self._sleep_ns)
        self._host.block(self._vcpu)


class TickDodger:
    """Is asleep whenever its pCPU ticks, and works at all other times (claim L12).

    It begins honestly, as a guest that boots: none escapes every tick from the first on.
    """

    def __init__(
        self, host: Host, vcpu: Vcpu, *, period_ns: int, asleep_ns: int, honest_ns: int
    ) -> None:
        self._host = host
        self._vcpu = vcpu
        self._period_ns = period_ns
        self._asleep_ns = asleep_ns
        self._honest_ns = honest_ns
        self._bedtime = Timer(self._sleep)
        self._alarm = Timer(self.wake)

    def wake(self) -> None:
        self._host.wake(self._vcpu)

    def resume(self, begin_ns: int) -> None:
        phase_ns = self._vcpu.pcpu.phase_ns
        to_tick_ns = self._period_ns - (begin_ns - phase_ns) % self._period_ns
        bedtime_ns = begin_ns + max(0, to_tick_ns - self._asleep_ns // 2)
        if bedtime_ns < self._honest_ns:
            bedtime_ns += -(-(self._honest_ns - bedtime_ns) // self._period_ns) * self._period_ns
        self._host.engine.arm(self._bedtime, bedtime_ns)

    def suspend(self, now_ns: int) -> None:  # noqa: ARG002
        self._bedtime.cancel()

    def _sleep(self) -> None:
        engine = self._host.engine
        engine.arm(self._alarm, engine.now_ns + self._asleep_ns)
        self._host.block(self._vcpu)


class Yielder:
    """Always has something to do, and yields again and again."""

    def __init__(self, host: Host, vcpu: Vcpu, *, every_ns: int) -> None:
        self._host = host
        self._vcpu = vcpu
        self._every_ns = every_ns
        self._timer = Timer(self._yield)

    def resume(self, begin_ns: int) -> None:
        self._host.engine.arm(self._timer, begin_ns + self._every_ns)

    def suspend(self, now_ns: int) -> None:  # noqa: ARG002
        self._timer.cancel()

    def _yield(self) -> None:
        engine = self._host.engine
        engine.arm(self._timer, engine.now_ns + self._every_ns)
        self._host.yield_(self._vcpu)


def tiny_host(
    scheduler: Scheduler,
    pcpus: int,
    *,
    seed: int = 1,
    costs: HostCosts = FREE,
    trace: Recording | None = None,
) -> Host:
    return Host(
        engine=Engine(),
        pcpus=pcpus,
        scheduler=scheduler,
        chance=Chance(seed),
        costs=costs,
        trace=trace,
    )


def hogs(  # noqa: PLR0913 - what a domain can differ in
    host: Host,
    name: str,
    *,
    vcpus: int = 1,
    weight: int = 256,
    cap_pcpus: float | None = None,
    pcpu: Pcpu | None = None,
) -> Domain:
    """A domain of always runnable vCPUs, woken; on a given pCPU if so wished."""
    domain = host.add_domain(name, vcpus=vcpus, weight=weight, cap_pcpus=cap_pcpus)
    for vcpu in domain.vcpus:
        vcpu.guest = Hog()
        if pcpu is not None:
            vcpu.pcpu = pcpu
        host.wake(vcpu)
    return domain


def dodger(
    host: Host, name: str = "rogue", *, period_ns: int = 10 * MS, honest_ns: int = 100 * MS
) -> Domain:
    """A domain of one vCPU that sleeps half a millisecond over each tick."""
    domain = host.add_domain(name, vcpus=1)
    (vcpu,) = domain.vcpus
    guest = TickDodger(host, vcpu, period_ns=period_ns, asleep_ns=MS // 2, honest_ns=honest_ns)
    vcpu.guest = guest
    guest.wake()
    return domain


def periodic(
    host: Host, name: str, *, work_ns: int, sleep_ns: int, weight: int = 256
) -> tuple[Domain, Periodic]:
    """A domain of one vCPU that works and blocks in turn."""
    domain = host.add_domain(name, vcpus=1, weight=weight)
    (vcpu,) = domain.vcpus
    guest = Periodic(host, vcpu, work_ns=work_ns, sleep_ns=sleep_ns)
    vcpu.guest = guest
    guest.wake()
    return domain, guest


def run_ms(host: Host, duration_ms: int) -> None:
    host.engine.run_until(host.engine.now_ns + duration_ms * MS)


def ran_ns(host: Host, *domains: Domain) -> int:
    now_ns = host.engine.now_ns
    return sum(v.in_state_ns(RUNNING, now_ns) for d in domains for v in d.vcpus)


def pcpus_used(host: Host, domain: Domain, duration_ms: int) -> float:
    """Mean number of pCPUs the domain has from now on for that long."""
    before_ns = ran_ns(host, domain)
    run_ms(host, duration_ms)
    return (ran_ns(host, domain) - before_ns) / (duration_ms * MS)


def shares(host: Host, duration_ms: int) -> dict[str, float]:
    """Each domain's part of the host from now on for that long."""
    before_ns = {domain.name: ran_ns(host, domain) for domain in host.domains}
    run_ms(host, duration_ms)
    capacity_ns = len(host.pcpus) * duration_ms * MS
    return {d.name: (ran_ns(host, d) - before_ns[d.name]) / capacity_ns for d in host.domains}


def check_conservation(host: Host) -> None:
    """Run states add up, pCPU time is conserved, nobody runs twice, queues are consistent."""
    now_ns = host.engine.now_ns
    for vcpu in host.vcpus:
        assert sum(vcpu.in_state_ns(state, now_ns) for state in range(5)) == now_ns
    for pcpu in host.pcpus:
        assert pcpu.busy_until_ns(now_ns) + pcpu.idle_until_ns(now_ns) == now_ns
    running = [pcpu.current for pcpu in host.pcpus if pcpu.current is not None]
    assert len(running) == len(set(running))
    assert {v.number for v in host.vcpus if v.state == RUNNING} == {v.number for v in running}
    busy_ns = sum(pcpu.busy_until_ns(now_ns) for pcpu in host.pcpus)
    assert busy_ns == ran_ns(host, *host.domains)


class IdleWatch:
    """Looks again and again whether a pCPU idles while a vCPU waits that could run.

    Attributes:
        longest_ns: The longest such time, to the precision of the period.
    """

    def __init__(self, host: Host, *, period_ns: int = MS // 4) -> None:
        self._host = host
        self._period_ns = period_ns
        self._since_ns: int | None = None
        self.longest_ns = 0
        self._timer = host.engine.at(host.engine.now_ns, self._look)

    def _look(self) -> None:
        host = self._host
        now_ns = host.engine.now_ns
        idle = any(pcpu.current is None for pcpu in host.pcpus)
        if idle and any(vcpu.state == RUNNABLE for vcpu in host.vcpus):
            self._since_ns = now_ns if self._since_ns is None else self._since_ns
            self.longest_ns = max(self.longest_ns, now_ns - self._since_ns)
        else:
            self._since_ns = None
        host.engine.arm(self._timer, now_ns + self._period_ns)


__all__ = [
    "BLOCKED", "CO_STOPPED", "MS", "RUNNABLE", "RUNNING", "Hog", "IdleWatch", "Periodic",
    "TickDodger", "Yielder", "check_conservation", "dodger", "hogs", "pcpus_used", "periodic",
    "ran_ns", "run_ms", "shares", "tiny_host",
]  # fmt: skip
