"""From cumulative counters to rates: nothing missing, decreasing or absurd moves a figure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vcpud.counters import VcpuCounters, VcpuSample
from vcpud.guest import CpuAccounting, CpuTimes, GuestReading, LockWait, RunQueue, RunQueueWait
from vcpud.model import (
    DomainSample,
    HostSample,
    Pool,
    ShareUnit,
    Terms,
    Trouble,
)
from vcpud.tracks import Tracks, estimate
from vcpud.units import NS_PER_S

S = NS_PER_S


def domain(at_s: float, run_s: float, delay_s: float | None = 0.0, **more: object) -> DomainSample:
    """A domain of two vCPUs whose counters are shared evenly."""
    made = DomainSample(
        uuid="u",
        name="n",
        incarnation="1@1",
        taken_at_ns=round(at_s * S),
        terms=Terms(),
        live_vcpus=2,
        max_vcpus=2,
        online=frozenset({0, 1}),
        vcpus=VcpuCounters.of(
            VcpuSample(
                index=index,
                run_ns=round(run_s * S / 2),
                run_delay_ns=None if delay_s is None else round(delay_s * S / 2),
            )
            for index in range(2)
        ),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def host(at_s: float, *domains: DomainSample, busy_s: float | None = None) -> HostSample:
    return HostSample(
        taken_at_ns=round(at_s * S),
        boot_id="b",
        pools=(Pool(name="host", pcpus=2),),
        domains=domains,
        busy_ns=None if busy_s is None else round(busy_s * S),
    )


def accounting(at_s: float, user_s: float, system_s: float, cpus: int = 2) -> CpuAccounting:
    return CpuAccounting(
        taken_at_ns=round(at_s * S),
        cpus=tuple(
            CpuTimes(
                index=index,
                user_ns=round(user_s * S / cpus),
                system_ns=round(system_s * S / cpus),
                idle_ns=0,
                steal_ns=None,
            )
            for index in range(cpus)
        ),
    )


def fold(*samples: HostSample) -> tuple[Tracks, object]:
    tracks, demand = Tracks(), None
    for sample in samples:
        tracks, demand = estimate(tracks, sample)
    return tracks, demand


def test_use_and_run_delay_are_rates_over_the_window() -> None:
    _, demand = fold(host(0, domain(0, 0)), host(1, domain(1, 0.5, 1.5)))
    only = demand.domains[0]  # type: ignore[attr-defined]
    assert only.used_pcpus == pytest.approx(0.5)
    assert only.run_delay_pcpus == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("delays_s", "expected"),
    [([0], None), ([0, 1.5], 1.5), ([0, 1.5, 1.5], 0.0), ([0, 1.5, 0.5], None)],
)
def test_the_last_window_is_that_between_the_latest_two_readings_alone(
    delays_s: list[float], expected: float | None
) -> None:
    last = len(delays_s) - 1
    _, demand = fold(
        *(host(at, domain(at, at**2 / 4, delay)) for at, delay in enumerate(delays_s))
    )
    only = demand.domains[0]  # type: ignore[attr-defined]
    assert only.last_delay_pcpus == expected
    assert only.last_used_pcpus == (None if last < 1 else (2 * last - 1) / 4)
    assert only.read_at_ns == last * NS_PER_S


def test_a_ceiling_below_what_is_active_hides_nothing_of_what_is_used() -> None:
    terms = Terms(max_vcpus=1)
    _, demand = fold(host(0, domain(0, 0, terms=terms)), host(1, domain(1, 1.5, terms=terms)))
    only = demand.domains[0]  # type: ignore[attr-defined]
    assert (only.max_vcpus, only.last_used_pcpus) == (1, 1.5)


@pytest.mark.parametrize(
    ("ceiling", "most", "entitled"),
    [
        ({}, None, (1.0, 1.0)),
        ({"cap_pcpus": 0.5}, 0.5, (0.5, 1.5)),
        ({"quota_pcpus_per_vcpu": 0.25}, 0.5, (0.5, 1.5)),
        ({"cap_pcpus": 5.0, "quota_pcpus_per_vcpu": 2.0}, 2.0, (1.0, 1.0)),
    ],
)
def test_what_a_ceiling_holds_back_is_left_to_others(
    ceiling: dict[str, float], most: float | None, entitled: tuple[float, float]
) -> None:
    def at(second: float) -> HostSample:
        return host(
            second,
            domain(second, second * 0.5, second * 1.5, uuid="held", **ceiling),
            domain(second, second * 1.5, second * 0.5, uuid="free"),
        )

    _, demand = fold(at(0), at(1))
    assert tuple(d.entitled_pcpus for d in demand.domains) == entitled  # type: ignore[attr-defined]
    assert [d.most_pcpus for d in demand.domains] == [most, None]  # type: ignore[attr-defined]
    assert [d.ceiling_pcpus for d in demand.domains] == [most or 2.0, 2.0]  # type: ignore[attr-defined]


def test_what_is_not_reported_is_none_and_never_zero() -> None:
    _, demand = fold(host(0, domain(0, 0, None)), host(1, domain(1, 0.5, None)))
    only = demand.domains[0]  # type: ignore[attr-defined]
    assert only.run_delay_pcpus is None
    assert only.last_delay_pcpus is None
    assert only.lock_wait_ratio is None
    assert only.queued_tasks is None
    assert only.progress is None


def test_a_counter_that_decreases_holds_the_domain_and_moves_no_figure() -> None:
    tracks, before = fold(host(0, domain(0, 5)), host(1, domain(1, 6)))
    _, demand = estimate(tracks, host(2, domain(2, 1)))
    assert demand.domains[0].hold is Trouble.COUNTER_ABSURD
    assert demand.domains[0].used_pcpus == before.domains[0].used_pcpus  # type: ignore[attr-defined]


def test_more_run_time_than_there_was_time_holds_the_domain() -> None:
    _, demand = fold(host(0, domain(0, 0)), host(1, domain(1, 9)))
    assert demand.domains[0].hold is Trouble.COUNTER_ABSURD  # type: ignore[attr-defined]


def test_a_vcpu_that_is_plugged_starts_the_window_over_without_a_hold() -> None:
    grown = domain(1, 0.5)
    grown = replace(
        grown,
        vcpus=VcpuCounters.of((*grown.vcpus, VcpuSample(index=2, run_ns=0, run_delay_ns=0))),
        live_vcpus=3,
    )
    _, demand = fold(host(0, domain(0, 5)), host(1, grown))
    assert demand.domains[0].hold is None  # type: ignore[attr-defined]
    assert demand.domains[0].used_pcpus is None  # type: ignore[attr-defined]


def test_progress_is_the_hosts_run_time_times_the_guests_user_share() -> None:
    def at(second: float, user_s: float, system_s: float) -> HostSample:
        guest = GuestReading(accounting=accounting(second, user_s, system_s))
        return host(second, domain(second, second * 1.0, guest=guest))

    _, demand = fold(at(0, 0, 0), at(5, 3, 9))
    progress = demand.domains[0].progress  # type: ignore[attr-defined]
    assert progress.rate_pcpus == pytest.approx(1.0 * 3 / 12)
    assert progress.active_vcpus == 2


@pytest.mark.parametrize(
    ("accounted_s", "waited_s", "rate"),
    [
        ((0.3, 0.1), 7.5, 0.25),  # seen on Xen: a quarter of the work, at the full run time
        ((0.3, 0.1), 0.0, 0.75),  # time that is lost in other ways
        ((3.75, 1.25), 7.5, 0.75),  # all of the run time is accounted for, whatever it waits
        ((3.75, 0.0), 7.5, 0.75),  # no more than what is not accounted for
        ((0.04, 0.36), 7.5, 0.1),  # the spinning that the guest knows of itself
    ],
)
def test_spinning_that_the_guest_does_not_account_for_is_no_progress(
    accounted_s: tuple[float, float], waited_s: float, rate: float
) -> None:
    def at(second: float, share: float) -> HostSample:
        user_s, system_s = accounted_s
        guest = GuestReading(
            accounting=accounting(second, user_s * share, system_s * share),
            locks=LockWait(
                taken_at_ns=round(second * S), waits=1, wait_ns=round(waited_s * share * S)
            ),
        )
        return host(second, domain(second, second, guest=guest))

    _, demand = fold(at(0, 0), at(5, 1))
    assert demand.domains[0].progress.rate_pcpus == pytest.approx(rate)  # type: ignore[attr-defined]


def test_waiting_for_locks_in_idleness_is_no_spinning() -> None:
    def at(second: float, share: float) -> HostSample:
        idle = tuple(
            replace(cpu, idle_ns=round(share * 4 * S))
            for cpu in accounting(second, 0.3 * share, 0.0).cpus
        )
        guest = GuestReading(
            accounting=replace(accounting(second, 0, 0), cpus=idle),
            locks=LockWait(taken_at_ns=round(second * S), waits=1, wait_ns=round(7.5 * share * S)),
        )
        return host(second, domain(second, second, guest=guest))

    _, demand = fold(at(0, 0), at(5, 1))
    assert demand.domains[0].progress.rate_pcpus == 1.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("instructions", "rate"),
    [(10**10, 0.8), (10**9, 0.08), (2 * 10**10, 1.6), (-1, 0.8), (10**13, 0.8), (None, 0.8)],
)
def test_a_loop_that_retires_next_to_nothing_is_no_progress_where_the_hardware_counts(
    instructions: int | None, rate: float
) -> None:
    perf = {"cycles": 0, "instructions": 0}
    after = {"cycles": 10**10, "instructions": instructions}
    _, demand = fold(
        host(0, domain(0, 0, guest=GuestReading(accounting=accounting(0, 0, 0)), **perf)),
        host(1, domain(1, 1, guest=GuestReading(accounting=accounting(1, 8, 2)), **after)),
    )
    progress = demand.domains[0].progress  # type: ignore[attr-defined]
    assert progress.rate_pcpus == pytest.approx(rate)
    assert progress.worth_ratio == pytest.approx(rate)


@pytest.mark.parametrize(
    ("user_s", "system_s", "steal_s", "rate", "most"),
    [
        (4.0, 8.0, 2.0, 4.0, None),  # halted in its kernel for six seconds that it accounts for
        (4.0, 1.0, 0.0, 4.8, None),  # ticks that it missed were like the others
        (8.0, 1.0, 2.0, 6.0, None),  # no more than it ran
        (4.0, 8.0, None, 2.0, 4.0),  # stolen from it, perhaps while it was in its kernel
        (9.0, 3.0, None, 4.5, 6.0),
    ],
)
def test_a_steal_clock_tells_how_much_of_what_a_guest_ran_was_work(
    user_s: float, system_s: float, steal_s: float | None, rate: float, most: float | None
) -> None:
    """Of ten seconds it ran for six."""

    def at(second: float, share: float) -> HostSample:
        told = accounting(second, user_s * share, system_s * share)
        steal_ns = None if steal_s is None else round(steal_s * share * S / 2)
        cpus = tuple(replace(cpu, steal_ns=steal_ns) for cpu in told.cpus)
        guest = GuestReading(accounting=replace(told, cpus=cpus))
        return host(second, domain(second, 0.6 * second, guest=guest))

    _, demand = fold(at(0, 0), at(10, 1))
    progress = demand.domains[0].progress  # type: ignore[attr-defined]
    assert progress.rate_pcpus * 10 == pytest.approx(rate)
    assert progress.most_pcpus == (None if most is None else pytest.approx(most / 10))


def test_a_guest_that_claims_more_than_it_was_given_moves_only_its_share() -> None:
    def at(second: float, user_s: float) -> HostSample:
        guest = GuestReading(accounting=accounting(second, user_s, 0))
        return host(second, domain(second, second * 0.5, guest=guest))

    _, demand = fold(at(0, 0), at(5, 1e9))
    assert demand.domains[0].progress.rate_pcpus <= 0.5 + 1e-9  # type: ignore[attr-defined]


def test_a_guest_window_is_not_judged_before_the_host_has_seen_its_end() -> None:
    early = GuestReading(accounting=accounting(0.5, 0, 0))
    later = GuestReading(accounting=accounting(2.5, 1, 1))
    tracks, _ = fold(host(0, domain(0, 0)), host(1, domain(1, 1, guest=early)))
    tracks, demand = estimate(tracks, host(2, domain(2, 2, guest=later)))
    assert demand.domains[0].progress is None
    _, demand = estimate(tracks, host(3, domain(3, 3, guest=later)))
    assert demand.domains[0].progress is not None


def test_lock_wait_is_per_active_vcpu_and_never_above_one() -> None:
    def at(second: float, wait_s: float) -> HostSample:
        guest = GuestReading(
            accounting=accounting(second, 0, 0),
            locks=LockWait(taken_at_ns=round(second * S), waits=1, wait_ns=round(wait_s * S)),
        )
        return host(second, domain(second, second, guest=guest))

    _, demand = fold(at(0, 0), at(5, 4))
    assert demand.domains[0].lock_wait_ratio == pytest.approx(0.4)  # type: ignore[attr-defined]
    _, demand = fold(at(0, 0), at(5, 400))
    assert demand.domains[0].lock_wait_ratio == 1.0  # type: ignore[attr-defined]


def test_a_stale_lock_wait_is_no_evidence() -> None:
    def at(second: float, read_s: float, wait_s: float) -> HostSample:
        guest = GuestReading(
            locks=LockWait(taken_at_ns=round(read_s * S), waits=1, wait_ns=round(wait_s * S))
        )
        return host(second, domain(second, second, guest=guest))

    _, demand = fold(at(0, 0, 0), at(5, 5, 4), at(120, 5, 4))
    assert demand.domains[0].lock_wait_ratio is None  # type: ignore[attr-defined]


def test_the_guests_queue_is_its_average_length() -> None:
    def at(second: float, wait_s: float) -> HostSample:
        queue = RunQueue(
            taken_at_ns=round(second * S), cpus=(RunQueueWait(index=0, wait_ns=round(wait_s * S)),)
        )
        return host(second, domain(second, second, guest=GuestReading(run_queue=queue)))

    _, demand = fold(at(0, 1), at(5, 16))
    assert demand.domains[0].queued_tasks == pytest.approx(3.0)  # type: ignore[attr-defined]


def test_waits_that_a_guest_counts_backwards_are_no_evidence() -> None:
    def at(second: float, wait_s: float) -> HostSample:
        at_ns, wait_ns = round(second * S), round(wait_s * S)
        guest = GuestReading(
            accounting=accounting(second, second, 0),
            locks=LockWait(taken_at_ns=at_ns, waits=1, wait_ns=wait_ns),
            run_queue=RunQueue(taken_at_ns=at_ns, cpus=(RunQueueWait(index=0, wait_ns=wait_ns),)),
        )
        return host(second, domain(second, second, guest=guest))

    _, before = fold(at(0, 0), at(5, 5))
    known = before.domains[0]  # type: ignore[attr-defined]
    assert (known.lock_wait_ratio, known.queued_tasks) == (0.5, 1.0)
    _, after = fold(at(0, 0), at(5, 5), at(10, 4))
    lost = after.domains[0]  # type: ignore[attr-defined]
    assert (lost.lock_wait_ratio, lost.queued_tasks) == (None, None)


def test_times_that_a_guest_counts_backwards_are_no_progress() -> None:
    def at(second: float, user_s: float, system_s: float) -> HostSample:
        guest = GuestReading(accounting=accounting(second, user_s, system_s))
        return host(second, domain(second, second, guest=guest))

    for backwards in (at(5, 4, 9), at(5, 9, 4)):
        _, demand = fold(at(0, 5, 5), backwards)
        assert demand.domains[0].progress is None  # type: ignore[attr-defined]
        assert demand.domains[0].system_ratio is None  # type: ignore[attr-defined]


def test_progress_over_a_change_of_cpus_is_that_of_no_count() -> None:
    first = GuestReading(accounting=accounting(0, 0, 0, cpus=2))
    second = GuestReading(accounting=accounting(5, 1, 0, cpus=1))
    _, demand = fold(host(0, domain(0, 0, guest=first)), host(5, domain(5, 5, guest=second)))
    progress = demand.domains[0].progress  # type: ignore[attr-defined]
    assert progress is not None
    assert progress.active_vcpus is None


def test_a_run_delay_that_runs_backwards_moves_nothing() -> None:
    tracks, before = fold(host(0, domain(0, 0, 0)), host(1, domain(1, 0.5, 1.0)))
    _, after = estimate(tracks, host(2, domain(2, 1.0, 0.5)))
    known = before.domains[0].run_delay_pcpus  # type: ignore[attr-defined]
    assert after.domains[0].run_delay_pcpus == known == pytest.approx(1.0)
    assert after.domains[0].hold is None


def test_a_new_incarnation_starts_from_nothing() -> None:
    tracks, _ = fold(host(0, domain(0, 5)), host(1, domain(1, 6)))
    _, demand = estimate(tracks, host(2, domain(2, 0.1, incarnation="2@9")))
    assert demand.domains[0].used_pcpus is None
    assert demand.domains[0].hold is None


def test_what_unmanaged_work_uses_is_taken_from_the_pool() -> None:
    samples = [host(second, domain(second, second), busy_s=second * 1.5) for second in range(20)]
    _, demand = fold(*samples)
    assert demand.pools[0].available_pcpus == pytest.approx(1.5, abs=0.01)  # type: ignore[attr-defined]


def test_what_a_domain_used_before_it_went_is_not_taken_for_unmanaged_work() -> None:
    """Nor what one used before it was first seen; each in one window, and no other tells who it was."""
    both = [
        host(at, domain(at, at / 2), domain(at, at, uuid="v"), busy_s=at * 1.5) for at in range(9)
    ]
    came = host(0, domain(0, 0), busy_s=0.0)
    left = host(9, domain(9, 4.5), busy_s=9 * 1.5)
    _, demand = fold(came, *both[1:])
    assert demand.pools[0].available_pcpus == 2  # type: ignore[attr-defined]
    tracks, demand = fold(*both, left)
    assert demand.pools[0].available_pcpus == 2  # type: ignore[attr-defined]
    later = [host(at, domain(at, at / 2), busy_s=at * 1.5) for at in range(10, 30)]
    for sample in later:
        tracks, demand = estimate(tracks, sample)
    assert demand.pools[0].available_pcpus == pytest.approx(1, abs=0.01)  # type: ignore[attr-defined]


def test_however_busy_the_rest_a_tenth_of_the_pool_is_taken_to_be_there() -> None:
    samples = [host(second, domain(second, second), busy_s=second * 9) for second in range(20)]
    _, demand = fold(*samples)
    assert demand.pools[0].available_pcpus == pytest.approx(0.2)  # type: ignore[attr-defined]


def test_busy_time_that_begins_anew_moves_nothing() -> None:
    samples = [host(at, domain(at, at), busy_s=at * 1.5) for at in range(20)]
    tracks, before = fold(*samples)
    _, after = estimate(tracks, host(20, domain(20, 20), busy_s=0.1))
    assert after.pools == before.pools  # type: ignore[attr-defined]


def test_counters_read_now_and_then_are_no_more_managed_work_than_they_tell() -> None:
    read = [domain(second, second) for second in range(0, 60, 5)]
    samples = [host(at, read[at // 5], busy_s=at * 1.5) for at in range(60)]
    _, demand = fold(*samples)
    assert demand.pools[0].available_pcpus == pytest.approx(1.5, abs=0.01)  # type: ignore[attr-defined]


def test_a_paused_domain_uses_nothing_whatever_it_used_before() -> None:
    ran = [host(at, domain(at, at), busy_s=at) for at in range(3)]
    paused = domain(2, 2, troubles=frozenset({Trouble.PAUSED}))
    _, demand = fold(*ran, *(host(at, paused, busy_s=at) for at in range(3, 40)))
    assert demand.pools[0].available_pcpus == pytest.approx(1.0, abs=0.01)  # type: ignore[attr-defined]


@pytest.mark.parametrize("last_s", [20, 60, 119, 200])
def test_readings_of_two_minutes_are_kept_for_a_guest_that_speaks_seldom(last_s: int) -> None:
    first = GuestReading(accounting=accounting(2.5, 1.0, 0.0))
    samples = [
        host(at, domain(at, at, guest=None if at == 2 else first)) for at in range(2, last_s + 1)
    ]
    tracks, _ = fold(*samples)
    kept = tracks.domains["u"].older + tracks.domains["u"].points
    times = [at_ns // S for at_ns, _, _ in kept]
    assert times == list(range(times[0], last_s + 1)), "none is lost, none is there twice"
    assert times[0] == 2 or last_s - 150 <= times[0] <= last_s - 120
    # Its second word is held against the host's counters of all the time since its first.
    second = GuestReading(accounting=accounting(last_s + 0.5, 10.0, 0.0))
    _, demand = fold(*samples, host(last_s + 1, domain(last_s + 1, last_s + 1, guest=second)))
    progress = demand.domains[0].progress  # type: ignore[attr-defined]
    assert (progress is None) == (times[0] > 2)


def test_few_readings_are_kept_of_a_guest_that_says_nothing() -> None:
    tracks, _ = fold(*(host(at, domain(at, at)) for at in range(50)))
    track = tracks.domains["u"]
    assert [at_ns // S for at_ns, _, _ in track.older + track.points] == list(range(42, 50))


def test_an_unchanged_sample_object_costs_no_new_track() -> None:
    paused = domain(0, 5, troubles=frozenset({Trouble.PAUSED}))
    first, _ = fold(host(0, paused))
    second, _ = estimate(first, host(1, paused))
    assert second.domains["u"] is first.domains["u"]


def test_a_guest_that_says_none_of_its_cpus_is_online_breaks_nothing() -> None:
    liar = domain(0, 0, online=frozenset(), share_unit=ShareUnit.VCPU)
    _, demand = fold(host(0, liar, domain(0, 0, uuid="other")))
    assert len(demand.domains) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("other", "hold"),
    [
        (Trouble.STALE, Trouble.SELF_MANAGED),
        (Trouble.AGENT_ABSURD, Trouble.SELF_MANAGED),
        (Trouble.PAUSED, Trouble.PAUSED),
    ],
)
def test_what_is_the_matter_for_a_moment_does_not_hide_who_manages_itself(
    other: Trouble, hold: Trouble
) -> None:
    both = frozenset({other, Trouble.SELF_MANAGED})
    _, demand = fold(host(0, domain(0, 0, troubles=both)))
    assert demand.domains[0].hold is hold  # type: ignore[attr-defined]
