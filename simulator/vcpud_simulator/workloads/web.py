"""Open-loop web server: requests come whatever the server does, and wait while it is slow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcpud_simulator.guest.channel import Channel, Receive
from vcpud_simulator.guest.task import Compute, Program
from vcpud_simulator.workloads.base import Progress

if TYPE_CHECKING:
    from vcpud_simulator.guest.cpu import GuestCpu
    from vcpud_simulator.guest.kernel import GuestKernel
    from vcpud_simulator.rng import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class WebServer:
    """Workers that take requests from one socket; Poisson arrivals, exponential service.

    Attributes:
        workers: Threads; None for two a vCPU, so that one may sleep.
        requests_per_s: Arrival rate.
        service_ns: Mean CPU time of a request: 1 ms of a small dynamic page.
        receive_ns: Kernel work per request: interrupt, TCP, accept.
        backlog: Requests that may wait (net.core.somaxconn, 4096); more are dropped.
    """

    workers: int | None = None
    requests_per_s: float = 500.0
    service_ns: int = 1_000_000
    receive_ns: int = 10_000
    backlog: int = 4096

    def start(self, kernel: GuestKernel) -> Progress:
        progress = Progress()
        socket = Channel(kernel, self.backlog)
        chance = kernel.host.chance.stream("web", kernel.name)
        engine = kernel.host.engine
        gap_ns = round(1e9 / self.requests_per_s)

        def arrive() -> None:
            if progress.stopped:
                return
            came_ns = engine.now_ns
            cpu = kernel.cpus[0]

            def receive(here: GuestCpu) -> None:
                socket.post(here, came_ns)

            cpu.interrupt(receive)
            engine.after(chance.exponential_ns(gap_ns), arrive)

        engine.after(chance.exponential_ns(gap_ns), arrive)
        for number in range(self.workers or 2 * len(kernel.cpus)):
            stream = kernel.host.chance.stream("web", kernel.name, number)
            kernel.spawn(f"web-{number}", self._worker(kernel, progress, socket, stream))
        return progress

    def _worker(
        self, kernel: GuestKernel, progress: Progress, socket: Channel, chance: Stream
    ) -> Program:
        receive = Receive(socket, self.receive_ns)
        while True:
            yield receive
            came_ns = receive.item
            yield Compute(chance.exponential_ns(self.service_ns))
            progress.iterations += 1
            progress.responses_ns.append(kernel.host.engine.now_ns - came_ns)
