"""Adaptive on hosts of fluids, under the daemon's own loop, over ten minutes each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from fakes.fluid import FluidHost, Guest, Kept, alternating, constant, manage
from vcpud.demand import Progress
from vcpud.memory import MemoryLedger
from vcpud.model import Method, Mode, Terms, Trouble
from vcpud.plan import Outcome, Proof
from vcpud.units import NS_PER_S
from vcpud_policies.adaptive import Adaptive
from vcpud_policies.belief import Belief
from vcpud_policies.memory import Memory, PoolMemory
from vcpud_policies.static import Static

from .conftest import Decide, MakeDomain, MakeHost, window

MakeGuests = Callable[[], list[Guest]]
TEN_MINUTES = 600


def lock(name: str, vcpus: int = 8, cost: float = 9.0, **more: object) -> Guest:
    """A guest that contention makes ten times slower."""
    return Guest(name=name, vcpus=vcpus, cost=constant(cost), **more)  # type: ignore[arg-type]


def hog(name: str, vcpus: int = 8, **more: object) -> Guest:
    """A guest that does not care."""
    return Guest(name=name, vcpus=vcpus, **more)  # type: ignore[arg-type]


def managed(*guests: Guest, pcpus: int = 8, seconds: int = TEN_MINUTES) -> Kept:
    kept = manage(FluidHost(*guests, pcpus=pcpus), Adaptive(), seconds)
    assert {record.policy_error for record in kept.records} == {None}
    return kept


def unmanaged(make: MakeGuests, pcpus: int = 8, seconds: int = TEN_MINUTES) -> dict[str, float]:
    guests = make()
    manage(FluidHost(*guests, pcpus=pcpus), Static(), seconds)
    return {guest.name: guest.useful_s for guest in guests}


def counts(*guests: Guest) -> dict[str, int]:
    return {guest.name: len(guest.online) for guest in guests}


# ------------------------------------------------------------------------ the steady state


def test_a_pair_that_shares_its_pain_gets_one_vcpu_for_each_pcpu_within_half_a_minute() -> None:
    pair = [lock("a", 4), lock("b", 4)]
    kept = managed(*pair, pcpus=2)
    assert counts(*pair) == {"a": 1, "b": 1}
    assert len(kept.changes) == 2, "one each, and nothing after that"
    assert max(second for second, _ in kept.changes) < 30
    assert [verdict.outcome for verdict in kept.verdicts] == [Outcome.HELPED]
    assert min(guest.useful_s for guest in pair) > 0.95 * TEN_MINUTES


def test_what_an_earlier_vcpud_has_kept_is_taken_over_as_it_is() -> None:
    """To give everything back and see it collapse would be an experiment at the guests' cost."""
    pair, ledger = [lock("a", 4), lock("b", 4)], MemoryLedger()
    host = FluidHost(*pair, pcpus=2)
    manage(host, Adaptive(), 60, ledger=ledger)
    before = {guest.name: guest.useful_s for guest in pair}
    kept = manage(host, Adaptive(), TEN_MINUTES, ledger=ledger)
    assert kept.changes == []
    assert counts(*pair) == {"a": 1, "b": 1}
    assert min(guest.useful_s - before[guest.name] for guest in pair) > 0.99 * TEN_MINUTES


def test_what_was_kept_for_a_neighbour_that_has_gone_is_given_back() -> None:
    """It is taken over as it is, but not for ever: with pCPUs to spare there is nothing to fear."""
    pair, ledger = [lock("a", 4), lock("b", 4)], MemoryLedger()
    host = FluidHost(*pair, pcpus=4)
    manage(host, Adaptive(), 60, ledger=ledger)
    assert counts(*pair) == {"a": 2, "b": 2}
    pair[1].threads = constant(0.0)
    manage(host, Adaptive(), 30, ledger=ledger)
    assert counts(*pair)["a"] == 4


