"""Scores and scenarios as a comparison would have them, made up."""

from __future__ import annotations

from vcpud_simulator.laboratory.compare.scores import Card, DomainScore, Score
from vcpud_simulator.laboratory.statistics import Interval


def exact(value: float) -> Interval:
    return Interval(value=value, low=value, high=value)


def made(over_oracle: float, floor: float = 1.0, changes: int = 2) -> Score:
    return Score(
        raw_over_oracle=exact(over_oracle),
        over_unmanaged=exact(1.0),
        worst_domain_over_floor=floor,
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
