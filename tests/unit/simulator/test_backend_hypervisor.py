"""The simulated hypervisor: what it shows on which platform, what asking costs, and how late it is."""

from __future__ import annotations

from itertools import pairwise

import pytest

from unit.simulator.backend_rig import LOCKED, MS, Rig, S, plan
from vcpud.model import Method, Mode, SetLive, ShareUnit, Terms, Trouble
from vcpud.terms import Selector, TermsBook
from vcpud_simulator.entities import RUNNABLE, RUNNING
from vcpud_simulator.guest.locks import UnfairLock
from vcpud_simulator.platform import TICK_NS, Signal
from vcpud_simulator.scenario import DomainPlan, Lie, NoisePlan, Pause, SignalPlan, SignalsPlan
from vcpud_simulator.workloads.ammp import AmmpLike, Wait
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.noise import Noise


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
    waited_ns = sum(vcpu.run_delay_ns or 0 for vcpu in vcpus)
    assert 0 <= 4 * 2 * S - run_ns - waited_ns < 4 * TICK_NS, "run times are in ticks"
    assert all((vcpu.run_ns or 0) % TICK_NS == 0 for vcpu in vcpus)
    assert sample.busy_ns is not None
    assert run_ns < sample.busy_ns <= 2 * 2 * S, "the host's own work is not a domain's"
    assert [domain.name for domain in sample.domains] == ["a"]


def test_run_delay_on_xen_is_estimated_from_looks_and_says_how_well() -> None:
    half_idle = Noise(burst_ns=5 * MS, sleep_ns=5 * MS)
    rig = Rig(plan(half_idle), plan(GobmkLike(), name="b", vcpus=2), platform="xen", pcpus=2)
    rig.wait(100 * MS)
    assert all(vcpu.run_delay_ns is None for vcpu in rig.look().vcpus), "four looks are the least"
    for _ in range(30):
        rig.wait(S)
        rig.look()
    now_ns, seen = rig.clock.now_ns(), rig.look()
    vcpus = rig.world.residents["a"].inhabitant.kernel.domain.vcpus
    off = [
        (told.run_delay_ns or 0) - vcpu.in_state_ns(RUNNABLE, now_ns)
        for told, vcpu in zip(seen.vcpus, vcpus, strict=True)
    ]
    errors = [told.run_delay_error_ns or 0 for told in seen.vcpus]
    assert any(off), "nobody counts it"
    assert all(abs(one) < 4 * error + S for one, error in zip(off, errors, strict=True))
    counted = Rig(plan(half_idle)).look().vcpus
    assert all(vcpu.run_delay_error_ns is None for vcpu in counted)


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
        return sum(
            v.in_state_ns(RUNNING, 20 * S)
            for v in rig.world.residents["a"].inhabitant.kernel.domain.vcpus
        )

    asked, left_alone = used_ns(Mode.ENFORCE), used_ns(Mode.OBSERVE)
    assert 10 * MS < asked - left_alone < 100 * MS, "7 to 9 commands each 5 s"


def taken_ns(rig: Rig) -> int | None:
    """When what the guest tells of its times was read, as far as that has arrived."""
    guest = rig.look().guest
    return None if guest is None or guest.accounting is None else guest.accounting.taken_at_ns


def readings_ns(rig: Rig, duration_ns: int) -> list[tuple[int, int]]:
    """When each new one was taken, and when it was seen."""
    found: list[tuple[int, int]] = []
    known = taken_ns(rig)
    for _ in range(duration_ns // (100 * MS)):
        rig.wait(100 * MS)
        at_ns = taken_ns(rig)
        if at_ns is not None and at_ns != known:
            known = at_ns
            found.append((at_ns, rig.clock.now_ns()))
    return found


def test_who_is_asked_is_asked_twice_at_once_at_the_start_and_after_a_change() -> None:
    rig = Rig(plan(GobmkLike()))
    taken = [at_ns for at_ns, _ in readings_ns(rig, 8 * S)]
    assert [round((b - a) / S) for a, b in pairwise(taken)] == [1, 5]
    rig.begin(rig.online(0, 1))
    after = [at_ns for at_ns, _ in readings_ns(rig, 8 * S)]
    assert [round((b - a) / S) for a, b in pairwise(after)] == [1, 5]


def test_what_a_guest_publishes_is_read_each_period_and_no_change_hurries_it() -> None:
    rig = Rig(plan(GobmkLike()), platform="xen-reporter")
    found = readings_ns(rig, 8 * S)
    rig.begin(SetLive(uuid=rig.look().uuid, count=2))
    found += readings_ns(rig, 10 * S)
    assert [round((b - a) / S) for (_, a), (_, b) in pairwise(found)] == [5, 5, 5]
    ages = [seen_ns - taken_ns for taken_ns, seen_ns in found]
    assert 0 <= min(ages) < max(ages) < 2.5 * S, "as old as what was written last"
    seen = rig.look()
    assert seen.guest is not None
    assert seen.guest.run_queue is not None
    assert seen.guest.runnable is not None
    assert seen.guest.run_queue.taken_at_ns // S == seen.guest.runnable.taken_at_ns // S


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
    # Xen tells run times to the nanosecond.
    rig = Rig(plan(GobmkLike()), signals=signals(run=SignalPlan(noise_ratio=0.5)), platform="xen")
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
