"""Where Linux puts a vCPU that wakes: kernel/sched/fair.c, `wake_affine_weight`."""

from __future__ import annotations

from functools import partial

import pytest

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
