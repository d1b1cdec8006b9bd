"""What `adaptive` learns from a verdict of those who were not in the move."""

from __future__ import annotations

from collections.abc import Callable

from vcpud.demand import DomainDemand, HostDemand
from vcpud.plan import Move, Outcome, Resize, Verdict
from vcpud.units import NS_PER_S
from vcpud_policies import lessons
from vcpud_policies.belief import Belief
from vcpud_policies.memory import Memory

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
    domain: Callable[..., DomainDemand], host: Callable[..., HostDemand]
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
