"""Where weight counts per vCPU and cannot be set: all of a pool give up the same part, or nobody any."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.host import FakeDomain
from unit.loop.scripted import Scripted, scripted
from unit.loop.test_control import ASKED, ENFORCE, Raising, Rig
from unit.loop.test_guard import sample
from vcpud.model import DomainSample, Mode, Reason, ShareUnit, Terms, Trouble
from vcpud.requests import Pause, Reload
from vcpud.shares import KEPT_RATIO, Parts
from vcpud.units import NS_PER_S


def thread(name: str, vcpus: int = 4, **more: object) -> FakeDomain:
    """A domain without a group of its own."""
    made = FakeDomain(
        name=name, vcpus=vcpus, lock_bound=True, terms=ENFORCE, share_unit=ShareUnit.VCPU
    )
    for key, value in more.items():
        setattr(made, key, value)
    return made


def shrunk(*domains: FakeDomain) -> tuple[Rig, Scripted]:
    """A host on which all of these have been brought to one vCPU in one move."""
    rig, policy = scripted(*domains)
    policy.to_vcpus = 1
    rig.cycles(3)
    assert [len(domain.online) for domain in domains] == [1] * len(domains)
    return rig, policy


def blocking(rig: Rig) -> set[str]:
    return {stop.guard for record in rig.recorder.records for stop in record.blocked}


def counts(*domains: FakeDomain) -> list[int]:
    return [len(domain.online) for domain in domains]


def test_all_give_up_the_same_part_and_keep_it() -> None:
    a, b = thread("a"), thread("b")
    rig, _ = shrunk(a, b)
    rig.cycles(20)
    assert counts(a, b) == [1, 1]
    assert blocking(rig) == set()


def test_nobody_gives_up_any_alone_nor_more_than_others() -> None:
    a, b = thread("a"), thread("b", 2)
    rig, policy = scripted(a, b)
    policy.to_vcpus = 1
    rig.cycles(3)
    assert (counts(a, b), blocking(rig)) == ([4, 2], {"share"})
    alone = thread("alone")
    shrunk(alone)


def test_beside_who_is_weighed_otherwise_or_only_watched_nobody_gives_up_any() -> None:
    for other in (
        thread("other", share_unit=ShareUnit.DOMAIN),
        thread("other", weight_adjustable=True),
        thread("other", terms=Terms()),
    ):
        a, b = thread("a"), thread("b")
        rig, policy = scripted(a, b)
        rig.host.domains[other.uuid] = other
        policy.to_vcpus = 1
        rig.cycles(3)
        assert (counts(a, b), blocking(rig)) == ([4, 4], {"share"})


def test_beside_unmanaged_work_or_where_that_is_not_told_nobody_gives_up_any() -> None:
    for pcpus, told in ((0.3, True), (0.0, False)):
        a, b = thread("a"), thread("b")
        rig, policy = scripted(a, b)
        rig.host.unmanaged_pcpus, rig.host.tells_busy = pcpus, told
        rig.cycles(20)
        policy.to_vcpus = 1
        rig.cycles(3)
        assert (counts(a, b), blocking(rig)) == ([4, 4], {"share"})


@pytest.mark.parametrize("hindrance", ["none", "pause", "failing policy"])
def test_what_was_given_up_comes_back_when_somebody_comes_whatever_else_holds(
    hindrance: str,
) -> None:
    a, b = thread("a"), thread("b")
    rig, _ = shrunk(a, b)
    match hindrance:
        case "pause":
            rig.inbox.pending.append(Pause(asked=ASKED))
            rig.cycles(1)
        case "failing policy":
            settings = replace(rig.settings, policy=Raising())
            rig.inbox.pending.append(Reload(asked=ASKED, settings=settings))
    come = thread("come", terms=Terms(mode=Mode.OBSERVE))
    rig.host.domains[come.uuid] = come
    rig.cycles(4)
    assert counts(a, b) == [4, 4]
    assert rig.ledger.outstanding() == ()


def test_what_was_given_up_comes_back_when_unmanaged_work_comes() -> None:
    a, b = thread("a"), thread("b")
    rig, _ = shrunk(a, b)
    rig.host.unmanaged_pcpus = 0.15
    rig.cycles(20)
    assert counts(a, b) == [1, 1], "it wavers"
    rig.host.unmanaged_pcpus = 0.5
    rig.cycles(8)
    assert counts(a, b) == [4, 4]


def test_what_was_given_up_comes_back_where_nobody_tells_of_unmanaged_work_any_more() -> None:
    a, b = thread("a"), thread("b")
    rig, _ = shrunk(a, b)
    rig.host.tells_busy = False
    rig.cycles(15)
    assert counts(a, b) == [1, 1], "one reading may fail"
    rig.cycles(10)
    assert counts(a, b) == [4, 4]


def test_whose_neighbour_does_not_shrink_has_its_own_back() -> None:
    a, b = thread("a"), thread("b", fail=Reason.FAILED)
    rig, policy = scripted(a, b)
    policy.to_vcpus = 1
    rig.cycles(3)
    assert counts(a, b) == [1, 4]
    rig.cycles(7)
    assert counts(a, b) == [4, 4]


def test_a_slow_guest_is_waited_for_and_what_it_takes_is_not_repeated_for_ever() -> None:
    a, b = thread("a"), thread("b", latency_ns=7 * NS_PER_S)
    rig, policy = scripted(a, b)
    policy.to_vcpus = 1
    rig.cycles(12)
    assert counts(a, b) == [1, 1]
    assert len(rig.host.begun) == 2


def test_who_was_given_back_is_left_alone_for_a_minute() -> None:
    a, b = thread("a"), thread("b")
    rig, policy = shrunk(a, b)
    come = thread("come", terms=Terms(mode=Mode.OBSERVE))
    rig.host.domains[come.uuid] = come
    rig.cycles(4)
    del rig.host.domains[come.uuid]
    policy.to_vcpus = 1
    rig.cycles(50)
    assert (counts(a, b), blocking(rig)) == ([4, 4], {"barred"})
    rig.cycles(15)
    policy.to_vcpus = 1
    rig.cycles(4)
    assert counts(a, b) == [1, 1]


def test_one_who_cannot_be_asked_counts_neither_as_whole_nor_as_short() -> None:
    a, b = thread("a"), thread("b")
    rig, _ = shrunk(a, b)
    b.untold = True
    rig.cycles(10)
    assert counts(a, b) == [1, 1]


def test_what_an_earlier_vcpud_has_left_shrunk_stays_so() -> None:
    a, b = thread("a"), thread("b")
    rig, _ = shrunk(a, b)
    rig.loop = rig.new_loop()
    rig.loop._adopts = True
    rig.cycles(10)
    assert counts(a, b) == [1, 1]


def test_beside_a_pool_that_overlaps_nobody_stays_shrunk() -> None:
    a, b = thread("a"), thread("b")
    rig, _ = shrunk(a, b)
    a.troubles = b.troubles = frozenset({Trouble.POOLS_OVERLAP})
    rig.cycles(4)
    assert counts(a, b) == [4, 4]


def test_who_hangs_keeps_nobody_else_from_having_its_own_back() -> None:
    a, b = thread("a"), thread("b")
    rig, _ = shrunk(a, b)
    b.hung = True
    come = thread("come")
    rig.host.domains[come.uuid] = come
    rig.cycles(4)
    assert counts(a, b) == [4, 1]
    rig.host.recover(b)
    rig.cycles(15)
    assert counts(a, b) == [4, 4]


def test_who_grows_alone_has_the_others_back_as_well() -> None:
    a, b = thread("a"), thread("b")
    rig, policy = shrunk(a, b)
    rig.cycles(40)
    assert counts(a, b) == [1, 1]
    policy.uuids, policy.to_vcpus = (a.uuid,), 2
    rig.cycles(15)
    assert counts(a, b) == [4, 4]


@given(
    st.lists(
        st.tuples(st.integers(1, 8), st.integers(1, 8), st.sampled_from((1, 2, 8))),
        min_size=1,
        max_size=5,
    )
)
def test_who_is_not_short_has_the_share_it_came_with(crowd: list[tuple[int, int, int]]) -> None:
    pool = [threaded(str(place), home) for place, (home, _, _) in enumerate(crowd)]
    asked = {one.uuid: min(wants, home) for one, (home, wants, _) in zip(pool, crowd, strict=True)}
    lacking = Parts(pool, {}).lacking(asked)
    assert Parts(pool, {}).short(asked) == lacking, "all are changed"
    had = sum(home * weight for home, _, weight in crowd)
    now = sum(asked[str(place)] * weight for place, (_, _, weight) in enumerate(crowd))
    for place, (home, _, weight) in enumerate(crowd):
        kept = (asked[str(place)] * weight / now) / (home * weight / had)
        assert kept >= KEPT_RATIO - 1e-9 or str(place) in lacking
    assert len(lacking) < len(pool), "who has the largest part lacks nothing"


def threaded(uuid: str, vcpus: int) -> DomainSample:
    return sample(uuid, vcpus, share_unit=ShareUnit.VCPU)
