"""libvirt's dictionaries of TCG and KVM domains, and dictionaries that nobody should send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpud.hypervisor.stats import RunState, parse_counters
from vcpud.model import Trouble

RECORDED = Path(__file__).parents[2] / "data/stats"


def recorded(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((RECORDED / f"{name}.json").read_text())
    return found


def test_a_running_tcg_domain_has_run_time_and_delay_and_no_counters_of_kvm() -> None:
    for raw in recorded("tcg-running-idle").values():
        counters = parse_counters(raw)
        assert counters.state is RunState.RUNNING
        assert counters.live_vcpus == counters.max_vcpus == 4
        assert [vcpu.index for vcpu in counters.vcpus] == [0, 1, 2, 3]
        assert all(vcpu.run_ns == raw[f"vcpu.{vcpu.index}.time"] for vcpu in counters.vcpus)
        assert all(vcpu.run_delay_ns == raw[f"vcpu.{vcpu.index}.delay"] for vcpu in counters.vcpus)
        assert all(vcpu.preemptions is None for vcpu in counters.vcpus)
        assert not counters.troubles


def test_a_paused_domain_is_told_from_a_running_one() -> None:
    states = {n: parse_counters(raw).state for n, raw in recorded("tcg-one-paused").items()}
    assert sorted(states.values()) == [RunState.PAUSED, RunState.RUNNING]


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDED.glob("*.json")))
def test_every_recorded_dictionary_is_read_without_trouble(name: str) -> None:
    for raw in recorded(name).values():
        counters = parse_counters(raw)
        assert counters.vcpus
        assert not counters.troubles


def test_counters_of_kvm_are_summed_and_sparse_ids_kept() -> None:
    counters = parse_counters(recorded("kvm-running-sparse")["db1"])
    assert [vcpu.index for vcpu in counters.vcpus] == [0, 1, 4]
    last = counters.vcpus[-1]
    assert last.halt_poll_ns == 41_000_004 + 17_000_000
    assert last.preemptions == 755
    assert last.directed_yields == 2104


def test_a_domain_that_was_busy_has_its_times_and_nothing_of_kvm() -> None:
    counters = parse_counters(recorded("kvm-running-busy")["db1"])
    assert all(vcpu.run_ns and vcpu.run_delay_ns for vcpu in counters.vcpus)
    assert all(vcpu.halt_poll_ns is None for vcpu in counters.vcpus)
    assert not counters.troubles


@pytest.mark.parametrize("value", [-1, 2**63, 2**70, 1.5, "12", True, [1], {}])
def test_an_absurd_counter_is_not_reported_and_named_as_trouble(value: object) -> None:
    counters = parse_counters({"state.state": 1, "vcpu.0.time": value, "vcpu.0.delay": 5})
    assert counters.vcpus[0].run_ns is None
    assert counters.vcpus[0].run_delay_ns == 5
    assert counters.troubles == {Trouble.COUNTER_ABSURD}


@pytest.mark.parametrize("key", ["vcpu.-1.time", "vcpu.x.time", "vcpu.99999.time", "vcpu.².time"])
def test_an_absurd_vcpu_id_is_trouble_and_no_vcpu(key: str) -> None:
    counters = parse_counters({"state.state": 1, key: 1})
    assert not counters.vcpus
    assert counters.troubles == {Trouble.COUNTER_ABSURD}


def test_a_missing_value_is_not_zero() -> None:
    counters = parse_counters({"state.state": 1, "vcpu.0.state": 1})
    assert counters.vcpus[0].run_ns is None
    assert counters.vcpus[0].run_delay_ns is None
    assert not counters.troubles


def test_cycles_and_instructions_are_read_where_the_domain_s_perf_events_are_on() -> None:
    raw = recorded("kvm-running-sparse")["db1"]
    assert parse_counters(raw).cycles is parse_counters(raw).instructions is None
    counters = parse_counters(raw | {"perf.cpu_cycles": 25, "perf.instructions": 12})
    assert (counters.cycles, counters.instructions) == (25, 12)
    assert parse_counters(raw | {"perf.cpu_cycles": -1}).troubles == {Trouble.COUNTER_ABSURD}


KEYS = st.sampled_from(
    ["state.state", "vcpu.current", "vcpu.maximum", "vcpu.0.time", "vcpu.0.delay", "vcpu.7.time",
     "vcpu.0.exits.sum", "vcpu.0.halt_poll_fail_ns.sum", "vcpu..time", "vcpu.", "vcpu"]
)  # fmt: skip
VALUES = st.one_of(
    st.integers(), st.floats(), st.text(), st.none(), st.booleans(), st.lists(st.none())
)


@given(st.dictionaries(st.one_of(KEYS, st.text(), st.integers()), VALUES))
def test_no_dictionary_breaks_the_parser(raw: dict[object, object]) -> None:
    for vcpu in parse_counters(raw).vcpus:
        assert vcpu.run_ns is None or 0 <= vcpu.run_ns < 2**63
