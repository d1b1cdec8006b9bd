"""Conformance of credit2 with xen/common/sched/credit2.c."""

from __future__ import annotations

import pytest

from fakes.guests import (
    MS,
    IdleWatch,
    Yielder,
    check_conservation,
    dodger,
    hogs,
    pcpus_used,
    periodic,
    run_ms,
    shares,
    tiny_host,
)
from vcpud_simulator.entities import RUNNABLE, RUNNING
from vcpud_simulator.host import Host
from vcpud_simulator.schedulers.credit2 import Credit2
from vcpud_simulator.schedulers.credit2_queues import LOAD_ONE, LOAD_WINDOW_NS, Load


def test_the_heaviest_burns_a_credit_a_nanosecond_the_others_more() -> None:
    scheduler = Credit2()
    host = tiny_host(scheduler, 2)
    heavy = hogs(host, "heavy", weight=512).vcpus[0]
    light = hogs(host, "light", weight=128).vcpus[0]
    run_ms(host, 0)
    for vcpu in (heavy, light):
        scheduler._burn(vcpu, MS)
    assert heavy.sched.credit_ns == 9 * MS
    assert light.sched.credit_ns == 6 * MS


def test_an_epoch_gives_ten_milliseconds_but_nobody_keeps_more_than_half_of_one() -> None:
    scheduler = Credit2()
    host = tiny_host(scheduler, 1)
    runner, saver = hogs(host, "d", vcpus=2).vcpus
    run_ms(host, 0)
    runner.sched.credit_ns, saver.sched.credit_ns = -MS, 3 * MS
    scheduler._reset(host.pcpus[0].sched, runner.sched, host.engine.now_ns)
    assert (runner.sched.credit_ns, saver.sched.credit_ns) == (9 * MS, 10 * MS + MS // 2)


def test_one_with_the_least_credit_possible_gets_twice_as_much() -> None:
    scheduler = Credit2()
    host = tiny_host(scheduler, 1)
    (vcpu,) = hogs(host, "d").vcpus
    run_ms(host, 0)
    scheduler._burn(vcpu, 50 * MS)
    assert vcpu.sched.credit_ns == -10 * MS
    scheduler._reset(host.pcpus[0].sched, vcpu.sched, 50 * MS)
    assert vcpu.sched.credit_ns == 10 * MS


@pytest.mark.parametrize("ratelimit_ms", [1, 4])
def test_equals_take_turns_of_the_rate_limit(ratelimit_ms: int) -> None:
    host = tiny_host(Credit2(ratelimit_ns=ratelimit_ms * MS), 1)
    hogs(host, "d", vcpus=2)
    run_ms(host, 400)
    assert host.pcpus[0].dispatches == pytest.approx(400 / ratelimit_ms, rel=0.1)


def test_a_run_is_never_shorter_than_half_a_millisecond() -> None:
    scheduler = Credit2(ratelimit_ns=0)
    host = tiny_host(scheduler, 1)
    first, _ = hogs(host, "d", vcpus=2).vcpus
    run_ms(host, 0)
    assert scheduler._runtime_ns(first, None, 0) == MS // 2


def test_a_run_lasts_until_its_credit_is_as_little_as_that_of_the_next() -> None:
    scheduler = Credit2()
    host = tiny_host(scheduler, 1)
    first, second = hogs(host, "d", vcpus=2).vcpus
    run_ms(host, 0)
    first.sched.credit_ns, second.sched.credit_ns = 9 * MS, 4 * MS
    assert scheduler._runtime_ns(first, None, 0) == 5 * MS
    second.sched.credit_ns = -MS
    assert scheduler._runtime_ns(first, None, 0) == 9 * MS


def test_a_run_is_never_longer_than_ten_milliseconds() -> None:
    scheduler = Credit2()
    host = tiny_host(scheduler, 1)
    (vcpu,) = hogs(host, "d").vcpus
    run_ms(host, 0)
    vcpu.sched.credit_ns = 10 * MS + MS // 2
    assert scheduler._runtime_ns(vcpu, None, 0) == 10 * MS


def test_who_slept_preempts_by_credit_alone() -> None:
    host = tiny_host(Credit2(), 1)
    hogs(host, "hog")
    _, guest = periodic(host, "io", work_ns=MS // 5, sleep_ns=7 * MS)
    run_ms(host, 1000)
    assert max(guest.delays_ns[5:]) <= MS


def test_who_has_just_been_dispatched_is_not_preempted() -> None:
    scheduler = Credit2()
    host = tiny_host(scheduler, 1)
    (victim,) = hogs(host, "victim").vcpus
    run_ms(host, 0)
    victim.sched.credit_ns = 0
    host.engine.run_until(MS - 51_000)
    (rival,) = hogs(host, "rival").vcpus
    assert scheduler._score(rival, host.pcpus[0], MS - 50_000) == -1
    assert scheduler._score(rival, host.pcpus[0], MS - 49_999) > 0


def test_half_a_millisecond_of_credit_is_needed_to_move() -> None:
    host = tiny_host(Credit2(), 2)
    scheduler = host.scheduler
    assert isinstance(scheduler, Credit2)
    hogs(host, "d", vcpus=2)
    (rival,) = hogs(host, "rival", pcpu=host.pcpus[0]).vcpus
    host.engine.run_until(MS - 1)
    stay = scheduler._score(rival, host.pcpus[0], MS - 1)
    move = scheduler._score(rival, host.pcpus[1], MS - 1)
    assert stay - move == MS // 2


def test_who_yields_lets_one_with_less_credit_pass() -> None:
    host = tiny_host(Credit2(), 1)
    domain = host.add_domain("yielder", vcpus=1)
    (vcpu,) = domain.vcpus
    vcpu.guest = Yielder(host, vcpu, every_ns=MS // 4)
    host.wake(vcpu)
    run_ms(host, 0)
    other = hogs(host, "other").vcpus[0]
    other.sched.credit_ns = MS
    host.engine.run_until(MS // 4)
    assert (vcpu.state, other.state) == (RUNNABLE, RUNNING)


def test_weights_count_per_vcpu() -> None:
    host = tiny_host(Credit2(), 2)
    hogs(host, "narrow", vcpus=2, weight=512)
    hogs(host, "wide", vcpus=4, weight=256)
    run_ms(host, 100)
    got = shares(host, 1000)
    assert got["narrow"] == pytest.approx(got["wide"], abs=0.02)


def test_a_rogue_that_sleeps_over_ticks_gains_nothing() -> None:
    host = tiny_host(Credit2(), 1)
    dodger(host, "rogue")
    hogs(host, "fair")
    run_ms(host, 200)
    assert shares(host, 3000)["rogue"] <= 1.1 * 0.5


def test_a_cap_is_a_budget_every_ten_milliseconds() -> None:
    host = tiny_host(Credit2(), 4)
    capped = hogs(host, "capped", vcpus=4, cap_pcpus=0.5)
    hogs(host, "free", vcpus=2)
    run_ms(host, 100)
    assert pcpus_used(host, capped, 1000) == pytest.approx(0.5, abs=0.01)
    check_conservation(host)


def test_at_most_sixteen_pcpus_share_a_queue() -> None:
    host = tiny_host(Credit2(), 40)
    assert len({id(pcpu.sched) for pcpu in host.pcpus}) == 3
    assert len(host.pcpus[0].sched.pcpus) == 16


def test_load_is_an_average_over_a_second() -> None:
    load = Load()
    load.change(1, 0)
    load.change(0, LOAD_WINDOW_NS // 2)
    assert load.average == LOAD_ONE // 2
    load.change(0, 3 * LOAD_WINDOW_NS)
    assert load.average == LOAD_ONE


def crowded(host: Host, scheduler: Credit2) -> None:
    """Four hogs of a host of four pCPUs, all in the first of two queues."""
    first, second = scheduler._queues
    for vcpu in hogs(host, "d", vcpus=4).vcpus:
        if vcpu.sched.queue is second:
            second.waiting.remove(vcpu)
            vcpu.sched.destination = first
            scheduler._move(vcpu, 0)


def test_queues_even_out_within_the_balance_interval() -> None:
    scheduler = Credit2(pcpus_per_queue=2)
    host = tiny_host(scheduler, 4)
    watch = IdleWatch(host)
    crowded(host, scheduler)
    run_ms(host, 3000)
    assert all(pcpu.current is not None for pcpu in host.pcpus)
    assert 0 < watch.longest_ns <= scheduler.balance_ns
    check_conservation(host)


def test_within_a_queue_nobody_waits_beside_an_idle_pcpu() -> None:
    scheduler = Credit2()
    host = tiny_host(scheduler, 4)
    watch = IdleWatch(host)
    hogs(host, "d", vcpus=4, pcpu=host.pcpus[0])
    run_ms(host, 100)
    assert watch.longest_ns == scheduler.balance_ns == 0


@pytest.mark.parametrize(("apart", "kept"), [(4, True), (10, True), (40, False)])
def test_shares_are_kept_between_weights_no_more_than_ten_times_apart(
    apart: int, *, kept: bool
) -> None:
    """`vcpud doctor` and the page on Xen say so: dom0's weight is what makes them lie apart."""
    host = tiny_host(Credit2(), 2)
    periodic(host, "dom0", work_ns=2 * MS, sleep_ns=8 * MS, weight=apart * 256)
    hogs(host, "shrunk", weight=1024)
    hogs(host, "wide", vcpus=4, weight=256)
    run_ms(host, 100)
    got = shares(host, 1000)
    assert (got["shrunk"] >= 0.95 * (got["shrunk"] + got["wide"]) / 2) is kept
