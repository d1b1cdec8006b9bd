"""A guest CPU while its vCPU has a pCPU, and when it gains and loses it: one loop, and the ticks.

Everything that is due at an instant is done in `_execute`, until time has to pass; then the timer of
`interval` is armed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vcpud_simulator.engine import Timer
from vcpud_simulator.entities import BLOCKED, RUNNING, Vcpu
from vcpud_simulator.guest.cpu import GuestCpu
from vcpud_simulator.guest.task import NO_LIMIT, Compute, Task

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel


class ExecutingCpu(GuestCpu):
    """A CPU of a guest, as `entities.VcpuGuest`."""

    __slots__ = (
        "_jiffy_ns",
        "_next_balance_ns",
        "_run_at_tick_ns",
        "_stolen_at_tick_ns",
        "_waker",
    )

    def __init__(self, kernel: GuestKernel, vcpu: Vcpu, phase_ns: int) -> None:
        super().__init__(kernel, vcpu, phase_ns)
        self._jiffy_ns = kernel.config.jiffy_ns
        self._next_balance_ns = self.engine.now_ns + kernel.config.balance_ns
        self._stolen_at_tick_ns = self._run_at_tick_ns = 0
        self._waker = Timer(self._idle_tick)

    # ------------------------------------------------------------------ the vCPU comes and goes

    def resume(self, begin_ns: int) -> None:
        """The vCPU has a pCPU (`entities.VcpuGuest`)."""
        self.running = True
        self._begun_ns = begin_ns
        if self.vcpu.working_set is not None:
            self.overhead_ns += self.vcpu.working_set.load(begin_ns)
        # What came up while it was away, and loading what it works on, is not what it was preempted in.
        self._own_until_ns = begin_ns if self.kernel_work else begin_ns + self.overhead_ns
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
            if task.in_kernel or self.kernel_work:
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
