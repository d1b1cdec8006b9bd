"""The simulated hypervisor: what it shows on which platform, how late, and what it does when told."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from vcpud.model import (
    Accepted,
    Change,
    DomainSample,
    EventKind,
    HostEvent,
    Method,
    Mode,
    Reason,
    Refused,
    SetLive,
    SetOnline,
    SetWeight,
    ShareUnit,
    Terms,
    Trouble,
)
from vcpud.ports import Wake
from vcpud.terms import Selector, TermsBook
from vcpud_simulator.guest.locks import UnfairLock
from vcpud_simulator.hypervisor import SimulatedClock, SimulatedHypervisor
from vcpud_simulator.platform import Signal
from vcpud_simulator.scenario import (
    ActuationPlan,
    DomainPlan,
    Lie,
    NoisePlan,
    Pause,
    Scenario,
    SignalPlan,
    SignalsPlan,
)
from vcpud_simulator.workloads.ammp import AmmpLike, Wait
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.noise import Noise
from vcpud_simulator.world import World

MS = 1_000_000
S = 1_000_000_000
LOCKED = Descriptors(rounds=40, grain_ns=80_000, gap_ns=2_500, hold_ns=600)


class Rig:
    """A world, its hypervisor and a clock, without a loop."""

    def __init__(self, *plans: DomainPlan, terms: TermsBook | None = None, **more: object) -> None:
        scenario = Scenario(name="rig", domains=plans, **{"pcpus": 2, **more})  # type: ignore[arg-type]
        self.world = World(scenario)
        self.hypervisor = SimulatedHypervisor(self.world, terms=terms)
        self.clock = SimulatedClock(self.hypervisor)
        self.events: list[HostEvent] = []

    def wait(self, duration_ns: int) -> None:
        deadline_ns = self.clock.now_ns() + duration_ns
        while self.clock.wait_until(deadline_ns) is Wake.EVENT:
            self.events += self.hypervisor.events()

    def look(self, name: str = "a") -> DomainSample:
        return next(one for one in self.hypervisor.sample().domains if one.name == name)

    def begin(self, change: Change) -> object:
        return self.hypervisor.begin(change)

    def online(self, *cpus: int) -> SetOnline:
        return SetOnline(uuid=self.look().uuid, online=frozenset(cpus))


def plan(workload: Workload, **more: object) -> DomainPlan:
    return DomainPlan(**{"name": "a", "vcpus": 4, "workload": workload, **more})  # type: ignore[arg-type]


def wait_grown(rig: Rig, window_ns: int, steps: int = 4) -> int:
    """By how much the lock wait that is shown has grown."""
    shown = []
    for _ in range(steps):
        rig.wait(window_ns // steps)
        guest = rig.look().guest
        if guest is not None and guest.locks is not None:
            shown.append(guest.locks.wait_ns)
    return shown[-1] - shown[0]


# ------------------------------------------------------------------------------- what is shown


@pytest.mark.parametrize(
    ("platform", "guest", "perf", "method"),
    [
        ("kvm", True, False, Method.AGENT),
        ("kvm-perf", True, True, Method.AGENT),
        ("xen", False, False, Method.XENSTORE),
        ("xen-reporter", True, False, Method.XENSTORE),
        ("tcg", True, False, Method.AGENT),
    ],
)
def test_a_platform_shows_what_it_has_and_no_more(
    platform: str, guest: bool, perf: bool, method: Method
) -> None:
    rig = Rig(plan(GobmkLike()), platform=platform)
    for _ in range(7):
        rig.wait(S)
        rig.look()
    seen = rig.look()
    assert seen.method is method
    assert all(v.run_ns is not None and v.run_delay_ns is not None for v in seen.vcpus)
    assert (seen.cycles is not None, seen.instructions is not None) == (perf, perf)
    reading = seen.guest
    parts = (
        ()
        if reading is None
        else (reading.accounting, reading.locks, reading.run_queue, reading.runnable)
    )
    assert all(part is not None for part in parts)
    assert bool(parts) == guest
    assert (Trouble.LOCK_SIGNAL_MISSING in seen.troubles) != guest
    assert (seen.online is not None) == (method is Method.AGENT)
    if reading is not None and reading.accounting is not None:
        steals = {cpu.steal_ns is None for cpu in reading.accounting.cpus}
        assert steals == {platform == "tcg"}


def test_run_times_and_run_delays_are_those_of_the_host() -> None:
    rig = Rig(plan(GobmkLike()), noise=NoisePlan(vcpus=2))
    rig.wait(2 * S)
    sample = rig.hypervisor.sample()
    vcpus = sample.domains[0].vcpus
    run_ns = sum(vcpu.run_ns or 0 for vcpu in vcpus)
    assert sum((v.run_ns or 0) + (v.run_delay_ns or 0) for v in vcpus) == 4 * 2 * S
    assert sample.busy_ns is not None
    assert run_ns < sample.busy_ns <= 2 * 2 * S, "the host's own work is not a domain's"
    assert [domain.name for domain in sample.domains] == ["a"]


def test_waits_for_queued_kernel_locks_show() -> None:
    rig = Rig(plan(LOCKED), plan(LOCKED, name="b"))
    assert wait_grown(rig, 4 * S) > 2 * S


@pytest.mark.parametrize(
    "workload",
    [
        AmmpLike(grain_ns=2 * MS),
        AmmpLike(grain_ns=2 * MS, wait=Wait.YIELDING),
        AmmpLike(grain_ns=2 * MS, wait=Wait.SPIN_THEN_FUTEX),
        Descriptors(rounds=20, gap_ns=20_000, hold_ns=2_000, lock=UnfairLock),
    ],
)
def test_spinning_in_user_mode_and_on_test_and_set_locks_stays_invisible(
    workload: Workload,
) -> None:
    rig = Rig(plan(workload), plan(workload, name="b"))
    assert wait_grown(rig, 2 * S) == 0
    kernel = rig.world.residents["a"].inhabitant.kernel
    assert sum(cpu.true_spin_ns for cpu in kernel.cpus) > 0, "though there is spinning"


def test_two_that_contend_pass_no_tracepoint() -> None:
    rig = Rig(plan(LOCKED, vcpus=2), pcpus=1)
    assert wait_grown(rig, 3 * S) == 0


def test_a_spin_in_user_mode_shows_as_few_instructions_a_cycle_where_the_hardware_counts() -> None:
    def ipc(workload: Workload) -> float:
        rig = Rig(plan(workload), platform="kvm-perf", pause=Pause.KERNEL)
        rig.wait(S)
        before = rig.look()
        rig.wait(S)
        after = rig.look()
        assert None not in {before.cycles, before.instructions, after.cycles, after.instructions}
        return ((after.instructions or 0) - (before.instructions or 0)) / (
            (after.cycles or 0) - (before.cycles or 0)
        )

    assert ipc(AmmpLike(grain_ns=MS)) < 0.7 * ipc(GobmkLike())


def test_guest_times_are_whole_ticks_of_the_mode_a_tick_found() -> None:
    rig = Rig(plan(GobmkLike(), vcpus=1, guest={"hz": 100, "steal_clock": False}), pcpus=1)
    rig.wait(6 * S)
    reading = rig.look().guest
    assert reading is not None
    assert reading.accounting is not None
    cpu = reading.accounting.cpus[0]
    assert cpu.user_ns % (10 * MS) == cpu.system_ns % (10 * MS) == 0
    assert cpu.user_ns > 0


@pytest.mark.parametrize(
    ("scheduler", "unit"), [("cfs_groups", ShareUnit.DOMAIN), ("credit", ShareUnit.VCPU)]
)
def test_the_unit_of_shares_is_the_scheduler_s(scheduler: str, unit: ShareUnit) -> None:
    assert Rig(plan(GobmkLike()), scheduler=scheduler).look().share_unit is unit


# ------------------------------------------------------------------------------- what reading costs


def test_asking_costs_the_guest_and_not_asking_costs_nothing() -> None:
    def used_ns(mode: Mode) -> int:
        rig = Rig(plan(Noise(burst_ns=0), mode=mode))
        rig.wait(20 * S)
        return sum(vcpu.run_ns or 0 for vcpu in rig.look().vcpus)

    asked, left_alone = used_ns(Mode.ENFORCE), used_ns(Mode.OBSERVE)
    assert 10 * MS < asked - left_alone < 100 * MS, "7 to 9 commands each 5 s"


def test_a_collapsed_guest_answers_late() -> None:
    def latency_ns(*plans: DomainPlan) -> int:
        rig = Rig(*plans)
        rig.wait(6 * S)
        reading = rig.look().guest
        assert reading is not None
        return reading.latency_ns or 0

    alone = latency_ns(plan(Noise(burst_ns=0)))
    collapsed = latency_ns(plan(LOCKED), plan(LOCKED, name="b"))
    assert alone < 5 * MS
    assert collapsed > 5 * alone


def test_only_domains_whose_owner_or_operator_allows_it_are_asked() -> None:
    book = TermsBook(
        selectors=(Selector(pattern="b", terms=Terms(guest_signals=True)),), metadata=False
    )
    rig = Rig(plan(GobmkLike()), plan(GobmkLike(), name="b"), terms=book)
    rig.wait(4 * S)
    assert rig.look("a").guest is None
    assert rig.look("b").guest is not None
    rig.hypervisor.adopt(TermsBook(default=Terms(mode=Mode.OFF), metadata=False))
    assert rig.look("b").guest is None
    assert rig.look("b").terms.mode is Mode.OFF
    rig.wait(4 * S)
    rig.hypervisor.adopt(book)
    allowed_ns = rig.look("b").taken_at_ns
    rig.wait(6 * S)
    guest = rig.look("b").guest
    assert guest is not None
    assert guest.accounting is not None
    assert guest.accounting.taken_at_ns > allowed_ns, "it is asked again"


# ------------------------------------------------------------------------------- late, noisy, lost


def signals(**plans: SignalPlan) -> SignalsPlan:
    return SignalsPlan(**plans)  # type: ignore[arg-type]


def test_a_late_signal_is_that_of_an_earlier_instant_and_says_so() -> None:
    late = signals(run=SignalPlan(latency_ns=1500 * MS), locks=SignalPlan(latency_ns=4 * S))
    rig = Rig(plan(GobmkLike()), signals=late)
    for _ in range(3):
        rig.wait(S)
        rig.look()
    rig.wait(S)
    seen = rig.look()
    assert seen.taken_at_ns == 2 * S
    assert seen.guest is not None
    assert seen.guest.locks is None, "it is on its way for four seconds"
    assert seen.guest.accounting is not None


def test_a_stale_signal_is_repeated_with_its_old_timestamp() -> None:
    rig = Rig(plan(GobmkLike()), signals=signals(run=SignalPlan(staleness_ns=3 * S)))
    taken = []
    for _ in range(7):
        rig.wait(S)
        taken.append(rig.look().taken_at_ns // S)
    assert taken == [1, 1, 1, 4, 4, 4, 7]


def test_noise_blurs_increases_and_never_turns_a_counter_back() -> None:
    rig = Rig(plan(GobmkLike()), signals=signals(run=SignalPlan(noise_ratio=0.5)))
    shown: list[int] = []
    for _ in range(30):
        rig.wait(100 * MS)
        shown.append(sum(vcpu.run_ns or 0 for vcpu in rig.look().vcpus))
    grown = [after - before for before, after in pairwise(shown)]
    assert min(grown) >= 0
    assert len(set(grown)) > 20
    assert 0.7 < sum(grown) / (29 * 200 * MS) < 1.3


def test_a_lost_reading_is_not_reported_rather_than_zero() -> None:
    rig = Rig(plan(GobmkLike()), signals=signals(run_delay=SignalPlan(loss_ratio=0.5)))
    shown = []
    for _ in range(30):
        rig.wait(100 * MS)
        shown.append(rig.look().vcpus[0].run_delay_ns)
    assert 5 < shown.count(None) < 25
    assert 0 not in shown[1:]


def test_a_missing_signal_is_named() -> None:
    rig = Rig(plan(GobmkLike(), missing=(Signal.LOCKS, Signal.RUN_DELAY)))
    rig.wait(3 * S)
    seen = rig.look()
    assert Trouble.LOCK_SIGNAL_MISSING in seen.troubles
    assert seen.guest is not None
    assert seen.guest.locks is None
    assert seen.vcpus[0].run_delay_ns is None


def test_a_liar_is_believed_by_the_platform() -> None:
    rig = Rig(
        plan(GobmkLike(), lies=(Lie.LOCKS_INFLATED, Lie.ALL_USER)),
        plan(LOCKED, name="b", lies=(Lie.LOCKS_DENIED,)),
    )
    rig.wait(5 * S)
    liar, denier = rig.look("a").guest, rig.look("b").guest
    assert liar is not None
    assert denier is not None
    assert liar.locks is not None
    assert liar.locks.wait_ns == 4 * liar.locks.taken_at_ns
    assert liar.accounting is not None
    assert all(cpu.system_ns == 0 for cpu in liar.accounting.cpus)
    assert denier.locks is not None
    assert denier.locks.wait_ns == 0


# ------------------------------------------------------------------------------- what is done


def test_a_change_is_made_by_the_guest_and_told_when_it_is_done() -> None:
    rig = Rig(plan(GobmkLike()))
    change = rig.online(0, 1)
    assert rig.begin(change) == Accepted()
    assert rig.look().in_flight == change
    assert rig.begin(change) == Refused(Reason.IN_FLIGHT, "another change is under way")
    rig.wait(3 * S)
    assert [event.kind for event in rig.events] == [EventKind.CHANGE_DONE]
    assert rig.events[0].at_ns > 30 * MS, "grace periods and a rendezvous take their time"
    seen = rig.look()
    assert (seen.online, seen.in_flight, seen.live_vcpus) == (frozenset({0, 1}), None, 4)
    assert (seen.online_taken_at_ns or 0) >= rig.events[0].at_ns
    assert len(rig.world.residents["a"].inhabitant.kernel.online_cpus) == 2


def test_xen_changes_the_number_of_vcpus_by_xenstore() -> None:
    rig = Rig(plan(GobmkLike()), platform="xen", scheduler="credit")
    uuid = rig.look().uuid
    assert rig.begin(SetLive(uuid=uuid, count=1)) == Accepted()
    rig.wait(3 * S)
    assert rig.look().live_vcpus == 1
    assert rig.begin(SetLive(uuid=uuid, count=3)) == Accepted()
    rig.wait(2 * S)
    seen = rig.look()
    assert (seen.live_vcpus, seen.max_vcpus, seen.online) == (3, 4, None)


def test_a_weight_is_set_at_once_and_shifts_shares() -> None:
    rig = Rig(plan(GobmkLike()), plan(GobmkLike(), name="b"))
    assert rig.begin(SetWeight(uuid=rig.look().uuid, weight=768)) == Accepted()
    rig.wait(2 * S)
    assert rig.look().weight == 768
    run_ns = {name: sum(v.run_ns or 0 for v in rig.look(name).vcpus) for name in "ab"}
    assert run_ns["a"] / run_ns["b"] == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize(
    ("scheduler", "platform", "unit", "adjustable"),
    [
        ("credit2", "xen", ShareUnit.VCPU, True),
        ("credit_xen32", "xen-reporter", ShareUnit.DOMAIN, False),
        ("cfs", "kvm", ShareUnit.VCPU, False),
        ("eevdf", "kvm-perf", ShareUnit.VCPU, False),
        ("cfs_groups", "tcg", ShareUnit.DOMAIN, False),
    ],
)
def test_only_xen_can_make_up_for_a_share_that_counts_per_vcpu(
    scheduler: str, platform: str, unit: ShareUnit, *, adjustable: bool
) -> None:
    rig = Rig(plan(GobmkLike()), scheduler=scheduler, platform=platform)
    assert (rig.look().share_unit, rig.look().weight_adjustable) == (unit, adjustable)
    effect = rig.begin(SetWeight(uuid=rig.look().uuid, weight=768))
    if unit is ShareUnit.VCPU and not adjustable:
        assert isinstance(effect, Refused)
        assert effect.reason is Reason.UNSUPPORTED
    else:
        assert effect == Accepted()


@pytest.mark.parametrize(
    ("change", "method", "reason"),
    [
        (SetOnline(uuid="", online=frozenset({1})), Method.AGENT, Reason.OUT_OF_BOUNDS),
        (SetOnline(uuid="", online=frozenset({0, 4})), Method.AGENT, Reason.OUT_OF_BOUNDS),
        (SetOnline(uuid="", online=frozenset({0})), Method.XENSTORE, Reason.NO_ACTUATOR),
        (SetLive(uuid="", count=2), Method.AGENT, Reason.NO_ACTUATOR),
        (SetLive(uuid="", count=0), Method.HOTPLUG, Reason.OUT_OF_BOUNDS),
        (SetLive(uuid="", count=5), Method.HOTPLUG, Reason.OUT_OF_BOUNDS),
        (SetLive(uuid="", count=2), Method.GROW_ONLY, Reason.NO_ACTUATOR),
        (SetLive(uuid="", count=2), Method.NONE, Reason.NO_ACTUATOR),
        (SetWeight(uuid="", weight=0), Method.AGENT, Reason.OUT_OF_BOUNDS),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_begun(
    change: Change, method: Method, reason: Reason
) -> None:
    rig = Rig(plan(GobmkLike(), method=method))
    effect = rig.begin(replace(change, uuid=rig.look().uuid))
    assert isinstance(effect, Refused)
    assert effect.reason is reason
    assert rig.look().in_flight is None


def test_a_domain_that_is_not_there_cannot_be_changed() -> None:
    effect = Rig(plan(GobmkLike())).begin(SetWeight(uuid="x", weight=1))
    assert isinstance(effect, Refused)
    assert effect.reason is Reason.GONE


def test_a_host_opened_for_looking_refuses_everything() -> None:
    world = World(Scenario(name="s", pcpus=1, domains=(plan(GobmkLike()),)))
    hypervisor = SimulatedHypervisor(world, writable=False)
    effect = hypervisor.begin(SetWeight(uuid=hypervisor.sample().domains[0].uuid, weight=1))
    assert isinstance(effect, Refused)
    assert effect.reason is Reason.DENIED


def test_changes_can_be_late_fail_or_lose_their_answer() -> None:
    rig = Rig(plan(GobmkLike()), actuation=ActuationPlan(latency_ns=2 * S))
    rig.begin(rig.online(0))
    rig.wait(1900 * MS)
    assert len(rig.world.residents["a"].inhabitant.kernel.online_cpus) == 4

    rig = Rig(plan(GobmkLike()), actuation=ActuationPlan(failure_ratio=1.0))
    rig.begin(rig.online(0))
    rig.wait(2 * S)
    assert [(e.kind, e.reason) for e in rig.events] == [(EventKind.CHANGE_FAILED, Reason.FAILED)]
    assert rig.look().active == frozenset({0, 1, 2, 3})

    rig = Rig(plan(GobmkLike()), actuation=ActuationPlan(lost_answer_ratio=1.0))
    rig.begin(rig.online(0))
    rig.wait(8 * S)
    assert [(e.kind, e.reason) for e in rig.events] == [(EventKind.CHANGE_FAILED, Reason.TIMEOUT)]
    assert rig.look().active == frozenset({0}), "it was done all the same, and is read back"


# ------------------------------------------------------------------------------- coming and going


def test_domains_come_and_go_and_the_loop_is_told() -> None:
    rig = Rig(
        plan(GobmkLike()),
        plan(GobmkLike(), name="b", arrives_ns=2 * S, departs_ns=4 * S),
        scheduler="credit",
    )
    rig.wait(3 * S)
    assert [(e.kind, e.name) for e in rig.events] == [(EventKind.STARTED, "b")]
    young, old = rig.look("b"), rig.look("a")
    assert (young.booted_for_ns, Trouble.BOOTING in young.troubles) == (S, True)
    assert Trouble.BOOTING not in old.troubles
    rig.begin(SetOnline(uuid=young.uuid, online=frozenset({0})))
    rig.wait(20 * MS)
    assert rig.look("b").in_flight is not None
    rig.wait(2 * S)
    assert rig.events[-1].kind is EventKind.GONE
    assert [one.name for one in rig.hypervisor.sample().domains] == ["a"]
    before = sum(vcpu.run_ns or 0 for vcpu in rig.look().vcpus)
    rig.wait(S)
    after = sum(vcpu.run_ns or 0 for vcpu in rig.look().vcpus)
    assert after - before == pytest.approx(2 * S, rel=0.001), "the whole host is its again"


@pytest.mark.parametrize("scheduler", ["esx_strict", "esx_relaxed", "credit2", "eevdf_groups"])
def test_a_domain_can_be_destroyed_under_every_kind_of_scheduler(scheduler: str) -> None:
    rig = Rig(
        plan(GobmkLike(), vcpus=2),
        plan(AmmpLike(grain_ns=MS), name="b", vcpus=2, departs_ns=500 * MS),
        scheduler=scheduler,
    )
    rig.wait(600 * MS)
    before = sum(vcpu.run_ns or 0 for vcpu in rig.look().vcpus)
    rig.wait(200 * MS)
    after = sum(vcpu.run_ns or 0 for vcpu in rig.look().vcpus)
    assert after - before == pytest.approx(400 * MS, rel=0.02)


def test_the_same_name_has_the_same_uuid_and_a_new_run_another_incarnation() -> None:
    first, second = Rig(plan(GobmkLike())).look(), Rig(plan(GobmkLike())).look()
    assert first.uuid == second.uuid
    late = Rig(plan(GobmkLike(), arrives_ns=S))
    late.wait(2 * S)
    assert late.look().uuid == first.uuid
    assert late.look().incarnation != first.incarnation