def test_an_idle_neighbour_gives_its_turn_like_any_other(
    domain: MakeDomain, host: MakeHost
) -> None:
    """It is entitled to nothing, and all that it has is beyond that."""
    taker = domain(uuid="a", active_vcpus=2, home_vcpus=8, used_pcpus=2.0, queued_tasks=2.0)
    giver = domain(uuid="b", active_vcpus=4, home_vcpus=8, used_pcpus=0.0)
    hog = domain(uuid="c", used_pcpus=6.0)
    proven = Belief(home_vcpus=8, proven=True, cost_ratio=9.0)
    state = Memory(
        domains={
            "a": replace(proven, owed_pcpu_s=100.0),
            "b": replace(proven, owed_pcpu_s=-100.0),
        },
        pools={"host": PoolMemory(looked_at_ns=0, rotated_at_ns=0)},
    )
    _, plan = Adaptive().decide(state, host(taker, giver, hog), (), 200 * NS_PER_S)
    assert [(r.uuid, r.to_vcpus) for move in plan.moves for r in move.resizes] == [
        ("b", 3),
        ("a", 3),
    ]


def test_what_was_never_seen_without_contention_is_compared_with_from_the_first_window() -> None:
    """Readings come every five seconds: the second one is enough."""
    pair = [lock("a", 4), lock("b", 4)]
    kept = managed(*pair, pcpus=2, seconds=30)
    assert max(second for second, _ in kept.changes) <= 6


@pytest.mark.parametrize("capped", ["a", "b"])
def test_a_ceiling_its_owner_set_leaves_the_last_vcpu_to_whom_it_is_worth_more(
    domain: MakeDomain, host: MakeHost, decide: Decide, capped: str
) -> None:
    """2.3 and 2.7 of five pCPUs, of equal weights, whoever comes first by name."""
    window = Progress(
        began_at_ns=0, ended_at_ns=5 * NS_PER_S, rate_pcpus=0.2, active_vcpus=8, worth_ratio=0.1
    )
    pair = [
        domain(
            uuid=uuid,
            used_pcpus=2.5,
            run_delay_pcpus=5.5,
            entitled_pcpus=2.5,
            lock_wait_ratio=0.9,
            lock_wait_at_ns=5 * NS_PER_S,
            progress=window,
            most_pcpus=2.3 if uuid == capped else None,
        )
        for uuid in ("a", "b")
    ]
    plan = decide(Adaptive(), *[host(*pair, pcpus=5)] * 3)
    wanted = {r.uuid: r.to_vcpus for move in plan.moves for r in move.resizes}
    assert wanted == {"a": 3, "b": 3} | {capped: 2}


@pytest.mark.parametrize("delay", [0.0, 4.0])
@pytest.mark.parametrize(("most", "moves"), [(2.0, {"a": 2}), (None, {})])
def test_a_ceiling_stops_vcpus_in_their_locks_on_a_host_with_room(  # noqa: PLR0913, PLR0917 - parameters and fixtures
    domain: MakeDomain,
    host: MakeHost,
    decide: Decide,
    most: float | None,
    moves: dict[str, int],
    delay: float,
) -> None:
    """Without one nobody stops it. Whether what is stopped counts as waiting depends on the scheduler."""
    window = Progress(
        began_at_ns=0, ended_at_ns=5 * NS_PER_S, rate_pcpus=0.5, active_vcpus=8, worth_ratio=0.25
    )
    tenant = domain(
        uuid="a",
        used_pcpus=2.0,
        run_delay_pcpus=delay,
        entitled_pcpus=2.0,
        lock_wait_ratio=0.7,
        lock_wait_at_ns=5 * NS_PER_S,
        progress=window,
        most_pcpus=most,
    )
    batch = domain(uuid="b", used_pcpus=2.0, entitled_pcpus=2.0, progress=window)
    plan = decide(Adaptive(), *[host(tenant, batch, pcpus=16)] * 4)
    assert {r.uuid: r.to_vcpus for move in plan.moves for r in move.resizes} == moves


