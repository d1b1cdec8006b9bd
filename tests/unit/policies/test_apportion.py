"""Whole vCPUs for threads that go in step, and for those that do not."""

from __future__ import annotations

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
