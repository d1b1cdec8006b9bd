"""The bench's own guest, and a host full of them: thinking and bursting vCPUs without a kernel.

A file of its own because the compiled build has it too: what runs on vCPUs is compiled there with
engine, host and scheduler, as the guests of a study are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from vcpud_simulator.engine import Engine, Timer
from vcpud_simulator.entities import Vcpu
from vcpud_simulator.host import FREE, Host
from vcpud_simulator.rng import Chance, Stream
from vcpud_simulator.schedulers.round_robin import RoundRobin

SLICE_NS: Final = 1_000_000
BURST_NS: Final = 2_000_000
THINK_NS: Final = 2_000_000


class Thinker:
    """A vCPU that thinks and bursts."""

    __slots__ = ("begun_ns", "chance", "end", "host", "left_ns", "thought", "vcpu")

    def __init__(self, host: Host, vcpu: Vcpu, chance: Stream) -> None:
        self.host, self.vcpu, self.chance = host, vcpu, chance
        self.left_ns = self.begun_ns = 0
        self.end = Timer(self.finished)
        self.thought = Timer(self.burst)
        vcpu.guest = self
        host.engine.arm(self.thought, chance.exponential_ns(THINK_NS))

    def burst(self) -> None:
        self.left_ns = self.chance.exponential_ns(BURST_NS) + 1
        self.host.wake(self.vcpu)

    def resume(self, begin_ns: int) -> None:
        self.begun_ns = begin_ns
        self.host.engine.arm(self.end, begin_ns + self.left_ns)

    def suspend(self, now_ns: int) -> None:
        self.left_ns -= now_ns - self.begun_ns
        self.end.sequence = 0

    def finished(self) -> None:
        engine = self.host.engine
        self.host.block(self.vcpu)
        engine.arm(self.thought, engine.now_ns + self.chance.exponential_ns(THINK_NS))


def prepared(pcpus: int, vcpus: int) -> Host:
    """A host in this engine, at its first instant."""
    chance = Chance(1)
    host = Host(
        engine=Engine(), pcpus=pcpus, scheduler=RoundRobin(SLICE_NS), chance=chance, costs=FREE
    )
    for vcpu in host.add_domain("bench", vcpus=vcpus).vcpus:
        Thinker(host, vcpu, chance.stream("bench", vcpu.index))
    return host


def run(host: Host, until_ns: int) -> int:
    """Dispatches of a prepared host."""
    host.engine.run_until(until_ns)
    return sum(pcpu.dispatches for pcpu in host.pcpus)


def ours(pcpus: int, vcpus: int, until_ns: int) -> int:
    """Dispatches in this engine."""
    return run(prepared(pcpus, vcpus), until_ns)


def cpu_s(work: Callable[[], object]) -> float:
    """CPU time of it."""
    began_s = time.process_time()
    work()
    return time.process_time() - began_s
