"""Counters of a domain: columns for who sums, vCPUs for who looks at one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vcpud.counters import COUNTERS, NO_COUNTERS, VcpuCounters, VcpuSample

COUNTS = st.none() | st.integers(0, 2**63)
VCPUS = st.lists(st.tuples(*[COUNTS] * (len(COUNTERS) + 1)), max_size=5).map(
    lambda rows: [
        VcpuSample(
            index=3 * number,
            **dict(zip((*COUNTERS, "run_delay_error_ns"), row, strict=True)),
        )
        for number, row in enumerate(rows)
    ]
)


@given(VCPUS)
def test_every_vcpu_comes_back_as_it_was(vcpus: list[VcpuSample]) -> None:
    counters = VcpuCounters.of(vcpus)
    assert list(counters) == vcpus
    assert [counters[place] for place in range(len(counters))] == vcpus
    assert VcpuCounters.of(counters) == counters


@given(VCPUS)
def test_totals_are_those_of_all_vcpus_or_nothing(vcpus: list[VcpuSample]) -> None:
    for total, counts in zip(
        VcpuCounters.of(vcpus).totals(),
        ([vcpu.run_ns for vcpu in vcpus], [vcpu.run_delay_ns for vcpu in vcpus]),
        strict=True,
    ):
        known = [count for count in counts if count is not None]
        assert total == (sum(known) if known and len(known) == len(counts) else None)


@given(VCPUS)
def test_yields_are_those_of_who_tells_them(vcpus: list[VcpuSample]) -> None:
    known = [vcpu.directed_yields for vcpu in vcpus if vcpu.directed_yields is not None]
    assert VcpuCounters.of(vcpus).yields == (sum(known) if known else None)


def test_columns_that_nobody_reports_take_no_room() -> None:
    counters = VcpuCounters.of(
        VcpuSample(index=at, run_ns=at, run_delay_ns=None, preemptions=at) for at in range(2)
    )
    assert counters.counts == (0, 1, None, None, None, None, 0, 1)
    assert counters.yields is None
    assert not NO_COUNTERS
    assert VcpuCounters.of([]) == NO_COUNTERS
