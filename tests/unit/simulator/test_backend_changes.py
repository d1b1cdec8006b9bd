"""The simulated hypervisor: what it does when told, and who comes and goes meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unit.simulator.backend_rig import MS, Rig, S, plan
from vcpud.events import EventKind
from vcpud.model import (
    Accepted,
    Change,
    Method,
    Reason,
    Refused,
    SetLive,
    SetOnline,
    SetWeight,
    ShareUnit,
    Trouble,
)
from vcpud_simulator.hypervisor import SimulatedHypervisor
from vcpud_simulator.scenario import ActuationPlan, Scenario
from vcpud_simulator.workloads.ammp import AmmpLike
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.world import World

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
