"""schbench: workers that are woken by a message thread, and how long after that they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcpud_simulator.guest.channel import Channel, Completion, Receive, Send
from vcpud_simulator.guest.mutex import SleepingLock
from vcpud_simulator.guest.task import NO_LIMIT, Call, Compute, Program, Sleep
from vcpud_simulator.workloads.base import Progress

if TYPE_CHECKING:
    from vcpud_simulator.guest.cpu import GuestCpu
    from vcpud_simulator.guest.kernel import GuestKernel
    from vcpud_simulator.guest.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Schbench:
    """Each worker sleeps, computes, tells the message thread and waits until that wakes it.

    A response is the time from the message thread's wake-up of a worker until that runs: schbench's
    wake-up latency. While it computes, a worker holds a lock of the CPU it is on, which makes it
    dear to be preempted there: the next one on that CPU spins for it in user mode.

    Attributes:
        workers: Worker threads; None for one a vCPU, schbench's default.
        compute_ns: CPU time of a request: 17 ms, five products of matrices that fill 256 KiB, on
            the machine of schbench's author (its README).
        sleep_ns: Time slept before it, for the network: 100 us, schbench's default.
        post_ns: Kernel work of telling the message thread: 1 us, a futex call.
    """

    workers: int | None = None
    compute_ns: int = 17_000_000
    sleep_ns: int = 100_000
    post_ns: int = 1_000

    def start(self, kernel: GuestKernel) -> Progress:
        progress = Progress()
        workers = self.workers or len(kernel.cpus)
        inbox = Channel(kernel, workers)
        waiting: list[Worker] = []
        locks = [SleepingLock(kernel, spin_ns=NO_LIMIT) for _ in kernel.cpus]
        kernel.spawn("message", self._message(kernel, inbox, waiting))
        for number in range(workers):
            worker = Worker(kernel, locks)
            kernel.spawn(f"worker-{number}", self._worker(worker, progress, inbox, waiting))
        return progress

    def _message(self, kernel: GuestKernel, inbox: Channel, waiting: list[Worker]) -> Program:
        receive = Receive(inbox, self.post_ns)
        while True:
            yield receive
            now_ns = kernel.host.engine.now_ns
            batch = tuple(waiting)
            waiting.clear()
            for worker in batch:
                worker.woken_ns = now_ns
                yield Call(worker.wake)

    def _worker(
        self, worker: Worker, progress: Progress, inbox: Channel, waiting: list[Worker]
    ) -> Program:
        engine = worker.kernel.host.engine
        network, compute = Sleep(self.sleep_ns), Compute(self.compute_ns)
        lock, unlock, post = Call(worker.lock), Call(worker.unlock), Send(inbox, self.post_ns)
        while True:
            yield network
            yield lock
            yield compute
            yield unlock
            answer = worker.answer = Completion(worker.kernel)
            waiting.append(worker)
            yield post
            yield answer
            progress.iterations += 1
            progress.responses_ns.append(engine.now_ns - worker.woken_ns)


class Worker:
    """What one worker thread shares with the message thread and with others on its CPU.

    Attributes:
        kernel: Its guest.
        answer: What it waits for.
        woken_ns: When the message thread woke it last.
    """

    def __init__(self, kernel: GuestKernel, locks: Sequence[SleepingLock]) -> None:
        self.kernel = kernel
        self.answer = Completion(kernel)
        self.woken_ns = 0
        self._locks = locks
        self._held = locks[0]

    def wake(self, cpu: GuestCpu, task: Task) -> None:  # noqa: ARG002
        """The message thread answers."""
        self.answer.announce(cpu)

    def lock(self, cpu: GuestCpu, task: Task) -> None:
        """Take the lock of the CPU it is on, or begin to spin for it."""
        self._held = self._locks[cpu.index]
        self._held.acquire(cpu, task)

    def unlock(self, cpu: GuestCpu, task: Task) -> None:
        """Give it back, wherever it is now."""
        self._held.release(cpu, task)
