"""Conformance of EEVDF with kernel/sched/fair.c of Linux 6.12."""

from __future__ import annotations

import pytest

from fakes.guests import (
    MS,
    Hog,
    check_conservation,
    dodger,
    hogs,
    periodic,
    run_ms,
    shares,
    tiny_host,
)
from vcpud_simulator.entities import RUNNABLE, RUNNING, Vcpu
from vcpud_simulator.host import Host
from vcpud_simulator.schedulers.eevdf import Eevdf
from vcpud_simulator.schedulers.fair_queue import UNIT_WEIGHT, Entity, FairQueue


def entity(queue: FairQueue, vruntime_ms: int, deadline_ms: int, weight: int = 1024) -> Entity:
    made = Entity(queue, weight, None)
    made.vruntime_ns, made.deadline_ns = vruntime_ms * MS, deadline_ms * MS
    made.waiting = True
    queue.entities.append(made)
    queue.load += weight
    return made


def on_eight() -> tuple[Eevdf, FairQueue]:
    scheduler = Eevdf(groups=False)
    tiny_host(scheduler, 8)
    return scheduler, FairQueue(None)


@pytest.mark.parametrize(
    ("pcpus", "slice_us"), [(1, 700), (2, 1400), (4, 2100), (8, 2800), (64, 2800)]
)
def test_the_slice_grows_with_the_logarithm_of_up_to_eight_pcpus(
    pcpus: int, slice_us: int
) -> None:
    scheduler = Eevdf()
    tiny_host(scheduler, pcpus)
    assert scheduler.slice_ns == slice_us * 1000


def test_of_the_eligible_the_earliest_deadline_is_picked() -> None:
    scheduler, queue = on_eight()
    entity(queue, 1, 9)
    best = entity(queue, 2, 8)
    ahead = entity(queue, 6, 7)  # the earliest deadline, but ahead of V = 3 ms
    assert scheduler.virtual_time_ns(queue) == 3 * MS
    assert scheduler.pick_entity(queue) is best
    ahead.vruntime_ns = MS
    assert scheduler.pick_entity(queue) is ahead


def test_virtual_time_is_the_mean_by_weight() -> None:
    scheduler, queue = on_eight()
    entity(queue, 0, 9, weight=3 * UNIT_WEIGHT)
    entity(queue, 8, 9, weight=UNIT_WEIGHT)
    assert scheduler.virtual_time_ns(queue) == 2 * MS


def test_a_served_request_is_followed_by_one_of_a_slice_by_weight() -> None:
    scheduler, queue = on_eight()
    heavy = entity(queue, 5, 5, weight=2 * UNIT_WEIGHT)
    assert scheduler.slice_over(queue, heavy)
    assert heavy.deadline_ns == 5 * MS + 1_400_000
    assert not scheduler.slice_over(queue, heavy)


def test_lag_is_bounded_by_two_slices_or_a_tick() -> None:
    scheduler, queue = on_eight()
    behind, ahead = entity(queue, 0, 1), entity(queue, 100, 101)
    assert scheduler.lag_ns(queue, behind) == 5_600_000
    assert scheduler.lag_ns(queue, ahead) == -5_600_000


@pytest.mark.parametrize("groups", [False, True])
def test_lag_stays_within_its_bound_while_everybody_runs(*, groups: bool) -> None:
    """-r_max < lag < max(r_max, q), with the tick as q (Stoica and Abdel-Wahab, theorem 1)."""
    scheduler = Eevdf(groups=groups)
    host = tiny_host(scheduler, 1)
    for name in "abcd":
        hogs(host, name, weight=1024)
    queue: FairQueue = host.pcpus[0].sched
    worst_ns = 0
    for _ in range(2000):
        run_ms(host, 1)
        scheduler._charge(host.pcpus[0], host.engine.now_ns)
        now_ns = scheduler.virtual_time_ns(queue)
        for each in [*queue.entities, queue.current]:
            assert each is not None
            worst_ns = max(worst_ns, abs(now_ns - each.vruntime_ns))
    assert worst_ns <= scheduler.slice_ns + scheduler.tick_ns


def woken_beside_a_hog(scheduler: Eevdf) -> tuple[Host, Vcpu, Vcpu]:
    """A hog half-way through its slice, and one that wakes with credit."""
    host = tiny_host(scheduler, 8)
    pcpu = host.pcpus[0]
    for n in range(1, 8):
        hogs(host, f"busy{n}", pcpu=host.pcpus[n])
    (hog,) = hogs(host, "hog", pcpu=pcpu).vcpus
    run_ms(host, 1)
    sleeper = host.add_domain("sleeper", vcpus=1).vcpus[0]
    sleeper.guest = Hog()
    sleeper.pcpu = pcpu
    return host, hog, sleeper


def wake_with_lag(host: Host, sleeper: Vcpu, lag_ns: int) -> None:
    scheduler = host.scheduler
    assert isinstance(scheduler, Eevdf)
    for each in (sleeper.sched, sleeper.sched.queue.holder):
        if each is not None:
            each.lag_ns = lag_ns
    host.wake(sleeper)
    run_ms(host, 0)


