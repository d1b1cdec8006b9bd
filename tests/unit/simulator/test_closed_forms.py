"""What queueing theory says must come out, within 3 %."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import factorial
from statistics import fmean
from typing import TYPE_CHECKING

import pytest

from vcpud_simulator.engine import NEVER
from vcpud_simulator.entities import RUNNING
from vcpud_simulator.experiment import Laboratory
from vcpud_simulator.host import FREE
from vcpud_simulator.schedulers.cfs import Cfs
from vcpud_simulator.schedulers.credit import Credit
from vcpud_simulator.schedulers.credit_xen32 import CreditXen32
from vcpud_simulator.schedulers.round_robin import RoundRobin
from vcpud_simulator.workloads.gobmk import GobmkLike

if TYPE_CHECKING:
    from unit.simulator.conftest import Burst, BurstMaker, HostMaker
    from vcpud_simulator.entities import Scheduler

SERVICE_NS = 1_000_000


def erlang_c_response(servers: int, load: float) -> float:
    """Mean response time of M/M/c in service times; `load` is offered load per server."""
    offered = load * servers
    queued = offered**servers / factorial(servers) / (1 - load)
    waits = queued / (sum(offered**k / factorial(k) for k in range(servers)) + queued)
    return 1 + waits / (servers * (1 - load))


@pytest.mark.parametrize(("servers", "load"), [(1, 0.6), (4, 0.8)])
def test_first_come_first_served_is_m_m_c(
    make_host: HostMaker, make_burst: BurstMaker, servers: int, load: float
) -> None:
    host = make_host(servers, RoundRobin(slice_ns=NEVER))
    engine = host.engine
    domain = host.add_domain("customers", vcpus=150)
    arrivals, services = host.chance.stream("arrivals"), host.chance.stream("services")
    free: list[Burst] = []
    came_ns: dict[Burst, int] = {}
    responses: list[int] = []

    def customer(index: int) -> Burst:
        def gone() -> None:
            responses.append(engine.now_ns - came_ns.pop(burst))
            free.append(burst)

        burst = make_burst(
            host, domain.vcpus[index], lambda: services.exponential_ns(SERVICE_NS) + 1, gone
        )
        return burst

    free.extend(customer(index) for index in range(150))

    def arrive() -> None:
        engine.after(arrivals.exponential_ns(round(SERVICE_NS / load / servers)), arrive)
        burst = free.pop()
        came_ns[burst] = engine.now_ns
        burst.submit()

    engine.at(0, arrive)
    engine.run_until(round(120_000 * SERVICE_NS / load / servers))
    measured = fmean(responses[1_000:]) / SERVICE_NS
    assert measured == pytest.approx(erlang_c_response(servers, load), rel=0.03)
    busy_ns = sum(pcpu.busy_until_ns(engine.now_ns) for pcpu in host.pcpus)
    assert busy_ns / servers / engine.now_ns == pytest.approx(load, rel=0.03)


@pytest.mark.parametrize("make", [Cfs, partial(Cfs, groups=False), Credit, CreditXen32])
@pytest.mark.parametrize("vcpus", [(1, 1), (4, 4)])
def test_shares_of_always_runnable_vcpus_follow_weights(
    make: Callable[[], Scheduler], vcpus: tuple[int, int]
) -> None:
    pcpus = vcpus[0]
    lab = Laboratory(pcpus=pcpus, scheduler=make(), costs=FREE)
    for name, count, weight in (("light", vcpus[0], 512), ("heavy", vcpus[1], 1024)):
        lab.add(name, GobmkLike(), vcpus=count, weight=weight)
    lab.run_for(500_000_000)
    found = lab.measure(6_000_000_000)
    assert found["heavy"].run_pcpus / pcpus == pytest.approx(2 / 3, rel=0.03)
    assert found["light"].run_pcpus / pcpus == pytest.approx(1 / 3, rel=0.03)


def test_a_host_that_is_not_overcommitted_delays_nobody() -> None:
    lab = Laboratory(pcpus=4, scheduler=Cfs())
    lab.add("alone", GobmkLike(), vcpus=4)
    lab.run_for(1_000_000_000)
    vcpus = lab.host.vcpus
    assert all(v.in_state_ns(RUNNING, lab.engine.now_ns) > 0.99e9 for v in vcpus)
