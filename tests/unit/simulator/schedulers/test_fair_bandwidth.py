"""Ceilings of domains on Linux: kernel/sched/fair.c, CFS bandwidth control."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.guests import MS, Hog, check_conservation, hogs, pcpus_used, ran_ns, run_ms, tiny_host
from vcpud_simulator.entities import RUNNABLE, RUNNING
from vcpud_simulator.experiment import Laboratory
from vcpud_simulator.host import Host
from vcpud_simulator.schedulers.cfs import Cfs
from vcpud_simulator.schedulers.eevdf import Eevdf
from vcpud_simulator.schedulers.fair_bandwidth import KEPT_NS, PERIOD_NS, SLICE_NS, Bandwidth
from vcpud_simulator.schedulers.fair_queue import Entity, FairQueue, Pool, waiting
from vcpud_simulator.workloads.ammp import AmmpLike, Wait
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.hackbench import HackbenchLike
from vcpud_simulator.workloads.web import WebServer

KINDS = [Cfs, partial(Cfs, siblings_apart=True), partial(Cfs, wake_affine=True), Eevdf]
kinds = pytest.mark.parametrize("make", KINDS)


@kinds
@pytest.mark.parametrize("cap_pcpus", [0.3, 0.5, 1.5, 2.5])
def test_a_hungry_domain_gets_exactly_its_ceiling_on_an_idle_host(
    make: type[Cfs], cap_pcpus: float
) -> None:
    host = tiny_host(make(), 4)
    capped = hogs(host, "capped", vcpus=4, cap_pcpus=cap_pcpus)
    run_ms(host, 1_000)
    assert pcpus_used(host, capped, 4_000) == pytest.approx(cap_pcpus, abs=0.005)
    check_conservation(host)


@kinds
def test_its_neighbour_gets_what_the_ceiling_leaves(make: type[Cfs]) -> None:
    host = tiny_host(make(), 4)
    capped = hogs(host, "capped", vcpus=4, cap_pcpus=1.2)
    free = hogs(host, "free", vcpus=4)
    run_ms(host, 1_000)
    before_ns = ran_ns(host, free)
    assert pcpus_used(host, capped, 4_000) == pytest.approx(1.2, abs=0.005)
    assert (ran_ns(host, free) - before_ns) / (4_000 * MS) == pytest.approx(2.8, abs=0.005)


@kinds
def test_a_ceiling_above_its_share_changes_nothing(make: type[Cfs]) -> None:
    used = []
    for cap_pcpus in (None, 2.5):
        host = tiny_host(make(), 4)
        domain = hogs(host, "capped", vcpus=4, cap_pcpus=cap_pcpus)
        hogs(host, "free", vcpus=4)
        used.append(pcpus_used(host, domain, 4_000))
    assert used[0] == pytest.approx(used[1], abs=0.01)


@kinds
def test_of_each_period_it_runs_at_the_begin_and_then_waits_as_one_that_is_runnable(
    make: type[Cfs],
) -> None:
    host = tiny_host(make(tick_ns=4 * MS), 1)
    capped = hogs(host, "capped", cap_pcpus=0.5)
    [vcpu] = capped.vcpus
    run_ms(host, 1_000)
    for _ in range(5):
        assert pcpus_used(host, capped, 40) == 1.0
        run_ms(host, 20)
        assert pcpus_used(host, capped, 39) == 0.0
        assert vcpu.state == RUNNABLE
        assert host.pcpus[0].current is None
        run_ms(host, 1)


@kinds
def test_what_was_used_beyond_the_quota_since_ticks_are_far_apart_is_owed(make: type[Cfs]) -> None:
    host = tiny_host(make(tick_ns=10 * MS), 1)
    capped = hogs(host, "capped", cap_pcpus=0.23)
    run_ms(host, 1_000)
    used = {round(pcpus_used(host, capped, 100), 2) for _ in range(40)}
    assert len(used) > 1
    assert pcpus_used(host, capped, 10_000) == pytest.approx(0.23, abs=0.002)


def stopped(make: type[Cfs]) -> Host:
    """A host of two pCPUs at an instant in which a domain has used up its period's quota."""
    host = tiny_host(make(), 2)
    capped = host.add_domain("capped", vcpus=2, cap_pcpus=0.2)
    for vcpu in capped.vcpus:
        vcpu.guest = Hog()
    host.wake(capped.vcpus[0])
    run_ms(host, 60)
    assert capped.vcpus[0].sched.queue.throttled
    return host


@kinds
def test_one_that_wakes_where_its_domain_is_throttled_waits_too_and_disturbs_nobody(
    make: type[Cfs],
) -> None:
    host = stopped(make)
    first, second = host.domains[0].vcpus
    second.pcpu = first.pcpu
    host.wake(second)
    run_ms(host, 1)
    assert second.state == RUNNABLE
    assert ran_ns(host, host.domains[0]) <= 25 * MS
    run_ms(host, 45)
    assert second.in_state_ns(RUNNING, host.engine.now_ns) > 0
    assert ran_ns(host, host.domains[0]) > 25 * MS, "the next period pays for both"


@kinds
def test_an_idle_pcpu_takes_nobody_from_a_throttled_queue(make: type[Cfs]) -> None:
    host = stopped(make)
    [waiting, _] = host.domains[0].vcpus
    where = waiting.pcpu
    run_ms(host, 30)
    assert waiting.pcpu is where
    assert all(pcpu.current is None for pcpu in host.pcpus)


