"""What no policy may do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vcpud.demand import DomainDemand
from vcpud.guard import GUARDS, Situation, constrain
from vcpud.limits import Limits
from vcpud.model import DomainSample, Method, Mode, ShareUnit, Terms, Trouble
from vcpud.plan import Move, Plan, Resize
from vcpud.units import NS_PER_S

ENFORCE = Terms(mode=Mode.ENFORCE)


def sample(uuid: str = "u", vcpus: int = 4, **more: object) -> DomainSample:
    made = DomainSample(
        uuid=uuid,
        name=uuid,
        incarnation="1@1",
        taken_at_ns=0,
        terms=ENFORCE,
        live_vcpus=vcpus,
        max_vcpus=vcpus,
        online=frozenset(range(vcpus)),
        method=Method.AGENT,
        share_unit=ShareUnit.DOMAIN,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def demand(uuid: str = "u", vcpus: int = 4, **more: object) -> DomainDemand:
    made = DomainDemand(
        uuid=uuid,
        name=uuid,
        mode=Mode.ENFORCE,
        pool="host",
        weight=1,
        active_vcpus=vcpus,
        min_vcpus=1,
        max_vcpus=vcpus,
        method=Method.AGENT,
        run_delay_pcpus=1.0,
        entitled_pcpus=1.0,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def situation(
    samples: tuple[DomainSample, ...], demands: tuple[DomainDemand, ...], **more: object
) -> Situation:
    made = Situation(
        samples={s.uuid: s for s in samples},
        demands={d.uuid: d for d in demands},
        busy=frozenset(),
        barred={},
        changed_at_ns={},
        begun_at_ns=(),
        originals={},
        now_ns=1000 * NS_PER_S,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def shrink(to_vcpus: int = 1, uuid: str = "u", from_vcpus: int = 4, step: int = 9) -> Plan:
    resize = Resize(uuid=uuid, from_vcpus=from_vcpus, to_vcpus=to_vcpus, step_vcpus=step)
    return Plan(moves=(Move(resizes=(resize,), reason=""),))


ORDINARY = situation((sample(),), (demand(),))


def test_an_ordinary_shrink_passes() -> None:
    assert constrain(shrink(), Limits(), ORDINARY) == (shrink(), ())


def test_nothing_goes_below_one_or_the_floor() -> None:
    plan, _ = constrain(shrink(0), Limits(), ORDINARY)
    assert plan.moves[0].resizes[0].to_vcpus == 1
    floored = situation((sample(),), (demand(min_vcpus=2),))
    plan, _ = constrain(shrink(1), Limits(), floored)
    assert plan.moves[0].resizes[0].to_vcpus == 2


def test_nothing_grows_above_what_the_domain_had() -> None:
    shrunk = situation(
        (sample(online=frozenset({0})),),
        (demand(active_vcpus=1, max_vcpus=2),),
        originals={"u": 2},
    )
    plan, _ = constrain(shrink(4, from_vcpus=1), Limits(), shrunk)
    assert plan.moves[0].resizes[0].to_vcpus == 2


def test_a_floor_lifts_nothing_above_what_the_domain_had() -> None:
    two_of_eight = situation(
        (sample(vcpus=8, online=frozenset({0, 1})),),
        (demand(active_vcpus=2, min_vcpus=4, max_vcpus=2),),
    )
    plan, blocked = constrain(shrink(1, from_vcpus=2), Limits(), two_of_eight)
    assert (plan, blocked) == (Plan(), ())


BLOCKING = {
    "mode": situation((sample(terms=Terms()),), (demand(),)),
    "hold": situation((sample(),), (demand(hold=Trouble.PAUSED),)),
    "job": situation((sample(job="save"),), (demand(),)),
    "barred": situation((sample(),), (demand(),), barred={"u": "paused"}),
    "busy": situation((sample(),), (demand(),), busy=frozenset({"u"})),
    "stale": situation((sample(online=frozenset({0, 1})),), (demand(),)),
    "actuator": situation((sample(method=Method.NONE),), (demand(),)),
    "cooldown": situation((sample(),), (demand(),), changed_at_ns={"u": 999 * NS_PER_S}),
    "share": situation((sample(share_unit=ShareUnit.VCPU),), (demand(),)),
    "quota": situation((sample(quota_pcpus_per_vcpu=0.5),), (demand(),)),
}


def test_every_guard_has_a_blocking_case_here() -> None:
    assert set(BLOCKING) == set(GUARDS)


@pytest.mark.parametrize("name", BLOCKING)
def test_each_guard_blocks_and_is_named(name: str) -> None:
    plan, blocked = constrain(shrink(), Limits(), BLOCKING[name])
    assert plan == Plan()
    assert [b.guard for b in blocked] == [name]


def test_a_quota_that_leaves_the_entitlement_reachable_does_not_block() -> None:
    ample = situation((sample(quota_pcpus_per_vcpu=1.0),), (demand(),))
    assert constrain(shrink(), Limits(), ample)[1] == ()


def test_too_many_changes_in_a_minute_are_blocked() -> None:
    busy = replace(ORDINARY, begun_at_ns=(0,) * 60)
    assert constrain(shrink(), Limits(max_changes_per_minute=60), busy)[1][0].guard == "pace"


def test_a_move_larger_than_a_minutes_worth_waits_for_a_whole_minute() -> None:
    move = Plan(
        moves=(
            Move(
                resizes=(shrink().moves[0].resizes[0], shrink(uuid="v").moves[0].resizes[0]),
                reason="",
            ),
        )
    )
    both = situation((sample(), sample("v")), (demand(), demand("v")))
    limits = Limits(max_changes_per_minute=1)
    assert constrain(move, limits, both)[0] == move
    lately = replace(both, begun_at_ns=(0,))
    assert constrain(move, limits, lately)[1][0].guard == "pace"


def test_too_large_a_part_of_the_host_is_not_parked() -> None:
    plan, blocked = constrain(shrink(), Limits(max_parked_ratio=0.5), ORDINARY)
    assert plan == Plan()
    assert blocked[0].guard == "parked"


def test_half_a_move_is_not_made() -> None:
    both = Plan(
        moves=(
            Move(
                resizes=(shrink().moves[0].resizes[0], shrink(uuid="v").moves[0].resizes[0]),
                reason="",
            ),
        )
    )
    one_held = situation((sample(), sample("v")), (demand(), demand("v", hold=Trouble.JOB)))
    plan, blocked = constrain(both, Limits(), one_held)
    assert plan == Plan()
    assert [b.uuid for b in blocked] == ["v"]


def test_a_domain_is_in_one_move_at_a_time() -> None:
    twice = Plan(moves=shrink(2).moves + shrink(1).moves)
    plan, blocked = constrain(twice, Limits(), ORDINARY)
    assert len(plan.moves) == 1
    assert blocked[0].guard == "one_move"
