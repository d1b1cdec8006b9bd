"""Sets of CPUs, some of them written by people who mean no good."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpud.hypervisor.cpusets import format_cpuset, parse_cpuset


@pytest.mark.parametrize(
    ("part", "times"), [("0-16383", 3), ("^0-16383", 3), ("5-4", 40_000), ("7", 40_000)]
)
def test_a_set_that_names_the_same_again_and_again_is_none(part: str, times: int) -> None:
    with pytest.raises(ValueError, match="too many"):
        parse_cpuset(",".join([part] * times))


@given(st.frozensets(st.integers(0, 500), min_size=1))
def test_a_cpuset_survives_writing_and_reading(cpus: frozenset[int]) -> None:
    assert parse_cpuset(format_cpuset(cpus)) == cpus


@given(st.text(alphabet="0123456789,-^ x", max_size=40))
def test_no_cpuset_breaks_its_parser(text: str) -> None:
    try:
        assert all(cpu >= 0 for cpu in parse_cpuset(text))
    except ValueError:
        return
