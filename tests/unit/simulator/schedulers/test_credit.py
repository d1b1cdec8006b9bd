"""Conformance of today's credit with xen/common/sched/credit.c, change by change."""

from __future__ import annotations

from statistics import fmean

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
from vcpud_simulator.entities import CO_STOPPED, RUNNABLE, RUNNING
from vcpud_simulator.schedulers.credit import Credit
from vcpud_simulator.schedulers.credit_xen32 import BOOST, OVER, UNDER


def test_a_rogue_that_sleeps_over_ticks_has_no_more_than_its_share() -> None:
    host = tiny_host(Credit(), 1)
    dodger(host, "rogue")
    hogs(host, "fair")
    run_ms(host, 500)
    assert shares(host, 3000)["rogue"] <= 1.1 * 0.5
    check_conservation(host)


def test_one_never_seen_at_any_tick_is_still_neither_charged_a_class_nor_demoted() -> None:
    """True of the original as well: only a tick puts a vCPU among those that are accounted."""
    host = tiny_host(Credit(), 1)
    rogue = dodger(host, "rogue", honest_ns=0)
    hogs(host, "fair")
    assert shares(host, 3000)["rogue"] > 0.85
    assert not rogue.vcpus[0].sched.active


def test_ten_credits_a_millisecond_are_burnt_and_fractions_kept() -> None:
    scheduler = Credit()
    host = tiny_host(scheduler, 1)
    account = hogs(host, "a").vcpus[0].sched
    run_ms(host, 0)
    for until_ns in (150_000, 210_000, 250_000):
        scheduler._burn(account, until_ns)
    assert (account.credit, account.remainder) == (-2, MS // 2)


@pytest.mark.parametrize(("ratelimit_ns", "waits"), [(MS, True), (0, False)])
def test_who_was_dispatched_keeps_its_pcpu_for_the_rate_limit(
    ratelimit_ns: int, *, waits: bool
) -> None:
    host = tiny_host(Credit(ratelimit_ns=ratelimit_ns), 1)
    victim = hogs(host, "victim").vcpus[0]
    run_ms(host, 0)
    victim.sched.priority = UNDER
    (urgent,) = hogs(host, "urgent").vcpus
    assert urgent.sched.priority == BOOST
    host.engine.run_until(MS - 1)
    assert (urgent.state == RUNNABLE) is waits
    run_ms(host, 1)
    assert urgent.state == RUNNING


def test_the_rate_limit_saves_context_switches() -> None:
    """Claim L11 in sign: wake-ups faster than the limit make fewer switches with it."""

    def switches(ratelimit_ns: int) -> int:
        host = tiny_host(Credit(ratelimit_ns=ratelimit_ns), 2)
        hogs(host, "hog", vcpus=2)
        for n in range(4):
            periodic(host, f"io{n}", work_ns=MS // 10, sleep_ns=MS // 2 + n * 1000)
        run_ms(host, 1000)
        return sum(pcpu.dispatches for pcpu in host.pcpus)

    assert switches(MS) < 0.9 * switches(0)


def test_who_yields_goes_behind_one_of_a_lower_class() -> None:
    host = tiny_host(Credit(), 1)
    domain = host.add_domain("yielder", vcpus=1)
    (vcpu,) = domain.vcpus
    vcpu.guest = Yielder(host, vcpu, every_ns=2 * MS)
    host.wake(vcpu)
    first, second = hogs(host, "other", vcpus=2).vcpus
    for other in (first, second):
        other.sched.priority = OVER
    run_ms(host, 3)
    assert first.state == RUNNING
    assert host.pcpus[0].sched.waiting == [vcpu, second]


def test_who_has_yielded_is_not_stolen() -> None:
    scheduler = Credit()
    host = tiny_host(scheduler, 2)
    here, there = host.pcpus
    hogs(host, "busy", pcpu=here)
    run_ms(host, 1)
    yielder, other = hogs(host, "a", vcpus=3, pcpu=there).vcpus[1:]
    run_ms(host, 1)
    assert there.sched.waiting == [yielder, other]
    yielder.sched.yielding = True
    assert scheduler._steal_from(there, OVER) is other


def test_half_of_more_than_a_slice_of_credit_is_kept() -> None:
    scheduler = Credit()
    host = tiny_host(scheduler, 2)
    vcpu = hogs(host, "a").vcpus[0]
    run_ms(host, 25)
    assert vcpu.sched.active
    vcpu.sched.credit = 100
    scheduler.account(host.engine.now_ns)
    assert (vcpu.sched.credit, vcpu.sched.active) == (200, False)


def test_the_weight_counts_for_each_vcpu() -> None:
    host = tiny_host(Credit(), 2)
    hogs(host, "narrow", vcpus=2)
    hogs(host, "wide", vcpus=4)
    run_ms(host, 300)
    assert shares(host, 3000)["wide"] == pytest.approx(2 / 3, abs=0.02)


def test_a_cap_holds() -> None:
    host = tiny_host(Credit(), 4)
    capped = hogs(host, "capped", vcpus=2, cap_pcpus=0.5)
    run_ms(host, 300)
    assert pcpus_used(host, capped, 6000) == pytest.approx(0.5, abs=0.05)
    assert any(vcpu.in_state_ns(CO_STOPPED, host.engine.now_ns) for vcpu in capped.vcpus)


def test_one_idler_is_woken_and_the_next_one_next_time() -> None:
    host = tiny_host(Credit(), 4)
    hogs(host, "busy", pcpu=host.pcpus[0])
    run_ms(host, 2)
    taken = []
    for n in range(3):
        (vcpu,) = hogs(host, f"new{n}", pcpu=host.pcpus[0]).vcpus
        assert host.idle_mask.bit_count() == 2 - n
        run_ms(host, 2)
        taken.append(vcpu.pcpu.index)
    assert taken == [1, 2, 3]


def test_queues_are_searched_once_a_millisecond() -> None:
    scheduler = Credit()
    host = tiny_host(scheduler, 2)
    here, there = host.pcpus
    hogs(host, "busy", pcpu=here)
    run_ms(host, 2)
    hogs(host, "a", vcpus=3, pcpu=there)
    run_ms(host, 2)
    now_ns = host.engine.now_ns
    assert scheduler._steal(here, OVER, now_ns) is not None
    assert scheduler._steal(here, OVER, now_ns + MS) is None
    assert scheduler._steal(here, OVER, now_ns + MS + 1) is not None


def test_one_that_runs_before_a_queue_moves_to_an_idle_pcpu_at_a_tick_unboosted() -> None:
    """An idler that searched in vain a moment ago leaves a waiter alone until then."""
    host = tiny_host(Credit(), 2)
    here, there = host.pcpus
    watch = IdleWatch(host)
    (runner,) = hogs(host, "a", pcpu=here).vcpus
    run_ms(host, 15)
    assert runner.sched.active
    there.sched.balanced_ns = host.engine.now_ns
    (waiting,) = hogs(host, "b", pcpu=here).vcpus
    run_ms(host, 0)
    assert waiting.state == RUNNABLE
    run_ms(host, 10)
    assert (waiting.state, waiting.pcpu) == (RUNNING, here)
    assert (runner.state, runner.pcpu, runner.migrations) == (RUNNING, there, 1)
    assert runner.sched.priority != BOOST
    assert 0 < watch.longest_ns <= host.scheduler.balance_ns


RHYTHMS_NS = (
    (2_000_000, 8_000_000),
    (1_000_000, 4_100_000),
    (3_000_000, 11_300_000),
    (700_000, 3_100_000),
)
"""How long dom0 works and sleeps, a fifth of a pCPU in all: credit's turns fall in or out of step with it."""


def _shares_of_few(vcpus: int, weight: int, slice_ms: int = 30) -> list[float]:
    """What a domain has of its half of two pCPUs beside one of 4 vCPUs, by dom0's rhythm."""
    found = []
    for work_ns, sleep_ns in RHYTHMS_NS:
        host = tiny_host(Credit(slice_ns=slice_ms * MS), 2)
        periodic(host, "dom0", work_ns=work_ns, sleep_ns=sleep_ns, weight=1280)
        hogs(host, "few", vcpus=vcpus, weight=weight)
        hogs(host, "many", vcpus=4)
        run_ms(host, 10 * slice_ms)
        got = shares(host, 100 * slice_ms)
        found.append(2 * got["few"] / (got["few"] + got["many"]))
    return found


@pytest.mark.parametrize("slice_ms", [30, 10, 5])
def test_a_lone_vcpu_has_no_full_share_and_half_of_them_do_however_short_the_slice(
    slice_ms: int,
) -> None:
    """What a vCPU may save is a slice's credit: it shrinks with the turns of those it waits for."""
    assert fmean(_shares_of_few(4, 256, slice_ms)) == pytest.approx(1.0, abs=0.02)
    assert fmean(_shares_of_few(2, 512, slice_ms)) > 0.95
    assert 0.80 < fmean(_shares_of_few(1, 1024, slice_ms)) < 0.92


def test_no_weight_makes_up_for_a_lone_vcpu_beside_every_dom0() -> None:
    """What is too little in step with one is too much in step with another."""
    found = _shares_of_few(1, 2048)
    assert min(found) < 0.85
    assert max(found) > 1.05
