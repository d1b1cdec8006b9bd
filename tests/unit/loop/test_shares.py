"""Where weight counts per vCPU and cannot be set, nobody is left short of share, and much is possible."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from unit.loop.test_guard import demand, sample, situation
from vcpud.guard import Situation, constrain
from vcpud.limits import Limits
from vcpud.model import DomainSample, Mode, ShareUnit, Terms
from vcpud.plan import Move, Plan, Proof, Resize
from vcpud.shares import KEPT_RATIO, Pool

FREE = Limits(max_parked_ratio=1.0)
QUIET = {"host": 0.01}


def thread(uuid: str, vcpus: int, *, active: int | None = None, **more: object) -> DomainSample:
    online = frozenset(range(vcpus if active is None else active))
    made = sample(uuid, vcpus, online=online, share_unit=ShareUnit.VCPU, pool="host")
    return replace(made, **more)  # type: ignore[arg-type]


def host(*samples: DomainSample, **more: object) -> Situation:
    demands = tuple(demand(one.uuid, one.max_vcpus) for one in samples)
    made = situation(samples, demands, originals={one.uuid: one.max_vcpus for one in samples})
    return replace(made, unmanaged=QUIET, **more)  # type: ignore[arg-type]


def move(**wanted: tuple[int, int]) -> Plan:
    resizes = tuple(
        Resize(uuid=uuid, from_vcpus=before, to_vcpus=after, step_vcpus=9)
        for uuid, (before, after) in wanted.items()
    )
    return Plan(moves=(Move(resizes=resizes, reason=""),))


def counts(plan: Plan) -> dict[str, int]:
    return {one.uuid: one.to_vcpus for move in plan.moves for one in move.resizes}


def test_all_may_give_up_the_same_part_and_nobody_alone_any() -> None:
    pair = host(thread("a", 4), thread("b", 4))
    plan, blocked = constrain(move(a=(4, 1), b=(4, 1)), FREE, pair)
    assert (counts(plan), blocked) == ({"a": 1, "b": 1}, ())
    plan, [stop] = constrain(move(a=(4, 1)), FREE, pair)
    assert (plan, stop.guard) == (Plan(), "share")


def test_a_shrink_is_cut_to_what_leaves_nobody_short() -> None:
    plan, _ = constrain(
        move(wide=(4, 1), narrow=(2, 1)), FREE, host(thread("wide", 4), thread("narrow", 2))
    )
    assert counts(plan) == {"wide": 2, "narrow": 1}


def test_a_third_who_gives_up_nothing_would_take_from_both() -> None:
    crowd = host(thread("a", 4), thread("b", 4), thread("watched", 4, terms=Terms()))
    plan, [stop] = constrain(move(a=(4, 1), b=(4, 1)), FREE, crowd)
    assert (plan, stop.guard) == (Plan(), "share")
    alone = host(thread("a", 4))
    assert counts(constrain(move(a=(4, 1)), FREE, alone)[0]) == {"a": 1}


def test_who_grows_takes_along_whom_it_would_leave_short() -> None:
    shrunk = host(thread("a", 4, active=1), thread("b", 4, active=1))
    plan, blocked = constrain(move(a=(1, 4)), FREE, shrunk)
    assert (counts(plan), blocked) == ({"a": 4, "b": 4}, ())
    held = replace(shrunk, barred={"b": "paused"})
    plan, [stop] = constrain(move(a=(1, 4)), FREE, held)
    assert (plan, stop.guard) == (Plan(), "barred")


def test_what_was_taken_is_given_back_when_somebody_comes() -> None:
    pair = thread("a", 4, active=1), thread("b", 4, active=1)
    assert constrain(Plan(), FREE, host(*pair)) == (Plan(), ())
    come = host(*pair, thread("new", 4))
    plan, blocked = constrain(Plan(), FREE, come)
    assert (counts(plan), blocked) == ({"a": 4, "b": 4}, ())
    assert plan.moves[0].proof is Proof.NONE
    plan, _ = constrain(Plan(), FREE, replace(come, busy=frozenset({"a"})))
    assert plan == Plan(), "not in the middle of another move"


def test_where_others_are_to_be_reckoned_with_it_is_refused() -> None:
    both = move(a=(4, 1), b=(4, 1))
    busy_host = replace(host(thread("a", 4), thread("b", 4)), unmanaged={"host": 0.3})
    mixed = host(thread("a", 4), thread("b", 4), thread("c", 4, share_unit=ShareUnit.DOMAIN))
    for one in (busy_host, mixed, replace(mixed, unmanaged={})):
        plan, blocked = constrain(both, FREE, one)
        assert plan == Plan()
        assert {stop.guard for stop in blocked} == {"share"}


def test_elsewhere_nothing_of_this_is_asked() -> None:
    grouped = host(
        thread("a", 4, share_unit=ShareUnit.DOMAIN), thread("b", 4, share_unit=ShareUnit.DOMAIN)
    )
    assert counts(constrain(move(a=(4, 1)), FREE, grouped)[0]) == {"a": 1}
    assert sample().terms.mode is Mode.ENFORCE


@given(
    st.lists(
        st.tuples(st.integers(1, 8), st.integers(1, 8), st.sampled_from((128, 256, 1024))),
        min_size=1,
        max_size=5,
    )
)
def test_nobody_is_left_short_whatever_is_asked(
    crowd: list[tuple[int, int, int]],
) -> None:
    homes = {str(at): have for at, (have, _, _) in enumerate(crowd)}
    asked = {str(at): min(want, have) for at, (have, want, _) in enumerate(crowd)}
    weights = {str(at): float(weight) for at, (_, _, weight) in enumerate(crowd)}
    found = Pool(weights, homes).fitting(asked, homes, homes)
    assert found is not None, "to leave all as they are is always possible"
    now = sum(weights[uuid] * count for uuid, count in found.items())
    had = sum(weights[uuid] * count for uuid, count in homes.items())
    for uuid, home in homes.items():
        assert asked[uuid] <= found[uuid] <= home
        assert found[uuid] / now >= KEPT_RATIO * home / had - 1e-9
