"""PAUSE-loop exits: hardware notices a spin, and the hypervisor takes the pCPU away or hands it on.

Problem: a vCPU that spins for a preempted sibling burns its whole slice.

Approach: a spin that lasts a whole window exits to the hypervisor. Xen yields, undirected. KVM
looks for a sibling that waits for a pCPU and yields *to* it. Intel sees PAUSE only in kernel mode,
AMD in any mode. The window doubles on each exit (KVM on Intel) and is back at its base when the
vCPU is loaded after it was scheduled out.

References: Xen commit b67758cda1 (2009-07-07) and `vmx_vmexit_handler` (undirected yield; gap 128,
window 4096 cycles); Linux arch/x86/kvm/x86.h (KVM_DEFAULT_PLE_WINDOW_GROW 2, shrink 0 = reset) and
virt/kvm/kvm_main.c `kvm_vcpu_on_spin` (two passes from the last boosted, three tries, a vCPU that
spins itself is eligible every second time).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vcpud_simulator.entities import RUNNABLE, Domain, Vcpu

if TYPE_CHECKING:
    from vcpud_simulator.host import Host

WINDOW_NS: Final = 1_600
"""4096 cycles at 2.5 GHz."""
GROW: Final = 2
TRIES: Final = 3
MAX_WINDOW_NS: Final = WINDOW_NS << 16
EXIT_NS: Final = 1_200
"""Cost of an exit and re-entry."""


@dataclass(slots=True, kw_only=True)
class PauseLoop:
    """What the hardware notices and what becomes of it.

    Attributes:
        window_ns: Uninterrupted spinning until the first exit.
        grow: Factor on the window after each exit while the vCPU stays loaded; 1 for Xen.
        user_mode: Whether spins in user mode are seen (AMD).
        yields: Whether the hypervisor does anything about it; emulation just exits.
        directed: KVM's directed yield; otherwise an undirected one (Xen).
        exit_ns: What an exit costs the vCPU.
    """

    window_ns: int = WINDOW_NS
    grow: int = GROW
    user_mode: bool = False
    yields: bool = True
    directed: bool = True
    exit_ns: int = EXIT_NS
    _boosted: dict[Domain, int] | None = None
    _spared: set[Vcpu] | None = None

    def exited(self, host: Host, vcpu: Vcpu) -> None:
        """One exit of a running vCPU."""
        if not self.yields:
            return
        if not self.directed:
            host.yield_(vcpu)
            return
        boosted = self._boosted = {} if self._boosted is None else self._boosted
        vcpus = vcpu.domain.vcpus
        vcpu.spinning = True
        tries = TRIES
        first = boosted.get(vcpu.domain, 0) + 1
        for step in range(len(vcpus)):
            target = vcpus[(first + step) % len(vcpus)]
            if target is vcpu or target.state != RUNNABLE or not self._eligible(target):
                continue
            if not self.user_mode and not target.in_kernel:
                continue
            if host.scheduler.yield_to(vcpu, target, host.engine.now_ns):
                boosted[vcpu.domain] = target.index
                host.tickle(vcpu.pcpu)
                break
            tries -= 1
            if tries == 0:
                break
        vcpu.spinning = False

    def _eligible(self, target: Vcpu) -> bool:
        """A vCPU that was itself in a spin loop is taken every second time only."""
        spared = self._spared = set() if self._spared is None else self._spared
        if not target.spinning:
            return True
        if target in spared:
            spared.discard(target)
            return True
        spared.add(target)
        return False


EMULATED: Final = PauseLoop(window_ns=100, grow=1, user_mode=True, yields=False, exit_ns=1_700)
"""QEMU's TCG: each PAUSE leaves the translated code, in any mode, and nobody yields. A turn of the
loop takes 100 ns in it, the exit 1.7 us beside its trip through the emulator's lock (`guest.costs`)."""
