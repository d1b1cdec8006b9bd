"""Inter-processor interrupts with waiting: TLB shootdown.

Problem: munmap and mprotect of a threaded program interrupt every CPU that runs it and wait for
all of them; one preempted vCPU keeps the caller spinning for a host slice.

Approach: the caller sends to each CPU that is not idle (idle ones are lazy and skipped), then
spins in its kernel, preemption off, interrupts on, until the last has answered.

References: Linux arch/x86/mm/tlb.c `flush_tlb_multi`, kernel/smp.c `smp_call_function_many_cond`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vcpud_simulator.guest.task import Task

if TYPE_CHECKING:
    from vcpud_simulator.guest.cpu import GuestCpu


class Shootdown:
    """One round of interrupts, waited for. An operation: make a new one each time."""

    __slots__ = ("_cpu", "_left", "_task")

    _cpu: GuestCpu
    _task: Task

    def __init__(self) -> None:
        self._left = 0

    def begin(self, cpu: GuestCpu, task: Task) -> None:
        others = [
            c for c in cpu.kernel.cpus if c.online and c is not cpu and c.current is not None
        ]
        task.in_kernel = True
        if not others:
            return
        self._task = task
        self._left = len(others)
        for other in others:
            cpu.charge_exit(cpu.config.ipi_send_ns)
            other.interrupt(self._flush, cpu)
        task.preempt_count += 1
        cpu.spin(task, self, in_kernel=True)

    def _flush(self, cpu: GuestCpu) -> None:  # noqa: ARG002
        self._left -= 1
        if self._left == 0:
            self._task.preempt_count -= 1
            self._task.cpu.stop_spin(self._task)

    def resumed(self, cpu: GuestCpu, task: Task) -> None:
        """It goes on waiting."""

    def suspended(self, cpu: GuestCpu, task: Task) -> None:
        """Nobody notices."""

    def expired(self, cpu: GuestCpu, task: Task) -> None:
        """It never gives up."""
