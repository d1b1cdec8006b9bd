"""One guest CPU as the rest of its guest sees it: tasks come, wait, go, and interrupts arrive.

What passes meanwhile is in `interval`, what happens while its vCPU executes in `execution`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from vcpud_simulator.engine import Timer
from vcpud_simulator.entities import BLOCKED, Vcpu
from vcpud_simulator.guest.emulator import Exits
from vcpud_simulator.guest.interval import Interval
from vcpud_simulator.guest.task import (
    CURRENT,
    DONE,
    NO_LIMIT,
    QUEUED,
    SLEEPING,
    Task,
    Waitable,
)
from vcpud_simulator.trace import Kind

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel

Interrupt: TypeAlias = Callable[["GuestCpu"], None]
"""What an interrupt does, called on the CPU that takes it; it charges its own extra cost."""

_SPIN_BEGIN, _SPIN_END = int(Kind.SPIN_BEGIN), int(Kind.SPIN_END)


class GuestCpu(Interval):
    """A CPU of a guest.

    Attributes:
        index: Its number in the guest.
        online: Whether the guest uses it.
        preferred: Whether its kernel keeps tasks there, as long as it uses it.
        interrupts: What it has yet to take.
        in_line: Whether its vCPU sleeps until the emulator's lock is free.
        quiescent_ns: When it last passed a quiescent state (RCU).
        user_ns: As the guest accounts it: whole ticks, to the mode the tick found.
        system_ns: Likewise.
        steal_ns: Stolen time, as a guest with a steal clock reports it.
        queue_wait_ns: Time tasks waited in its queue (schedstat).
    """

    __slots__ = (
        "_stolen_at_charge_ns", "in_line", "index", "interrupts", "online", "preferred",
        "queue_wait_ns", "quiescent_ns", "steal_ns", "system_ns", "user_ns",
    )  # fmt: skip

    def __init__(self, kernel: GuestKernel, vcpu: Vcpu, phase_ns: int) -> None:
        super().__init__(kernel, vcpu, phase_ns)
        self.index = vcpu.index
        self.online = True
        self.preferred = True
        self.interrupts: list[Interrupt] = []
        self.quiescent_ns = self.engine.now_ns
        self.user_ns = self.system_ns = self.steal_ns = 0
        self.queue_wait_ns = 0
        self._stolen_at_charge_ns = 0
        self.exits = None if kernel.exit_lock is None else Exits(self, kernel.exit_lock)
        self.in_line = False

    def __repr__(self) -> str:
        return f"{self.kernel.name}/cpu{self.index}"

    def interrupt(self, interrupt: Interrupt, sender: GuestCpu | None = None) -> None:
        """Send it an interrupt; a halted vCPU wakes, a preempted one takes it when it runs.

        Args:
            interrupt: What it does.
            sender: The CPU of the guest that sends it; None: a timer or a device.
        """
        if not self.online and not self.running:
            self.kernel.cpus[0].interrupt(interrupt, sender)
            return
        self.interrupts.append(interrupt)
        if self.running:
            if not self._in_loop:
                self.engine.arm(self._timer, max(self.engine.now_ns, self._begun_ns))
            return
        self.vcpu.in_kernel = True  # what it will do first (kvm_arch_dy_has_pending_interrupt)
        if self.vcpu.state == BLOCKED and not self.in_line:
            self.vcpu.woken_on = None if sender is None else sender.vcpu.pcpu
            self.host.wake(self.vcpu)

    # ------------------------------------------------------------------ switching tasks

    def _pick(self, now_ns: int) -> bool:
        """Make the next task current; False when there is none, here or elsewhere."""
        self.need_resched = False
        if not self.queue.entries and not (self.online and self.kernel.balance(self, idle=True)):
            return False
        task = self.queue.pop()
        self.current = task
        task.state = CURRENT
        self.queue_wait_ns += now_ns - task.queued_at_ns
        task.charged_at_ns = now_ns
        if self.config.steal_clock:
            self._stolen_at_charge_ns = self.stolen_ns()
        task.slice_began_ns = task.ran_ns
        self.queue.advance(task)
        self.quiescent_ns = now_ns
        self.overhead_ns += self.config.switch_ns
        if task.spinning:
            task.sync.resumed(self, task)
            self._rethink_yielder(task)
        return True

    def _switch(self, now_ns: int) -> None:
        """The current task goes back into the queue, and the next one is picked."""
        task = self.current
        if task is None:
            return
        self.charge_task(task)
        self.need_resched = False
        self.quiescent_ns = now_ns
        if not self.queue.entries:
            return
        self.current = None
        if task.train is not None:
            task.train.leave(now_ns)
        if task.spinning:
            task.sync.suspended(self, task)
        if task.owns is not None:
            task.owns.owner_left()
        self.enqueue(task)
        self._pick(now_ns)

    def _rethink_yielder(self, task: Task) -> None:
        """A task that waits in a sched_yield loop lets any task pass that has work to do."""
        if task.yields and any(not (t.spinning and t.yields) for t in self.queue):
            task.vruntime_ns = max(task.vruntime_ns, self.queue.last_vruntime_ns())
            self.need_resched = True

    def yield_(self, task: Task) -> None:
        """sched_yield: behind everybody who waits here."""
        self.charge(self.config.syscall_ns)
        if self.queue.entries:
            self.charge_task(task)
            task.vruntime_ns = max(task.vruntime_ns, self.queue.last_vruntime_ns())
            self.need_resched = True

    def enqueue(self, task: Task) -> None:
        """Queue a runnable task here."""
        task.cpu = self
        task.state = QUEUED
        task.queued_at_ns = self.engine.now_ns
        self.queue.add(task)
        current = self.current
        if current is not None and current.spinning and current.yields:
            self.advance()
            self._rethink_yielder(current)
            self.refresh()

    def sleep(self, task: Task, *, interruptible: bool = True) -> None:
        """The current task sleeps until woken; where a signal would wake it, a dying one ends."""
        if task.dying and interruptible:
            self.exit(task)
            return
        self._put(task)
        task.state = SLEEPING

    def exit(self, task: Task) -> None:
        """The current task's program has ended."""
        self._put(task)
        task.state = DONE
        self.kernel.tasks.pop(task, None)
        if task.on_exit is not None:
            task.on_exit(self)

    def _put(self, task: Task) -> None:
        if self.current is not task:
            raise RuntimeError(f"{task} cannot leave {self}: it is not current there")
        self.charge_task(task)
        self.current = None
        self.quiescent_ns = self.engine.now_ns
        if task.owns is not None:
            task.owns.owner_left()

    def sleep_for(self, task: Task, sleep_ns: int) -> None:
        """The current task sleeps; a timer of this CPU wakes it."""
        engine = self.engine
        if task.timer is None:
            kernel = self.kernel

            def fire(cpu: GuestCpu) -> None:
                kernel.wake(task, cpu)

            def ring() -> None:
                kernel.alive(task.cpu).interrupt(fire)

            task.timer = Timer(ring)
        engine.arm(task.timer, engine.now_ns + max(1, sleep_ns))
        self.sleep(task)

    def charge_task(self, task: Task) -> None:
        """Charge the time since the last charge, stolen time included without a steal clock."""
        now_ns = self.engine.now_ns
        delta_ns = now_ns - task.charged_at_ns
        task.charged_at_ns = now_ns
        if self.config.steal_clock:
            stolen_ns = self.stolen_ns()
            delta_ns -= stolen_ns - self._stolen_at_charge_ns
            self._stolen_at_charge_ns = stolen_ns
        if delta_ns > 0:
            task.vruntime_ns += delta_ns
            task.ran_ns += delta_ns
            self.queue.advance(task)

    # ------------------------------------------------------------------ waiting on the processor

    def spin(
        self, task: Task, sync: Waitable, *, in_kernel: bool, limit_ns: int = NO_LIMIT,
        yields: bool = False,
    ) -> None:  # fmt: skip
        """The current task waits on the processor until `stop_spin`."""
        now_ns = self.engine.now_ns
        task.spinning = True
        task.in_kernel = in_kernel
        task.sync = sync
        task.yields = yields
        task.spin_left_ns = limit_ns
        task.spin_began_ns = now_ns
        self._pause_left_ns = self._pause_window_ns
        if self.exits is not None:
            self.exits.meet(task)
        if self.host.trace is not None:
            self.host.trace.record(now_ns, _SPIN_BEGIN, self.vcpu.number, int(in_kernel))
        if yields:
            self._rethink_yielder(task)

    def stop_spin(self, task: Task, cost_ns: int = 0) -> None:
        """Let a waiting task go on, wherever it is."""
        self.advance()
        task.spinning = False
        task.left_ns = 0
        self.kernel.spin_wait_ns += self.engine.now_ns - task.spin_began_ns
        if self.host.trace is not None:
            self.host.trace.record(
                self.engine.now_ns, _SPIN_END, self.vcpu.number, int(task.in_kernel)
            )
        current = self.current
        if current is task:
            self.overhead_ns += cost_ns
            self.refresh()
        elif current is not None and current.spinning and current.yields:
            self._rethink_yielder(current)
            self.refresh()

    def wait_halted(self) -> None:
        """The current task halts the vCPU while it waits for a lock (paravirtual locks)."""
        self.stop_executing()
        self.host.block(self.vcpu)

    def stop_executing(self) -> None:
        """It gives its pCPU up itself, and is about to tell the host."""
        self.running = False
        self._timer.sequence = 0
