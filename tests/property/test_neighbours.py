"""Whatever an operator does to the vCPUs of managed guests, his last word on each stands."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.host import FakeDomain
from unit.loop.test_control import Rig, lock_pair
from vcpud.units import NS_PER_S

STEPS = st.lists(
    st.tuples(
        st.integers(0, 1),  # whose
        st.booleans(),  # brought back or taken away
        st.frozensets(st.integers(1, 3), min_size=1),  # which
        st.integers(3, 60),  # and how many cycles later
    ),
    min_size=1,
    max_size=8,
)


def quiet(rig: Rig, domain: FakeDomain) -> None:
    """Wait until vcpud is not in the middle of something with a domain."""
    for _ in range(100):
        if domain.uuid not in rig.loop._agenda.courses and domain.in_flight is None:
            return
        rig.cycles(1)
    raise AssertionError("never quiet")


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(steps=STEPS, first=st.integers(5, 30))
def test_the_operators_last_word_on_every_vcpu_stands(
    steps: list[tuple[int, bool, frozenset[int], int]], first: int
) -> None:
    pair = lock_pair()
    rig = Rig(*pair)
    rig.cycles(first)
    said: dict[tuple[int, int], bool] = {}
    for whose, brings, which, later in steps:
        domain = pair[whose]
        quiet(rig, domain)
        before = domain.online
        domain.online = (before | which) if brings else (before - which)
        for cpu in domain.online ^ before:
            said[whose, cpu] = brings
        # What vcpud had left besides is his as well, once he has set the size.
        rig.cycles(2)
        assert domain.uuid in rig.loop._agenda.bars.by_domain or domain.online == before
        rig.cycles(later)
    assert rig.loop.restore(rig.clock.now_ns() + 20 * NS_PER_S) == ()
    for (whose, cpu), brought in said.items():
        if brought:
            assert cpu in pair[whose].online
        else:
            assert cpu not in pair[whose].online
    assert rig.ledger.outstanding() == ()
