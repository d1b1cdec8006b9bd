"""Values as a recording writes them, and made anew from it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from fakes.crowd import crowd
from vcpud import model
from vcpud.counters import VcpuSample
from vcpud.model import Reason, Refused, SetLive, Trouble
from vcpud.recording import samples
from vcpud.recording.codec import UnreadableError, plain, read
from vcpud.swift import changer, maker


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (model.Effect, Refused(Reason.JOB, "migrating")),
        (model.Effect, model.Accepted()),
        (model.Change, SetLive(uuid="u", count=3)),
        (float | None, 0.5),
        (float, 3),
        (tuple[str, int], ("a", 1)),
        (dict[str, tuple[int, ...]], {"a": (1, 2)}),
        (frozenset[Trouble], frozenset({Trouble.JOB})),
    ],
)
def test_values_come_back_with_their_types(kind: Any, value: Any) -> None:
    assert read(kind, json.loads(json.dumps(plain(value)))) == value


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (int, True),
        (int, "1"),
        (str, None),
        (Trouble, "no such"),
        (model.Change, {"is": "SetSomething", "uuid": "u"}),
        (SetLive, {"is": "SetLive"}),
        (frozenset[int], {"0": 1}),
        (tuple[str, int], ["a"]),
        (dict[str, int], [1]),
    ],
)
def test_data_of_another_type_is_refused(kind: Any, data: Any) -> None:
    with pytest.raises(UnreadableError):
        read(kind, data)


def test_what_a_later_version_adds_is_passed_over() -> None:
    data = {"is": "SetLive", "uuid": "u", "count": 2, "colour": "blue"}
    assert read(SetLive, data) == SetLive(uuid="u", count=2)


def test_a_sample_that_only_counted_on_is_a_short_list() -> None:
    first, second = crowd(1, 2)
    change = samples.difference(first, second)
    assert change is not None
    assert samples.SampleReader().next(plain(first)) == first
    assert len(json.dumps(change)) < len(json.dumps(plain(second))) / 3


def test_values_made_swiftly_are_the_same_and_as_frozen() -> None:
    make = maker(VcpuSample)
    made = make(1, 2, 3)
    assert made == VcpuSample(index=1, run_ns=2, run_delay_ns=3)
    assert type(made) is VcpuSample
    assert hash(made) == hash(VcpuSample(index=1, run_ns=2, run_delay_ns=3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.index = 5  # type: ignore[misc]
    with pytest.raises(TypeError, match="not a plain frozen dataclass"):
        maker(dict)


def test_values_changed_swiftly_are_the_same_as_replaced_ones() -> None:
    (sample,) = crowd(1, 1)
    domain = sample.domains[0]
    change = changer(model.DomainSample, "pool", "name")
    assert change(domain, "p", "n") == dataclasses.replace(domain, pool="p", name="n")
    with pytest.raises(TypeError, match="has no"):
        changer(model.DomainSample, "colour")
