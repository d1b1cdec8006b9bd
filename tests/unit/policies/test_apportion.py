"""Whole vCPUs for threads that go in step, and for those that do not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from vcpud_policies.apportion import Claim, allot


def claim(uuid: str = "a", **more: object) -> Claim:
    made = Claim(
        uuid=uuid,
        weight=1.0,
        active=4,
        least=1,
        home=4,
        entitled=3.0,
        want=4.0,
        cost=1.0,
        contended=True,
    )
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("home", "vcpus", "worth", "even"),
    [
        (4, 4, 4.0, 4),
        (4, 3, 2.0, 2),
        (4, 2, 2.0, 2),
        (8, 7, 4.0, 4),
        (8, 3, 8 / 3, 3),
        (6, 4, 3.0, 3),
    ],
)
def test_a_round_takes_as_long_as_its_last_turn(
    home: int, vcpus: int, worth: float, even: int
) -> None:
    one = claim(home=home, active=home, in_step=True)
    assert one.worth(vcpus) == pytest.approx(worth)
    assert one.even(vcpus) == even
    assert one.worth(even) == pytest.approx(worth)


def test_four_threads_in_step_get_two_vcpus_for_three_pcpus_and_others_get_three() -> None:
    assert allot(3.0, [claim()]).vcpus == {"a": 3}
    assert allot(3.0, [claim(in_step=True)]).vcpus == {"a": 2}


def test_what_threads_in_step_cannot_use_goes_to_whoever_can() -> None:
    pair = [claim("a", entitled=3.0), claim("b", entitled=3.0, in_step=True)]
    assert allot(6.0, pair).vcpus == {"a": 3, "b": 2}
    third = claim("a", entitled=3.5)
    assert allot(6.0, [third, pair[1]]).vcpus == {"a": 4, "b": 2}


def test_a_step_down_for_threads_in_step_is_as_large_as_it_must_be() -> None:
    """Five vCPUs are too few for 2 + 4 and for 3 + 3; of 1 + 4 and 2 + 3 the latter loses less."""
    pair = [claim("a", entitled=4.0, in_step=True), claim("b", entitled=4.0)]
    found = allot(5.0, pair).vcpus
    assert found["a"] in {1, 2, 4}
    assert sum(found.values()) <= 5
    assert found == {"a": 2, "b": 3}


def test_a_floor_holds_for_threads_in_step_too() -> None:
    assert allot(3.0, [claim(in_step=True, least=3)]).vcpus == {"a": 3}


def hog(**more: object) -> Claim:
    return claim(
        "hog", **{"active": 2, "home": 2, "cost": 0.0, "want": 2.0, "lends": True, **more}
    )


def test_one_vcpu_that_gets_its_share_takes_nothing_of_its_neighbours() -> None:
    one = claim(active=1, entitled=1.0, want=1.0, used=1.0)
    assert allot(2.0, [one, hog(entitled=1.0, used=1.33)]).vcpus == {"a": 1, "hog": 2}


def test_one_vcpu_that_was_seen_to_go_short_has_its_neighbour_brought_to_its_entitlement() -> None:
    one = claim(active=1, entitled=1.0, want=1.0, used=0.67, crowded=0.67)
    found = allot(2.0, [one, hog(entitled=1.0, used=1.33)])
    assert found.vcpus == {"a": 1, "hog": 1}
    assert found.gain == pytest.approx(math.log(1 / 0.67)), "what it loses was not its due"
    calm = replace(one, used=1.0, contended=False)
    kept = allot(2.0, [calm, hog(active=1, entitled=1.0, used=1.0)])
    assert kept.vcpus == {"a": 1, "hog": 1}, "and it stays there"


@pytest.mark.parametrize(
    ("entitled", "active", "kept"),
    [(1.02, 2, 1), (1.025, 2, 2), (1.025, 1, 1), (1.04, 1, 2), (3.08, 8, 4), (3.08, 3, 3)],
)
def test_a_neighbour_is_brought_to_its_entitlement_and_not_moved_by_noise(
    entitled: float, active: int, kept: int
) -> None:
    assert hog(entitled=entitled, active=active, home=8).kept == kept


def test_who_goes_short_while_it_is_on_trial_is_thought_of_too() -> None:
    one = claim(active=1, entitled=1.0, want=1.0, used=0.67, crowded=0.67, movable=False)
    assert allot(2.0, [one, hog(entitled=1.0, used=1.33)]).vcpus == {"a": 1, "hog": 1}


def test_a_ceiling_below_its_vcpus_is_a_pool_of_its_own() -> None:
    """However many pCPUs there are, more vCPUs than the ceiling are stopped in turn."""
    tenant, batch = claim(entitled=2.0, want=2.0, ceiling=2.0), claim("b", cost=0.0, want=2.0)
    found = allot(6.0, [tenant, batch])
    assert found.vcpus == {"a": 2, "b": 4}
    assert found.gain == pytest.approx(math.log(2))


def test_where_floors_keep_the_pool_from_fitting_queues_for_locks_are_made_shorter() -> None:
    pair = [claim(uuid, entitled=1.0, least=2, cost=9.0) for uuid in "ab"]
    found = allot(2.0, pair)
    assert (found.vcpus, found.fits) == ({"a": 2, "b": 2}, False)
    assert found.gain == pytest.approx(math.log(10 / 4)), "a third of the excess is left"
    in_step = [replace(one, in_step=True) for one in pair]
    assert allot(2.0, in_step) == replace(found, vcpus={"a": 4, "b": 4}, gain=0.0)
    beside = [replace(one, beside_steering=True) for one in pair]
    assert allot(2.0, beside).vcpus == {"a": 4, "b": 4}


def test_who_has_none_beyond_its_entitlement_pays_nothing_for_what_others_have() -> None:
    locks = claim(entitled=2.0, cost=9.0)
    hog = claim("h", cost=0.0, entitled=2.0, used=2.0, movable=False)
    found = allot(4.0, [locks, hog])
    assert (found.vcpus, found.fits) == ({"a": 2, "h": 4}, False)
    assert found.gain == pytest.approx(math.log(10))


def test_a_fraction_of_a_ceiling_is_no_vcpu_of_use() -> None:
    assert allot(6.0, [claim(entitled=2.5, want=2.5, ceiling=2.5)]).vcpus == {"a": 2}
    assert allot(6.0, [claim(entitled=2.8, want=2.8, ceiling=2.8)]).vcpus == {"a": 3}
    assert allot(6.0, [claim(entitled=2.5, want=2.5)]).vcpus == {"a": 3}


def test_who_may_merely_look_collapsed_keeps_its_share_whatever_would_fit() -> None:
    hog = claim("h", cost=0.0, entitled=3.0, used=3.0, movable=False)
    collapsed = claim(active=8, home=8, entitled=3.2, want=8.0, cost=50.0, in_step=None)
    assert allot(6.0, [collapsed, hog]).vcpus["a"] == 2
    assert allot(6.0, [replace(collapsed, evident=False), hog]).vcpus["a"] == 3
    alone = [replace(collapsed, uuid=uuid, evident=False, entitled=1.1) for uuid in "abc"]
    assert set(allot(2.0, alone).vcpus.values()) == {1}
