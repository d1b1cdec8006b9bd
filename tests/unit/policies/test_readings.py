"""What is left of a proof when a guest does something else than what was proven."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vcpud.demand import DomainDemand
from vcpud.plan import Outcome, Proof
from vcpud.units import NS_PER_S
from vcpud_policies.adaptive import Adaptive
from vcpud_policies.belief import Belief, Sought
from vcpud_policies.lessons import judged
from vcpud_policies.memory import Memory, PoolMemory
from vcpud_policies.readings import look

from .conftest import MakeDomain, MakeHost, window

S = NS_PER_S
PROVEN = Belief(home_vcpus=8, seen=True, proven=True, cost_ratio=9.0, calm_worth_ratio=0.5)


def spinning(domain: MakeDomain, second: int, **more: Any) -> DomainDemand:
    """All eight vCPUs run or wait to, and what is read says that all is well."""
    seen: dict[str, Any] = {
        "run_delay_pcpus": 4.0,
        "lock_wait_ratio": 0.0,
        "lock_wait_at_ns": second * S,
        "progress": window(second - 5, rate=2.0),
    }
    return domain(**(seen | more))


def under_contention(belief: Belief, domain: DomainDemand, second: int) -> Belief:
    return look(belief, domain, contended=True, now_ns=second * S, min_gain=0.1)


def test_two_windows_on_all_vcpus_that_fall_short_of_nothing_end_a_proof(
    domain: MakeDomain,
) -> None:
    belief = under_contention(PROVEN, spinning(domain, 100), 100)
    belief = under_contention(belief, spinning(domain, 105), 105)
    assert belief.proven, "one may be of a guest that has not collapsed yet"
    belief = under_contention(belief, spinning(domain, 110), 110)
    assert not belief.proven
    assert belief.cost_ratio == 0


@pytest.mark.parametrize(
    ("why", "more"),
    [
        ("what it uses is worth half", {"progress": replace(window(105), worth_ratio=0.25)}),
        ("it sleeps, and falls short", {"progress": window(105), "run_delay_pcpus": 1.0}),
        ("it is on fewer vCPUs", {"active_vcpus": 4}),
        ("it is idle", {"progress": window(105, rate=0.05)}),
        ("it was changed meanwhile", {"progress": replace(window(105, 2.0), active_vcpus=None)}),
        ("its entitlement is not known", {"entitled_pcpus": None}),
    ],
)
def test_nothing_else_ends_it(domain: MakeDomain, why: str, more: dict[str, Any]) -> None:
    belief = under_contention(PROVEN, spinning(domain, 100), 100)
    belief = under_contention(belief, spinning(domain, 105), 105)
    belief = under_contention(belief, spinning(domain, 110, **more), 110)
    assert belief.proven, why


def test_who_is_merely_given_too_little_falls_short_of_nothing(domain: MakeDomain) -> None:
    """Its vCPUs never sleep, and what they use is worth the same: a scheduler is uneven."""
    belief = PROVEN
    for second in (100, 105, 110):
        seen = spinning(domain, second, progress=window(second - 5, rate=1.0))
        belief = under_contention(belief, seen, second)
    assert not belief.proven


def test_windows_that_fall_short_between_them_leave_it(domain: MakeDomain) -> None:
    belief = under_contention(PROVEN, spinning(domain, 100), 100)
    for second in (105, 115, 125):
        belief = under_contention(belief, spinning(domain, second), second)
        short = spinning(domain, second + 5, progress=replace(window(second), worth_ratio=0.25))
        belief = under_contention(belief, short, second + 5)
    assert belief.proven


def test_a_verdict_that_proves_it_anew_leaves_nothing_of_what_spoke_against_it(
    domain: MakeDomain,
) -> None:
    belief = under_contention(PROVEN, spinning(domain, 100), 100)
    belief = under_contention(belief, spinning(domain, 105), 105)
    sought = Sought(rate_pcpus=0.5, cost_ratio=9.0, in_step=False)
    belief = judged(belief, Outcome.HELPED, sought, shrunk=True, now_ns=106 * S)
    belief = under_contention(belief, spinning(domain, 110), 110)
    assert belief.proven


@pytest.mark.parametrize(
    ("shows", "more"),
    [
        ("it waits for locks", {"lock_wait_ratio": 0.5}),
        ("what it uses is worth less", {"progress": replace(window(98), worth_ratio=0.3)}),
        ("its vCPUs sleep, perhaps for siblings", {"run_delay_pcpus": 1.0}),
        ("it is not told if it waits for locks", {"lock_wait_ratio": None}),
        ("it is not told what its use is worth", {"progress": None}),
        ("it is not told what it uses", {"used_pcpus": None}),
        ("that was read too early to show it", {"lock_wait_at_ns": 101 * S}),
        ("it is on fewer vCPUs, where nothing has to show", {"active_vcpus": 4}),
    ],
)
def test_a_proof_is_in_doubt_only_where_all_is_read_and_nothing_shows_it(
    domain: MakeDomain, shows: str, more: dict[str, Any]
) -> None:
    belief = under_contention(PROVEN, spinning(domain, 100), 100)
    assert under_contention(belief, spinning(domain, 103), 103).doubted
    assert not under_contention(belief, spinning(domain, 103, **more), 103).doubted, shows


@pytest.mark.parametrize(("wait", "moves"), [(0.0, 0), (0.9, 1)])
def test_what_is_in_doubt_waits_for_a_window(
    domain: MakeDomain, host: MakeHost, wait: float, moves: int
) -> None:
    """A guest that was lock-bound and spins in user space by now loses by what it once gained by."""
    pair = [
        spinning(domain, 103, uuid=uuid, lock_wait_ratio=wait, entitled_pcpus=4.0)
        for uuid in ("a", "b")
    ]
    since = replace(PROVEN, contended_since_ns=100 * S)
    entitled = {"a": 4.0, "b": 4.0}
    memory = Memory(
        domains={"a": since, "b": since},
        pools={
            "host": PoolMemory(
                looked_at_ns=103 * S,
                runnable={"a": 8.0, "b": 8.0},
                entitled=entitled,
                steady_cycles=9,
            )
        },
    )
    _, plan = Adaptive().decide(memory, host(*pair), (), 104 * S)
    assert len(plan.moves) == moves
    assert all(move.proof is Proof.NO_HARM for move in plan.moves), (
        "what is proven is done at once"
    )


def test_a_pool_at_rest_is_left_alone_and_still_told_of(
    domain: MakeDomain, host: MakeHost
) -> None:
    """Nobody waits and all have what they came with: nothing is due, whatever is believed."""
    restless = replace(PROVEN, owed_pcpu_s=3.0, short_since_ns=100 * S)
    memory = Memory(domains={"a": restless}, pools={"host": PoolMemory(looked_at_ns=103 * S)})
    after, plan = Adaptive().decide(memory, host(domain(uuid="a")), (), 104 * S)
    assert plan.moves == ()
    assert after.domains["a"] == replace(
        restless, owed_pcpu_s=0.0, short_since_ns=None, entitled_since_pcpus=4.0
    )
    (outlook,) = plan.outlooks
    assert outlook.wanted_vcpus == 8
    shrunk = host(domain(uuid="a", active_vcpus=4, home_vcpus=8))
    after, _ = Adaptive().decide(memory, shrunk, (), 104 * S)
    assert after.domains["a"].short_since_ns is not None, "it goes short: the pool is not at rest"
