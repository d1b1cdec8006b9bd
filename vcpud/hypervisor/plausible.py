"""Whether what a guest says next can follow on what it said before. Pure.

A guest may say anything. What it has counted cannot have grown faster than the clock on every CPU at
once; what has is no figure of a working machine, and the whole part is not used. Falling counters are
for `vcpud.heard` to judge: a CPU that was taken away takes its counters with it.
"""

from __future__ import annotations

from typing import Final

from vcpud.guest import CpuAccounting, LockWait, RunQueue
from vcpud.hypervisor.agent import AbsurdError
from vcpud.units import NS_PER_S

_ACCOUNTING_SLACK_NS: Final = 10 * NS_PER_S
_LOCK_SLACK_NS: Final = 60 * NS_PER_S
_TASKS_PER_CPU: Final = 4096
_BOOT_SLACK_NS: Final = NS_PER_S


def check_accounting(before: CpuAccounting | None, found: CpuAccounting) -> None:
    """Processor times.

    Raises:
        AbsurdError: A CPU ran faster than the clock.
    """
    if before is None:
        return
    elapsed_ns = found.taken_at_ns - before.taken_at_ns
    limit_ns = elapsed_ns + elapsed_ns // 4 + _ACCOUNTING_SLACK_NS
    earlier = {cpu.index: cpu for cpu in before.cpus}
    for cpu in found.cpus:
        old = earlier.get(cpu.index)
        # Idle time is left out: kernels misstate it around taking a CPU offline.
        if old is not None and (
            cpu.user_ns + cpu.system_ns + (cpu.steal_ns or 0)
            > old.user_ns + old.system_ns + (old.steal_ns or 0) + limit_ns
        ):
            raise AbsurdError(f"CPU {cpu.index} ran faster than the clock")


def began_anew(before: CpuAccounting | None, found: CpuAccounting) -> bool:
    """Whether another kernel counts: CPU 0 never goes offline, and what it has done does not shrink."""
    done_ns = [
        cpu.user_ns + cpu.system_ns
        for accounting in (before, found)
        for cpu in (() if accounting is None else accounting.cpus)
        if cpu.index == 0
    ]
    return len(done_ns) > 1 and done_ns[1] + _BOOT_SLACK_NS < done_ns[0]


def check_locks(before: LockWait | None, found: LockWait, max_vcpus: int) -> None:
    """Waits for locks.

    Raises:
        AbsurdError: They grew faster than the clock on every CPU.
    """
    if before is None:
        return
    elapsed_ns = found.taken_at_ns - before.taken_at_ns
    # A wait counts when it ends, so one reading may show what began long before the other.
    limit_ns = (elapsed_ns + elapsed_ns // 4 + _LOCK_SLACK_NS) * max_vcpus
    if found.wait_ns > before.wait_ns + limit_ns:
        raise AbsurdError("lock waits grew faster than the clock on every CPU")


def check_run_queue(before: RunQueue | None, found: RunQueue) -> None:
    """Waits on run queues.

    Raises:
        AbsurdError: More tasks wait than a kernel can have.
    """
    if before is None:
        return
    elapsed_ns = found.taken_at_ns - before.taken_at_ns
    limit_ns = (elapsed_ns + _ACCOUNTING_SLACK_NS) * _TASKS_PER_CPU
    earlier = {cpu.index: cpu.wait_ns for cpu in before.cpus}
    for cpu in found.cpus:
        if cpu.wait_ns > earlier.get(cpu.index, cpu.wait_ns) + limit_ns:
            raise AbsurdError(f"more tasks wait on CPU {cpu.index} than there can be")
