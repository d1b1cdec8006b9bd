"""Domains that come, are resized, and go, under every scheduler: nothing of them is left behind."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vcpud.model import SetLive, SetOnline
from vcpud_simulator.catalogue import SCHEDULERS
from vcpud_simulator.entities import CO_STOPPED, OFFLINE, RUNNING
from vcpud_simulator.hypervisor import SimulatedClock, SimulatedHypervisor
from vcpud_simulator.platform import PLATFORMS
from vcpud_simulator.scenario import DomainPlan, Scenario
from vcpud_simulator.workloads.ammp import AmmpLike, Wait
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.web import WebServer
from vcpud_simulator.world import World

MS = 1_000_000
WORKLOADS: list[Workload] = [
    GobmkLike(),
    AmmpLike(grain_ns=300_000),
    AmmpLike(grain_ns=300_000, wait=Wait.PASSIVE),
    Descriptors(rounds=10, gap_ns=10_000, hold_ns=1_000),
    WebServer(),
]


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    plans = []
    for number in range(draw(st.integers(1, 3))):
        arrives_ms = draw(st.integers(0, 30))
        stays_ms = draw(st.none() | st.integers(1, 40))
        plans.append(
            DomainPlan(
                name=f"d{number}",
                vcpus=draw(st.integers(1, 4)),
                workload=draw(st.sampled_from(WORKLOADS)),
                arrives_ns=arrives_ms * MS,
                departs_ns=None if stays_ms is None else (arrives_ms + stays_ms) * MS,
            )
        )
    return Scenario(
        name="any",
        domains=tuple(plans),
        pcpus=draw(st.integers(1, 3)),
        scheduler=draw(st.sampled_from(sorted(SCHEDULERS))),
        platform=draw(st.sampled_from(sorted(PLATFORMS))),
        seed=draw(st.integers(0, 99)),
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenario=scenarios(), sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_time_adds_up_and_who_has_left_uses_nothing(scenario: Scenario, sizes: list[int]) -> None:
    world = World(scenario)
    hypervisor = SimulatedHypervisor(world)
    clock = SimulatedClock(hypervisor)
    host = world.lab.host
    begun: dict[int, int] = {}
    for step in range(1, 17):
        while clock.now_ns() < step * 5 * MS:
            clock.wait_until(step * 5 * MS)
        now_ns = clock.now_ns()
        sample = hypervisor.sample()
        assert {domain.name for domain in sample.domains} == set(world.residents)
        for domain in sample.domains:
            count = min(sizes[step % len(sizes)], domain.max_vcpus)
            online = frozenset(range(count))
            hypervisor.begin(SetOnline(uuid=domain.uuid, online=online))
            hypervisor.begin(SetLive(uuid=domain.uuid, count=count))
        for vcpu in host.vcpus:
            spent_ns = sum(vcpu.in_state_ns(state, now_ns) for state in range(5))
            began_ns = begun.setdefault(vcpu.number, now_ns - spent_ns)
            assert spent_ns == now_ns - began_ns
        busy_ns = sum(pcpu.busy_until_ns(now_ns) for pcpu in host.pcpus)
        assert busy_ns == sum(vcpu.in_state_ns(RUNNING, now_ns) for vcpu in host.vcpus)
        for resident in world.departed.values():
            vcpus = resident.inhabitant.kernel.domain.vcpus
            assert {vcpu.state for vcpu in vcpus} == {OFFLINE}
            assert not [pcpu for pcpu in host.pcpus if pcpu.current in vcpus]


def test_who_leaves_while_stopped_for_a_sibling_is_gone_at_once() -> None:
    """Nobody is behind whom it would be waited for: one pCPU, three vCPUs, of which two wait."""
    work = GobmkLike()
    plans = (
        DomainPlan(name="d0", vcpus=1, workload=work, arrives_ns=16 * MS),
        DomainPlan(name="d1", vcpus=3, workload=work, departs_ns=24 * MS),
        DomainPlan(name="d2", vcpus=1, workload=work, arrives_ns=2 * MS),
    )
    world = World(Scenario(name="any", domains=plans, pcpus=1, scheduler="esx_strict", seed=0))
    world.lab.engine.run_until(24 * MS - 1)
    there = world.residents["d1"].inhabitant.kernel.domain.vcpus
    assert CO_STOPPED in {vcpu.state for vcpu in there}
    world.lab.engine.run_until(24 * MS)
    assert {vcpu.state for vcpu in there} == {OFFLINE}
    before_ns = [vcpu.in_state_ns(RUNNING, 24 * MS) for vcpu in there]
    world.lab.engine.run_until(500 * MS)
    assert [vcpu.in_state_ns(RUNNING, 500 * MS) for vcpu in there] == before_ns
