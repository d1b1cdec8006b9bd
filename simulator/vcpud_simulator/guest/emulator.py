"""QEMU without hardware help: whatever leaves the translated code takes one lock of the process.

Problem: under TCG a PAUSE, a halt, an interrupt sent or taken ends the execution of translated
code, and the vCPU's thread then takes QEMU's "big lock". Who finds it taken sleeps in the host; who
holds it may be preempted by the host. So spinners with PAUSE partly sleep, and wake-ups are dear.

Approach: such an exit is a trip: the vCPU takes the domain's lock, works `exit_lock_ns` under it,
and releases it. A vCPU that waits for it is blocked as far as the host can see. The lock is a
pthread mutex: released, it belongs to nobody, the first sleeper is woken and competes anew.

References: QEMU 7.2 accel/tcg/tcg-accel-ops-mttcg.c `mttcg_cpu_thread_fn`, cpu-exec.c
`cpu_handle_interrupt`, cputlb.c `io_writex` (the APIC is memory-mapped), softmmu/cpus.c
`qemu_wait_io_event`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcpud_simulator.guest.cpu import GuestCpu


class ExitLock:
    """The lock that all vCPUs of one emulated domain share.

    Attributes:
        holder: Who has it.
        contentions: Times it was not free.
    """

    __slots__ = ("_waiting", "contentions", "holder")

    def __init__(self) -> None:
        self.holder: GuestCpu | None = None
        self.contentions = 0
        self._waiting: deque[GuestCpu] = deque()

    def take(self, cpu: GuestCpu) -> bool:
        """Take it if it is free, else get in line."""
        if self.holder is None:
            self.holder = cpu
            return True
        self.contentions += 1
        self._waiting.append(cpu)
        return False

    def release(self) -> None:
        """Give it back, and wake who has waited longest."""
        self.holder = None
        if self._waiting:
            cpu = self._waiting.popleft()
            cpu.in_line = False
            cpu.host.wake(cpu.vcpu)
