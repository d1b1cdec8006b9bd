"""Whether what a guest says next can follow on what it said before."""

from __future__ import annotations

import pytest

from vcpud.guest import CpuAccounting, CpuTimes
from vcpud.hypervisor.plausible import began_anew
from vcpud.units import NS_PER_S


def accounting(*used_s: float, first: int = 0) -> CpuAccounting:
    return CpuAccounting(
        taken_at_ns=0,
        cpus=tuple(
            CpuTimes(
                index=first + place,
                user_ns=round(used * NS_PER_S),
                system_ns=0,
                idle_ns=0,
                steal_ns=None,
            )
            for place, used in enumerate(used_s)
        ),
    )


@pytest.mark.parametrize(
    ("before", "found", "anew"),
    [
        (accounting(90, 90), accounting(3, 3), True),
        (accounting(90, 90), accounting(91, 0), False),  # a CPU that was offline counts from anew
        (accounting(90), accounting(89.5), False),  # kernels round
        (accounting(90), accounting(3, first=1), False),
        (None, accounting(3), False),
    ],
)
def test_a_kernel_has_begun_anew_when_its_first_cpu_has_done_less_than_before(
    before: CpuAccounting | None, found: CpuAccounting, anew: bool
) -> None:
    assert began_anew(before, found) is anew
