"""Nothing is taken on Xen that could not be given back: over all hosts, domains and requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from hypothesis import given
from hypothesis import strategies as st

from vcpud.hypervisor.gate import Stance
from vcpud.hypervisor.view import View
from vcpud.hypervisor.xen.change import STILL_NS, _Witness
from vcpud.hypervisor.xen.gate import Route, refuse
from vcpud.model import Reason, SetLive

if TYPE_CHECKING:
    from vcpud.hypervisor.xen.book import XenBook

OPEN = Stance(writable=True, why_not_connected=None, why_hung="", now_ns=0)


@dataclass
class Page:
    """What the gate reads in a book."""

    live_vcpus: int
    libvirt_count: int
    max_vcpus: int
    can_shrink: bool = True
    gap: frozenset[int] = frozenset()
    running: bool = True
    job: str | None = None
    in_flight: None = None
    view: View = field(default_factory=View)


COUNTS = st.integers(1, 12)


PAGES = st.builds(
    lambda live, said, more, can_shrink: Page(
        live, said, max(live, said) + more, can_shrink=can_shrink
    ),
    COUNTS,
    COUNTS,
    st.integers(0, 4),
    st.booleans(),
)
ROUTES = st.builds(lambda pcpus, by_xl: Route(pcpus=pcpus, by_xl=by_xl), COUNTS, st.booleans())


@given(PAGES, ROUTES, st.integers(-1, 17))
def test_what_is_let_through_can_be_undone(page: Page, route: Route, count: int) -> None:
    refusal = refuse(cast("XenBook", page), SetLive(uuid="a", count=count), OPEN, route)
    if refusal is None:
        assert 1 <= count <= page.max_vcpus
        most = max(page.live_vcpus, page.libvirt_count, count)
        grows = count >= page.live_vcpus
        assert grows or route.by_xl or most <= route.pcpus, "libvirt would refuse the way back"
        assert page.can_shrink or count >= page.live_vcpus
    else:
        assert refusal.reason in {Reason.OUT_OF_BOUNDS, Reason.UNSUPPORTED}
        assert refusal.detail


@given(COUNTS, COUNTS, st.booleans())
def test_giving_back_is_let_through_wherever_taking_was(pcpus: int, had: int, by_xl: bool) -> None:
    route = Route(pcpus=pcpus, by_xl=by_xl)
    for fewer in range(1, had):
        taking = SetLive(uuid="a", count=fewer)
        whole = cast("XenBook", Page(had, had, had))
        if refuse(whole, taking, OPEN, route) is not None:
            continue
        # By xl libvirt's count stays what it was, by libvirt it follows.
        said = had if route.needs_xl(had) else fewer
        parked = cast("XenBook", Page(fewer, said, had))
        assert refuse(parked, SetLive(uuid="a", count=had), OPEN, route) is None


@given(COUNTS, COUNTS, COUNTS, st.booleans())
def test_giving_back_is_let_through_though_pcpus_have_gone_meanwhile(
    pcpus: int, fewer: int, parked: int, by_xl: bool
) -> None:
    page = cast("XenBook", Page(fewer, fewer, fewer + parked))
    route = Route(pcpus=pcpus, by_xl=by_xl)
    assert refuse(page, SetLive(uuid="a", count=fewer + parked), OPEN, route) is None


def test_a_guest_that_has_taken_a_cpu_offline_itself_is_not_shrunk_but_given_back() -> None:
    page = cast("XenBook", Page(3, 4, 4, gap=frozenset({1})))
    route = Route(pcpus=8, by_xl=False)
    refusal = refuse(page, SetLive(uuid="a", count=2), OPEN, route)
    assert refusal is not None
    assert refusal.reason is Reason.UNSUPPORTED
    assert "[1]" in refusal.detail
    assert refuse(page, SetLive(uuid="a", count=4), OPEN, route) is None


def test_a_vcpu_that_stands_still_is_offline_in_the_end_but_vcpu_0_never() -> None:
    witness = _Witness()
    both = frozenset({0, 1})
    assert witness.online([5, 5], set(), both, 0) == both
    assert witness.online([5, 5], set(), both, STILL_NS - 1) == both
    assert witness.online([5, 5], set(), both, STILL_NS) == {0}
    assert witness.online([5, 6], set(), frozenset({0}), STILL_NS + 1) == both, "it runs again"
