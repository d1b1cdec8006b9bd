"""What `adaptive` learns from verdicts, and when it tries again what did not help."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vcpud.plan import Move, Outcome, Resize, Verdict
from vcpud.units import NS_PER_S
from vcpud_policies import belief as beliefs
from vcpud_policies import lessons
from vcpud_policies.belief import Belief, Sought
from vcpud_policies.memory import Memory
from vcpud_policies.readings import look

from .conftest import MakeDomain, MakeHost, window

S = NS_PER_S


def verdict(**beside: float) -> Verdict:
    return Verdict(
        decision_id="d",
        move=Move(resizes=(Resize(uuid="moved", from_vcpus=8, to_vcpus=4),), reason=""),
        outcome=Outcome.HARMED,
        gain_ratio=None,
        kept=False,
        at_ns=100 * S,
        detail="",
        beside=beside,
    )


def test_harm_beside_a_move_speaks_of_its_pool_and_harm_to_who_was_moved_of_that_one_alone(
    domain: MakeDomain, host: MakeHost
) -> None:
    demand = host(
        *(domain(uuid=uuid) for uuid in ("moved", "harmed", "mate")),
        domain(uuid="elsewhere", pool="other"),
    )
    one = Belief(home_vcpus=8, contended_since_ns=0, rate_pcpus=0.5)
    state = Memory(domains=dict.fromkeys(("moved", "harmed", "mate", "elsewhere"), one))

    known, _ = lessons.heard(state, demand, (verdict(harmed=2.0),), 100 * S)
    failed_at = {uuid: belief.failed_at_pcpus for uuid, belief in known.items()}
    assert failed_at == {"moved": None, "harmed": 2.0, "mate": 0.5, "elsewhere": None}
    assert known["elsewhere"] == one

    known, _ = lessons.heard(state, demand, (verdict(),), 100 * S)
    assert known["harmed"] == known["mate"] == one


def test_of_those_a_move_has_helped_only_who_made_more_was_hurt_before(
    domain: MakeDomain, host: MakeHost
) -> None:
    names = ("hurt", "not", "untold")
    demand = host(*(domain(uuid=uuid, active_vcpus=4) for uuid in names))
    belief = Belief(home_vcpus=8, cost_ratio=9.0)
    sought = Sought(rate_pcpus=0.5, cost_ratio=9.0, in_step=False)
    state = Memory(domains=dict.fromkeys(names, belief), sought=dict.fromkeys(names, sought))
    resizes = tuple(Resize(uuid=uuid, from_vcpus=8, to_vcpus=4) for uuid in names)
    helped = replace(
        verdict(),
        move=Move(resizes=resizes, reason=""),
        outcome=Outcome.HELPED,
        kept=True,
        gains={"hurt": 2.0, "not": 0.01},
    )
    known, left = lessons.heard(state, demand, (helped,), 100 * S)
    assert {uuid: one.proven for uuid, one in known.items()} == {
        "hurt": True,
        "not": False,
        "untold": True,
    }
    assert (known["not"].failures, known["not"].not_before_ns) == (1, 100 * S + lessons.RETRY_NS)
    assert left == {}
    before = replace(state, domains=dict.fromkeys(names, replace(belief, proven=True)))
    known, _ = lessons.heard(before, demand, (helped,), 100 * S)
    assert known["not"].proven, "once was enough"


def test_use_that_is_worth_more_counts_where_others_have_taken_some_of_it(
    domain: MakeDomain, host: MakeHost
) -> None:
    sought = Sought(rate_pcpus=1.8, cost_ratio=3.0, in_step=False, worth_ratio=0.5)
    state = Memory(domains={"u": Belief(home_vcpus=8)}, sought={"u": sought})
    move = Move(resizes=(Resize(uuid="u", from_vcpus=8, to_vcpus=4),), reason="")
    helped = replace(verdict(), move=move, outcome=Outcome.HELPED, kept=True, gains={"u": -0.1})
    untold = (0.8, None, False)  # without a steal clock use is worth more wherever it waits less
    for worth, steal, proven in ((0.8, 0.1, True), (0.53, 0.1, False), (None, 0.1, False), untold):
        seen = replace(window(101, 1.6), active_vcpus=4, worth_ratio=worth)
        demand = host(domain(uuid="u", active_vcpus=4, progress=seen, steal_ratio=steal))
        known, _ = lessons.heard(state, demand, (helped,), 106 * S)
        assert known["u"].proven is proven


def test_who_makes_next_to_nothing_was_not_helped_by_a_tick_of_its_clock(
    domain: MakeDomain, host: MakeHost
) -> None:
    """A guest all of whose work is in its kernel, and which is brought to one vCPU beside others that gain by it.

    Taken for a gain, that was a cost of 81, and kept it on one vCPU for good, where it got two thirds of its share.
    """
    sought = Sought(rate_pcpus=0.0, cost_ratio=81.0, in_step=False, worth_ratio=0.0)
    state = Memory(domains={"u": Belief(home_vcpus=2)}, sought={"u": sought})
    move = Move(resizes=(Resize(uuid="u", from_vcpus=2, to_vcpus=1),), reason="")
    helped = replace(verdict(), move=move, outcome=Outcome.HELPED, kept=True, gains={"u": 0.052})
    for rate, proven in ((0.0025, False), (0.3, True)):
        seen = replace(window(101, rate), active_vcpus=1, worth_ratio=rate / 0.37)
        demand = host(domain(uuid="u", active_vcpus=1, progress=seen))
        known, _ = lessons.heard(state, demand, (helped,), 106 * S)
        assert (known["u"].proven, known["u"].failures) == (proven, 0 if proven else 1)


def test_who_works_in_its_kernel_alone_is_helped_where_it_uses_more_on_one_vcpu(
    domain: MakeDomain, host: MakeHost
) -> None:
    """All of what it uses there is work: a cost as large as the rise, and not as the shortfall that J shows."""

    def learned(*, to_vcpus: int = 1, **now: float) -> Belief:
        sought = Sought(
            rate_pcpus=0.0, cost_ratio=81.0, in_step=False, worth_ratio=0.0, used_pcpus=0.4
        )
        state = Memory(domains={"u": Belief(home_vcpus=4)}, sought={"u": sought})
        move = Move(resizes=(Resize(uuid="u", from_vcpus=4, to_vcpus=to_vcpus),), reason="")
        helped = replace(verdict(), move=move, outcome=Outcome.HELPED, kept=True)
        seen = replace(window(101, 0.001), active_vcpus=to_vcpus, worth_ratio=0.001)
        demand = host(domain(uuid="u", active_vcpus=to_vcpus, progress=seen, **now))
        known, _ = lessons.heard(state, demand, (helped,), 106 * S)
        return known["u"]

    rose = learned(used_pcpus=0.7, entitled_pcpus=0.8)
    assert rose.proven
    assert rose.cost_ratio == pytest.approx(0.75)
    assert not learned(used_pcpus=0.41, entitled_pcpus=0.8).proven
    assert not learned(used_pcpus=0.7, entitled_pcpus=0.4).proven, "others left it"
    assert not learned(used_pcpus=0.7, entitled_pcpus=0.8, to_vcpus=2).proven, "it may spin"


def test_what_harmed_another_proves_nothing_of_who_grew_beside_it(
    domain: MakeDomain, host: MakeHost
) -> None:
    demand = host(domain(uuid="grew", active_vcpus=2), domain(uuid="lost", active_vcpus=2))
    sought = Sought(rate_pcpus=0.5, cost_ratio=3.0, in_step=False)
    state = Memory(
        domains=dict.fromkeys(("grew", "lost"), Belief(home_vcpus=4)),
        sought=dict.fromkeys(("grew", "lost"), sought),
    )
    resizes = (
        Resize(uuid="grew", from_vcpus=1, to_vcpus=2),
        Resize(uuid="lost", from_vcpus=1, to_vcpus=2),
    )
    harmed = replace(
        verdict(), move=Move(resizes=resizes, reason=""), gains={"grew": 1.0, "lost": -0.6}
    )
    known, _ = lessons.heard(state, demand, (harmed,), 100 * S)
    assert (known["grew"].proven, known["lost"].proven) == (False, True)


def test_who_makes_next_to_nothing_cannot_be_seen_to_make_less(domain: MakeDomain) -> None:
    failed = Belief(
        home_vcpus=8, contended_since_ns=0, not_before_ns=700 * S, failed_at_pcpus=0.002
    )
    assert beliefs.barred(failed, domain(progress=window(101, 0.0)), 106 * S)


def test_a_move_that_harmed_who_was_not_in_it_is_not_tried_with_the_next_domain(
    domain: MakeDomain,
) -> None:
    mate = Belief(home_vcpus=8, contended_since_ns=0, short_windows=9, rate_pcpus=0.5)
    after = lessons.harmed_beside(mate, had_pcpus=2.0, now_ns=100 * S)
    assert (after.failures, after.short_windows, after.trust_ratio) == (1, 0, 0.5)

    def barred(rate: float, began_s: int) -> bool:
        return beliefs.barred(after, domain(progress=window(began_s, rate)), (began_s + 5) * S)

    assert barred(0.5, 97), "that was seen while the move was being undone"
    assert barred(2.0, 101), "it recovers"
    assert not barred(0.5, 101), "it does not: then that is what it is like"
    assert not barred(2.0, 701)
    proven = replace(mate, proven=True)
    assert lessons.harmed_beside(proven, had_pcpus=2.0, now_ns=100 * S) == proven
    calm = replace(mate, contended_since_ns=None)
    assert lessons.harmed_beside(calm, had_pcpus=2.0, now_ns=100 * S).contended_since_ns is None


def test_who_goes_short_though_its_neighbours_made_room_is_limited_by_something_else(
    domain: MakeDomain,
) -> None:
    short = domain(active_vcpus=1, used_pcpus=0.5, run_delay_pcpus=0.5, entitled_pcpus=1.0)
    better = domain(active_vcpus=1, used_pcpus=1.0, run_delay_pcpus=0.0, entitled_pcpus=1.0)

    def looked(known: Belief, second: int) -> Belief:
        return look(known, short, contended=True, now_ns=second * S, min_gain=0.1)

    belief = looked(Belief(home_vcpus=8), 0)
    assert lessons.relieved(belief, better, now_ns=20 * S) == belief
    capped = lessons.relieved(belief, short, now_ns=20 * S)
    assert looked(capped, 21).crowded_ratio == 1
    assert looked(capped, 1000).crowded_ratio == 0.5


def test_what_failed_waits_unless_progress_is_now_half_of_what_it_was_then(
    domain: MakeDomain,
) -> None:
    sought = Sought(rate_pcpus=2.0, cost_ratio=0.2, in_step=False)
    belief = Belief(home_vcpus=8, contended_since_ns=0)
    belief = lessons.judged(belief, Outcome.NEUTRAL, sought, shrunk=True, now_ns=20 * S)

    def barred(rate: float, second: int) -> bool:
        return beliefs.barred(belief, domain(progress=window(second - 5, rate)), second * S)

    assert barred(2.0, 30)
    assert barred(1.1, 30)
    assert not barred(0.9, 30), "it goes worse than when it was tried"
    assert beliefs.barred(belief, domain(), 30 * S), "nothing is known of it"
    assert not barred(2.0, 1000), "it has waited"
    again = Sought(rate_pcpus=0.9, cost_ratio=0.2, in_step=False)
    belief = lessons.judged(belief, Outcome.NEUTRAL, again, shrunk=True, now_ns=40 * S)
    assert barred(0.9, 1000), "each time it has to fall by half again"
    belief = lessons.judged(belief, Outcome.HELPED, again, shrunk=True, now_ns=1100 * S)
    assert belief.failed_at_pcpus is None
    assert not barred(0.9, 1110)


def test_an_attempt_of_which_nothing_could_be_told_waits_and_leaves_the_trust_as_it_was(
    domain: MakeDomain,
) -> None:
    sought = Sought(rate_pcpus=2.0, cost_ratio=0.2, in_step=False)
    belief = Belief(home_vcpus=8, contended_since_ns=0, trust_ratio=0.5, failures=1)
    unknown = lessons.judged(belief, Outcome.UNKNOWN, sought, shrunk=True, now_ns=20 * S)
    neutral = lessons.judged(belief, Outcome.NEUTRAL, sought, shrunk=True, now_ns=20 * S)
    assert (unknown.trust_ratio, unknown.failures) == (0.5, 1)
    assert (neutral.trust_ratio, neutral.failures) == (0.25, 2)
    assert 20 * S < unknown.not_before_ns < neutral.not_before_ns
    steady = domain(progress=window(25, 2.0))
    assert beliefs.barred(unknown, steady, 30 * S)


def test_how_it_was_believed_is_remembered_with_the_proof(domain: MakeDomain) -> None:
    sought = Sought(rate_pcpus=1.0, cost_ratio=2.0, in_step=True)
    belief = lessons.judged(
        Belief(home_vcpus=8), Outcome.HELPED, sought, shrunk=True, now_ns=100 * S
    )
    assert beliefs.believed_cost(belief, domain()) == (2.0, True)


def test_what_harmed_by_coming_back_is_a_proof_of_what_contention_costs(
    domain: MakeDomain,
) -> None:
    """A guest that an earlier vcpud has left on fewer vCPUs: nothing else says what it suffers from."""
    known = Belief(home_vcpus=8)
    sought = Sought(rate_pcpus=1.0, cost_ratio=9.0, in_step=False)
    harmed = lessons.judged(known, Outcome.HARMED, sought, shrunk=False, now_ns=100 * S)
    assert beliefs.believed_cost(harmed, domain()) == (9.0, False)
    for outcome in (Outcome.HELPED, Outcome.NEUTRAL, Outcome.UNKNOWN):
        assert lessons.judged(known, outcome, sought, shrunk=False, now_ns=100 * S) == known
