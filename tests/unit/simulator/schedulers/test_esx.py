"""ESX co-scheduling: thresholds, who stops and starts with whom, and what strictness costs."""

from __future__ import annotations

import pytest

from fakes.guests import (
    MS,
    IdleWatch,
    check_conservation,
    hogs,
    pcpus_used,
    periodic,
    run_ms,
    shares,
    tiny_host,
)
from vcpud_simulator.engine import NEVER
from vcpud_simulator.entities import BLOCKED, CO_STOPPED, RUNNABLE, RUNNING, Vcpu
from vcpud_simulator.experiment import Laboratory
from vcpud_simulator.host import Host
from vcpud_simulator.schedulers.esx_relaxed import EsxRelaxed3, EsxRelaxed4
from vcpud_simulator.schedulers.esx_strict import EsxStrict
from vcpud_simulator.schedulers.esx_worlds import slowest_ns
from vcpud_simulator.trace import Digest, Event, Kind, Recording
from vcpud_simulator.workloads.ammp import AmmpLike, Wait

ESX = [EsxStrict, EsxRelaxed3, EsxRelaxed4]


def utilisation(host: Host, duration_ms: int = 4000) -> float:
    run_ms(host, 500)
    return sum(shares(host, duration_ms).values())


def lead_ns(vcpu: Vcpu) -> int:
    """How far it is ahead of its slowest sibling that is not idle, as of the last poll."""
    own_ns: int = vcpu.sched.progress_ns
    return max(0, own_ns - slowest_ns(vcpu.domain, own_ns))


def first(trace: Recording, kind: Kind) -> Event:
    return next(event for event in trace.events if event.kind == kind)


def pair_beside_single(scheduler: EsxStrict, trace: Recording | None = None) -> Host:
    """A domain of two beside one of one on two pCPUs, each vCPU entitled to the same."""
    host = tiny_host(scheduler, 2, trace=trace)
    hogs(host, "pair", vcpus=2, weight=512)
    hogs(host, "single", weight=256)
    return host


# ---------------------------------------------------------------------- polls


