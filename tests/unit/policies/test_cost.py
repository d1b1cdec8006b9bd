"""What a decision costs, told by what no machine's speed changes, and by times with room for any."""

from __future__ import annotations

import math
import sys
from types import FrameType
from typing import Any, Final

import pytest

from bench.crowds import cost, crowd, one_pool
from vcpud.demand import HostDemand
from vcpud.policy import Policy, load, names
from vcpud.units import NS_PER_S

FEW: Final = 100
MANY: Final = 1000
ROUNDS: Final = 6
"""Enough for decisions that move somebody: the first two only look."""
SLOW: Final = 5
"""How much slower than a quiet server a machine that runs tests may be."""


def lines(policy: Policy[Any], demands: list[HostDemand]) -> tuple[int, int]:
    """Lines of Python that some decisions run, each turn of a loop for itself; and their moves."""
    ran = moves = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal ran
        ran += event == "line"
        return trace

    state = policy.initial()
    before = sys.gettrace()
    for place, demand in enumerate(demands):
        sys.settrace(trace)
        try:
            state, plan = policy.decide(state, demand, (), (1000 + place) * NS_PER_S)
        finally:
            sys.settrace(before)
        moves += len(plan.moves)
    return ran, moves


def test_the_work_of_a_decision_grows_no_faster_than_n_log_n() -> None:
    policy = load("adaptive", {})
    found = {
        count: lines(policy, [one_pool(crowd(count, second)) for second in range(ROUNDS)])
        for count in (FEW, MANY)
    }
    assert all(moves for _, moves in found.values()), "it was given something to decide"
    allowed = MANY * math.log(MANY) / (FEW * math.log(FEW))
    assert found[MANY][0] / found[FEW][0] <= allowed


@pytest.mark.parametrize("name", names())
def test_a_thousand_domains_are_decided_within_memory_and_in_no_absurd_time(name: str) -> None:
    demands = [one_pool(crowd(MANY, second)) for second in range(3)]
    found = cost(load(name, {}), demands)
    assert found["peak_bytes"] <= 50 * 2**20
    assert found["median_seconds"] <= SLOW * 0.050
