from __future__ import annotations

from collections.abc import Callable

import pytest

from vcpud_simulator.engine import Engine, Timer
from vcpud_simulator.entities import Scheduler, Vcpu
from vcpud_simulator.host import FREE, Host, HostCosts
from vcpud_simulator.rng import Chance
from vcpud_simulator.trace import Sink


class Burst:
    """A guest that works for given times, told by a function, and then halts or goes on."""

    def __init__(
        self, host: Host, vcpu: Vcpu, work_ns: Callable[[], int], done: Callable[[], None]
    ) -> None:
        self.host, self.vcpu, self.work_ns, self.done = host, vcpu, work_ns, done
        self.left_ns = 0
        self.begun_ns = 0
        self.timer = Timer(self._finished)
        vcpu.guest = self

    def submit(self) -> None:
        self.left_ns = self.work_ns()
        self.host.wake(self.vcpu)

    def resume(self, begin_ns: int) -> None:
        self.begun_ns = begin_ns
        self.host.engine.arm(self.timer, begin_ns + self.left_ns)

    def suspend(self, now_ns: int) -> None:
        self.left_ns -= max(0, now_ns - self.begun_ns)
        self.timer.cancel()

    def _finished(self) -> None:
        self.host.block(self.vcpu)
        self.done()


HostMaker = Callable[..., Host]


@pytest.fixture
def make_host() -> HostMaker:
    def make(
        pcpus: int,
        scheduler: Scheduler,
        *,
        seed: int = 1,
        costs: HostCosts = FREE,
        trace: Sink | None = None,
    ) -> Host:
        return Host(
            engine=Engine(),
            pcpus=pcpus,
            scheduler=scheduler,
            chance=Chance(seed),
            costs=costs,
            trace=trace,
        )

    return make


BurstMaker = Callable[[Host, Vcpu, Callable[[], int], Callable[[], None]], Burst]


@pytest.fixture
def make_burst() -> BurstMaker:
    return Burst