PRESSED: dict[str, Any] = {
    "used_pcpus": 1.0,
    "run_delay_pcpus": 7.0,
    "entitled_pcpus": 1.0,
    "system_ratio": 0.2,
    "lock_wait_at_ns": 1,
}
"""What is read of one of eight vCPUs that is entitled to one pCPU and waits for seven."""


@pytest.mark.parametrize(
    ("made_pcpus", "together"), [(0.4, True), (0.95, False)], ids=["short", "has its share"]
)
def test_who_falls_short_beside_one_that_waits_for_locks_is_in_the_same_move(
    domain: MakeDomain, host: MakeHost, decide: Decide, made_pcpus: float, *, together: bool
) -> None:
    """One window each: the first shows what it waits for, the second only that it makes too little."""
    waits = domain(uuid="a", lock_wait_ratio=0.9, progress=window(0, 0.1), **PRESSED)
    beside = domain(uuid="b", lock_wait_ratio=0.02, progress=window(0, made_pcpus), **PRESSED)
    [move] = decide(Adaptive(), *[host(waits, beside, pcpus=2)] * 4).moves
    wanted = {resize.uuid: resize.to_vcpus for resize in move.resizes}
    assert wanted == ({"a": 1, "b": 1} if together else {"a": 1})
    nobody = replace(waits, lock_wait_ratio=0.0)
    assert decide(Adaptive(), *[host(nobody, beside, pcpus=2)] * 4).moves == ()


@pytest.mark.parametrize(
    ("made_pcpus", "moved"), [(0.001, {"a"}), (0.1, {"a", "b"})], ids=["nothing shows", "some"]
)
def test_beside_one_of_which_only_speaks_that_it_makes_next_to_nothing_as_much_is_asked_as_of_that(
    domain: MakeDomain, host: MakeHost, decide: Decide, made_pcpus: float, moved: set[str]
) -> None:
    """All its work may be in its kernel, so it says nothing of others, of whom one window was seen."""
    some = PRESSED | {"lock_wait_ratio": 0.0}
    short = [domain(uuid="a", progress=window(5 * n, made_pcpus), **some) for n in range(4)]
    beside = domain(uuid="b", **some)
    demands = [host(one, beside, pcpus=2) for one in short[:3]]
    seen = replace(beside, progress=window(15, 0.4))
    moves = decide(Adaptive(), *demands, host(short[3], seen, pcpus=2)).moves
    assert {resize.uuid for move in moves for resize in move.resizes} == moved


def test_who_steers_itself_is_left_alone_and_others_leave_it_all_it_has(
    domain: MakeDomain, host: MakeHost, decide: Decide
) -> None:
    """Two guests of eight on eight pCPUs: 8 and 4 do not fit, and on one vCPU the other has no siblings."""
    window = Progress(
        began_at_ns=0, ended_at_ns=5 * NS_PER_S, rate_pcpus=0.1, active_vcpus=8, worth_ratio=0.1
    )
    both = {
        "used_pcpus": 4.0,
        "run_delay_pcpus": 4.0,
        "lock_wait_ratio": 0.95,
        "lock_wait_at_ns": 5 * NS_PER_S,
        "progress": window,
    }
    spread, plain = domain(uuid="a", **both), domain(uuid="b", **both)
    steers = replace(spread, used_pcpus=2.0, run_delay_pcpus=0.1, hold=Trouble.SELF_MANAGED)
    plan = decide(Adaptive(), *[host(steers, plain)] * 5)
    assert {r.uuid: r.to_vcpus for move in plan.moves for r in move.resizes} == {"b": 1}
    plan = decide(Adaptive(), *[host(spread, plain)] * 4)
    assert {r.uuid: r.to_vcpus for move in plan.moves for r in move.resizes} == {"a": 4, "b": 4}