def test_a_slice_once_begun_is_protected_from_wake_ups() -> None:
    host, hog, sleeper = woken_beside_a_hog(Eevdf(groups=False))
    hog.sched.deadline_ns = hog.sched.vruntime_ns + 2 * MS
    sleeper.sched.lag_ns = -MS  # keeps the hog eligible
    sleeper.sched.vruntime_ns = hog.sched.vruntime_ns + 2 * MS
    host.wake(sleeper)
    run_ms(host, 0)
    assert (hog.state, sleeper.state) == (RUNNING, RUNNABLE)


def test_one_that_has_lost_eligibility_is_preempted() -> None:
    host, hog, sleeper = woken_beside_a_hog(Eevdf(groups=False))
    wake_with_lag(host, sleeper, 2 * MS)
    assert (hog.state, sleeper.state) == (RUNNABLE, RUNNING)


def test_without_run_to_parity_an_earlier_deadline_preempts_even_one_that_is_owed() -> None:
    def preempted(*, run_to_parity: bool) -> bool:
        host, hog, sleeper = woken_beside_a_hog(Eevdf(groups=False, run_to_parity=run_to_parity))
        hog.sched.deadline_ns = hog.sched.vruntime_ns + 5 * MS
        wake_with_lag(host, sleeper, 0)
        return sleeper.state == RUNNING

    assert preempted(run_to_parity=False)
    assert not preempted(run_to_parity=True)


def test_lag_survives_sleep_and_weighs_in_the_shift_it_causes() -> None:
    host, hog, sleeper = woken_beside_a_hog(Eevdf(groups=False))
    scheduler = host.scheduler
    assert isinstance(scheduler, Eevdf)
    wake_with_lag(host, sleeper, MS)
    queue = sleeper.sched.queue
    assert scheduler.lag_ns(queue, sleeper.sched) == pytest.approx(MS, abs=1000)
    assert scheduler.lag_ns(queue, hog.sched) == pytest.approx(-MS, abs=1000)


def test_without_place_lag_who_wakes_comes_without_any() -> None:
    host, _, sleeper = woken_beside_a_hog(Eevdf(groups=False, place_lag=False))
    scheduler = host.scheduler
    assert isinstance(scheduler, Eevdf)
    wake_with_lag(host, sleeper, MS)
    assert scheduler.lag_ns(sleeper.sched.queue, sleeper.sched) == 0


def test_a_debt_is_worked_off_while_asleep() -> None:
    host, hog, sleeper = woken_beside_a_hog(Eevdf(groups=False))
    sleeper.sched.lag_ns = -2 * MS
    sleeper.sched.vruntime_ns = hog.sched.vruntime_ns + 2 * MS
    run_ms(host, 5)
    host.wake(sleeper)
    scheduler = host.scheduler
    assert isinstance(scheduler, Eevdf)
    assert scheduler.lag_ns(sleeper.sched.queue, sleeper.sched) == 0


def test_slices_end_at_ticks() -> None:
    scheduler = Eevdf(tick_ns=4 * MS)
    host = tiny_host(scheduler, 1)
    hogs(host, "a")
    hogs(host, "b")
    run_ms(host, 1000)
    assert host.pcpus[0].dispatches == pytest.approx(1000 / 4, rel=0.05)


def test_a_yield_gives_up_the_request() -> None:
    scheduler = Eevdf(groups=False)
    host = tiny_host(scheduler, 1)
    (yielder,) = hogs(host, "a").vcpus
    (other,) = hogs(host, "b").vcpus
    host.engine.run_until(MS // 2)
    assert yielder.state == RUNNING
    before_ns = yielder.sched.deadline_ns
    host.yield_(yielder)
    run_ms(host, 0)
    given_up_ns = scheduler.slice_ns * UNIT_WEIGHT // yielder.sched.weight
    assert yielder.sched.deadline_ns - before_ns == given_up_ns
    assert (yielder.state, other.state) == (RUNNABLE, RUNNING)


@pytest.mark.parametrize(("groups", "share"), [(True, 1 / 2), (False, 1 / 3)])
def test_weights_count_per_domain_with_groups_and_per_vcpu_without(
    *, groups: bool, share: float
) -> None:
    host = tiny_host(Eevdf(groups=groups), 2)
    hogs(host, "narrow", vcpus=2)
    hogs(host, "wide", vcpus=4)
    run_ms(host, 300)
    assert shares(host, 3000)["narrow"] == pytest.approx(share, abs=0.02)
    check_conservation(host)


def test_a_rogue_that_sleeps_over_ticks_gains_nothing() -> None:
    host = tiny_host(Eevdf(), 1)
    dodger(host, "rogue", period_ns=4 * MS)
    hogs(host, "fair")
    run_ms(host, 300)
    assert shares(host, 3000)["rogue"] <= 1.1 * 0.5


def test_who_sleeps_much_waits_at_most_a_slice_and_a_tick() -> None:
    scheduler = Eevdf()
    host = tiny_host(scheduler, 1)
    hogs(host, "hog")
    _, guest = periodic(host, "io", work_ns=MS // 5, sleep_ns=7 * MS)
    run_ms(host, 2000)
    assert max(guest.delays_ns) <= scheduler.slice_ns + scheduler.tick_ns
