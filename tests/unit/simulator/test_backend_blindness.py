"""Nothing that a workload has got done can reach a policy, by any way."""

from __future__ import annotations

import gc
import types
from typing import Any

import pytest

from vcpud.demand import HostDemand
from vcpud.plan import Plan, Verdict
from vcpud.record import CycleRecord
from vcpud_policies.spin_feedback import SpinFeedback
from vcpud_simulator.experiment import Inhabitant, Laboratory
from vcpud_simulator.guest.cpu import GuestCpu
from vcpud_simulator.guest.kernel import GuestKernel
from vcpud_simulator.guest.task import Task
from vcpud_simulator.host import Host
from vcpud_simulator.hypervisor import SimulatedHypervisor
from vcpud_simulator.runner import RunResult, run
from vcpud_simulator.scenario import DomainPlan, Scenario
from vcpud_simulator.workloads.base import Progress, Workload
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.world import World

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