def test_an_indifferent_neighbour_is_brought_to_its_entitlement_and_loses_nothing() -> None:
    sensitive, other = lock("a"), hog("h")
    managed(sensitive, other)
    assert counts(sensitive, other) == {"a": 4, "h": 4}
    assert other.useful_s > 0.97 * 4 * TEN_MINUTES
    assert sensitive.useful_s > 0.95 * 4 * TEN_MINUTES


@pytest.mark.parametrize(("weight", "expected"), [(2048, (5, 3)), (512, (2, 6))])
def test_entitlements_follow_weight_and_no_neighbour_goes_below_its_own(
    weight: int, expected: tuple[int, int]
) -> None:
    sensitive, other = lock("a", weight=weight), hog("h")
    managed(sensitive, other)
    assert (len(sensitive.online), len(other.online)) == expected
    entitled = 8 * 1024 / (1024 + weight)
    assert len(other.online) >= 0.97 * entitled
    assert other.useful_s > 0.97 * entitled * TEN_MINUTES


@pytest.mark.parametrize(
    "make",
    [
        lambda: [hog("a"), hog("b")],
        lambda: [lock("a", 4), hog("b", 4)],  # fits as it is
        lambda: [lock("a", cost=0.05), lock("b", cost=0.05)],  # not worth a change
        lambda: [lock("a"), hog("b", threads=constant(0.0))],  # nobody in the way
    ],
)
def test_what_needs_no_help_is_left_alone(make: MakeGuests) -> None:
    guests = make()
    assert managed(*guests).changes == []


def test_a_shortfall_without_lock_waits_is_tried_after_a_while_and_kept_if_it_helps() -> None:
    pair = [lock("a", 4, 1.0, says=False), lock("b", 4, 1.0, says=False)]
    kept = managed(*pair, pcpus=4)
    assert counts(*pair) == {"a": 2, "b": 2}
    assert 20 <= kept.changes[0][0] < 120
    assert len(kept.changes) == 2


def test_a_shortfall_that_is_not_contention_is_tried_once_in_ten_minutes() -> None:
    """A guest with much kernel work looks as if it fell short; shrinking shows that it does not."""
    pair = [hog("a", 4, user_ratio=0.4), hog("b", 4, user_ratio=0.4)]
    kept = managed(*pair, pcpus=4)
    assert counts(*pair) == {"a": 4, "b": 4}
    assert len(kept.changes) <= 4, "there and back"
    assert min(guest.useful_s for guest in pair) > 0.99 * 2 * TEN_MINUTES


def test_sixteen_guests_on_eight_pcpus_get_one_vcpu_each() -> None:
    crowd = [lock(f"g{number}", 4) for number in range(16)]
    managed(*crowd, seconds=60)
    assert set(counts(*crowd).values()) == {1}


def test_only_what_may_be_changed_is_changed() -> None:
    watched = hog("watched", terms=Terms(mode=Mode.OBSERVE))
    stuck = hog("stuck", method=Method.NONE)
    sensitive = lock("a", 4)
    kept = managed(sensitive, watched, stuck, pcpus=4)
    assert {change.name for _, change in kept.changes} <= {"a"}
    assert counts(watched, stuck) == {"watched": 8, "stuck": 8}


def test_a_guest_that_manages_itself_is_left_alone_and_planned_around() -> None:
    itself = lock("itself", 2, troubles=frozenset({Trouble.SELF_MANAGED}))
    sensitive, other = lock("a", 4), hog("h", 4)
    kept = managed(itself, sensitive, other, pcpus=6, seconds=120)
    assert {change.name for _, change in kept.changes} == {"a", "h"}
    assert counts(itself) == {"itself": 2}
    assert itself.useful_s > 0.7 * 2 * 120, "it fits because its neighbours do"


def test_a_floor_is_respected() -> None:
    pair = [lock("a", 4, terms=Terms(mode=Mode.ENFORCE, min_vcpus=2)), lock("b", 4)]
    managed(*pair, pcpus=2)
    assert len(pair[0].online) >= 2
    assert len(pair[1].online) == 1


# ------------------------------------------------------------------------------- rotation


