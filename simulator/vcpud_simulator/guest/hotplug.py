"""Taking vCPUs offline and online from inside the guest: a cost that emerges.

Problem: an allocator must know what a change costs, and it costs most where it is needed most.

Approach: what the kernel does is done by tasks of the guest. The agent, an ordinary task, is woken
by an interrupt and waits for its turn. Taking a CPU down then is: RCU grace periods, for which
every online CPU must pass a quiescent state; a kernel thread bound to the dying CPU, which waits
for its turn there; and stop_machine, a rendezvous of the highest-priority thread of *every* online
CPU, in lockstep through four states, spinning with preemption off. A preempted vCPU, or one that
spins on a lock with preemption disabled, delays each of them.

References: Linux kernel/cpu.c `_cpu_down`, `takedown_cpu`; kernel/stop_machine.c `multi_cpu_stop`;
kernel/sched/core.c `sched_cpu_deactivate` (synchronize_rcu); kernel/rcu/tree.c
(RCU_JIFFIES_TILL_FORCE_QS 1 up to HZ=250). Lab: 80 to 280 ms idle and over 1 s collapsed (TCG).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from vcpud_simulator.guest.barrier import Barrier
from vcpud_simulator.guest.channel import Channel, Completion, Receive
from vcpud_simulator.guest.task import Call, Compute, Operation, Program, Sleep, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vcpud_simulator.guest.cpu import GuestCpu
    from vcpud_simulator.guest.kernel import GuestKernel

URGE_AFTER_NS: Final = 100_000_000
"""jiffies_to_sched_qs, HZ/10: from then on a CPU that holds out is asked to reschedule."""
STOP_STATES: Final = 4
"""prepare, disable interrupts, run, exit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HotplugCosts:
    """Work of a change, in CPU time.

    Attributes:
        agent_ns: qemu-ga reads, parses and answers one command: 500 us of JSON and sysfs.
        control_ns: Hotplug callbacks on the CPU that asks: 1 ms.
        target_ns: Hotplug callbacks on the dying or starting CPU: 500 us.
        stop_ns: What stop_machine runs on the dying CPU: 50 us.
        boot_ns: Start of an application processor until it takes tasks: 5 ms (INIT, SIPI,
            TSC synchronisation).
        down_grace_periods: RCU grace periods of a cpu_down: 3 (sched_cpu_deactivate, and two among
            the callbacks of workqueues, slab and perf).
        up_grace_periods: Of a cpu_up: 1.
    """

    agent_ns: int = 500_000
    control_ns: int = 1_000_000
    target_ns: int = 500_000
    stop_ns: int = 50_000
    boot_ns: int = 5_000_000
    down_grace_periods: int = 3
    up_grace_periods: int = 1


