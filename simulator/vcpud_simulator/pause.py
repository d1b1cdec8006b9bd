"""PAUSE-loop exits: hardware notices a spin, and the hypervisor takes the pCPU away or hands it on.

Problem: a vCPU that spins for a preempted sibling burns its whole slice.

Approach: a spin that lasts a whole window exits to the hypervisor. Xen yields, undirected. KVM
looks for a sibling that waits for a pCPU and yields *to* it: one that was preempted in its kernel
or has an interrupt to take, and that did not itself give its pCPU up in a spin loop, except every
second time. Intel sees PAUSE only in kernel mode, AMD in any mode. The window doubles on each exit
(KVM on Intel) and is back at its base when the vCPU is loaded after it was scheduled out. Under
emulation there is no window: see EMULATED.

References: Xen commit b67758cda1 (2009-07-07) and `vmx_vmexit_handler` (undirected yield; gap 128,
window 4096 cycles); Linux arch/x86/kvm/x86.h (KVM_DEFAULT_PLE_WINDOW_GROW 2, shrink 0 = reset) and
virt/kvm/kvm_main.c `kvm_vcpu_on_spin` (two passes from the last boosted, three tries),
`kvm_vcpu_eligible_for_directed_yield` (in_spin_loop lasts while it is scheduled out in there).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from vcpud_simulator.engine import NEVER
from vcpud_simulator.entities import RUNNABLE, RUNNING, Domain, Vcpu

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
        directed: KVM's directed yield; otherwise an undirected one (Xen).
        exit_ns: What an exit costs the vCPU.
        held_ratio: Part of a spin's time in which it holds the emulator's lock.
    """

    window_ns: int = WINDOW_NS
    grow: int = GROW
    user_mode: bool = False
    directed: bool = True
    exit_ns: int = EXIT_NS
    held_ratio: float = 0.0
    _boosted: dict[Domain, int] | None = None
    _spared: set[Vcpu] | None = None

    def exited(self, host: Host, vcpu: Vcpu) -> None:
        """One exit of a running vCPU."""
        if not self.directed:
            host.yield_(vcpu)
            return
        boosted = self._boosted = {} if self._boosted is None else self._boosted
        vcpus = vcpu.domain.vcpus
        tries = TRIES
        first = boosted.get(vcpu.domain, 0) + 1
        for step in range(len(vcpus)):
            target = vcpus[(first + step) % len(vcpus)]
            if target is vcpu or target.state != RUNNABLE:
                continue
            if not self.user_mode and not target.in_kernel:
                continue
            if not self._eligible(target):
                continue
            if host.scheduler.yield_to(vcpu, target, host.engine.now_ns):
                boosted[vcpu.domain] = target.index
                vcpu.spinning = True
                host.tickle(vcpu.pcpu)
                host.engine.soon.append(partial(self._stayed, vcpu))
                break
            tries -= 1
            if tries == 0:
                break

    def _stayed(self, vcpu: Vcpu) -> None:
        """The decision has been made: was it not scheduled out, its spin loop is over."""
        if vcpu.state == RUNNING:
            self.loaded(vcpu)

    def loaded(self, vcpu: Vcpu) -> None:
        """It has a pCPU: it has left the spin loop in which it was scheduled out, if it was."""
        vcpu.spinning = False
        if self._spared is not None:
            self._spared.discard(vcpu)

    def _eligible(self, target: Vcpu) -> bool:
        """A vCPU that was scheduled out in a spin loop is taken every second time only."""
        spared = self._spared = set() if self._spared is None else self._spared
        if not target.spinning:
            return True
        if target in spared:
            spared.discard(target)
            return True
        spared.add(target)
        return False


EMULATED: Final = PauseLoop(window_ns=NEVER, user_mode=True, held_ratio=1 / 6)
"""QEMU's TCG: each PAUSE leaves the translated code, in any mode, for a trip through the emulator's
lock (`guest.emulator`), and nobody yields. A turn of the loop takes 320 ns at most (the lab's
`spin_barrier_pause`, 6.28 million barriers a second for two threads). What `mttcg_cpu_thread_fn`
does with the lock in one, a few dozen instructions and a mutex that nobody contends for, is taken
to be 50 ns of it: that is not measured."""
