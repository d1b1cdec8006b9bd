"""What a guest says of itself when it is asked, and what asking costs it.

Problem: a reading of a guest is work of that guest. It waits for its turn on the guest's run queue,
on a vCPU that waits for its turn on the host, so a collapsed guest answers late, just when it
matters most; and what it says is what its kernel counts, not what is so.

Approach: a task of the guest, woken by an interrupt for each command: one for processor times, and
three (open, read, close) for each file. What the command finds at the instant it executes is the
reading; its timestamp is the middle between asking and answering, as the daemon takes it. Between
command and command lies a round trip of the host's side.

References: qemu-ga's `guest-get-cpustats`, `guest-file-open/read/close`; the order and the middle are
those of `vcpud.hypervisor.reader`. CPU time of a command: 500 us, as of `HotplugCosts.agent_ns`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from vcpud.guest import CpuAccounting, CpuTimes, LockWait, RunnableTasks, RunQueue, RunQueueWait
from vcpud_simulator.guest.task import Compute, Program, Sleep, Task
from vcpud_simulator.platform import TICK_NS, Signal

if TYPE_CHECKING:
    from vcpud_simulator.guest.cpu import GuestCpu
    from vcpud_simulator.guest.kernel import GuestKernel


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferredCpus:
    """CPUs that a guest's kernel keeps work on."""

    taken_at_ns: int
    cpus: frozenset[int]


Part: TypeAlias = CpuAccounting | LockWait | RunQueue | RunnableTasks | PreferredCpus

ROUND_TRIP_NS: Final = 200_000
"""libvirt, QEMU's chardev and the virtio-serial port, both ways."""
_FILE_COMMANDS: Final = 3
_READ: Final = 1
"""Which of a file's commands looks at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one signal's commands brought.

    Attributes:
        signal: Which signal.
        part: What was found.
        latency_ns: How long the last command took.
        cost_ns: CPU time the agent has used so far.
    """

    signal: Signal
    part: Part
    latency_ns: int
    cost_ns: int


class Reporter:
    """The agent of one guest, as far as it answers questions.

    Attributes:
        kernel: Its guest.
        busy: Whether a question is open.
    """

    def __init__(self, kernel: GuestKernel, command_ns: int) -> None:
        """Start it.

        Args:
            kernel: The guest.
            command_ns: CPU time of one command.
        """
        self.kernel = kernel
        self.busy = False
        self._command_ns = command_ns
        self._command = Compute(command_ns)
        self._questions: deque[Signal] = deque()
        self._heard: Callable[[Answer], None] = _nobody
        self._done: Callable[[], None] = _nothing
        self._asleep = False
        self._asked_ns = 0
        self._task = kernel.spawn("qemu-ga-read", self._serve(), system=True)

    @property
    def cost_ns(self) -> int:
        """CPU time it has used so far, as its guest counts: without a steal clock, stolen time is part of it."""
        return self._task.ran_ns

    def ask(
        self,
        signals: tuple[Signal, ...],
        heard: Callable[[Answer], None],
        done: Callable[[], None],
    ) -> None:
        """Ask for these, one after the other; nothing else may be open.

        Args:
            signals: Which, in this order.
            heard: Called for each answer.
            done: Called after the last.
        """
        self.busy = True
        self._questions.extend(signals)
        self._heard, self._done = heard, done
        self._asked_ns = self.kernel.host.engine.now_ns
        self.kernel.cpus[0].interrupt(self._deliver)

    def begin(self, cpu: GuestCpu, task: Task) -> None:
        """Wait for a question (`task.Operation`)."""
        if not self._questions:
            self._asleep = True
            cpu.sleep(task)

    def _deliver(self, cpu: GuestCpu) -> None:
        # What it announced may have been answered by then, when it was asked between two commands.
        if self._asleep and self._questions:
            self._asleep = False
            self.kernel.wake(self._task, cpu)

    def _serve(self) -> Program:
        """Answer for ever; what stands between two operations happens when the task executes."""
        engine = self.kernel.host.engine
        pause = Sleep(ROUND_TRIP_NS)
        while True:
            yield self
            signal = self._questions.popleft()
            commands = 1 if signal is Signal.ACCOUNTING else _FILE_COMMANDS
            answer: Answer | None = None
            for number in range(commands):
                yield self._command
                self.kernel.answering_ns += self._command_ns
                if number == min(_READ, commands - 1):
                    answer = self._answer(signal)
                self._asked_ns = engine.now_ns + ROUND_TRIP_NS
                yield pause
            if answer is not None:
                self._heard(answer)
            if not self._questions:
                self.busy = False
                self._done()

    def _answer(self, signal: Signal) -> Answer:
        now_ns, asked_ns = self.kernel.host.engine.now_ns, self._asked_ns
        return Answer(
            signal=signal,
            part=LOOKS[signal](self.kernel, (asked_ns + now_ns) // 2),
            latency_ns=now_ns - asked_ns + ROUND_TRIP_NS,
            cost_ns=self.cost_ns,
        )


# ---------------------------------------------------------------------------- what a guest knows


def accounting(kernel: GuestKernel, at_ns: int) -> CpuAccounting:
    """`guest-get-cpustats`: CPUs in use, with times as their ticks have accounted for them, rounded down."""
    return CpuAccounting(
        taken_at_ns=at_ns,
        cpus=tuple(
            CpuTimes(
                index=cpu.index,
                user_ns=_told(cpu.user_ns),
                system_ns=_told(cpu.system_ns),
                idle_ns=_told(cpu.idle_until_ns()),
                steal_ns=_told(cpu.steal_ns) if kernel.config.steal_clock else None,
            )
            for cpu in kernel.online_cpus
        ),
    )


def _told(time_ns: int) -> int:
    """As /proc/stat has it."""
    return time_ns - time_ns % TICK_NS


def lock_wait(kernel: GuestKernel, at_ns: int) -> LockWait:
    """The histogram of the kernel's tracepoint: waits for queued spinlocks that have ended."""
    return LockWait(taken_at_ns=at_ns, waits=kernel.lock_waits, wait_ns=kernel.lock_wait_ns)


def run_queue(kernel: GuestKernel, at_ns: int) -> RunQueue:
    """`/proc/schedstat`: waits on run queues that have ended."""
    return RunQueue(
        taken_at_ns=at_ns,
        cpus=tuple(
            RunQueueWait(index=cpu.index, wait_ns=cpu.queue_wait_ns) for cpu in kernel.online_cpus
        ),
    )


def runnable(kernel: GuestKernel, at_ns: int) -> RunnableTasks:
    """`/proc/loadavg`, fourth field; whoever reads it runs."""
    return RunnableTasks(taken_at_ns=at_ns, runnable=kernel.runnable_tasks)


def preferred(kernel: GuestKernel, at_ns: int) -> PreferredCpus:
    """`/sys/devices/system/cpu/preferred`."""
    cpus = frozenset(cpu.index for cpu in kernel.preferred_cpus)
    return PreferredCpus(taken_at_ns=at_ns, cpus=cpus)


LOOKS: Final[Mapping[Signal, Callable[[GuestKernel, int], Part]]] = {
    Signal.ACCOUNTING: accounting,
    Signal.LOCKS: lock_wait,
    Signal.RUN_QUEUE: run_queue,
    Signal.RUNNABLE: runnable,
    Signal.PREFERRED: preferred,
}


def _nobody(answer: Answer) -> None:
    """Nobody has asked."""


def _nothing() -> None:
    """Nobody has asked."""
