"""Who is run as published takes steps as its source does; who is judged by vcpud, at vcpud's pace."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from fakes.fluid import FluidHost, Guest, manage
from vcpud.limits import Limits
from vcpud.policy import load
from vcpud.units import NS_PER_S
from vcpud_simulator import runner
from vcpud_simulator.laboratory.compare import suite
from vcpud_simulator.laboratory.compare.runs import perform
from vcpud_simulator.laboratory.compare.tasks import Hold, Task, digest
from vcpud_simulator.laboratory.pace import UNBOUND, limits_of

KEY = "compare_insensitive_pair"


class NothingIsRunError(Exception):
    """The run ends before it begins."""


@pytest.mark.parametrize(
    ("policy", "options", "limits"),
    [
        ("steal_governor", {"judged": False}, UNBOUND),
        ("rules", {"judged": False}, UNBOUND),
        ("steal_governor", {}, Limits()),
        ("adaptive", {}, Limits()),
    ],
)
@pytest.mark.parametrize("held", [False, True])
def test_a_comparison_leaves_who_is_not_judged_its_own_pace(
    policy: str,
    options: dict[str, Any],
    limits: Limits,
    held: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Limits] = []

    def run(*_: object, **words: Any) -> None:
        asked.append(words["limits"])
        raise NothingIsRunError

    monkeypatch.setattr(runner, "run", run)
    task = Task(
        key=KEY,
        digest=digest(suite.load(KEY)),
        seed=1,
        duration_ns=1,
        policy=policy,
        options=tuple(options.items()),
        hold=Hold(names=("left",), from_ns=0, until_ns=1) if held else None,
    )
    with pytest.raises(NothingIsRunError):
        perform(task)
    assert asked == [limits]


def between_shrinks(*, judged: bool) -> list[float]:
    """Seconds from one shrink to the next of a guest with twice as many vCPUs as it can run."""
    policy = load("steal_governor", {"judged": judged})
    guest = Guest(name="a", vcpus=8)
    beside = Guest(name="b", vcpus=8, terms=None)
    kept = manage(FluidHost(guest, beside, pcpus=4), policy, 200, limits=limits_of(policy))
    steps = [second for second, change in kept.changes if change.to_vcpus < change.from_vcpus]
    return [later - earlier for earlier, later in pairwise(steps)]


def test_the_governor_takes_a_step_a_second_as_its_source_does() -> None:
    assert between_shrinks(judged=False)[:3] == [1, 1, 1]
    assert min(between_shrinks(judged=True)) >= Limits().shrink_cooldown_ns / NS_PER_S
