"""Jobs that appear on their own, and domains that come from a vcpud elsewhere."""

from __future__ import annotations

import pytest

from fakes.host import BOOT_ID, FakeDomain
from unit.loop.test_control import Rig, lock_pair
from unit.loop.test_neighbours import ALL, shrunk_pair
from vcpud.limits import Limits
from vcpud.model import Method, Mode, Original, SetLive, SetOnline, Terms
from vcpud.requests import LoopSettings
from vcpud.units import NS_PER_S
from vcpud_policies.static import Static

# ------------------------------------------------------------------------------------ jobs


@pytest.mark.parametrize("job", ["migration_out", "save", "snapshot"])
def test_a_job_that_appears_gets_everything_back_online_at_once(job: str) -> None:
    rig, first, second = shrunk_pair()
    first.job = job
    rig.cycles(2)
    assert first.online == ALL
    assert second.online == {0}
    assert first.uuid not in {one.uuid for one in rig.ledger.outstanding()}
    rig.cycles(60)
    assert first.online == ALL, "nothing is taken while the job lasts"


def test_under_a_job_nothing_is_unplugged_or_plugged() -> None:
    pair = lock_pair(method=Method.HOTPLUG)
    rig = Rig(*pair)
    rig.cycles(60)
    assert len(pair[0].online) == 1
    pair[0].job = "migration_out"
    rig.host.begun.clear()
    rig.cycles(10)
    assert all(change.uuid != pair[0].uuid for change in rig.host.begun)
    pair[0].job = None
    rig.cycles(35)
    counts = [c.count for c in rig.host.begun if isinstance(c, SetLive) and c.uuid == pair[0].uuid]
    assert counts[:3] == [2, 3, 4], "once it is over, everything is given back"


# -------------------------------------------------------------------------------- hand-over


def note(**more: object) -> Original:
    words = {
        "boot_id": "another-host",
        "uuid": "u",
        "name": "a",
        "incarnation": "7:1",
        "online": ALL,
        "live_vcpus": 4,
    }
    return Original(**(words | more))  # type: ignore[arg-type]


def arrival(handed_over: Original, mode: Mode = Mode.ENFORCE) -> tuple[Rig, FakeDomain]:
    domain = FakeDomain(
        name="a",
        vcpus=4,
        terms=Terms(mode=mode),
        online=frozenset({0}),
        handed_over=handed_over,
    )
    rig = Rig(domain)
    rig.settings = LoopSettings(
        period_ns=NS_PER_S, policy=Static(), policy_name="static", limits=Limits()
    )
    rig.loop = rig.new_loop()
    return rig, domain


def test_what_a_vcpud_elsewhere_parked_is_given_back_here() -> None:
    rig, domain = arrival(note())
    rig.cycles(4)
    assert domain.online == ALL
    assert rig.ledger.outstanding() == ()
    assert [one.boot_id for r in rig.recorder.records for one in r.received] == [BOOT_ID]


@pytest.mark.parametrize(("method", "counts"), [(Method.XENSTORE, [4]), (Method.HOTPLUG, [])])
def test_so_is_a_number_but_no_devices_are_plugged_for_a_note(
    method: Method, counts: list[int]
) -> None:
    rig, domain = arrival(note(online=None))
    domain.method = method
    rig.cycles(8)
    assert [one.count for one in rig.host.begun if isinstance(one, SetLive)] == counts
    assert rig.ledger.outstanding() == ()


@pytest.mark.parametrize("live", [4, 64])
def test_a_note_asks_for_no_more_than_the_domain_has(live: int) -> None:
    rig, domain = arrival(note(online=frozenset(range(64)), live_vcpus=live))
    rig.cycles(4)
    assert domain.online == ALL


def test_a_domain_that_is_only_observed_is_not_touched_for_a_note() -> None:
    rig, domain = arrival(note(), Mode.OBSERVE)
    rig.cycles(4)
    assert domain.online == {0}
    assert rig.host.begun == []


def test_a_note_of_what_is_already_there_changes_nothing() -> None:
    rig, _ = arrival(note(online=frozenset({0})))
    rig.cycles(4)
    assert rig.host.begun == []
    assert [one for r in rig.recorder.records for one in r.received] == []


def test_every_shrink_says_what_the_domain_is_owed() -> None:
    rig, first, _ = shrunk_pair()
    shrinks = [
        change
        for change in rig.host.begun
        if isinstance(change, SetOnline) and change.uuid == first.uuid
    ]
    assert shrinks
    assert {change.original and change.original.online for change in shrinks} == {ALL}