def test_a_remainder_goes_round_and_each_has_its_share_in_the_end() -> None:
    three = [lock(name, 4) for name in "abc"]
    kept = managed(*three, pcpus=4, seconds=1000)
    seen: dict[str, list[float]] = {}
    for second, change in kept.changes:
        seen.setdefault(change.name, []).append(second)
    assert all(
        later - earlier >= 119 for seconds in seen.values() for earlier, later in pairwise(seconds)
    ), "at most once in two minutes"
    rotations = [v for v in kept.verdicts if v.move.proof is Proof.SUM]
    assert all(verdict.kept for verdict in rotations)
    shares = [guest.useful_s / 1000 for guest in three]
    assert min(shares) > 0.9 * 4 / 3
    assert max(shares) < 1.1 * 4 / 3


# --------------------------------------------------------------------------------- dynamics


@pytest.mark.parametrize(("every_s", "least"), [(120, 0.92), (60, 0.92), (30, 0.88)])
def test_a_neighbour_that_comes_and_goes_is_followed(every_s: float, least: float) -> None:
    sensitive, other = lock("a"), hog("h", threads=alternating(1e9, 0.0, every_s))
    managed(sensitive, other)
    alone = sum(not int(second / every_s) % 2 for second in range(TEN_MINUTES))
    best = 4 * alone + 8 * (TEN_MINUTES - alone)
    assert sensitive.useful_s > least * best
    assert other.useful_s > 0.97 * 4 * alone


@pytest.mark.parametrize("every_s", [2, 5, 12])
def test_a_neighbour_that_comes_and_goes_too_fast_to_be_followed_costs_little(
    every_s: float,
) -> None:
    def make() -> list[Guest]:
        return [lock("a"), hog("h", threads=alternating(1e9, 0.0, every_s))]

    before = unmanaged(make)
    guests = make()
    managed(*guests)
    assert all(guest.useful_s > 0.9 * before[guest.name] for guest in guests)


def test_a_guest_that_cares_only_half_of_the_time_is_helped_when_it_does() -> None:
    pair = [Guest(name=name, vcpus=4, cost=alternating(9.0, 0.0, 60.0)) for name in ("a", "b")]
    kept = managed(*pair, pcpus=2)
    assert min(guest.useful_s for guest in pair) > 0.95 * TEN_MINUTES
    assert len(kept.changes) <= 4


def test_an_arrival_is_made_room_for_and_a_departure_is_used() -> None:
    first, second, third = lock("a"), lock("b"), lock("c")
    host = FluidHost(first, second, pcpus=8)
    host.arrive(third, 200)
    host.depart(third, 400)
    kept = manage(host, Adaptive(), TEN_MINUTES)
    assert counts(first, second) == {"a": 4, "b": 4}
    assert third.useful_s > 0.8 * 200 * 2
    assert min(first.useful_s, second.useful_s) > 0.9 * (400 * 4 + 200 * 2.67)
    assert len(kept.changes) < 20


def test_under_constant_load_nothing_moves_after_the_first_minute() -> None:
    mixed = [lock("a"), lock("b", 4), hog("c", 4), hog("d", 8, threads=constant(0.5))]
    kept = managed(*mixed)
    late = [change for second, change in kept.changes if second > 60]
    assert all("turns" in change.reason for change in late)


# ---------------------------------------------------------------------------------- outlook


def test_every_domain_is_explained() -> None:
    sensitive, other = lock("a"), hog("h")
    kept = managed(sensitive, other, seconds=40)
    acted = next(record for record in kept.records if record.proposed.moves)
    outlooks = {outlook.uuid: outlook for outlook in acted.proposed.outlooks}
    seen = outlooks[sensitive.uuid]
    inputs: Mapping[str, float | None] = dict(seen.inputs)
    assert (inputs["lock_wait_ratio"] or 0.0) > 0.5
    assert seen.wanted_vcpus == 4
    predicted = {prospect.vcpus: prospect.gain_ratio for prospect in seen.prospects}
    assert predicted[8] == 0.0
    assert (predicted[4] or 0.0) > 1.0
    assert (predicted[4] or 0.0) > (predicted[1] or 0.0), "half the pool is worth more than one"
    after = {outlook.uuid: outlook for outlook in kept.records[-1].proposed.outlooks}
    assert "entitled to 4.00" in after[sensitive.uuid].why_not_more
    assert (
        after[other.uuid].why_not_fewer == "there is no evidence that contention costs it anything"
    )
    assert all(outlook.would_change for outlook in after.values())


