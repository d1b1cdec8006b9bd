"""Runs from beginning to end: repeatable, measured, with vcpud's own loop or without."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vcpud.plan import Outcome
from vcpud.record import CycleRecord
from vcpud_policies.spin_feedback import SpinFeedback
from vcpud_policies.static import Static
from vcpud_simulator.catalogue import SCHEDULERS
from vcpud_simulator.meter import Point, percentiles
from vcpud_simulator.runner import run
from vcpud_simulator.scenario import DomainPlan, NoisePlan, Scenario
from vcpud_simulator.trace import Recording
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.bursty import Bursty
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.noise import Noise
from vcpud_simulator.workloads.phased import Phase, Phased
from vcpud_simulator.workloads.web import WebServer

MS = 1_000_000
S = 1_000_000_000
LOCKED = Descriptors(rounds=40, grain_ns=80_000, gap_ns=2_500, hold_ns=600)


def plan(workload: Workload, **more: object) -> DomainPlan:
    return DomainPlan(**{"name": "a", "vcpus": 4, "workload": workload, **more})  # type: ignore[arg-type]


def scenario(*plans: DomainPlan, **more: object) -> Scenario:
    given = {"name": "s", "pcpus": 2, "warmup_ns": 0, "duration_ns": 2 * S, **more}
    return Scenario(domains=plans, **given)  # type: ignore[arg-type]


PAIR = scenario(plan(LOCKED, copies=2), warmup_ns=11 * S)


def test_the_same_seed_gives_an_equal_result_and_another_seed_another() -> None:
    short = replace(PAIR, warmup_ns=S, duration_ns=3 * S)
    first, again = (run(short, policy=SpinFeedback()) for _ in range(2))
    assert first == again
    assert first.changes
    other = run(short, policy=SpinFeedback(), seed=2)
    assert other.trace_hash != first.trace_hash
    assert (first.seed, other.seed) == (1, 2)


def test_without_a_hash_a_run_is_the_same() -> None:
    short = replace(PAIR, warmup_ns=S, duration_ns=S)
    hashed, plain = (run(short, policy=SpinFeedback(), hashed=word) for word in (True, False))
    assert len(hashed.trace_hash) == 32
    assert replace(hashed, trace_hash="", events=0) == plain


def test_two_collapsed_domains_recover_under_the_loop_that_ships() -> None:
    judged = replace(PAIR, warmup_ns=18 * S)
    bare = run(judged)
    result = run(judged, policy=SpinFeedback(), policy_name="thesis")
    assert (bare.policy, result.policy) == ("none", "thesis")
    for name in ("a-1", "a-2"):
        assert result.domains[name].rate > 200 * bare.domains[name].rate
        assert bare.domains[name].spin_pcpus > 0.95
        assert result.domains[name].mean_active_vcpus == 1
        assert result.domains[name].entitled_pcpus == pytest.approx(1, abs=0.01)
    assert {verdict.outcome for verdict in result.verdicts} == {Outcome.HELPED}
    assert all(decided.accepted for decided in result.changes)
    assert not bare.changes


@pytest.mark.parametrize("scheduler", ["cfs", "cfs_groups"])
def test_vcpus_that_a_domain_never_had_weigh_nothing_and_entitle_it_to_nothing(
    scheduler: str,
) -> None:
    single = plan(GobmkLike(), name="single", vcpus=1)
    roomy = plan(GobmkLike(), name="roomy", online=1)
    for pcpus, share in ((1, 0.5), (4, 1.0)):
        result = run(scenario(roomy, single, pcpus=pcpus, scheduler=scheduler))
        for name in ("roomy", "single"):
            assert result.domains[name].entitled_pcpus == pytest.approx(share, abs=0.02)
            assert result.domains[name].run_pcpus == pytest.approx(share, abs=0.1)


def test_a_constant_assignment_holds_from_the_first_instant_and_keeps_all_threads() -> None:
    result = run(scenario(plan(GobmkLike(), copies=2)), assignment={"a-1": 1})
    assert [point.active_vcpus for point in result.timeline["a-1"]] == [1, 1]
    assert result.domains["a-1"].mean_active_vcpus == 1
    assert result.domains["a-2"].mean_active_vcpus == 4
    assert 0.6 < result.domains["a-1"].run_pcpus <= 1
    held = scenario(plan(GobmkLike(), online=2, copies=2))
    assert run(held).domains["a-2"].mean_active_vcpus == 2


def test_the_loop_can_be_switched_on_later() -> None:
    result = run(PAIR, policy=SpinFeedback(), managed_from_ns=4 * S)
    assert result.changes[0].at_ns >= 5 * S
    points = result.timeline["a-1"]
    assert [point.active_vcpus for point in points[:4]] == [4] * 4
    assert points[-1].active_vcpus == 1


def test_seconds_add_up_to_the_window() -> None:
    seen: list[tuple[int, int]] = []
    watched: list[dict[str, Point]] = []
    result = run(
        scenario(plan(WebServer()), duration_ns=2_500 * MS),
        progress=lambda done, whole: seen.append((done, whole)),
        watch=lambda points: watched.append(dict(points)),
    )
    points = result.timeline["a"]
    assert [point.t_ns for point in points] == [S, 2 * S, 2_500 * MS]
    done = points[0].rate + points[1].rate + points[2].rate / 2
    assert done == pytest.approx(result.domains["a"].iterations)
    assert seen == [(S, 2_500 * MS), (2 * S, 2_500 * MS), (2_500 * MS, 2_500 * MS)]
    assert [one["a"] for one in watched] == list(points)


def test_warm_up_is_not_measured() -> None:
    result = run(scenario(plan(WebServer()), warmup_ns=S, duration_ns=S))
    domain = result.domains["a"]
    assert result.window_ns == (S, 2 * S)
    assert len(result.timeline["a"]) == 2
    assert domain.iterations == pytest.approx(result.timeline["a"][1].rate)
    assert 0 < domain.responses_ns[50] <= domain.responses_ns[95] <= domain.responses_ns[99]


def test_domains_that_come_and_go_are_measured_while_they_are_there() -> None:
    result = run(
        scenario(
            plan(GobmkLike()),
            plan(GobmkLike(), name="late", arrives_ns=S),
            plan(GobmkLike(), name="early", departs_ns=S),
            plan(GobmkLike(), name="before", departs_ns=200 * MS),
            warmup_ns=500 * MS,
            duration_ns=S,
        )
    )
    assert set(result.domains) == {"a", "late", "early"}
    for name in ("late", "early"):
        domain = result.domains[name]
        assert domain.mean_active_vcpus == pytest.approx(2, abs=0.01)
        assert domain.run_pcpus == pytest.approx(0.5, abs=0.05)
        assert domain.entitled_pcpus == pytest.approx(0.5, abs=0.01)
    assert result.domains["a"].entitled_pcpus == pytest.approx(1, abs=0.01)
    assert [point.t_ns for point in result.timeline["late"]] == [1_500 * MS]
    assert [point.t_ns for point in result.timeline["early"]] == [S]


def test_what_is_not_wanted_in_one_second_is_not_owed_in_another() -> None:
    turns = Bursty(period_ns=4 * S, busy_ratio=0.5, unit_ns=MS)
    pair = (plan(GobmkLike()), plan(turns, name="turns"))
    domains = run(scenario(*pair, warmup_ns=0, duration_ns=16 * S)).domains
    used, entitled = domains["turns"].run_pcpus, domains["turns"].entitled_pcpus
    assert used == pytest.approx(0.5, abs=0.03)
    assert entitled == pytest.approx(used, abs=0.05), "by what it wants on the whole it would be 1"
    assert domains["a"].entitled_pcpus == pytest.approx(1.5, abs=0.05)


def test_what_idle_domains_leave_over_others_are_entitled_to() -> None:
    busy, idle = plan(GobmkLike()), plan(Noise(), name="idle", weight=1024)
    domains = run(scenario(busy, idle, noise=NoisePlan(vcpus=2))).domains
    assert domains["a"].entitled_pcpus == pytest.approx(2, abs=0.1)
    assert set(domains) == {"a", "idle"}, "the host's own work is no domain"


def test_nobody_is_entitled_to_what_the_hosts_own_work_uses() -> None:
    pair = (plan(GobmkLike()), plan(GobmkLike(), name="b", weight=3 * 256))
    noise = NoisePlan(vcpus=2, weight=4096, burst_ns=2 * MS, sleep_ns=8 * MS)
    domains = run(scenario(*pair, noise=noise)).domains
    left = sum(domain.run_pcpus for domain in domains.values())
    assert left == pytest.approx(1.6, abs=0.1)
    assert domains["a"].entitled_pcpus == pytest.approx(left / 4, abs=0.01)
    assert domains["b"].entitled_pcpus == pytest.approx(3 * left / 4, abs=0.01)


def test_responses_of_all_phases_count() -> None:
    web = Phase(workload=WebServer(requests_per_s=200), duration_ns=300 * MS)
    result = run(scenario(plan(Phased(phases=(web, web))), warmup_ns=500 * MS, duration_ns=S))
    assert result.domains["a"].responses_ns
    assert result.domains["a"].iterations == pytest.approx(200, rel=0.3)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_can_be_named(scheduler: str) -> None:
    result = run(
        scenario(plan(GobmkLike(), copies=2), scheduler=scheduler, duration_ns=200 * MS),
        policy=Static(),
    )
    used = sum(domain.run_pcpus for domain in result.domains.values())
    assert used == pytest.approx(2, rel=0.02)


def test_a_trace_and_a_recorder_get_everything() -> None:
    class Counter:
        cycles = 0

        def record(self, record: CycleRecord) -> None:
            self.cycles += 1
            assert record.began_ns % (500 * MS) == 0

    recording, counter = Recording(), Counter()
    result = run(
        scenario(plan(GobmkLike()), period_ns=500 * MS),
        policy=Static(),
        trace=recording,
        recorder=counter,
    )
    assert len(recording.events) == result.events
    assert result.vcpus == ("a.0", "a.1", "a.2", "a.3")
    assert counter.cycles == 4


def test_the_impossible_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match=r"pcpus: expected 1 to 1024, found 0\nscheduler:"):
        run(scenario(plan(GobmkLike()), pcpus=0, scheduler="nope"))
    with pytest.raises(ValueError, match=r"a: 5 of 4 vCPUs\nassignment: b"):
        run(scenario(plan(GobmkLike())), assignment={"a": 5, "b": 1})


def test_percentiles_are_values_that_occurred() -> None:
    assert percentiles(list(range(1, 101))) == {50: 50, 95: 95, 99: 99}
    assert percentiles([7]) == {50: 7, 95: 7, 99: 7}
    assert percentiles([]) == {}
