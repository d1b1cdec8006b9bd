"""Scenarios, runs and scores as a comparison would have them, made up."""

from __future__ import annotations

from collections.abc import Mapping

from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory.compare.changes import Change
from vcpud_simulator.laboratory.compare.scores import Card, DomainScore, Score
from vcpud_simulator.laboratory.compare.tasks import Decision, Outcome, Task
from vcpud_simulator.laboratory.statistics import Interval

S = NS_PER_S
SCENARIO = """\
title: Two lock-bound guests
kind: kernel_lock
pcpus: 2
scheduler: cfs_groups
warmup: 3s
duration: 57s
domains:
  db: {vcpus: 4, workload: gobmk}
  mail: {vcpus: 4, workload: gobmk}
"""


def exact(value: float) -> Interval:
    return Interval(value=value, low=value, high=value)


def made(over_oracle: float, floor: float = 1.0, changes: int = 2) -> Score:
    return Score(
        raw_over_oracle=exact(over_oracle),
        over_unmanaged=exact(1.0),
        worst_domain_over_floor=floor,
        over_floor_at_first=floor,
        worst_domain="a",
        floor_interval=exact(floor),
        changes=float(changes),
        changes_in_ten_minutes=changes,
        harmed=0.5,
        examined=4,
        by_domain={
            "a": DomainScore(
                over_oracle=over_oracle,
                over_unmanaged=1.0,
                over_floor=floor,
                changes=changes,
                final_vcpus=3,
                why="as the run tells",
            )
        },
    )


def card(
    name: str,
    over_oracle: float,
    *,
    kind: str = "dynamic",
    tags: tuple[str, ...] = (),
    floor: float = 1.0,
) -> Card:
    return Card(
        name=name,
        kind=kind,
        tags=tags,
        scheduler="cfs",
        policies={"p": made(over_oracle, floor)},
        oracle="a 1",
        exhaustive=True,
    )


def changed(at_ns: int, domain: str) -> Change:
    return Change(
        at_ns=at_ns, domain=domain, decision_id=f"{at_ns}", from_vcpus=4, to_vcpus=2
    )  # fmt: skip


def steady(
    task: Task, rates: Mapping[str, float], decisions: tuple[Decision, ...] = ()
) -> Outcome:
    end = 3 + task.duration_ns // S
    return Outcome(
        window_ns=(3 * S, end * S),
        work={
            name: tuple((at * S, (at + 1) * S, rate) for at in range(end))
            for name, rate in rates.items()
        },
        run_pcpus=dict.fromkeys(rates, 1.0),
        entitled_pcpus=dict.fromkeys(rates, 1.0),
        responses_ns={},
        decisions=decisions,
        changes=tuple(changed(one.at_ns, name) for one in decisions for name in one.names),
        finals=(((0,) * len(rates), tuple((name, 2) for name in rates)),),
    )
