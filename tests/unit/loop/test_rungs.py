"""What was taken in one way is given back in that way and no other."""

from __future__ import annotations

from unit.loop.scripted import scripted
from unit.loop.test_control import ASKED, lock_pair
from unit.loop.test_neighbours import ALL
from vcpud.model import Method, SetLive, SetOnline, ShareUnit
from vcpud.record import Phase
from vcpud.requests import Release
from vcpud.units import NS_PER_S


def test_what_was_unplugged_is_plugged_again_although_the_guest_tells_what_is_online() -> None:
    first, _ = lock_pair(method=Method.HOTPLUG, tells_online=True)
    rig, policy = scripted(first)
    policy.to_vcpus = 2
    rig.cycles(4)
    assert first.online == {0, 1}
    rig.host.begun.clear()
    assert rig.loop.restore(rig.clock.now_ns() + 10 * NS_PER_S) == ()
    assert [change for change in rig.host.begun if not isinstance(change, SetLive)] == []
    assert first.online == ALL


def test_what_was_unplugged_is_plugged_again_although_an_agent_has_appeared() -> None:
    first, _ = lock_pair(method=Method.HOTPLUG)
    rig, policy = scripted(first)
    policy.to_vcpus = 2
    rig.cycles(4)
    first.method, first.present = Method.AGENT, 2
    rig.host.begun.clear()
    policy.to_vcpus = 1
    rig.cycles(12)
    assert not any(isinstance(change, SetOnline) for change in rig.host.begun)
    assert rig.loop.restore(rig.clock.now_ns() + 10 * NS_PER_S) == ()
    assert first.online == ALL


def test_nothing_is_taken_through_an_agent_that_has_not_told_what_is_online() -> None:
    first, _ = lock_pair(untold=True)
    rig, policy = scripted(first)
    policy.to_vcpus = 2
    rig.cycles(8)
    assert rig.host.begun == []
    assert rig.ledger.outstanding() == ()
    assert rig.phase(first) is Phase.IDLE, "it was not asked, so it has refused nothing"
    (blocked,) = {(b.guard, b.detail) for r in rig.recorder.records for b in r.blocked}
    assert blocked == ("actuator", "its agent has not said yet which CPUs are online")


def test_a_weight_raised_for_unplugged_vcpus_is_given_back_with_them() -> None:
    more = {"share_unit": ShareUnit.VCPU, "weight_adjustable": True, "weight": 256}
    first, _ = lock_pair(method=Method.HOTPLUG, **more)
    rig, policy = scripted(first)
    policy.to_vcpus = 2
    rig.cycles(6)
    assert (len(first.online), first.weight) == (2, 512)
    rig.inbox.pending.append(Release(asked=ASKED, uuid=first.uuid))
    rig.cycles(6)
    assert (len(first.online), first.weight) == (4, 256)
    assert rig.ledger.outstanding() == ()


def test_a_reboot_plugs_nothing_so_what_was_unplugged_is_still_given_back() -> None:
    first, _ = lock_pair(method=Method.HOTPLUG)
    rig, policy = scripted(first)
    policy.to_vcpus = 2
    rig.cycles(4)
    rig.host.reboot(first)
    first.online = frozenset({0, 1})
    rig.cycles(6)
    assert first.online == ALL
    assert rig.ledger.outstanding() == ()


def test_a_reboot_sets_no_weight_so_a_raised_one_is_still_given_back() -> None:
    more = {"share_unit": ShareUnit.VCPU, "weight_adjustable": True, "weight": 256}
    first, _ = lock_pair(**more)
    rig, policy = scripted(first)
    policy.to_vcpus = 2
    rig.cycles(5)
    assert first.weight == 512
    rig.host.reboot(first)
    rig.cycles(5)
    assert (first.online, first.weight) == (ALL, 256)
    assert rig.ledger.outstanding() == ()
