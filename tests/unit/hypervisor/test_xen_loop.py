"""The loop that ships over the Xen backend: shrink, balance, restore, refuse, quarantine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.ports import MemoryLedger
from fakes.xen import XenGuest
from unit.hypervisor.xen_host import Host
from vcpud.hypervisor.host import LibvirtHost
from vcpud.hypervisor.xen.change import GUEST_NS
from vcpud.hypervisor.xen.host import XenHypervisor
from vcpud.model import Original, SetLive, SetWeight
from vcpud.record import Phase, Why
from vcpud.requests import Asked, Restore
from vcpud.units import NS_PER_S

Make = Callable[..., Host]


def pair() -> tuple[XenGuest, XenGuest]:
    return XenGuest("a", number=1), XenGuest("b", number=2)


def test_a_shrunk_domain_keeps_its_share_by_its_weight_and_a_stop_gives_back_both(
    host: Make,
) -> None:
    guest, other = pair()
    one = host(guest, other)
    one.cycles(2)
    one.policy.wanted = {"a": 2}
    one.cycles(8)
    assert guest.online == {0, 1}
    assert (guest.weight, other.weight) == (512, 256), "half the vCPUs, twice the weight"
    (original,) = one.ledger.outstanding()
    assert (original.live_vcpus, original.weight, original.online) == (4, 256, None)
    assert one.asked() == [SetLive(uuid="a", count=2), SetWeight(uuid="a", weight=512)]
    assert one.loop.restore(one.world.at_ns + 30 * NS_PER_S) == ()
    assert guest.online == {0, 1, 2, 3}
    assert guest.weight == 256
    assert one.ledger.outstanding() == ()


def test_a_domain_may_be_shrunk_in_two_goes_and_its_weight_follows(host: Make) -> None:
    guest, other = pair()
    one = host(guest, other)
    one.policy.wanted = {"a": 3}
    one.cycles(10)
    assert guest.weight == 341
    one.policy.wanted = {"a": 1}
    one.cycles(12)
    assert (guest.online, guest.weight) == ({0}, 1024)
    one.policy.wanted = {"a": 4}
    one.cycles(10)
    assert (len(guest.online), guest.weight) == (4, 256)
    assert one.ledger.outstanding() == (), "it is as it was"


def test_a_stop_waits_for_a_guest_that_is_slow_to_take_back_what_it_is_given(host: Make) -> None:
    guest, other = pair()
    one = host(guest, other)
    one.policy.wanted = {"a": 2}
    one.cycles(8)
    guest.deaf_to = 2  # asked every 6 s, so 12 s in all
    assert one.loop.run(cycles=0) == ()
    assert (len(guest.online), guest.weight) == (4, 256)


def test_a_stop_ends_before_systemd_makes_an_end_of_it() -> None:
    systemd = Path(__file__).parents[3] / "systemd"
    limits_s = {
        name: int(
            re.findall(r"^TimeoutStopSec=(\d+)$", (systemd / name).read_text(), re.MULTILINE)[0]
        )
        for name in ("vcpud.service", "xen.conf")
    }
    margin_s = 15
    assert limits_s["vcpud.service"] >= LibvirtHost.restore_ns / NS_PER_S + margin_s
    assert limits_s["xen.conf"] >= XenHypervisor.restore_ns / NS_PER_S + margin_s
    assert XenHypervisor.restore_ns > 2 * GUEST_NS, "the change under way, and one that gives back"


def test_what_cannot_be_given_back_is_refused_before_it_is_taken(host: Make) -> None:
    guest, other = pair()
    one = host(guest, other, pcpus=2)
    one.policy.wanted = {"a": 2, "b": 2}
    one.cycles(10)
    assert guest.requests == other.requests == []
    assert one.ledger.outstanding() == ()
    blocked = {(b.uuid, b.guard) for record in one.recorder.records for b in record.blocked}
    assert blocked == {("a", "actuator"), ("b", "actuator")}
    assert any("never shrinks" in note for note in one.recorder.last.sample.notes)


def test_with_the_way_past_it_a_guest_larger_than_the_host_is_shrunk_and_given_back(
    host: Make,
) -> None:
    guest, other = pair()
    one = host(guest, other, pcpus=2, ignore_host=True)
    one.policy.wanted = {"a": 1, "b": 1}
    one.cycles(12)
    assert (guest.online, other.online) == ({0}, {0})
    assert guest.weight == other.weight == 1024
    assert one.loop.restore(one.world.at_ns + 30 * NS_PER_S) == ()
    assert (len(guest.online), len(other.online)) == (4, 4)
    assert guest.weight == other.weight == 256
    assert guest.count == 4, "and libvirt never knew another number"


def test_an_xl_that_failed_when_vcpud_started_is_tried_again(host: Make) -> None:
    guest = XenGuest("a")
    one = host(guest, pcpus=2, ignore_host=True, xl_knows_option=False)
    one.policy.wanted = {"a": 1}
    one.cycles(40)
    assert guest.requests == []
    one.world.xl_knows_option = True
    one.cycles(40)
    assert guest.online == {0}
    assert {by for by, _ in guest.requests} == {"xl"}


def test_a_guest_that_ignores_the_request_is_left_alone_with_the_reason(host: Make) -> None:
    guest, other = pair()
    guest.follows = False
    one = host(guest, other)
    one.policy.wanted = {"a": 2, "b": 2}
    one.cycles(40)
    status = one.status("a")
    assert status.phase is Phase.QUARANTINED
    assert "does not follow xenstore" in status.detail
    assert (len(guest.online), guest.weight, guest.asked) == (4, 256, 4)
    assert other.online == {0, 1}, "and nobody else suffers"
    assert {original.uuid for original in one.ledger.outstanding()} == {"b"}


@pytest.mark.parametrize("asked_by", ["policy", "restore"])
def test_a_guest_without_the_udev_rule_is_quarantined_and_still_asked(
    host: Make, asked_by: str
) -> None:
    guest, other = pair()
    one = host(guest, other)
    one.policy.wanted = {"a": 3}
    one.cycles(8)
    assert guest.online == {0, 1, 2}
    guest.udev = False
    if asked_by == "policy":
        one.policy.wanted = {"a": 4}
    else:
        one.inbox.pending.append(Restore(asked=Asked(uid=0, at_ns=0), uuid="a"))
    one.cycles(90)
    one.policy.wanted = {"a": 1}
    one.cycles(60)
    status = one.status("a")
    assert (status.phase, status.why) == (Phase.QUARANTINED, Why.FAILED)
    assert "udev rule" in status.detail
    assert "80-vcpud-xen-cpu.rules into its /etc/udev/rules.d" in status.detail
    assert guest.online == {0, 1, 2}, "no more is taken"
    assert [original.uuid for original in one.ledger.outstanding()] == ["a"], "it stays owed"
    asked = len(guest.requests)
    one.cycles(60)
    assert len(guest.requests) > asked, "and is asked again"
    guest.udev = True
    one.cycles(45)
    assert (len(guest.online), guest.weight) == (4, 256)
    assert one.ledger.outstanding() == ()


def test_what_a_killed_vcpud_had_asked_for_and_not_seen_is_given_back(host: Make) -> None:
    guest, other = pair()
    one = host(guest, other)
    one.ledger = MemoryLedger(
        Original(
            boot_id="",
            uuid="a",
            name="n-a",
            incarnation="1",
            online=None,
            live_vcpus=4,
            weight=256,
        )
    )
    guest.asked, guest.count = 2, 2  # written by the one before; the guest is slow to follow
    one.loop = one.new_loop()
    one.cycles(6)
    assert guest.asked == 4
    assert one.ledger.outstanding() == ()


def test_what_somebody_does_with_xl_stands(host: Make) -> None:
    guest, other = pair()
    one = host(guest, other)
    one.policy.wanted = {"a": 2}
    one.cycles(8)
    one.policy.wanted = {}
    guest.ask("xl by hand", 3)
    one.cycles(20)
    assert len(guest.online) == 3
    foreign = [change for record in one.recorder.records for change in record.foreign]
    assert [(change.from_vcpus, change.to_vcpus) for change in foreign] == [(2, 3)]


def test_a_domain_that_is_destroyed_in_mid_change_ends_nothing(host: Make) -> None:
    guest, other = pair()
    one = host(guest, other)
    one.world.when_asked = lambda: one.world.guests.pop("a", None)
    one.policy.wanted = {"a": 2, "b": 3}
    one.cycles(10)
    assert [domain.uuid for domain in one.recorder.last.sample.domains] == ["b"]
    assert len(other.online) == 3
    assert {original.uuid for original in one.ledger.outstanding()} == {"b"}
