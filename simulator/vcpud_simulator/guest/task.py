"""Tasks and the elementary operations their programs are made of.

A program is an iterator of operations. An operation's `begin` is called when the task, on a CPU
that executes, has come to it: it gives the task work (`left_ns`), makes it wait on the processor
(`spin`), or puts it to sleep. Whoever lets a waiting task go on calls `stop_spin` or `wake`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from vcpud_simulator.engine import Timer
    from vcpud_simulator.guest.cpu import GuestCpu
    from vcpud_simulator.guest.train import Train

NO_LIMIT: Final = -1
"""A spin that ends only when it is ended."""


class TaskState(IntEnum):
    """Where a task is."""

    QUEUED = 0
    CURRENT = 1
    SLEEPING = 2
    DONE = 3


QUEUED: Final = 0
CURRENT: Final = 1
SLEEPING: Final = 2
DONE: Final = 3


class Operation(Protocol):
    """One step of a program."""

    def begin(self, cpu: GuestCpu, task: Task) -> None:
        """The task has come to it."""


Program: TypeAlias = Iterator[Operation]


class Waitable(Protocol):
    """What a task can wait for on the processor."""

    def resumed(self, cpu: GuestCpu, task: Task) -> None:
        """The waiting task executes again, after its vCPU or itself was switched out."""

    def suspended(self, cpu: GuestCpu, task: Task) -> None:
        """The waiting task no longer executes."""

    def expired(self, cpu: GuestCpu, task: Task) -> None:
        """It has spun as long as it was told to."""


class Ownership(Protocol):
    """A lock whose waiters watch whether its owner is on a CPU."""

    def owner_left(self) -> None:
        """The guest has switched its owner out."""

    def owner_preempted(self) -> None:
        """The hypervisor has."""


class Task:
    """A thread of a guest.

    Attributes:
        name: For people.
        program: What it does.
        cpu: Where it runs, is queued, or last was.
        state: One of the task states.
        stopper: Whether it is a CPU's stopper, before which everything else yields.
        pinned: Whether it may not leave its CPU.
        system: Whether it is the kernel's or a service's, and no part of a session.
        dying: Whether it was killed, and only gives back what it holds.
        in_kernel: Mode of what it is doing.
        left_ns: CPU time until the operation's present part is done.
        then: Continues the operation when `left_ns` is used up, instead of the next operation.
        spinning: Whether it waits on the processor.
        yields: Whether it offers the CPU to other tasks while it waits (sched_yield loop).
        spin_left_ns: CPU time it will go on spinning, or NO_LIMIT.
        spin_began_ns: When it began to wait.
        sync: What it spins for.
        preempt_count: Kernel spinlocks held or waited for: it cannot be preempted in the guest.
        owns: The mutex it holds, if its waiters watch it.
        train: The train of lock sections it is in.
        vruntime_ns: Time charged to it, as the guest believes; stolen time without a steal clock.
        charged_at_ns: Until when it was charged.
        slice_began_ns: `ran_ns` when it was picked.
        ran_ns: Wall time charged, undecayed.
        work_ns: CPU time it had in truth, spinning excluded.
        spun_ns: CPU time it spun in truth.
        queued_at_ns: When it was queued.
    """

    __slots__ = (
        "charged_at_ns", "cpu", "dying", "in_kernel", "left_ns", "name", "on_exit", "owns", "pinned",
        "preempt_count", "program", "queued_at_ns", "ran_ns", "slice_began_ns", "spin_began_ns",
        "spin_left_ns", "spinning", "spun_ns", "state", "stopper", "sync", "system", "then", "timer",
        "train", "vruntime_ns", "work_ns", "yields",
    )  # fmt: skip

    sync: Waitable
    timer: Timer | None
    then: Callable[[GuestCpu, Task], None] | None
    on_exit: Callable[[GuestCpu], None] | None

    def __init__(self, name: str, program: Program, cpu: GuestCpu) -> None:
        self.name = name
        self.program = program
        self.cpu = cpu
        self.state: int = SLEEPING
        self.stopper = False
        self.pinned = False
        self.system = False
        self.dying = False
        self.in_kernel = False
        self.left_ns = 0
        self.then = None
        self.on_exit = None
        self.spinning = False
        self.yields = False
        self.spin_left_ns = NO_LIMIT
        self.spin_began_ns = 0
        self.preempt_count = 0
        self.owns: Ownership | None = None
        self.train: Train | None = None
        self.timer = None
        self.vruntime_ns = 0
        self.charged_at_ns = 0
        self.slice_began_ns = 0
        self.ran_ns = 0
        self.work_ns = 0
        self.spun_ns = 0
        self.queued_at_ns = 0

    def __repr__(self) -> str:
        return f"{self.name}@{self.cpu}"


class Compute:
    """So much CPU time of work.

    Attributes:
        work_ns: How much.
        in_kernel: In which mode.
    """

    __slots__ = ("in_kernel", "work_ns")

    def __init__(self, work_ns: int, *, in_kernel: bool = False) -> None:
        self.work_ns = work_ns
        self.in_kernel = in_kernel

    def begin(self, cpu: GuestCpu, task: Task) -> None:  # noqa: ARG002
        task.in_kernel = self.in_kernel
        task.left_ns = self.work_ns


class Sleep:
    """Sleep for so long, as for a device: its interrupt comes to the CPU the task slept on."""

    __slots__ = ("sleep_ns",)

    def __init__(self, sleep_ns: int) -> None:
        self.sleep_ns = sleep_ns

    def begin(self, cpu: GuestCpu, task: Task) -> None:
        cpu.charge(cpu.config.syscall_ns)
        cpu.sleep_for(task, self.sleep_ns)


class Call:
    """Run a function of the model at this point of the program, at no cost to the guest."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[GuestCpu, Task], None]) -> None:
        self.function = function

    def begin(self, cpu: GuestCpu, task: Task) -> None:
        self.function(cpu, task)


class Spawn:
    """Start another task on the idlest CPU (fork, pthread_create)."""

    __slots__ = ("cost_ns", "name", "on_exit", "program")

    def __init__(
        self,
        name: str,
        program: Program,
        *,
        cost_ns: int = 0,
        on_exit: Callable[[GuestCpu], None] | None = None,
    ) -> None:
        self.name = name
        self.program = program
        self.cost_ns = cost_ns
        self.on_exit = on_exit

    def begin(self, cpu: GuestCpu, task: Task) -> None:
        task.in_kernel = True
        task.left_ns = self.cost_ns
        child = cpu.kernel.spawn(self.name, self.program, waker=cpu)
        child.on_exit = self.on_exit