def test_what_is_wanted_is_done_or_what_it_waits_for_is_told() -> None:
    bursts = hog("h", threads=alternating(1e9, 0.0, 30))
    late = Guest(name="l", vcpus=8, cost=lambda second: 9.0 if second > 60 else 0.0)
    waited = set()
    for record in managed(late, bursts, lock("a", 4), seconds=300).records:
        active = {domain.uuid: domain.active_vcpus for domain in record.demand.domains}
        moved = {resize.uuid for move in record.proposed.moves for resize in move.resizes}
        for outlook in record.proposed.outlooks:
            if outlook.wanted_vcpus != active[outlook.uuid] and outlook.uuid not in moved:
                assert outlook.waits_for
                assert outlook.would_change == f"wait for {outlook.waits_for}"
                waited.add(outlook.waits_for)
            elif outlook.wanted_vcpus == active[outlook.uuid]:
                assert not outlook.waits_for
    assert waited == {"entitlements to settle", "room that lasts for 1 s more"}


def test_after_an_attempt_in_vain_the_next_is_told() -> None:
    pair = [hog("a", 4, user_ratio=0.4), hog("b", 4, user_ratio=0.4)]
    kept = managed(*pair, pcpus=4, seconds=300)
    assert kept.verdicts, "it was tried"
    seen = {outlook.uuid: outlook for outlook in kept.records[-1].proposed.outlooks}[pair[0].uuid]
    assert "1 attempt did not help: the next is in" in seen.why_not_fewer
    assert seen.would_change == seen.why_not_fewer


# ------------------------------------------------------------------------------------ noise


def test_what_progress_varies_by_is_known_before_a_gain_is_sought_that_it_could_hide(
    domain: MakeDomain, host: MakeHost
) -> None:
    """That half is missing one window shows; for less it must be known how the next one differs."""

    def first_move(wait: float, rates: list[float]) -> int | None:
        policy = Adaptive()
        state = policy.initial()
        for second in range(5 * len(rates)):
            read_at_ns, place = (100 + second // 5 * 5) * NS_PER_S, second // 5
            window = Progress(
                began_at_ns=read_at_ns - 5 * NS_PER_S,
                ended_at_ns=read_at_ns,
                rate_pcpus=rates[place],
                active_vcpus=8,
                worth_ratio=rates[place] / 4,
            )
            pair = [
                domain(
                    uuid=uuid,
                    run_delay_pcpus=4.0,
                    lock_wait_ratio=wait,
                    lock_wait_at_ns=read_at_ns,
                    queued_tasks=0.0,
                    progress=window,
                )
                for uuid in "ab"
            ]
            state, plan = policy.decide(state, host(*pair), (), (100 + second) * NS_PER_S)
            if plan.moves:
                return second
            waits = [one.waits_for for one in plan.outlooks if one.wanted_vcpus == 4]
            told.update(one for one in waits if "settle" not in one and "to last" not in one)
        return None

    told: set[str] = set()
    assert first_move(0.5, [1.9] * 4) == 2
    assert told == set(), "half of the progress or more is missing"
    assert first_move(0.5, [2.1] * 4) == 5, "the second window was like the first"
    assert told == {"two comparable windows of progress, to know how much it varies"}
    told.clear()
    assert first_move(0.3, [3.2, 2.1, 3.2]) is None, "they differ by more than is to be gained"
    assert any("noise does not hide" in one for one in told)
