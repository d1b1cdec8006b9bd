"""A guest kernel: its CPUs, who is woken where, and how tasks are spread.

The guest's scheduler is CFS for tasks of equal weight: slices of latency / tasks, cut at ticks,
scaled by 1 + log2(online CPUs) and rescaled when that number changes (kernel/sched/fair.c
`update_sysctl`), sleepers placed half a latency behind, wake-up preemption by granularity, idle
balancing on the way to idle, periodic balancing at ticks, an idle CPU kicked by a busy one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud_simulator.entities import WorkingSet
from vcpud_simulator.guest.costs import GuestConfig
from vcpud_simulator.guest.cpu import GuestCpu
from vcpud_simulator.guest.emulator import ExitLock
from vcpud_simulator.guest.execution import ExecutingCpu
from vcpud_simulator.guest.task import DONE, SLEEPING, Program, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vcpud_simulator.entities import Domain
    from vcpud_simulator.host import Host
    from vcpud_simulator.rng import Stream

_MAX_SCALED_CPUS: Final = 8
_IMBALANCE: Final = 2


class GuestKernel:
    """The kernel of one domain.

    Attributes:
        name: The domain's.
        cpus: All CPUs, offline ones included.
        tasks: Tasks that have not ended.
        chance: Its stream of random numbers.
        exit_lock: What its vCPUs go through when they leave the guest, where it is emulated.
        latency_ns: Scaled scheduling latency, likewise the granularities.
        lock_holder_preemptions: vCPUs preempted while they held a kernel spinlock.
        lock_waiter_preemptions: vCPUs preempted while next in line for one.
        lock_waits: Contended acquisitions of queued kernel spinlocks, those a tracepoint shows.
        lock_wait_ns: Wall time of those waits.
        spin_wait_ns: Wall time of all waiting on the processor.
        answering_ns: CPU time that answers to whoever asks it needed.
    """

    def __init__(self, host: Host, domain: Domain, config: GuestConfig | None = None) -> None:
        self.host = host
        self.domain = domain
        self.name = domain.name
        self.config = config or GuestConfig()
        self.chance: Stream = host.chance.stream("guest", domain.name)
        self.exit_lock = ExitLock() if self.config.exit_lock_ns else None
        self.tasks: dict[Task, None] = {}
        self.lock_holder_preemptions = 0
        self.lock_waiter_preemptions = 0
        self.lock_waits = 0
        self.lock_wait_ns = 0
        self.spin_wait_ns = 0
        self.answering_ns = 0
        self.latency_ns = self.min_granularity_ns = self.wakeup_granularity_ns = 0
        phase_ns = self.chance.below(self.config.jiffy_ns)
        self.cpus: list[GuestCpu] = []
        for vcpu in domain.vcpus:
            if self.config.refill_ns:
                vcpu.working_set = WorkingSet(vcpu, self.config.refill_ns)
            cpu = ExecutingCpu(self, vcpu, phase_ns)
            vcpu.guest = cpu
            self.cpus.append(cpu)
        self.rescale()

    @property
    def online_cpus(self) -> list[GuestCpu]:
        """CPUs in use."""
        return [cpu for cpu in self.cpus if cpu.online]

    @property
    def preferred_cpus(self) -> list[GuestCpu]:
        """CPUs in use that tasks are kept on: all, but where the guest steers work itself."""
        return [cpu for cpu in self.cpus if cpu.online and cpu.preferred]

    @property
    def runnable_tasks(self) -> int:
        """Tasks that run or wait for a CPU (/proc/loadavg, fourth field)."""
        return sum(len(cpu.queue) + (cpu.current is not None) for cpu in self.cpus)

    def rescale(self) -> None:
        """Slices follow the number of online CPUs."""
        factor = min(len(self.online_cpus), _MAX_SCALED_CPUS).bit_length()
        self.latency_ns = self.config.latency_ns * factor
        self.min_granularity_ns = self.config.min_granularity_ns * factor
        self.wakeup_granularity_ns = self.config.wakeup_granularity_ns * factor

    def alive(self, cpu: GuestCpu) -> GuestCpu:
        """That CPU, or the first one where it has gone offline: who takes its interrupts."""
        return cpu if cpu.online else self.cpus[0]

    # ------------------------------------------------------------------ new tasks and wake-ups

    def spawn(  # noqa: PLR0913 - all but two by name
        self,
        name: str,
        program: Program,
        *,
        on: int | None = None,
        waker: GuestCpu | None = None,
        on_exit: Callable[[GuestCpu], None] | None = None,
        stopper: bool = False,
        system: bool = False,
    ) -> Task:
        """Start a task.

        Args:
            name: For people.
            program: What it does.
            on: The CPU it is bound to, or None for the idlest.
            waker: The CPU whose current task starts it, or None for the world outside.
            on_exit: Called on its CPU when its program has ended.
            stopper: Whether it goes before everything else (stop_machine).
            system: Whether it outlives sessions.
        """
        cpu = self.cpus[on] if on is not None else min(self.preferred_cpus, key=_load)
        task = Task(name, program, cpu)
        task.pinned = on is not None
        task.stopper = stopper
        task.system = system
        task.on_exit = on_exit
        task.vruntime_ns = cpu.queue.min_vruntime_ns
        self.tasks[task] = None
        self._place(task, cpu, waker)
        return task

    def end_session(self) -> None:
        """Kill all tasks but the system's; each ends as soon as it holds nothing of the kernel's."""
        for task in tuple(self.tasks):
            if not task.system:
                self._kill(task)

    def _kill(self, task: Task) -> None:
        if task.state == SLEEPING:
            task.state = DONE
            del self.tasks[task]
            return
        task.dying = True
        task.program = _last_steps(task, task.program)
        cpu = task.cpu
        cpu.advance()
        if task.train is not None:
            task.train.cut_short()
        elif task.spinning:
            if not task.in_kernel:
                cpu.stop_spin(task)
        elif task.then is None and not task.in_kernel:
            task.left_ns = 0
        cpu.refresh()

    def wake(self, task: Task, waker: GuestCpu | None) -> None:
        """A sleeping task becomes runnable; its waker pays, where it is a CPU of this guest."""
        if task.state != SLEEPING:
            return
        if waker is not None:
            waker.charge(self.config.wake_ns)
        cpu = self.alive(task.cpu) if task.pinned else self._choose(task, waker)
        base_ns = cpu.queue.min_vruntime_ns
        lag_ns = task.vruntime_ns - task.cpu.queue.min_vruntime_ns
        task.vruntime_ns = base_ns + max(lag_ns, -(self.latency_ns // 2))
        self._place(task, cpu, waker)

    def _choose(self, task: Task, waker: GuestCpu | None) -> GuestCpu:
        """Where it slept if that is idle, else any idle CPU, else where it slept; preferred ones."""
        before = self.alive(task.cpu)
        if before.idle and before.preferred:
            return before
        if waker is not None and waker.online and waker.idle and waker.preferred:
            return waker
        cpus = self.cpus
        for step in range(1, len(cpus)):
            cpu = cpus[(before.index + step) % len(cpus)]
            if cpu.online and cpu.idle and cpu.preferred:
                return cpu
        return before if before.preferred else min(self.preferred_cpus, key=_load)

    def _place(self, task: Task, cpu: GuestCpu, waker: GuestCpu | None) -> None:
        cpu.enqueue(task)
        current = cpu.current
        if current is not None:
            cpu.advance()
            cpu.charge_task(current)
            lead_ns = current.vruntime_ns - task.vruntime_ns
            if not task.stopper and lead_ns <= self.wakeup_granularity_ns:
                return
            cpu.need_resched = True
        if waker is not cpu:
            if waker is not None:
                waker.charge_exit(self.config.ipi_send_ns)
            cpu.interrupt(reschedule, waker)

    # ------------------------------------------------------------------ balancing

    def balance(self, cpu: GuestCpu, *, idle: bool) -> bool:
        """Pull one task from the busiest CPU; whether one came.

        An idle CPU pulls any waiting task, a busy one only where the difference is two or more.
        """
        if not cpu.preferred:
            return False
        busiest: GuestCpu | None = None
        most = 0
        for other in self.cpus:
            if len(other.queue.entries) > most and other is not cpu and other.online:
                busiest, most = other, len(other.queue.entries)
        if busiest is None:
            return False
        mine = len(cpu.queue) + (cpu.current is not None)
        if not idle and most + (busiest.current is not None) - mine < _IMBALANCE:
            return False
        for task in busiest.queue:
            if not task.pinned:
                self.move(task, cpu)
                return True
        return False

    def move(self, task: Task, cpu: GuestCpu) -> None:
        """Move a queued task to another CPU's queue."""
        source = task.cpu
        source.queue.remove(task)
        source.queue_wait_ns += source.engine.now_ns - task.queued_at_ns
        task.vruntime_ns += cpu.queue.min_vruntime_ns - source.queue.min_vruntime_ns
        cpu.enqueue(task)

    def take_down(self, cpu: GuestCpu) -> None:
        """A CPU goes offline: its tasks go elsewhere, bound ones too; called on that CPU.

        Raises:
            ValueError: It is CPU 0, or the last one.
        """
        if cpu.index == 0 or len(self.online_cpus) == 1:
            raise ValueError(f"{cpu} cannot go offline")
        cpu.online = False
        self.spread(tuple(cpu.queue))
        self.rescale()

    def spread(self, tasks: Iterable[Task]) -> None:
        """Tasks that wait for a CPU wait for the idlest others from now on."""
        for task in tasks:
            self.move(task, min(self.preferred_cpus, key=_load))
            task.cpu.interrupt(reschedule)

    def bring_up(self, cpu: GuestCpu) -> None:
        """A CPU is in use again; called on that CPU."""
        cpu.online = True
        self.rescale()

    def kick_idle(self, busy: GuestCpu) -> None:
        """A CPU with waiting tasks has an idle one balance (nohz_balancer_kick)."""
        if all(task.pinned for task in busy.queue):
            return
        for cpu in self.cpus:
            if cpu.online and cpu.preferred and cpu.idle and not cpu.running:
                busy.charge_exit(self.config.ipi_send_ns)
                cpu.interrupt(reschedule, busy)
                return


def _last_steps(task: Task, program: Program) -> Program:
    """What a killed task still does: give back the locks of the kernel that it holds."""
    while task.preempt_count or task.owns is not None:
        operation = next(program, None)
        if operation is None:
            return
        yield operation


def _load(cpu: GuestCpu) -> tuple[int, int]:
    return len(cpu.queue) + (cpu.current is not None), cpu.index


def reschedule(cpu: GuestCpu) -> None:
    """The reschedule interrupt: it only makes the CPU look at its queue."""