class Agent:
    """The guest agent, as far as it sets CPUs online and offline.

    Attributes:
        kernel: Its guest.
        costs: What the work costs.
        busy: Whether a request is being worked on or waits.
        latencies_ns: From request to answer, of each request so far.
    """

    def __init__(self, kernel: GuestKernel, costs: HotplugCosts | None = None) -> None:
        self.kernel = kernel
        self.costs = costs or HotplugCosts()
        self.latencies_ns: list[int] = []
        self._commands = Channel(kernel, capacity=1024)
        self._requests: deque[tuple[frozenset[int], Callable[[bool], None] | None]] = deque()
        kernel.spawn("qemu-ga", self._serve(), system=True)

    @property
    def busy(self) -> bool:
        return bool(self._requests)

    def request(
        self, online: frozenset[int], done: Callable[[bool], None] | None = None
    ) -> None:  # fmt: skip
        """Ask for exactly these CPUs to be online.

        Args:
            online: CPU numbers; 0 must be among them.
            done: Called with True when the agent has answered.

        Raises:
            ValueError: CPU 0 is missing, or there is no such CPU.
        """
        if 0 not in online or not online <= {cpu.index for cpu in self.kernel.cpus}:
            raise ValueError(f"{self.kernel.name} cannot have exactly {sorted(online)} online")
        self._requests.append((online, done))
        first = self.kernel.cpus[0]
        first.interrupt(partial(self._commands.post, item=first.engine.now_ns))

    def _serve(self) -> Program:
        receive = Receive(self._commands, 0)
        while True:
            yield receive
            asked_ns = receive.item
            yield Compute(self.costs.agent_ns)
            online, done = self._requests[0]
            for cpu in self.kernel.cpus:
                if cpu.online and cpu.index not in online:
                    yield from self._down(cpu)
                elif not cpu.online and cpu.index in online:
                    yield from self._up(cpu)
            yield Compute(self.costs.agent_ns)
            self._requests.popleft()
            self.latencies_ns.append(self.kernel.host.engine.now_ns - asked_ns)
            if done is not None:
                done(True)

    def _down(self, cpu: GuestCpu) -> Iterator[Operation]:
        costs, kernel = self.costs, self.kernel
        yield Compute(costs.control_ns, in_kernel=True)
        for _ in range(costs.down_grace_periods):
            yield from grace_period(kernel)
        quiesced = Completion(kernel)
        yield Call(
            lambda here, _: self._thread(here, cpu, [Compute(costs.target_ns)], quiesced.announce)
        )
        yield quiesced
        stopped = Completion(kernel)
        yield Call(lambda here, _: self._stop_machine(here, cpu, stopped))
        yield stopped

    def _up(self, cpu: GuestCpu) -> Iterator[Operation]:
        costs, kernel = self.costs, self.kernel
        yield Compute(costs.control_ns, in_kernel=True)
        for _ in range(costs.up_grace_periods):
            yield from grace_period(kernel)
        started = Completion(kernel)
        work: list[Operation] = [
            Compute(costs.boot_ns, in_kernel=True),
            Call(lambda here, _: kernel.bring_up(here)),
            Compute(costs.target_ns, in_kernel=True),
        ]
        yield Call(lambda here, _: self._start(here, cpu, work, started))
        yield started

    def _thread(
        self,
        here: GuestCpu,
        cpu: GuestCpu,
        work: list[Operation],
        on_exit: Callable[[GuestCpu], None],
    ) -> None:
        self.kernel.spawn(
            f"cpuhp/{cpu.index}",
            iter(work),
            on=cpu.index,
            waker=here,
            on_exit=on_exit,
            system=True,
        )

    def _start(
        self, here: GuestCpu, cpu: GuestCpu, work: list[Operation], started: Completion
    ) -> None:
        self._thread(here, cpu, work, started.announce)
        cpu.host.online(cpu.vcpu)

    def _stop_machine(self, here: GuestCpu, dying: GuestCpu, stopped: Completion) -> None:
        online = self.kernel.online_cpus
        barrier = Barrier(self.kernel, len(online), in_kernel=True)
        for cpu in online:
            self.kernel.spawn(
                f"migration/{cpu.index}",
                self._stopper(cpu, barrier, dying),
                on=cpu.index,
                waker=here,
                on_exit=stopped.announce if cpu is dying else None,
                stopper=True,
                system=True,
            )

    def _stopper(self, cpu: GuestCpu, barrier: Barrier, dying: GuestCpu) -> Program:
        for _ in range(STOP_STATES):
            yield barrier
        if cpu is dying:
            yield Compute(self.costs.stop_ns, in_kernel=True)
            yield Call(_die)


def _die(cpu: GuestCpu, task: Task) -> None:  # noqa: ARG001
    cpu.kernel.take_down(cpu)


def grace_period(kernel: GuestKernel) -> Iterator[Operation]:
    """Wait until every online CPU has passed a quiescent state, looked at once a jiffy.

    A CPU passes one when it switches tasks, idles, or is found in user mode by its tick. The
    grace-period thread first sleeps a jiffy, then looks; callbacks run at the next tick.
    """
    began_ns = kernel.host.engine.now_ns
    jiffy_ns = kernel.config.jiffy_ns
    yield Sleep(jiffy_ns)
    while holdouts := [cpu for cpu in kernel.cpus if _holds_out(cpu, began_ns)]:
        if kernel.host.engine.now_ns - began_ns > URGE_AFTER_NS:
            for cpu in holdouts:
                cpu.need_resched = True
        yield Sleep(jiffy_ns)
    yield Sleep(jiffy_ns)


def _holds_out(cpu: GuestCpu, since_ns: int) -> bool:
    return cpu.online and cpu.current is not None and cpu.quiescent_ns < since_ns
