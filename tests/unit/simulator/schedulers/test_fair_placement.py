"""Where Linux puts a vCPU: kernel/sched/fair.c, `wake_affine_weight` and `load_balance`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.guests import Hog, hogs, run_ms, tiny_host
from vcpud_simulator.entities import Vcpu
from vcpud_simulator.experiment import Laboratory
from vcpud_simulator.host import FREE, Host
from vcpud_simulator.schedulers.cfs import Cfs
from vcpud_simulator.schedulers.eevdf import Eevdf
from vcpud_simulator.workloads.hackbench import HackbenchLike


def sleeper(scheduler: Cfs | Eevdf, here: int, there: int) -> tuple[Host, Vcpu]:
    """One that slept on the second pCPU, with so many hogs on the first and on the second."""
    host = tiny_host(scheduler, 2)
    for number in range(max(here, there)):  # one each first: an idle pCPU would take the next
        for index, count in enumerate((here, there)):
            if number < count:
                hogs(host, f"hog-{index}.{number}", pcpu=host.pcpus[index])
    vcpu = host.add_domain("sleeper", vcpus=1).vcpus[0]
    vcpu.guest = Hog()
    vcpu.pcpu = host.pcpus[1]
    run_ms(host, 1)
    return host, vcpu


@pytest.mark.parametrize("make", [Cfs, partial(Cfs, groups=False), Eevdf])
@pytest.mark.parametrize(
    ("here", "there", "drawn"), [(1, 1, False), (1, 2, True), (2, 2, False), (1, 3, True)]
)
def test_who_wakes_is_drawn_to_a_waker_whose_pcpu_is_not_more_loaded_even_with_it(
    make: type[Cfs | Eevdf], here: int, there: int, *, drawn: bool
) -> None:
    """100 (this_load + task_load) < (100 + 17 / 2) prev_load."""
    host, vcpu = sleeper(make(wake_affine=True), here, there)
    vcpu.woken_on = host.pcpus[0]
    host.wake(vcpu)
    assert vcpu.pcpu is host.pcpus[0 if drawn else 1]


def test_without_a_waker_among_vcpus_or_without_the_option_it_stays_where_it_was() -> None:
    host, vcpu = sleeper(Cfs(wake_affine=True), 1, 3)
    host.wake(vcpu)
    assert vcpu.pcpu is host.pcpus[1]
    host, vcpu = sleeper(Cfs(), 1, 3)
    vcpu.woken_on = host.pcpus[0]
    host.wake(vcpu)
    assert vcpu.pcpu is host.pcpus[1]


def test_an_idle_pcpu_goes_before_the_wakers() -> None:
    host, vcpu = sleeper(Cfs(wake_affine=True), 1, 0)
    vcpu.woken_on = host.pcpus[0]
    host.wake(vcpu)
    assert vcpu.pcpu is host.pcpus[1]


def test_a_guest_s_own_interrupts_say_on_which_pcpu_their_sender_ran() -> None:
    lab = Laboratory(pcpus=3, scheduler=Cfs(), costs=FREE)
    guest = lab.add("guest", HackbenchLike(groups=1, fan=1), vcpus=3)
    lab.run_for(20_000_000)
    wakers = {vcpu.woken_on for vcpu in guest.kernel.domain.vcpus} - {None}
    assert wakers <= set(lab.host.pcpus)
    assert wakers


def crowd(weights: Sequence[Sequence[int]], failures: int = 0) -> tuple[Cfs, Host]:
    """Hogs of these weights on each of the pCPUs, which found nobody to take so often."""
    linux = Cfs(groups=False)
    host = tiny_host(linux, len(weights))
    for number in range(max(map(len, weights))):  # one each first: idle pCPUs would take others
        for pcpu, here in zip(host.pcpus, weights, strict=True):
            if number < len(here):
                hogs(host, f"{pcpu.index}.{number}", pcpu=pcpu, weight=here[number])
    run_ms(host, 1)
    for pcpu in host.pcpus:
        pcpu.sched.balance_failures = failures
    return linux, host


MANY = 256
"""The default weight: a load of 1024."""


@pytest.mark.parametrize(
    ("weights", "failures", "taken", "then"),
    [
        pytest.param(
            [[MANY] * 2, [1024], [MANY] * 3], 0, False, 0,
            id="the busiest is as loaded as all are on average",
        ),
        pytest.param(
            [[MANY] * 2, [2048], [MANY] * 3], 0, True, 0,
            id="the busiest is less loaded than that: the difference is unsigned",
        ),
        pytest.param(
            [[448], [MANY] * 2], 3, True, 0,
            id="who is not overloaded is no reason to look at per cents",
        ),
        pytest.param(
            [[MANY] * 6, [MANY] * 7], 9, False, 0,
            id="who is overloaded is one: failures are forgotten",
        ),
        pytest.param(
            [[MANY] * 3, [MANY] * 4, [MANY], [MANY]], 9, False, 0,
            id="it is more loaded than all are on average: failures are forgotten",
        ),
        pytest.param([[600], [MANY] * 2], 9, False, 0, id="it is the most loaded of them"),
        pytest.param([[MANY], [MANY]], 9, False, 0, id="nobody waits"),
        pytest.param([[MANY], [MANY] * 2], 0, False, 1, id="nobody is light enough"),
        pytest.param([[MANY], [MANY] * 2], 1, True, 0, id="nobody was several times"),
    ],
)  # fmt: skip
def test_a_busy_pcpu_takes_somebody_where_loads_are_not_balanced(
    weights: list[list[int]], failures: int, *, taken: bool, then: int
) -> None:
    linux, host = crowd(weights, failures)
    found = linux.placement.to_balance(host.pcpus[0])
    assert (found is not None, host.pcpus[0].sched.balance_failures) == (taken, then)


def by_the_kernel(loads: Sequence[int], heads: Sequence[int], failures: int) -> int | None:
    """From which CPU the first takes a task of load 1024: the kernel's steps, one by one."""
    crowded = [at for at in range(1, len(loads)) if heads[at] > 1]
    if not crowded:
        return None  # no busiest group
    busiest = max(crowded, key=lambda at: loads[at])
    local, most, mean = loads[0], loads[busiest], sum(loads) // len(loads)
    if local >= most or local >= mean:
        return None
    if heads[0] > 1 and 100 * most <= 117 * local:
        return None
    imbalance = min((most - mean) % 2**64, (mean - local) % 2**64)
    return busiest if imbalance and 1024 >> failures <= imbalance else None


@settings(max_examples=400)  # few are just as loaded as all on average
@given(
    st.lists(
        st.one_of(
            st.sampled_from([MANY, 448, 512, 1024, 2048]).map(lambda weight: [weight]),
            st.integers(2, 5).map(lambda heads: [MANY] * heads),
        ),
        min_size=2,
        max_size=5,
    ),
    st.integers(0, 4),
)
def test_it_takes_from_whom_the_kernel_does(weights: list[list[int]], failures: int) -> None:
    linux, host = crowd(weights, failures)
    loads = [4 * sum(here) for here in weights]
    expected = by_the_kernel(loads, [len(here) for here in weights], failures)
    found = linux.placement.to_balance(host.pcpus[0])
    assert (found.pcpu.index if found is not None else None) == expected