@pytest.mark.parametrize("scheduler", [EsxStrict, EsxRelaxed3])
@pytest.mark.parametrize("wait", [Wait.ACTIVE, Wait.PASSIVE])
def test_polls_that_have_nothing_to_judge_are_left_out_and_nobody_notices(
    scheduler: type[EsxStrict], wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trace() -> tuple[int, str]:
        digest = Digest()
        lab = Laboratory(pcpus=4, scheduler=scheduler(), trace=digest)
        for number, vcpus in enumerate((4, 3, 2, 1)):
            lab.add(f"d{number}", AmmpLike(grain_ns=2 * MS, wait=wait), vcpus=vcpus)
        lab.run_for(400 * MS)
        return digest.events, digest.hexdigest()

    left_out = trace()
    monkeypatch.setattr(EsxStrict, "_settled", lambda _self, _domain: False)
    assert trace() == left_out


# ---------------------------------------------------------------------- closed forms


def test_strict_fragmentation_of_a_pair_beside_a_single_on_two_pcpus() -> None:
    """Q for both of the pair, then one of it alone until it is found to lead by c, then idle.

    The single runs from Q until it has used as much as the pair on average, Q + c/2.
    """
    q, c = 50.0, 3.5  # found at a poll within the millisecond after 3 ms
    expected = (2 * q + (q + c / 2) + c) / (2 * (2 * q + c / 2))
    assert utilisation(pair_beside_single(EsxStrict())) == pytest.approx(expected, rel=0.03)


def test_strict_fragmentation_of_equal_domains_of_two_and_one() -> None:
    """The pair is entitled to half a pCPU each: it has both pCPUs a third of the time."""
    host = tiny_host(EsxStrict(costop_ns=MS // 2, costart_ns=MS // 2, poll_ns=MS // 2), 2)
    pair = hogs(host, "pair", vcpus=2)
    single = hogs(host, "single")
    run_ms(host, 500)
    got = shares(host, 4000)
    assert got[pair.name] == pytest.approx(1 / 3, rel=0.03)
    assert got[single.name] == pytest.approx(1 / 3, rel=0.03)


def test_strict_fragmentation_of_a_pair_and_two_singles_on_three_pcpus() -> None:
    """Three sets fit: pair and one single (twice), or both singles: 8/9 if shares are equal."""
    host = tiny_host(EsxStrict(costop_ns=MS // 2, costart_ns=MS // 2, poll_ns=MS // 2), 3)
    hogs(host, "pair", vcpus=2, weight=512)
    hogs(host, "one", weight=256)
    hogs(host, "other", weight=256)
    assert utilisation(host) == pytest.approx(8 / 9, rel=0.03)


def test_without_co_stop_there_is_no_fragmentation() -> None:
    assert utilisation(pair_beside_single(EsxStrict(costop_ns=NEVER))) == pytest.approx(1.0)


@pytest.mark.parametrize("scheduler", [EsxRelaxed3, EsxRelaxed4])
def test_relaxed_does_not_fragment_the_same_host(scheduler: type[EsxStrict]) -> None:
    assert utilisation(pair_beside_single(scheduler())) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("scheduler", ESX)
def test_domains_as_wide_as_the_host_take_turns_without_loss(scheduler: type[EsxStrict]) -> None:
    host = tiny_host(scheduler(), 4)
    for name in "abc":
        hogs(host, name, vcpus=4)
    assert utilisation(host, 3000) == pytest.approx(1.0, abs=0.01)
    check_conservation(host)


# ---------------------------------------------------------------------- thresholds


@pytest.mark.parametrize("costop_ms", [1, 3, 10])
def test_strict_stops_the_whole_domain_at_the_first_poll_beyond_the_threshold(
    costop_ms: int,
) -> None:
    trace = Recording()
    scheduler = EsxStrict(costop_ns=costop_ms * MS, costart_ns=costop_ms * MS)
    host = pair_beside_single(scheduler, trace)
    run_ms(host, 200)
    stop = first(trace, Kind.CO_STOP)
    alone_since_ns = max(
        e.when_ns for e in trace.events if e.kind == Kind.PREEMPT and e.when_ns < stop.when_ns
    )
    assert costop_ms * MS < stop.when_ns - alone_since_ns <= (costop_ms + 1) * MS
    together = [
        e.vcpu for e in trace.events if (e.kind, e.when_ns) == (Kind.CO_STOP, stop.when_ns)
    ]
    assert sorted(together) == [0, 1]


def test_strict_starts_the_whole_domain_at_one_instant_on_pcpus_of_its_own() -> None:
    trace = Recording()
    run_ms(pair_beside_single(EsxStrict(), trace), 1000)
    start_ns = first(trace, Kind.CO_START).when_ns
    places = {
        event.vcpu: event.place
        for event in trace.events
        if event.when_ns == start_ns and event.kind == Kind.DISPATCH
    }
    assert set(places) == {0, 1}
    assert set(places.values()) == {0, 1}


def test_relaxed_3_starts_together_only_those_that_are_behind() -> None:
    scheduler = EsxRelaxed3()
    host = tiny_host(scheduler, 3)
    domain = hogs(host, "d", vcpus=3)
    run_ms(host, 10)
    ahead, behind, near = domain.vcpus
    for vcpu in domain.vcpus:
        scheduler._stop(vcpu)
    behind.sched.progress_ns -= 4 * MS
    near.sched.progress_ns -= MS
    assert scheduler._gang(domain) == [behind]
    assert EsxStrict._gang(scheduler, domain) == [ahead, behind, near]


def test_relaxed_4_stops_the_leader_alone_and_lets_it_go_on_alone() -> None:
    trace = Recording()
    scheduler = EsxRelaxed4()
    host = pair_beside_single(scheduler, trace)
    pair = host.domains[0]
    leads: list[tuple[int, int]] = []

    def look() -> None:
        stopped = [vcpu for vcpu in pair.vcpus if vcpu.state == CO_STOPPED]
        leads.extend((len(stopped), lead_ns(vcpu)) for vcpu in stopped)
        host.engine.after(MS // 2, look)

    look()
    run_ms(host, 2000)
    assert leads
    assert {count for count, _ in leads} == {1}
    assert all(2 * MS <= lead_ns <= 5 * MS for _, lead_ns in leads)


def test_relaxed_4_never_lets_a_sibling_lead_far_beyond_the_threshold() -> None:
    scheduler = EsxRelaxed4()
    host = pair_beside_single(scheduler)
    worst_ns = 0
    for _ in range(1000):
        run_ms(host, 1)
        worst_ns = max(worst_ns, *(lead_ns(v) for v in host.domains[0].vcpus))
    assert worst_ns <= 4 * MS


def test_with_the_thresholds_out_of_reach_it_leads_much_further() -> None:
    scheduler = EsxRelaxed4(costop_ns=NEVER)
    host = pair_beside_single(scheduler)
    worst_ns = 0
    for _ in range(1000):
        run_ms(host, 1)
        worst_ns = max(worst_ns, *(lead_ns(v) for v in host.domains[0].vcpus))
    assert worst_ns > 20 * MS


@pytest.mark.parametrize("scheduler", ESX)
def test_an_idle_sibling_makes_progress(scheduler: type[EsxStrict]) -> None:
    trace = Recording()
    host = tiny_host(scheduler(), 2, trace=trace)
    domain = hogs(host, "half-idle", vcpus=2)
    hogs(host, "other")
    while domain.vcpus[1].state != BLOCKED:
        if domain.vcpus[1].state == RUNNING:
            host.block(domain.vcpus[1])
        run_ms(host, 1)
    trace.events.clear()
    run_ms(host, 2000)
    assert domain.vcpus[1].state == BLOCKED
    assert not [event for event in trace.events if event.kind == Kind.CO_STOP]


def test_a_start_threshold_above_the_stop_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="costart_ns"):
        EsxStrict(costop_ns=MS, costart_ns=2 * MS)


# ---------------------------------------------------------------------- shares and quanta


@pytest.mark.parametrize("quantum_ms", [50, 200])
def test_singles_take_turns_of_a_quantum(quantum_ms: int) -> None:
    host = tiny_host(EsxStrict(quantum_ns=quantum_ms * MS), 1)
    hogs(host, "a")
    hogs(host, "b")
    run_ms(host, 2000)
    assert host.pcpus[0].dispatches == pytest.approx(2000 / quantum_ms, abs=1)


@pytest.mark.parametrize("scheduler", ESX)
def test_the_weight_is_the_domains_whatever_its_width(scheduler: type[EsxStrict]) -> None:
    host = tiny_host(scheduler(), 1)
    hogs(host, "narrow")
    hogs(host, "wide", vcpus=3)
    run_ms(host, 300)
    assert shares(host, 5000)["narrow"] == pytest.approx(0.5, abs=0.02)


def test_nobody_is_entitled_to_more_than_its_width() -> None:
    """Else a single of equal weight would always go before domains that can use more."""
    host = tiny_host(EsxRelaxed4(), 4)
    wide = hogs(host, "wide", vcpus=4)
    single = hogs(host, "single")
    run_ms(host, 300)
    assert pcpus_used(host, single, 3000) == pytest.approx(1.0, abs=0.1)
    assert wide.sched < single.sched


def test_who_wakes_preempts_whoever_has_used_most() -> None:
    host = tiny_host(EsxStrict(), 1)
    hogs(host, "hog")
    _, guest = periodic(host, "io", work_ns=MS // 5, sleep_ns=7 * MS)
    run_ms(host, 2000)
    assert max(guest.delays_ns[20:]) == 0


@pytest.mark.parametrize("scheduler", ESX)
def test_a_runnable_vcpu_never_waits_beside_an_idle_pcpu(scheduler: type[EsxStrict]) -> None:
    """Those withheld are co-stopped, not runnable."""
    host = tiny_host(scheduler(), 3)
    watch = IdleWatch(host)
    hogs(host, "a", vcpus=3)
    hogs(host, "b", vcpus=2)
    periodic(host, "io", work_ns=MS, sleep_ns=3 * MS)
    run_ms(host, 2000)
    assert watch.longest_ns <= host.scheduler.balance_ns
    assert all(vcpu.in_state_ns(RUNNABLE, host.engine.now_ns) for vcpu in host.vcpus[:5])
    check_conservation(host)


@pytest.mark.parametrize("scheduler", ESX)
def test_all_vcpus_of_a_domain_wider_than_the_host_get_their_turn(
    scheduler: type[EsxStrict],
) -> None:
    host = tiny_host(scheduler(), 2)
    wide = hogs(host, "wide", vcpus=4)
    run_ms(host, 4000)
    ran = [vcpu.in_state_ns(RUNNING, host.engine.now_ns) for vcpu in wide.vcpus]
    assert min(ran) > 0.8 * max(ran)
