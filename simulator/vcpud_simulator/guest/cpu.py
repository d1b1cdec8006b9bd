"""One guest CPU: executes tasks while its vCPU has a pCPU, takes interrupts and ticks, goes idle.

Between events everything is an interval: `overhead_ns` of kernel work first, then the current
task's work, or its spinning. `_advance` credits what has passed, `refresh` arms the one timer for
whatever comes first. Nothing is simulated per iteration of a loop of the guest.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import TYPE_CHECKING, TypeAlias

from vcpud_simulator.engine import NEVER, Timer
from vcpud_simulator.entities import BLOCKED, CO_STOPPED, RUNNABLE, RUNNING, Vcpu
from vcpud_simulator.guest.emulator import Exits
from vcpud_simulator.guest.runqueue import RunQueue
from vcpud_simulator.guest.task import (
    CURRENT,
    DONE,
    NO_LIMIT,
    QUEUED,
    SLEEPING,
    Compute,
    Task,
    Waitable,
)
from vcpud_simulator.trace import Kind

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel

Interrupt: TypeAlias = Callable[["GuestCpu"], None]
"""What an interrupt does, called on the CPU that takes it; it charges its own extra cost."""

_SPIN_BEGIN, _SPIN_END = int(Kind.SPIN_BEGIN), int(Kind.SPIN_END)


class GuestCpu:
    """A CPU of a guest, as `entities.VcpuGuest`.

    Attributes:
        kernel: Whose it is.
        vcpu: What it runs on.
        index: Its number in the guest.
        online: Whether the guest uses it.
        preferred: Whether its kernel keeps tasks there, as long as it uses it.
        running: Whether its vCPU has a pCPU.
        current: The task it executes, None while idle.
        queue: Tasks that wait for it.
        need_resched: Whether to choose another task as soon as that is allowed.
        overhead_ns: Kernel work to be done before anything else.
        exits: How it leaves translated code, where it is emulated.
        in_line: Whether its vCPU sleeps until the emulator's lock is free.
        quiescent_ns: When it last passed a quiescent state (RCU).
        user_ns: As the guest accounts it: whole ticks, to the mode the tick found.
        system_ns: Likewise.
        steal_ns: Stolen time, as a guest with a steal clock reports it.
        idle_ns: Idle time, exact, as a tickless guest reports it.
        queue_wait_ns: Time tasks waited in its queue (schedstat).
        true_work_ns: CPU time of tasks, spinning and kernel overhead excluded.
        true_spin_ns: CPU time burnt waiting.
        true_overhead_ns: CPU time of switches, interrupts and wake-ups.
    """

    __slots__ = (
        "_begun_ns", "_idle_since_ns", "_in_loop", "_jiffy_ns", "_next_balance_ns",
        "_pause_left_ns", "_pause_window_ns", "_run_at_tick_ns", "_stolen_at_charge_ns",
        "_stolen_at_tick_ns", "_timer", "_waker", "config", "current", "engine", "exits", "host",
        "idle_ns", "in_line", "index", "interrupts", "kernel", "need_resched", "next_tick_ns",
        "online", "overhead_ns", "preferred", "queue", "queue_wait_ns", "quiescent_ns", "running",
        "steal_ns", "system_ns", "true_overhead_ns", "true_spin_ns", "true_work_ns", "user_ns", "vcpu",
    )  # fmt: skip

    def __init__(self, kernel: GuestKernel, vcpu: Vcpu, phase_ns: int) -> None:
        self.kernel = kernel
        self.config = kernel.config
        self.host = kernel.host
        self.engine = kernel.host.engine
        self.vcpu = vcpu
        self.index = vcpu.index
        self.online = True
        self.preferred = True
        self.running = False
        self.current: Task | None = None
        self.queue = RunQueue()
        self.interrupts: list[Interrupt] = []
        self.need_resched = False
        self.overhead_ns = 0
        now_ns = self.engine.now_ns
        self.next_tick_ns = now_ns + phase_ns
        self.quiescent_ns = now_ns
        self.user_ns = self.system_ns = self.steal_ns = self.idle_ns = 0
        self.queue_wait_ns = 0
        self.true_work_ns = self.true_spin_ns = self.true_overhead_ns = 0
        self._begun_ns = now_ns
        self._idle_since_ns = now_ns
        self._in_loop = False
        self._jiffy_ns = kernel.config.jiffy_ns
        self._next_balance_ns = now_ns + kernel.config.balance_ns
        self._pause_window_ns = self._pause_left_ns = NO_LIMIT
        self._stolen_at_charge_ns = self._stolen_at_tick_ns = self._run_at_tick_ns = 0
        self.exits = None if kernel.exit_lock is None else Exits(self, kernel.exit_lock)
        self.in_line = False
        self._timer = Timer(self._event)
        self._waker = Timer(self._idle_tick)

    def __repr__(self) -> str:
        return f"{self.kernel.name}/cpu{self.index}"

    # ------------------------------------------------------------------ the vCPU comes and goes

    def resume(self, begin_ns: int) -> None:
        """The vCPU has a pCPU (`entities.VcpuGuest`)."""
        self.running = True
        self._begun_ns = begin_ns
        pause = self.host.pause
        if pause is not None:
            self._pause_window_ns = self._pause_left_ns = pause.window_ns
            if self.vcpu.spinning:
                pause.loaded(self.vcpu)
        task = self.current
        if task is None and self._idle_since_ns >= 0:
            self.idle_ns += self.engine.now_ns - self._idle_since_ns
            self._idle_since_ns = -1
            self.charge_exit(self.config.halt_ns)
            self._waker.sequence = 0
            if self.next_tick_ns < begin_ns and self.config.nohz_idle:
                jiffy_ns = self._jiffy_ns
                self.next_tick_ns += -(-(begin_ns - self.next_tick_ns) // jiffy_ns) * jiffy_ns
        elif task is not None and task.spinning:
            task.sync.resumed(self, task)
            if self.exits is not None:
                self.exits.meet(task)
        if task is None and (self.interrupts or not self.overhead_ns):
            self.engine.arm(self._timer, begin_ns)
            return
        self.refresh()
        if self.interrupts:
            self.engine.arm(self._timer, begin_ns)

    def charge_exit(self, cost_ns: int) -> None:
        """Kernel work that leaves the guest: emulated, it takes the emulator's lock besides."""
        self.charge(cost_ns)
        if self.exits is not None:
            self.exits.trips += 1

    def suspend(self, now_ns: int) -> None:
        """The vCPU has lost its pCPU (`entities.VcpuGuest`)."""
        self._advance(now_ns)
        self._timer.sequence = 0
        self.running = False
        if self.exits is not None:
            self.exits.preempted()
        task = self.current
        if task is None:
            return
        if task.train is not None:
            task.train.leave(now_ns)
        if task.spinning:
            task.sync.suspended(self, task)
        elif task.preempt_count:
            self.kernel.lock_holder_preemptions += 1
        if task.owns is not None:
            task.owns.owner_preempted()

    @property
    def idle(self) -> bool:
        """Whether the guest sees it idle."""
        return self.current is None and not self.queue.entries

    def executes(self, task: Task) -> bool:
        """Whether that task's instructions execute now."""
        return self.running and self.current is task

    # ------------------------------------------------------------------ time

    def stolen_ns(self) -> int:
        """Time the vCPU was runnable without a pCPU."""
        vcpu = self.vcpu
        stolen_ns = vcpu.runnable_ns + vcpu.co_stopped_ns
        if vcpu.state == RUNNABLE or vcpu.state == CO_STOPPED:  # noqa: PLR1714 - hot
            stolen_ns += self.engine.now_ns - vcpu.since_ns
        return stolen_ns

    def idle_until_ns(self) -> int:
        """Idle time until now."""
        since_ns = self._idle_since_ns
        return self.idle_ns + (self.engine.now_ns - since_ns if since_ns >= 0 else 0)

    def charge(self, cost_ns: int) -> None:
        """Kernel work to be done before the current task goes on."""
        if cost_ns:
            task = self.current
            if task is not None and task.train is not None and self.running:
                task.train.leave(self.engine.now_ns)
            self.overhead_ns += cost_ns

    def _advance(self, now_ns: int) -> None:
        """Credit the time since the last call to what was being done."""
        elapsed_ns = now_ns - self._begun_ns
        if elapsed_ns <= 0:
            return
        self._begun_ns = now_ns
        overhead_ns = self.overhead_ns
        if overhead_ns:
            if elapsed_ns <= overhead_ns:
                self.overhead_ns -= elapsed_ns
                self.true_overhead_ns += elapsed_ns
                return
            self.overhead_ns = 0
            self.true_overhead_ns += overhead_ns
            elapsed_ns -= overhead_ns
        task = self.current
        if task is None:
            return
        if task.spinning:
            task.spun_ns += elapsed_ns
            self.true_spin_ns += elapsed_ns
            if task.spin_left_ns != NO_LIMIT:
                task.spin_left_ns = max(0, task.spin_left_ns - elapsed_ns)
            if self._pause_left_ns != NO_LIMIT:
                self._pause_left_ns = max(0, self._pause_left_ns - elapsed_ns)
        else:
            task.left_ns -= elapsed_ns
            task.work_ns += elapsed_ns
            self.true_work_ns += elapsed_ns

    def advance(self) -> None:
        """Credit what has passed, before something about the current task is changed."""
        if self.running:
            self._advance(self.engine.now_ns)

    def refresh(self) -> None:
        """Arm the timer for whatever comes first, unless the loop below will do so anyway."""
        if self._in_loop or not self.running:
            return
        when_ns = self._begun_ns + self.overhead_ns
        task = self.current
        if self.exits is not None and self.exits.trips:
            pass
        elif task is not None and (task.preempt_count or not self.need_resched):
            if task.spinning:
                when_ns = self._spin_ends_ns(task, when_ns)
            else:
                train = task.train
                if train is not None and not train.joined:
                    train.join(when_ns)
                when_ns += task.left_ns
            self.vcpu.in_kernel = task.in_kernel
        tick_ns = self.next_tick_ns
        if tick_ns < when_ns:
            when_ns = max(tick_ns, self._begun_ns)
        engine, timer = self.engine, self._timer  # `Engine.arm`, here because this path is hot
        engine.sequence = timer.sequence = sequence = engine.sequence + 1
        heappush(engine.heap, (when_ns, sequence, timer))

    def _spin_ends_ns(self, task: Task, when_ns: int) -> int:
        ends_ns = when_ns + task.spin_left_ns if task.spin_left_ns != NO_LIMIT else NEVER
        pause = self.host.pause
        if pause is not None and (task.in_kernel or pause.user_mode):
            if self._pause_left_ns == NO_LIMIT:
                self._pause_window_ns = self._pause_left_ns = pause.window_ns
            ends_ns = min(ends_ns, when_ns + max(0, self._pause_left_ns))
        return ends_ns

    # ------------------------------------------------------------------ the loop

    def _event(self) -> None:
        now_ns = self.engine.now_ns
        self._in_loop = True
        self._advance(now_ns)
        self._execute(now_ns)
        self._in_loop = False
        if self.running:
            self.refresh()

    def _execute(self, now_ns: int) -> None:  # noqa: C901, PLR0912 - one loop, hot
        """Do everything that is due at this instant, until time has to pass."""
        while self.running:
            if self.interrupts:
                self._interrupt()
            if now_ns >= self.next_tick_ns:
                self._tick(now_ns)
            if self.overhead_ns:
                return
            if self.exits is not None and self.exits.trips:
                self.exits.travel()
                continue
            task = self.current
            if task is None:
                if not self._pick(now_ns):
                    self._halt(now_ns)
                continue
            if self.need_resched:
                if task.train is not None:
                    task.train.leave(now_ns)
                if not task.preempt_count:
                    self._switch(now_ns)
                    continue
            if task.spinning:
                if not self._spin_due(task):
                    return
                continue
            if task.left_ns > 0:
                return
            then = task.then
            if then is not None:
                task.then = None
                then(self, task)
                continue
            operation = next(task.program, None)
            if operation.__class__ is Compute:  # nearly all are: its `begin`, without the detour
                task.in_kernel = operation.in_kernel
                task.left_ns = operation.work_ns
                if task.left_ns > 0:
                    return
            elif operation is None:
                self.exit(task)
            else:
                operation.begin(self, task)

    def _spin_due(self, task: Task) -> bool:
        """Whether the spin's own limit or the PAUSE window was reached and acted upon."""
        if task.spin_left_ns == 0:
            task.sync.expired(self, task)
            return True
        pause = self.host.pause
        if (
            pause is not None
            and self._pause_left_ns != NO_LIMIT
            and self._pause_left_ns <= 0
            and (task.in_kernel or pause.user_mode)
        ):
            if self._pause_window_ns < pause.window_ns << 16:
                self._pause_window_ns *= pause.grow
            self._pause_left_ns = self._pause_window_ns
            self.charge_exit(pause.exit_ns)
            self.host.pause_exit(self.vcpu)
            return True
        return False

    def _interrupt(self) -> None:
        interrupts, self.interrupts = self.interrupts, []
        for interrupt in interrupts:
            self.charge_exit(self.config.ipi_receive_ns)
            interrupt(self)

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

    # ------------------------------------------------------------------ ticks

    def _idle_tick(self) -> None:
        if not self.running and self.vcpu.state == BLOCKED and not self.in_line:
            self.vcpu.woken_on = None
            self.host.wake(self.vcpu)

    def _tick(self, now_ns: int) -> None:
        config, jiffy_ns = self.config, self._jiffy_ns
        self.next_tick_ns += (now_ns - self.next_tick_ns) // jiffy_ns * jiffy_ns + jiffy_ns
        task = self.current
        ticked_ns = jiffy_ns
        if config.steal_clock:
            stolen_ns = self.stolen_ns()
            ticked_ns -= min(jiffy_ns, stolen_ns - self._stolen_at_tick_ns)
            self.steal_ns += stolen_ns - self._stolen_at_tick_ns
            self._stolen_at_tick_ns = stolen_ns
        if task is not None:
            if task.in_kernel or self.overhead_ns:
                self.system_ns += ticked_ns
            else:
                self.user_ns += ticked_ns
            if not task.in_kernel:
                self.quiescent_ns = now_ns
        self.charge_exit(config.tick_ns)
        if config.monitor_ratio:
            run_ns = self.vcpu.in_state_ns(RUNNING, now_ns)
            self.charge(round((run_ns - self._run_at_tick_ns) * config.monitor_ratio))
            self._run_at_tick_ns = run_ns
        if task is None:
            return
        self.charge_task(task)
        waiting = len(self.queue.entries)
        if waiting:
            kernel = self.kernel
            slice_ns = max(kernel.latency_ns // (waiting + 1), kernel.min_granularity_ns)
            ran_ns = task.ran_ns - task.slice_began_ns
            if (
                ran_ns >= slice_ns
                or self.queue.first().stopper
                or (
                    ran_ns >= kernel.min_granularity_ns
                    and task.vruntime_ns - self.queue.first().vruntime_ns > slice_ns
                )
            ):
                self.need_resched = True
            kernel.kick_idle(self)
        if now_ns >= self._next_balance_ns:
            self._next_balance_ns = now_ns + config.balance_ns
            self.kernel.balance(self, idle=False)

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

    # ------------------------------------------------------------------ idling

    def stop_executing(self) -> None:
        """It gives its pCPU up itself, and is about to tell the host."""
        self.running = False
        self._timer.sequence = 0

    def _halt(self, now_ns: int) -> None:
        self.stop_executing()
        self._idle_since_ns = now_ns
        self.vcpu.in_kernel = False
        if not self.online:
            self.host.offline(self.vcpu)
            return
        if not self.config.nohz_idle:
            self.engine.arm(self._waker, self.next_tick_ns)
        self.host.block(self.vcpu)
