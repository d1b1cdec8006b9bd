"""Properties of the pure stages under any input."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from vcpud.demand import Claim, DomainDemand, HostDemand, PoolDemand, wanted_pcpus, water_filled
from vcpud.guard import Situation, constrain
from vcpud.limits import Limits
from vcpud.model import (
    DomainSample,
    HostSample,
    Method,
    Mode,
    Original,
    Pool,
    ShareUnit,
    Terms,
    Trouble,
)
from vcpud.plan import Move, Plan, Resize
from vcpud.tracks import Tracks, estimate
from vcpud_policies.spin_feedback import SpinFeedback

rates = st.none() | st.floats(0, 64)


@st.composite
def demands(draw: st.DrawFn, uuid: str | None = None) -> DomainDemand:
    ceiling = draw(st.integers(1, 16))
    return DomainDemand(
        uuid=uuid or draw(st.uuids().map(str)),
        name="n",
        mode=Mode.ENFORCE,
        pool="host",
        weight=draw(st.integers(1, 10_000)),
        active_vcpus=draw(st.integers(1, ceiling)),
        min_vcpus=draw(st.integers(1, ceiling)),
        max_vcpus=ceiling,
        method=Method.AGENT,
        used_pcpus=draw(rates),
        run_delay_pcpus=draw(rates),
        entitled_pcpus=draw(rates),
        lock_wait_ratio=draw(st.none() | st.floats(0, 1)),
        lock_wait_at_ns=draw(st.none() | st.integers(0, 5)),
        queued_tasks=draw(rates),
        hold=draw(st.none() | st.sampled_from(Trouble)),
    )


many = st.lists(demands(), min_size=1, max_size=6, unique_by=lambda d: d.uuid)


@st.composite
def claim(draw: st.DrawFn) -> Claim:
    most = float(draw(st.integers(1, 16)))
    wanted = wanted_pcpus(draw(rates), draw(rates), draw(rates), most)
    return draw(st.uuids().map(str)), float(draw(st.integers(1, 10_000))), wanted, most


claims = st.lists(claim(), min_size=1, max_size=6, unique_by=lambda claim: claim[0])


@given(st.floats(0.1, 64), claims)
def test_entitlements_waste_nothing_and_exceed_no_maximum(
    available: float, claims: list[Claim]
) -> None:
    shares = water_filled(available, claims)
    assert all(0 <= shares[uuid] <= most + 1e-9 for uuid, _, _, most in claims)
    filled = sum(min(shares[uuid], wanted) for uuid, _, wanted, _ in claims)
    assert abs(filled - min(available, sum(wanted for _, _, wanted, _ in claims))) < 1e-6


@given(
    st.integers(1, 16),
    st.lists(
        st.tuples(st.integers(1, 8), st.integers(1, 8), st.booleans(), st.sampled_from(ShareUnit)),
        min_size=1,
        max_size=6,
    ),
)
def test_whatever_is_parked_of_whomever_all_are_entitled_to_what_they_would_be_whole(
    pcpus: int, drawn: list[tuple[int, int, bool, ShareUnit]]
) -> None:
    """And nobody to more than the vCPUs it came with."""
    whole, shrunk, originals = [], [], {}
    for number, (one, other, weighed, unit) in enumerate(drawn):
        home, left = max(one, other), min(one, other)
        sample = DomainSample(
            uuid=f"{number}",
            name="n",
            incarnation="1",
            taken_at_ns=0,
            terms=Terms(mode=Mode.ENFORCE),
            live_vcpus=8,
            max_vcpus=8,
            online=frozenset(range(home)),
            share_unit=unit,
            weight=100 * (number + 1),
        )
        whole.append(sample)
        if left == home:
            shrunk.append(sample)
            continue
        weight = sample.weight * home // left if weighed else sample.weight
        shrunk.append(replace(sample, online=frozenset(range(left)), weight=weight))
        originals[sample.uuid] = Original(
            boot_id="b",
            uuid=sample.uuid,
            name="n",
            incarnation="1",
            online=sample.online,
            live_vcpus=8,
            weight=sample.weight if weighed else None,
        )
    pools = (Pool(name="host", pcpus=pcpus),)
    host = HostSample(taken_at_ns=0, boot_id="b", pools=pools, domains=tuple(whole))
    _, before = estimate(Tracks(), host)
    _, after = estimate(Tracks(), replace(host, domains=tuple(shrunk)), originals)
    for then, now, sample in zip(before.domains, after.domains, whole, strict=True):
        assert then.entitled_pcpus == now.entitled_pcpus is not None
        assert now.entitled_pcpus <= len(sample.active)


@given(st.floats(0.1, 64), claims)
def test_entitlements_do_not_depend_on_the_order(available: float, claims: list[Claim]) -> None:
    there = water_filled(available, claims)
    back = water_filled(available, claims[::-1])
    assert all(abs(there[uuid] - back[uuid]) < 1e-6 for uuid in there)


@given(st.floats(0.1, 64), claims, st.integers(2, 10))
def test_more_weight_never_means_less(available: float, claims: list[Claim], factor: int) -> None:
    uuid, weight, wanted, most = claims[0]
    heavier = [(uuid, weight * factor, wanted, most), *claims[1:]]
    before, after = water_filled(available, claims), water_filled(available, heavier)
    assert after[uuid] >= before[uuid] - 1e-6


@given(many, st.integers(0, 10), st.floats(0, 8))
def test_spin_feedback_never_decides_for_a_domain_on_hold_or_below_its_floor(
    domains: list[DomainDemand], rounds: int, overcommit: float
) -> None:
    policy = SpinFeedback()
    state = policy.initial()
    pool = PoolDemand(
        name="host",
        pcpus=2,
        available_pcpus=2,
        active_vcpus=1,
        overcommit_ratio=overcommit,
        run_delay_ratio=None,
    )
    for now_ns in range(rounds):
        dated = tuple(
            replace(d, lock_wait_at_ns=now_ns) if d.lock_wait_at_ns is not None else d
            for d in domains
        )
        demand = HostDemand(window_ns=1, pools=(pool,), domains=dated)
        again = policy.decide(state, demand, (), now_ns)
        state, plan = policy.decide(state, demand, (), now_ns)
        assert again == (state, plan), "pure: the same input gives the same output"
        for move in plan.moves:
            for resize in move.resizes:
                domain = next(d for d in dated if d.uuid == resize.uuid)
                assert domain.hold is None
                assert domain.lock_wait_ratio is not None
                if resize.to_vcpus < resize.from_vcpus:
                    assert resize.to_vcpus >= domain.min_vcpus
                else:
                    assert resize.to_vcpus <= domain.max_vcpus


@given(many, st.data())
def test_the_guard_lets_nothing_out_of_bounds_through(
    domains: list[DomainDemand], data: st.DataObject
) -> None:
    moves = tuple(
        Move(
            resizes=(
                Resize(
                    uuid=d.uuid,
                    from_vcpus=d.active_vcpus,
                    to_vcpus=data.draw(st.integers(-5, 40)),
                    step_vcpus=data.draw(st.integers(-5, 40)),
                ),
            ),
            reason="",
        )
        for d in domains
    )
    homes = {d.uuid: data.draw(st.integers(d.active_vcpus, 16)) for d in domains}
    shrunk = [replace(d, max_vcpus=homes[d.uuid], home_vcpus=homes[d.uuid]) for d in domains]
    samples = {
        d.uuid: DomainSample(
            uuid=d.uuid,
            name="n",
            incarnation="1",
            taken_at_ns=0,
            terms=Terms(mode=data.draw(st.sampled_from(Mode))),
            live_vcpus=d.max_vcpus,
            max_vcpus=d.max_vcpus,
            online=frozenset(range(d.active_vcpus)),
            method=data.draw(st.sampled_from(Method)),
            share_unit=data.draw(st.sampled_from(ShareUnit)),
        )
        for d in domains
    }
    situation = Situation(
        samples=samples,
        demands={d.uuid: d for d in shrunk},
        busy=frozenset(),
        barred={},
        changed_at_ns={},
        begun_at_ns=(),
        originals=homes,
        now_ns=0,
    )
    limits = Limits(max_parked_ratio=data.draw(st.floats(0, 1)))
    allowed, blocked = constrain(Plan(moves=moves), limits, situation)
    for move in allowed.moves:
        for resize in move.resizes:
            d = situation.demands[resize.uuid]
            assert samples[resize.uuid].terms.mode is Mode.ENFORCE
            assert d.hold is None
            assert resize.to_vcpus >= min(d.min_vcpus, max(resize.from_vcpus, 1))
            assert resize.to_vcpus <= max(d.max_vcpus, resize.from_vcpus)
            assert resize.step_vcpus >= 1
    assert len(allowed.moves) + len({b.uuid for b in blocked}) <= len(domains)
