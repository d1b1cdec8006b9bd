"""What a guest kernel's own work costs, and how it is configured. Durations in ns.

The figures are those of a current x86 server under hardware virtualisation, from the sources
named; each is a parameter, because TCG or an old machine differs by an order of magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass

from vcpud.units import NS_PER_MS, NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestConfig:
    """A guest kernel.

    Attributes:
        hz: Timer ticks per second (Debian, RHEL: 250 and 1000; Xen-era RHEL 5: 1000).
        nohz_idle: Whether an idle CPU stops its tick.
        steal_clock: Whether stolen time is kept off the running task (KVM and Xen PV guests).
        batch_locks: Whether trains of uncontended lock sections are batched (`train`).
        latency_ns: CFS's scheduling latency before scaling by 1 + log2(online CPUs), 6 ms.
        min_granularity_ns: Shortest slice before scaling, 0.75 ms.
        wakeup_granularity_ns: Lead a woken task needs to preempt, before scaling, 1 ms.
        balance_ns: Periodic load balancing of a busy CPU: 32 ms, the busy interval of a small
            domain (sd->balance_interval of 1 to 2 ms times busy_factor 16).
        tick_ns: Timer interrupt: exit, handler, re-arming the APIC timer.
        switch_ns: Context switch between tasks, caches warm (lmbench lat_ctx: 1 to 2 us).
        wake_ns: Waking one task: futex or pipe system call and try_to_wake_up.
        syscall_ns: A system call that does little.
        ipi_send_ns: Writing the ICR: an exit of about 2,000 to 5,000 cycles.
        ipi_receive_ns: Taking an interrupt: injection, entry and EOI.
        halt_ns: Going idle and coming back: exit for HLT, entry; paid on the way back.
        futex_hold_ns: Part of a futex call under the lock of its hash bucket: 150 ns (sections of
            the kernel last 16 ns to 2 us, mostly 128 to 256 ns).
        handoff_ns: A contended cache line moves to the next owner of a lock.
        kick_ns: Hypercall that kicks a halted vCPU (paravirtual locks).
        exit_lock_ns: Work under the emulator's lock at each exit (`emulator`); 0: no emulator.
        refill_ns: Time in which a vCPU loads its workload's working set into the caches of a pCPU: paid
            in full where it has not run before or comes from another pCPU, else as far as others have
            loaded theirs meanwhile; 0: caches are not modelled. A direct switch of 3.8 us cost more
            than 1,000 us with arrays beyond a cache of 512 KB (Li, Ding, Shen: "Quantifying the
            cost of context switch", ExpCS 2007).
        monitor_ratio: Part of the run time that the monitor takes for itself, taken at ticks: 0;
            binary translation and shadow page tables of ESX 3 cost CPU-bound guests 0.02 to 0.1
            (Adams and Agesen, ASPLOS 2006, SPECint: 4 % on average).
    """

    hz: int = 250
    nohz_idle: bool = True
    steal_clock: bool = True
    batch_locks: bool = True
    latency_ns: int = 6 * NS_PER_MS
    min_granularity_ns: int = 750_000
    wakeup_granularity_ns: int = NS_PER_MS
    balance_ns: int = 32 * NS_PER_MS
    tick_ns: int = 2_000
    switch_ns: int = 1_500
    wake_ns: int = 1_200
    syscall_ns: int = 300
    ipi_send_ns: int = 1_200
    ipi_receive_ns: int = 1_500
    halt_ns: int = 1_500
    futex_hold_ns: int = 150
    handoff_ns: int = 80
    kick_ns: int = 1_500
    exit_lock_ns: int = 0
    refill_ns: int = 0
    monitor_ratio: float = 0.0

    @property
    def jiffy_ns(self) -> int:
        """Time between ticks."""
        return NS_PER_S // self.hz


TOY = GuestConfig(
    hz=1, steal_clock=True, tick_ns=0, switch_ns=0, wake_ns=0, syscall_ns=0, ipi_send_ns=0,
    ipi_receive_ns=0, halt_ns=0, futex_hold_ns=0, handoff_ns=0, kick_ns=0,
)  # fmt: skip
"""No tick, wake, IPI or switch cost: what the toy model of spin barriers is compared with has none."""

TCG = GuestConfig(
    steal_clock=False, tick_ns=5_400, switch_ns=4_100, wake_ns=3_300, syscall_ns=810,
    ipi_send_ns=3_300, ipi_receive_ns=4_100, halt_ns=4_100, kick_ns=3_300, futex_hold_ns=410, handoff_ns=220,
    exit_lock_ns=1_700,
)  # fmt: skip
"""A guest under QEMU's emulation, from the lab's micro-benchmarks of one guest that has the host to
itself (`python -m lab --only micro`, on a machine where nothing else ran; rates are sums over two
threads):

* `blocking_barrier_switch`, two threads on one vCPU, 198,985 a second or 10.05 us a round: two
  futex calls, a wake-up and a switch, besides 0.28 us of the barrier itself (`spin_barrier`). On
  hardware they are 3.6 us (above): a factor of 2.71, used for ticks and hand-overs as well.
* `blocking_barrier_wake`, the same on two vCPUs: five blocks from 10.4 to 25.4 us. In the fast ones
  the guest had put both threads on one vCPU, as the figure is that of `blocking_barrier_switch`; so
  the slowest block is taken. Of it 16.5 us are left for sending and taking an interrupt and for a
  halt, three trips through the emulator's lock included, divided as on hardware.
* What the emulator does under its lock at such an exit is not measured; it wakes a thread of the
  host, and 1.7 us is what such a system call takes. For PAUSE see `pause.EMULATED`.
"""
