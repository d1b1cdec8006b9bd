"""What a workload has got done reaches no policy, and a guest's own doings only where and when vcpud could ask."""

from __future__ import annotations

import gc
import types
from typing import Any

import pytest

from unit.simulator.backend_rig import Rig
from vcpud.demand import HostDemand
from vcpud.model import Mode, Trouble
from vcpud.plan import Plan, Verdict
from vcpud.record import CycleRecord
from vcpud_policies.spin_feedback import SpinFeedback
from vcpud_simulator.experiment import Inhabitant, Laboratory
from vcpud_simulator.guest.cpu import GuestCpu
from vcpud_simulator.guest.kernel import GuestKernel
from vcpud_simulator.guest.task import Task
from vcpud_simulator.host import Host
from vcpud_simulator.hypervisor import SimulatedHypervisor
from vcpud_simulator.platform import PLATFORMS, Signal
from vcpud_simulator.reporter import LOOKS, PreferredCpus
from vcpud_simulator.runner import RunResult, run
from vcpud_simulator.scenario import DomainPlan, Scenario
from vcpud_simulator.workloads.base import Progress, Workload
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.world import World

MS = 1_000_000
S = 1_000_000_000
LOCKED = Descriptors(rounds=40, grain_ns=80_000, gap_ns=2_500, hold_ns=600)
SECRETS = (Progress, Inhabitant, Laboratory, GuestKernel, GuestCpu, Task, Host, World)


class Falsified:
    """A workload that claims to have got done what it likes."""

    def __init__(self, inner: Workload) -> None:
        self._inner = inner

    def start(self, kernel: GuestKernel) -> Progress:
        self._inner.start(kernel)
        claimed = Progress()
        claimed.iterations = 10**12
        claimed.responses_ns = [1] * 1000
        return claimed


class Listener:
    """Decides as the policy within it, and keeps all that it was ever shown."""

    def __init__(self) -> None:
        self._inner = SpinFeedback()
        self.heard: list[Any] = []

    def initial(self) -> Any:
        return self._inner.initial()

    def decide(
        self, state: Any, demand: HostDemand, verdicts: tuple[Verdict, ...], now_ns: int
    ) -> tuple[Any, Plan]:
        self.heard.append((demand, verdicts, now_ns))
        return self._inner.decide(state, demand, verdicts, now_ns)


class Keeper:
    """A recorder."""

    def __init__(self) -> None:
        self.records: list[CycleRecord] = []

    def record(self, record: CycleRecord) -> None:
        self.records.append(record)


def scenario(workload: Workload) -> Scenario:
    plan = DomainPlan(name="a", vcpus=4, workload=workload, copies=2)
    return Scenario(
        name="blind", pcpus=2, domains=(plan,), warmup_ns=0, duration_ns=7 * S, platform="kvm-perf"
    )


def managed(workload: Workload) -> tuple[RunResult, list[Any]]:
    policy = Listener()
    return run(scenario(workload), policy=policy), policy.heard


def test_falsified_progress_changes_neither_what_a_policy_hears_nor_what_it_does() -> None:
    honest, heard = managed(LOCKED)
    false, heard_of_false = managed(Falsified(LOCKED))
    assert honest.changes, "there was something to decide"
    assert heard == heard_of_false
    assert honest.changes == false.changes
    assert honest.verdicts == false.verdicts
    assert honest.trace_hash == false.trace_hash
    assert honest.domains["a-1"].iterations != false.domains["a-1"].iterations


def reachable(root: object) -> list[object]:
    """Every object that some attribute, item or closure leads to, classes and modules excepted."""
    found: list[object] = []
    seen: set[int] = set()
    pending = [root]
    while pending:
        one = pending.pop()
        if id(one) in seen or isinstance(one, type | types.ModuleType):
            continue
        seen.add(id(one))
        found.append(one)
        pending += gc.get_referents(one)
    return found


