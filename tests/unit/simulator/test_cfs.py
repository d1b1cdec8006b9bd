from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from fakes.guests import Hog, hogs, run_ms, tiny_host
from vcpud_simulator.entities import RUNNING, Scheduler
from vcpud_simulator.experiment import Laboratory
from vcpud_simulator.host import FREE
from vcpud_simulator.schedulers.cfs import Cfs
from vcpud_simulator.schedulers.credit_xen32 import CreditXen32
from vcpud_simulator.schedulers.eevdf import Eevdf
from vcpud_simulator.trace import Kind, Recording
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.noise import Noise

MS = 1_000_000


def shares(scheduler: Scheduler, widths: dict[str, int], *, pcpus: int) -> dict[str, float]:
    lab = Laboratory(pcpus=pcpus, scheduler=scheduler, costs=FREE)
    for name, vcpus in widths.items():
        lab.add(name, GobmkLike(), vcpus=vcpus, weight=1024)
    lab.run_for(500 * MS)
    return {name: m.run_pcpus / pcpus for name, m in lab.measure(4_000 * MS).items()}


def test_with_groups_a_narrow_domain_gets_as_much_as_a_wide_one() -> None:
    found = shares(Cfs(), {"narrow": 1, "wide": 3}, pcpus=1)
    assert found["narrow"] == pytest.approx(0.5, rel=0.03)


def test_without_groups_shares_follow_the_number_of_vcpus() -> None:
    found = shares(Cfs(groups=False), {"narrow": 1, "wide": 3}, pcpus=1)
    assert found["narrow"] == pytest.approx(0.25, rel=0.03)