@kinds
def test_nobody_is_pulled_to_where_its_domain_is_throttled(make: type[Cfs]) -> None:
    host = tiny_host(make(), 2)
    here, there = host.pcpus
    hogs(host, "free", pcpu=here)
    for number in range(4):
        hogs(host, f"other-{number}", pcpu=there)
    run_ms(host, 1)
    scheduler = host.scheduler
    assert isinstance(scheduler, Cfs | Eevdf)
    later_ns = host.engine.now_ns + 100 * MS
    for vcpu in waiting(there):
        assert scheduler.placement.to_pull(here, later_ns) is not None
        scheduler._home(vcpu.domain, here).throttled = True
    assert scheduler.placement.to_pull(here, later_ns) is None
    assert scheduler.placement.to_balance(here) is None


@kinds
def test_nobody_can_yield_to_one_that_is_throttled(make: type[Cfs]) -> None:
    host = stopped(make)
    target = host.domains[0].vcpus[0]
    free = hogs(host, "free", vcpus=3).vcpus
    run_ms(host, 1)
    runner = next(vcpu for vcpu in free if vcpu.pcpu.current is vcpu)
    assert not host.scheduler.yield_to(runner, target, host.engine.now_ns)


@kinds
def test_a_throttled_vcpu_may_be_taken_offline(make: type[Cfs]) -> None:
    host = stopped(make)
    vcpu = host.domains[0].vcpus[0]
    host.offline(vcpu)
    run_ms(host, 200)
    assert ran_ns(host, host.domains[0]) <= 25 * MS
    host.online(vcpu)
    run_ms(host, 200)
    assert ran_ns(host, host.domains[0]) > 25 * MS
    check_conservation(host)


def test_a_queue_draws_slices_and_gives_back_all_but_a_remainder() -> None:
    pool = Pool(50 * MS)
    queue = FairQueue(Entity(FairQueue(None), 1024, None))
    assert not Bandwidth.exhausted(queue), "without a ceiling there is no end"
    queue.pool = pool
    assert not Bandwidth.exhausted(queue)
    assert (queue.left_ns, pool.left_ns) == (SLICE_NS, 50 * MS - SLICE_NS)
    queue.left_ns = -2 * MS
    assert not Bandwidth.exhausted(queue)
    assert (queue.left_ns, pool.left_ns) == (SLICE_NS, 50 * MS - 2 * SLICE_NS - 2 * MS)
    Bandwidth.give_back(queue)
    assert (queue.left_ns, pool.left_ns) == (KEPT_NS, 50 * MS - SLICE_NS - 2 * MS - KEPT_NS)
    queue.left_ns, pool.left_ns = -7 * MS, 3 * MS
    assert Bandwidth.exhausted(queue)
    assert (queue.left_ns, pool.left_ns) == (-4 * MS, 0)


def test_what_others_give_back_lets_throttled_ones_run_again_if_it_is_worth_a_slice() -> None:
    scheduler = Cfs()
    host = tiny_host(scheduler, 2)
    hogs(host, "free", pcpu=host.pcpus[1])
    capped = hogs(host, "capped", cap_pcpus=0.2, pcpu=host.pcpus[0])
    run_ms(host, 60)
    pool = capped.vcpus[0].sched.queue.pool
    assert capped.vcpus[0].sched.queue.throttled
    pool.left_ns = SLICE_NS
    assert pcpus_used(host, capped, 10) == 0.0
    pool.left_ns = 2 * SLICE_NS
    assert pcpus_used(host, capped, 20) >= 0.4


def test_without_a_group_there_is_nothing_to_cap() -> None:
    assert Cfs(groups=True).keeps_caps
    assert not Cfs(groups=False).keeps_caps
    assert not Cfs(groups=False).accounting_ns


workloads = st.sampled_from(
    [
        AmmpLike(grain_ns=300_000),
        AmmpLike(grain_ns=300_000, wait=Wait.PASSIVE),
        Descriptors(rounds=10, gap_ns=10_000, hold_ns=500),
        HackbenchLike(fan=2, message_ns=20_000),
        WebServer(),
    ]
)


@settings(max_examples=20, deadline=None)
@given(
    make=st.sampled_from(KINDS),
    seed=st.integers(0, 1_000),
    pcpus=st.integers(1, 4),
    guests=st.lists(
        st.tuples(workloads, st.integers(1, 4), st.sampled_from([None, 0.2, 0.7, 1.6])),
        min_size=1,
        max_size=4,
    ),
)
def test_whatever_runs_a_ceiling_is_kept_but_for_what_a_tick_overlooks(
    make: type[Cfs],
    seed: int,
    pcpus: int,
    guests: list[tuple[Workload, int, float | None]],
) -> None:
    lab = Laboratory(pcpus=pcpus, scheduler=make(), seed=seed)
    for number, (workload, vcpus, cap_pcpus) in enumerate(guests):
        lab.add(f"d{number}", workload, vcpus=vcpus, cap_pcpus=cap_pcpus)
    overlooked_ns = pcpus * (lab.host.scheduler.tick_ns + KEPT_NS)
    for periods in range(1, 5):
        lab.run_for(PERIOD_NS)
        for domain in lab.host.domains:
            if domain.cap_pcpus is not None:
                most_ns = (periods + 1) * domain.cap_pcpus * PERIOD_NS + overlooked_ns
                assert ran_ns(lab.host, domain) <= most_ns
        for vcpu in lab.host.vcpus:
            queue = vcpu.sched.queue
            assert queue.throttled <= (queue.holder is not None and not queue.holder.waiting)
    check_conservation(lab.host)
