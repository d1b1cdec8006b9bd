"""Database: transactions that meet at spin-then-park latches and wait for the log's disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from vcpud_simulator.bounds import DAY_NS, Within
from vcpud_simulator.guest.mutex import Lock, SleepingLock, Unlock
from vcpud_simulator.guest.task import Compute, Program, Sleep
from vcpud_simulator.workloads.base import Progress

if TYPE_CHECKING:
    from vcpud_simulator.guest.kernel import GuestKernel
    from vcpud_simulator.rng import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Clients without think time, a thread each: statements under latches, then a commit.

    Attributes:
        clients: Threads; None for two a vCPU.
        statements: Statements of a transaction: 10 (sysbench OLTP has 14 to 20).
        statement_ns: Mean CPU time of one, exponential: 50 us, a lookup by primary key.
        latches: Hot latches among which a statement's one is chosen: 8 (InnoDB's default number of
            partitions of its adaptive hash index).
        latch_ns: Time under it: 2 us, a page search.
        log_ns: Time under the log's latch at commit: 3 us.
        spin_ns: CPU time of spinning before a thread parks: 180 us (InnoDB: 30 rounds of up to
            6 x 50 PAUSEs).
        flush_ns: Mean time of the log's write, exponential: 200 us, an NVMe disk with a barrier.
    """

    clients: int | None = None
    statements: int = 10
    statement_ns: int = 50_000
    latches: int = 8
    latch_ns: int = 2_000
    log_ns: int = 3_000
    spin_ns: Annotated[int, Within(0, DAY_NS)] = 180_000
    flush_ns: int = 200_000

    def start(self, kernel: GuestKernel) -> Progress:
        progress = Progress()
        latches = [SleepingLock(kernel, spin_ns=self.spin_ns) for _ in range(self.latches)]
        log = SleepingLock(kernel, spin_ns=self.spin_ns)
        for number in range(self.clients or 2 * len(kernel.cpus)):
            chance = kernel.host.chance.stream("database", kernel.name, number)
            kernel.spawn(f"db-{number}", self._client(kernel, progress, latches, log, chance))
        return progress

    def _client(
        self,
        kernel: GuestKernel,
        progress: Progress,
        latches: list[SleepingLock],
        log: SleepingLock,
        chance: Stream,
    ) -> Program:
        engine = kernel.host.engine
        search, append = Compute(self.latch_ns), Compute(self.log_ns)
        sections = [(Lock(latch), search, Unlock(latch)) for latch in latches]
        commit = (Lock(log), append, Unlock(log))
        while True:
            began_ns = engine.now_ns
            for _ in range(self.statements):
                yield Compute(chance.exponential_ns(self.statement_ns))
                yield from chance.choose(sections)
            yield from commit
            yield Sleep(chance.exponential_ns(self.flush_ns))
            progress.iterations += 1
            progress.responses_ns.append(engine.now_ns - began_ns)