def test_no_way_leads_from_a_sample_or_a_record_to_what_is_so() -> None:
    keeper = Keeper()
    run(scenario(LOCKED), policy=SpinFeedback(), recorder=keeper, duration_ns=3 * S)
    found = reachable(keeper.records)
    assert len(found) > 100
    assert not [one for one in found if isinstance(one, SECRETS)]


def test_the_search_for_a_way_would_find_one() -> None:
    hypervisor = SimulatedHypervisor(World(scenario(LOCKED)))
    assert any(isinstance(one, Progress) for one in reachable(hypervisor))
    with pytest.raises(AttributeError):
        _ = hypervisor.sample().progress  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------- who manages itself

FIRST_STEAL_NS = S
"""A steal governor looks once a second; what a guest is asked before that shows nothing."""


STEP_NS = 250 * MS


def steering(**more: Any) -> DomainPlan:
    return DomainPlan(**{"name": "a", "vcpus": 4, "workload": GobmkLike(), "steers": True, **more})


def found_out_ns(rig: Rig, within_ns: int = 8 * S) -> int | None:
    """When a domain is first said to manage itself."""
    for _ in range(within_ns // STEP_NS):
        rig.wait(STEP_NS)
        if Trouble.SELF_MANAGED in rig.look().troubles:
            return rig.clock.now_ns()
    return None


def steers(rig: Rig) -> bool:
    kernel = rig.world.residents["a"].inhabitant.kernel
    return len(kernel.preferred_cpus) < len(kernel.online_cpus)


@pytest.mark.parametrize("platform", sorted(PLATFORMS))
def test_who_manages_itself_is_found_out_by_asking_and_only_where_the_kernel_can_be_asked(
    platform: str,
) -> None:
    rig = Rig(steering(), platform=platform)
    found_ns = found_out_ns(rig)
    assert steers(rig)
    if platform.startswith("xen"):
        assert found_ns is None
    else:
        assert found_ns is not None
        assert FIRST_STEAL_NS < found_ns <= 3 * S, "in the second reading"


def test_who_begins_to_manage_itself_later_is_found_out_a_period_later() -> None:
    late = DomainPlan(name="b", vcpus=4, workload=GobmkLike(), arrives_ns=8 * S)
    alone = steering(vcpus=2)
    rig = Rig(alone, late)
    assert found_out_ns(rig, 8 * S) is None, "nothing is stolen from it"
    began_ns = rig.clock.now_ns()
    found_ns = found_out_ns(rig, 8 * S)
    assert found_ns is not None
    assert FIRST_STEAL_NS < found_ns - began_ns < 7 * S


@pytest.mark.parametrize("more", [{"mode": Mode.OBSERVE}, {"missing": (Signal.PREFERRED,)}])
def test_who_manages_itself_is_not_found_out_where_nobody_asks_or_answers(more: Any) -> None:
    rig = Rig(steering(**more))
    assert found_out_ns(rig) is None
    assert steers(rig)


def test_who_says_that_it_does_not_manage_itself_is_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def all_of_them(kernel: GuestKernel, at_ns: int) -> PreferredCpus:
        cpus = frozenset(cpu.index for cpu in kernel.online_cpus)
        return PreferredCpus(taken_at_ns=at_ns, cpus=cpus)

    monkeypatch.setitem(LOOKS, Signal.PREFERRED, all_of_them)
    rig = Rig(steering())
    assert found_out_ns(rig) is None
    assert steers(rig)


def test_asking_whether_it_manages_itself_costs_a_guest_three_commands_of_half_a_millisecond() -> (
    None
):
    def used_ns(plan: DomainPlan) -> int:
        rig = Rig(plan)
        rig.wait(5 * S)
        kernel = rig.world.residents["a"].inhabitant.kernel
        return sum(task.work_ns for task in kernel.tasks if task.name == "qemu-ga-read")

    asked, spared = used_ns(steering()), used_ns(steering(missing=(Signal.PREFERRED,)))
    assert asked - spared == 2 * 3 * MS // 2, "in two readings"