@pytest.mark.parametrize(("pcpus", "slice_ms"), [(1, 4), (2, 8), (8, 16)])
def test_two_hogs_alternate_at_the_first_tick_after_half_the_scaled_latency(
    pcpus: int, slice_ms: int
) -> None:
    # latency 6 ms times 1, 2, 4; half of it is 3, 6, 12 ms, and a tick must find more than that
    recording = Recording(from_ns=1_000 * MS)
    lab = Laboratory(pcpus=pcpus, scheduler=Cfs(groups=False), costs=FREE, trace=recording)
    for name in ("a", "b"):
        lab.add(name, GobmkLike(), vcpus=pcpus, weight=1024)
    lab.run_for(2_000 * MS)
    switches = [e.when_ns for e in recording.events if e.kind == Kind.DISPATCH and e.place == 0]
    gaps_ms = {(b - a) // MS for a, b in itertools.pairwise(switches)}
    assert slice_ms in gaps_ms
    assert max(gaps_ms) <= slice_ms + 4


def test_a_sleeper_preempts_a_hog_at_once() -> None:
    lab = Laboratory(pcpus=1, scheduler=Cfs())
    lab.add("hog", GobmkLike(), vcpus=1)
    sleeper = lab.add("sleeper", Noise(), vcpus=1)
    lab.run_for(5_000 * MS)
    vcpu = sleeper.kernel.domain.vcpus[0]
    waited_ns = vcpu.in_state_ns(1, lab.engine.now_ns)
    assert waited_ns / sleeper.progress.iterations < 0.5 * MS


def test_balance_scheduling_keeps_siblings_apart() -> None:
    def stacked(make: Callable[[], Scheduler]) -> int:
        lab = Laboratory(pcpus=4, scheduler=make())
        for name in ("a", "b"):
            lab.add(name, Noise(burst_ns=MS, sleep_ns=MS), vcpus=4)
        found = 0
        for _ in range(400):
            lab.run_for(MS)
            for domain in lab.host.domains:
                places = [v.pcpu for v in domain.vcpus if v.state <= 1]
                found += len(places) - len(set(places))
        return found

    assert stacked(lambda: Cfs(siblings_apart=True)) < stacked(Cfs) / 3


def test_an_idle_pcpu_takes_over_a_waiting_vcpu() -> None:
    lab = Laboratory(pcpus=3, scheduler=Cfs())
    lab.add("hogs", GobmkLike(), vcpus=3)
    lab.run_for(1_000 * MS)
    for vcpu in lab.host.vcpus:
        assert vcpu.in_state_ns(RUNNING, lab.engine.now_ns) > 985 * MS


@pytest.mark.parametrize("scheduler", [Cfs, Eevdf])
def test_a_linux_host_ticks_on_all_pcpus_at_once(scheduler: type[Cfs | Eevdf]) -> None:
    lab = Laboratory(pcpus=8, scheduler=scheduler())
    assert len({pcpu.phase_ns for pcpu in lab.host.pcpus}) == 1
    xen = Laboratory(pcpus=8, scheduler=CreditXen32())
    assert len({pcpu.phase_ns for pcpu in xen.host.pcpus}) == 8


def test_a_linux_guest_ticks_on_all_its_cpus_at_once_and_guests_each_in_their_own_time() -> None:
    lab = Laboratory(pcpus=4, scheduler=Cfs())
    phases = [
        {cpu.next_tick_ns for cpu in lab.add(name, GobmkLike(), vcpus=4).kernel.cpus}
        for name in ("a", "b", "c")
    ]
    assert [len(phase) for phase in phases] == [1, 1, 1]
    assert len(set.union(*phases)) == 3


@pytest.mark.parametrize("scheduler", [Cfs, Eevdf])
def test_of_three_hogs_on_two_pcpus_none_has_a_pcpu_to_itself(
    scheduler: type[Cfs | Eevdf],
) -> None:
    found = shares(scheduler(groups=False), {"a": 1, "b": 1, "c": 1}, pcpus=2)
    assert max(found.values()) < 0.45
    assert min(found.values()) > 0.22


@pytest.mark.parametrize("scheduler", [Cfs, Eevdf])
def test_loads_are_balanced_by_weight_not_by_heads(scheduler: type[Cfs | Eevdf]) -> None:
    """One of weight three on one pCPU, three of weight one on the other: as it has to be."""
    lab = Laboratory(pcpus=2, scheduler=scheduler(groups=False), costs=FREE)
    lab.add("heavy", GobmkLike(), vcpus=1, weight=768)
    for name in ("a", "b", "c"):
        lab.add(name, GobmkLike(), vcpus=1)
    lab.run_for(500 * MS)
    found = lab.measure(3_000 * MS)
    assert found["heavy"].run_pcpus > 0.95
    assert min(found[name].run_pcpus for name in "abc") > 0.3


@pytest.mark.parametrize("scheduler", [Cfs, Eevdf])
def test_a_heavy_one_that_has_a_pcpu_for_itself_hides_no_crowded_one(
    scheduler: type[Cfs | Eevdf],
) -> None:
    linux = scheduler()
    lab = Laboratory(pcpus=3, scheduler=linux, costs=FREE)
    lab.add("heavy", GobmkLike(), vcpus=1, weight=1024)
    for name in ("a", "b"):
        lab.add(name, GobmkLike(), vcpus=6)
    alone, crowded, other = lab.host.pcpus
    [heavy, first, second] = [lab.host.domains[at].vcpus for at in range(3)]
    lab.run_for(100 * MS)
    for vcpu in (*first, *second):
        if vcpu.sched.waiting:
            linux._take(vcpu, crowded, lab.engine.now_ns)
    lab.run_for(2_000 * MS)
    assert heavy[0].pcpu is alone
    heads = [sum(v.pcpu is place for v in (*first, *second)) for place in (crowded, other)]
    assert sum(heads) == 12
    assert max(heads) <= 1.17 * min(heads)


@pytest.mark.parametrize("scheduler", [Cfs, Eevdf])
def test_nobody_moves_where_no_move_would_even_loads_out(scheduler: type[Cfs | Eevdf]) -> None:
    """Two beside three, and one as heavy as four alone: three are as many as all have on average."""
    linux = scheduler(groups=False)
    lab = Laboratory(pcpus=3, scheduler=linux, costs=FREE)
    lab.add("heavy", GobmkLike(), vcpus=1, weight=1024)
    lab.add("many", GobmkLike(), vcpus=5)
    lab.run_for(1_000 * MS)
    for _ in range(50):
        lab.run_for(7 * MS)
        assert [linux.placement.to_balance(pcpu) for pcpu in lab.host.pcpus] == [None] * 3


def test_who_ran_a_moment_ago_is_not_pulled_by_an_idle_pcpu() -> None:
    host = tiny_host(Cfs(groups=False), 2)
    crowded, idle = host.pcpus
    (first,) = hogs(host, "first", pcpu=crowded).vcpus
    run_ms(host, 1)
    (second,) = hogs(host, "second", pcpu=idle).vcpus
    run_ms(host, 20)
    assert (first.pcpu, second.pcpu) == (crowded, idle)
    third = host.add_domain("third", vcpus=1).vcpus[0]
    third.guest = Hog()
    third.pcpu = crowded
    third.sched.vruntime_ns = -100 * MS
    host.wake(third)  # preempts the first,
    host.engine.run_until(host.engine.now_ns)
    assert crowded.current is third
    host.offline(second)
    run_ms(host, 0)
    assert idle.current is None  # which is too warm to be pulled at once,
    run_ms(host, 5)
    assert idle.current is not None  # but not after the next tick
