"""What a guest accounts for: whole ticks, to the mode that they find, as Linux does by the interrupted registers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vcpud_simulator.entities import CO_STOPPED
from vcpud_simulator.experiment import Laboratory
from vcpud_simulator.guest.costs import TOY, GuestConfig
from vcpud_simulator.host import FREE
from vcpud_simulator.schedulers.cfs import Cfs
from vcpud_simulator.schedulers.esx_strict import EsxStrict
from vcpud_simulator.schedulers.round_robin import RoundRobin
from vcpud_simulator.workloads.ammp import AmmpLike, Wait
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.gobmk import GobmkLike

US, MS, S = 1_000, 1_000_000, 1_000_000_000


def system_ratio(lab: Laboratory) -> float:
    cpus = [cpu for one in lab.inhabitants.values() for cpu in one.kernel.cpus]
    assert sum(cpu.user_ns for cpu in cpus) > S
    return sum(cpu.system_ns for cpu in cpus) / sum(cpu.user_ns + cpu.system_ns for cpu in cpus)


def overhead_ratio(lab: Laboratory) -> float:
    """What of the processor time went to kernels; these workloads have nothing else to do in theirs."""
    cpus = [cpu for one in lab.inhabitants.values() for cpu in one.kernel.cpus]
    for cpu in cpus:
        cpu.advance()
    kernel_ns = sum(cpu.true_overhead_ns for cpu in cpus)
    return kernel_ns / (kernel_ns + sum(cpu.true_work_ns + cpu.true_spin_ns for cpu in cpus))


@pytest.mark.parametrize("steal_clock", [True, False])
def test_a_tick_that_is_overdue_finds_what_was_preempted(steal_clock: bool) -> None:
    """Not what came up meanwhile, here a working set to be loaded again, in each turn of 30 ms."""
    lab = Laboratory(pcpus=1, scheduler=RoundRobin(slice_ns=30 * MS), costs=FREE)
    config = replace(TOY, hz=100, refill_ns=900 * US, steal_clock=steal_clock)
    for name in ("one", "other"):
        lab.add(name, GobmkLike(), vcpus=1, config=config)
    lab.run_for(3 * S)
    assert system_ratio(lab) == 0


@pytest.mark.parametrize("wait", [Wait.YIELDING, Wait.ACTIVE])
def test_who_waits_in_user_mode_is_not_in_the_kernel(wait: Wait) -> None:
    """Nor is who was preempted there while what it waits for happened."""
    workload: Workload = AmmpLike(wait=wait, kernel_sections=0, cv_ratio=0.0)
    lab = Laboratory(pcpus=2, scheduler=Cfs(groups=True))
    for name in ("one", "other"):
        lab.add(name, workload, vcpus=4, config=GuestConfig(steal_clock=False))
    lab.run_for(5 * S)
    assert system_ratio(lab) == pytest.approx(overhead_ratio(lab), abs=0.03)


def test_kernel_work_in_progress_is_found() -> None:
    """A kernel that takes longer for a tick than until the next is always found there."""
    lab = Laboratory(pcpus=1, scheduler=RoundRobin(slice_ns=100 * MS), costs=FREE)
    lab.add("one", GobmkLike(), vcpus=1, config=replace(TOY, hz=250, tick_ns=5 * MS))
    lab.run_for(2 * S)
    (cpu,) = lab.inhabitants["one"].kernel.cpus
    assert cpu.user_ns == 4 * MS, "the first"
    assert cpu.system_ns > 1.9 * S


def test_who_is_co_stopped_wants_what_is_withheld() -> None:
    """A gang as wide as the host finds no room beside others for most of the time, and never sleeps."""
    lab = Laboratory(pcpus=3, scheduler=EsxStrict())
    for vcpus in (3, 2, 1):
        lab.add(f"gang of {vcpus}", GobmkLike(), vcpus=vcpus)
    lab.run_for(2 * S)
    widest = lab.inhabitants["gang of 3"]
    gang = widest.kernel.domain.vcpus
    assert sum(vcpu.in_state_ns(CO_STOPPED, 2 * S) for vcpu in gang) > 2 * S
    assert widest.wanted_ns() == pytest.approx(6 * S, rel=0.01)
