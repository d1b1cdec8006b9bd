"""Conformance of credit as of Xen 3.2 with sched_credit.c of that release."""

from __future__ import annotations

import pytest

from fakes.guests import (
    MS,
    Hog,
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
from vcpud_simulator.entities import CO_STOPPED, RUNNING
from vcpud_simulator.schedulers.credit_xen32 import BOOST, OVER, UNDER, CreditXen32
from vcpud_simulator.trace import Kind, Recording


def dispatches(trace: Recording, number: int) -> list[int]:
    return [e.when_ns for e in trace.events if e.kind == Kind.DISPATCH and e.vcpu == number]


def test_equals_take_turns_of_thirty_milliseconds() -> None:
    trace = Recording()
    host = tiny_host(CreditXen32(), 1, trace=trace)
    hogs(host, "a")
    hogs(host, "b")
    run_ms(host, 200)
    assert dispatches(trace, 0) == [0, 60 * MS, 120 * MS, 180 * MS]
    assert dispatches(trace, 1) == [30 * MS, 90 * MS, 150 * MS]


def test_a_tick_takes_a_hundred_credits_however_short_the_run() -> None:
    host = tiny_host(CreditXen32(), 1)
    phase_ns = host.pcpus[0].phase_ns
    host.engine.run_until(phase_ns + 10 * MS - 1)
    vcpu = hogs(host, "a").vcpus[0]
    assert vcpu.sched.credit == 0
    host.engine.run_until(phase_ns + 10 * MS)
    assert vcpu.in_state_ns(RUNNING, host.engine.now_ns) == 1
    assert vcpu.sched.credit == -100


def test_a_rogue_that_sleeps_over_ticks_has_nearly_the_whole_pcpu() -> None:
    host = tiny_host(CreditXen32(), 1)
    dodger(host, "rogue")
    hogs(host, "fair")
    run_ms(host, 500)
    assert shares(host, 3000)["rogue"] >= 0.85
    check_conservation(host)


def test_without_boost_the_rogue_is_worse_off_than_an_honest_guest() -> None:
    host = tiny_host(CreditXen32(boosting=False), 1)
    dodger(host, "rogue")
    hogs(host, "fair")
    run_ms(host, 500)
    assert shares(host, 3000)["rogue"] < 0.85


def test_who_wakes_with_credit_left_preempts_at_once() -> None:
    host = tiny_host(CreditXen32(), 1)
    hogs(host, "hog")
    _, guest = periodic(host, "io", work_ns=MS // 5, sleep_ns=7 * MS)
    run_ms(host, 1000)
    assert max(guest.delays_ns[5:]) == 0


def test_without_boost_who_wakes_waits_for_the_end_of_the_slice() -> None:
    host = tiny_host(CreditXen32(boosting=False), 1)
    hogs(host, "hog")
    _, guest = periodic(host, "io", work_ns=MS // 5, sleep_ns=7 * MS)
    run_ms(host, 1000)
    assert max(guest.delays_ns[5:]) > 10 * MS


def test_a_tick_ends_the_boost() -> None:
    host = tiny_host(CreditXen32(), 1)
    vcpu = hogs(host, "a").vcpus[0]
    assert vcpu.sched.priority == BOOST
    host.engine.run_until(host.pcpus[0].phase_ns)
    assert vcpu.sched.priority == UNDER


def test_only_what_is_of_strictly_higher_class_is_stolen() -> None:
    scheduler = CreditXen32()
    host = tiny_host(scheduler, 2)
    here, there = host.pcpus
    hogs(host, "busy", pcpu=here)
    run_ms(host, 1)
    hogs(host, "a", pcpu=there)
    run_ms(host, 1)
    (waiting,) = hogs(host, "b", pcpu=there).vcpus
    run_ms(host, 1)
    assert there.sched.waiting == [waiting]
    waiting.sched.priority = UNDER
    assert scheduler._steal(here, UNDER, host.engine.now_ns) is None
    assert scheduler._steal(here, OVER, host.engine.now_ns) is waiting


def test_an_under_vcpu_waits_behind_another_while_elsewhere_under_runs() -> None:
    """The rule that keeps siblings apart: no move between pCPUs that both have UNDER work."""
    host = tiny_host(CreditXen32(), 2)
    hogs(host, "left", pcpu=host.pcpus[0])
    run_ms(host, 1)
    first = hogs(host, "right", vcpus=2, pcpu=host.pcpus[1])
    run_ms(host, 29)
    assert [vcpu.migrations for vcpu in first.vcpus] == [0, 0]
    assert len(host.pcpus[1].sched.waiting) == 1


def test_an_idle_pcpu_takes_what_waits_behind_a_busy_one_at_once() -> None:
    host = tiny_host(CreditXen32(), 4)
    hogs(host, "a", pcpu=host.pcpus[0])
    run_ms(host, 0)
    hogs(host, "b", vcpus=3, pcpu=host.pcpus[0])
    run_ms(host, 0)
    assert all(vcpu.state == RUNNING for vcpu in host.vcpus)


def test_two_woken_at_once_on_an_idle_pcpu_part_when_an_idle_slice_ends() -> None:
    """A wake-up tickles idlers only if its own pCPU is busy; an idler's slice ends after 30 ms."""
    scheduler = CreditXen32()
    host = tiny_host(scheduler, 4)
    watch = IdleWatch(host)
    hogs(host, "a", vcpus=2, pcpu=host.pcpus[0])
    run_ms(host, 40)
    assert all(vcpu.state == RUNNING for vcpu in host.vcpus)
    assert 0 < watch.longest_ns <= scheduler.balance_ns


def test_the_weight_is_the_domains_whatever_its_width() -> None:
    host = tiny_host(CreditXen32(), 2)
    hogs(host, "narrow", vcpus=2)
    hogs(host, "wide", vcpus=4)
    run_ms(host, 300)
    got = shares(host, 3000)
    assert got["narrow"] == pytest.approx(got["wide"], abs=0.02)


def test_a_cap_holds_even_on_an_idle_host() -> None:
    host = tiny_host(CreditXen32(), 4)
    capped = hogs(host, "capped", vcpus=2, cap_pcpus=0.5)
    run_ms(host, 300)
    assert pcpus_used(host, capped, 6000) == pytest.approx(0.5, abs=0.05)
    assert any(vcpu.in_state_ns(CO_STOPPED, host.engine.now_ns) for vcpu in capped.vcpus)
    check_conservation(host)


def test_without_a_cap_the_same_domain_has_all_it_wants() -> None:
    host = tiny_host(CreditXen32(), 4)
    assert pcpus_used(host, hogs(host, "free", vcpus=2), 1000) == pytest.approx(2.0)


def test_more_credit_than_a_slice_is_lost_when_a_vcpu_stops_earning() -> None:
    scheduler = CreditXen32()
    host = tiny_host(scheduler, 2)
    vcpu = hogs(host, "a").vcpus[0]
    run_ms(host, 35)
    assert vcpu.sched.active
    vcpu.sched.credit = 250
    scheduler._account()
    assert (vcpu.sched.credit, vcpu.sched.active) == (0, False)


def test_debt_is_at_most_a_slice() -> None:
    scheduler = CreditXen32()
    host = tiny_host(scheduler, 1)
    vcpu = hogs(host, "a").vcpus[0]
    run_ms(host, 35)
    vcpu.sched.credit = -5000
    scheduler._account()
    assert (vcpu.sched.credit, vcpu.sched.priority) == (-300, OVER)


def test_a_yield_does_nothing_while_only_lower_classes_wait() -> None:
    host = tiny_host(CreditXen32(), 1)
    domain = host.add_domain("yielder", vcpus=1)
    (vcpu,) = domain.vcpus
    vcpu.guest = Yielder(host, vcpu, every_ns=MS)
    host.wake(vcpu)
    other = hogs(host, "other").vcpus[0]
    other.sched.priority = OVER
    run_ms(host, 9)
    assert other.in_state_ns(RUNNING, host.engine.now_ns) == 0


def test_after_an_accounting_a_tick_sorts_under_before_over_and_keeps_the_order() -> None:
    scheduler = CreditXen32()
    host = tiny_host(scheduler, 1)
    domain = host.add_domain("d", vcpus=5)
    for vcpu in domain.vcpus:
        vcpu.guest = Hog()
        host.wake(vcpu)
    run_ms(host, 0)
    queue = host.pcpus[0].sched
    for vcpu, priority in zip(queue.waiting, (OVER, UNDER, OVER, UNDER), strict=True):
        vcpu.sched.priority = priority
    a, b, c, d = queue.waiting
    scheduler._sort(queue)
    assert queue.waiting == [a, b, c, d]
    scheduler._accountings += 1
    scheduler._sort(queue)
    assert queue.waiting == [b, d, a, c]


@pytest.mark.parametrize("slice_ms", [30, 10, 1])
def test_the_slice_is_a_parameter_and_ticks_follow(slice_ms: int) -> None:
    scheduler = CreditXen32(slice_ns=slice_ms * MS)
    assert scheduler.tick_ns == slice_ms * MS // 3
    host = tiny_host(scheduler, 1)
    hogs(host, "a")
    hogs(host, "b")
    run_ms(host, 300)
    assert host.pcpus[0].dispatches in {300 // slice_ms, 300 // slice_ms + 1}
