"""What passes on a guest CPU between two events: kernel work first, then its task's work, or its spin.

`_advance` credits what has passed, `refresh` arms the one timer for whatever comes first. Nothing is
simulated per iteration of a loop of the guest.
"""

from __future__ import annotations

from heapq import heappush
from typing import TYPE_CHECKING

from vcpud_simulator.engine import NEVER, Timer
from vcpud_simulator.entities import CO_STOPPED, RUNNABLE, Vcpu
from vcpud_simulator.guest.runqueue import RunQueue
from vcpud_simulator.guest.task import NO_LIMIT, Task

if TYPE_CHECKING:
    from vcpud_simulator.guest.emulator import Exits
    from vcpud_simulator.guest.kernel import GuestKernel


class Interval:
    """The time of one CPU of a guest, as long as nothing happens.

    Attributes:
        kernel: Whose it is.
        vcpu: What it runs on.
        running: Whether its vCPU has a pCPU.
        current: The task it executes, None while idle.
        queue: Tasks that wait for it.
        need_resched: Whether to choose another task as soon as that is allowed.
        overhead_ns: Kernel work to be done before anything else.
        kernel_work: Whether it was in the midst of that when time passed last: what a tick finds.
        exits: How it leaves translated code, where it is emulated.
        next_tick_ns: When its timer ticks next.
        idle_ns: Idle time, exact, as a tickless guest reports it.
        true_work_ns: CPU time of tasks, spinning and kernel overhead excluded.
        true_spin_ns: CPU time burnt waiting.
        true_overhead_ns: CPU time of switches, interrupts and wake-ups.
    """

    __slots__ = (
        "_begun_ns", "_idle_since_ns", "_in_loop", "_own_until_ns", "_pause_left_ns",
        "_pause_window_ns", "_timer", "config", "current", "engine", "exits", "host", "idle_ns",
        "kernel", "kernel_work", "need_resched", "next_tick_ns", "overhead_ns", "queue", "running",
        "true_overhead_ns", "true_spin_ns", "true_work_ns", "vcpu",
    )  # fmt: skip

    exits: Exits | None

    def __init__(self, kernel: GuestKernel, vcpu: Vcpu, phase_ns: int) -> None:
        self.kernel = kernel
        self.config = kernel.config
        self.host = kernel.host
        self.engine = kernel.host.engine
        self.vcpu = vcpu
        self.running = False
        self.current: Task | None = None
        self.queue = RunQueue()
        self.need_resched = False
        self.overhead_ns = 0
        self.kernel_work = False
        self.exits = None
        now_ns = self.engine.now_ns
        self.next_tick_ns = now_ns + phase_ns
        self.idle_ns = 0
        self.true_work_ns = self.true_spin_ns = self.true_overhead_ns = 0
        self._begun_ns = now_ns
        self._own_until_ns = now_ns
        self._idle_since_ns = now_ns
        self._in_loop = False
        self._pause_window_ns = self._pause_left_ns = NO_LIMIT
        self._timer = Timer(self._event)

    def _event(self) -> None:
        """The interval is over."""
        raise NotImplementedError

    @property
    def idle(self) -> bool:
        """Whether the guest sees it idle."""
        return self.current is None and not self.queue.entries

    def executes(self, task: Task) -> bool:
        """Whether that task's instructions execute now."""
        return self.running and self.current is task

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

    def charge_exit(self, cost_ns: int) -> None:
        """Kernel work that leaves the guest: emulated, it takes the emulator's lock besides."""
        self.charge(cost_ns)
        if self.exits is not None:
            self.exits.trips += 1

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
                self.kernel_work = elapsed_ns < overhead_ns and now_ns >= self._own_until_ns
                return
            self.overhead_ns = 0
            self.true_overhead_ns += overhead_ns
            elapsed_ns -= overhead_ns
        self.kernel_work = False
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
