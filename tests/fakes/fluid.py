"""A host of fluids: shares by weight, a cost of contention per guest, nothing else. Fast.

Problem: how a policy behaves over many minutes, arrivals and changes of mind takes the simulator
minutes of processor time. Approach: each step, the vCPUs that want to run share the pCPUs by
weighted water-filling; a guest that contention hurts makes 1 / (1 + cost) of its use while more
vCPUs want to run than there are pCPUs and it has a sibling to wait for. That is the very model
`adaptive` assumes, so this shows that it does what it means to; whether the model holds, only the
simulator and real guests can show.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fakes.host import FakeDomain, FakeHost
from fakes.ports import SimulatedClock
from vcpud.control import ControlLoop
from vcpud.events import EventKind
from vcpud.limits import Limits
from vcpud.memory import MemoryLedger, NoRequests
from vcpud.model import Mode, Terms, Uuid
from vcpud.plan import Verdict
from vcpud.policy import Policy
from vcpud.record import ChangeRecord, CycleRecord
from vcpud.requests import LoopSettings
from vcpud.units import NS_PER_MS, NS_PER_S

STEP_NS = 100 * NS_PER_MS
ENFORCE = Terms(mode=Mode.ENFORCE)


@dataclass(kw_only=True)
class Guest(FakeDomain):
    """A guest of fluids.

    Attributes:
        threads: Runnable threads at a second of the run.
        cost: What contention costs it at that second.
        user_ratio: Share of its use that is in user mode when nothing is contended.
        says: Whether its lock waits show what contention costs.
        useful_s: Progress so far: processor seconds of work done.
    """

    terms: Terms | None = ENFORCE
    threads: Callable[[float], float] = lambda _second: 1e9
    cost: Callable[[float], float] = lambda _second: 0.0
    user_ratio: float = 0.95
    says: bool = True
    useful_s: float = 0.0

    def __post_init__(self) -> None:
        self.uuid = self.uuid or str(uuid.uuid5(uuid.NAMESPACE_OID, self.name))
        FakeDomain.__post_init__(self)


def constant(value: float) -> Callable[[float], float]:
    """The same all the time."""
    return lambda _second: value


def alternating(first: float, second: float, every_s: float) -> Callable[[float], float]:
    """One value for a while, then the other, and so on."""
    return lambda at_s: first if int(at_s / every_s) % 2 == 0 else second


class FluidHost(FakeHost):
    """The `Hypervisor` port over guests of fluids."""

    def __init__(self, *guests: Guest, pcpus: int, seed: int = 1) -> None:
        super().__init__(*guests, pcpus=pcpus, guest_period_ns=5 * NS_PER_S)
        self._began_ns = self.simulated.now_ns()
        self._chance = random.Random(seed)  # noqa: S311 - noise of a test

    def arrive(self, guest: Guest, at_s: float) -> None:
        """A guest starts later."""

        def start() -> None:
            self.domains[guest.uuid] = guest
            self.tell(EventKind.STARTED, guest)

        self.simulated.after(round(at_s * NS_PER_S), start)

    def depart(self, guest: Guest, at_s: float) -> None:
        """A guest ends."""
        self.simulated.after(round(at_s * NS_PER_S), lambda: self.destroy(guest))

    def _advance(self, before_ns: int, after_ns: int) -> None:
        while before_ns < after_ns:
            until_ns = min(before_ns + STEP_NS, after_ns)
            self._flow((before_ns - self._began_ns) / NS_PER_S, until_ns - before_ns)
            before_ns = until_ns

    def _flow(self, at_s: float, span_ns: int) -> None:
        guests = [guest for guest in self.domains.values() if isinstance(guest, Guest)]
        wants = {g.uuid: min(g.threads(at_s), float(len(g.online))) for g in guests}
        runs = water(self.pcpus, {g.uuid: (g.weight, wants[g.uuid]) for g in guests})
        contended = sum(wants.values()) > self.pcpus + 1e-9
        for guest in guests:
            self._run(guest, at_s, span_ns, runs[guest.uuid], contended=contended)
        self._busy_ns += sum(runs.values()) * span_ns

    def _run(
        self, guest: Guest, at_s: float, span_ns: int, run: float, *, contended: bool
    ) -> None:
        online = sorted(guest.online)
        want = min(guest.threads(at_s), float(len(online)))
        hurt = contended and len(online) > 1
        cost = guest.cost(at_s) if hurt else 0.0
        useful = run / (1 + cost)
        guest.useful_s += useful * span_ns / NS_PER_S
        user = useful * guest.user_ratio * self._chance.uniform(0.95, 1.05)
        queued = max(min(guest.threads(at_s), float(guest.vcpus)) - len(online), 0.0)
        for index in online:
            guest.run_ns[index] += span_ns * run / len(online)
            guest.delay_ns[index] += span_ns * (want - run) / len(online)
            guest.user_ns[index] += span_ns * min(user, run) / len(online)
            guest.system_ns[index] += span_ns * max(run - user, 0.0) / len(online)
            guest.idle_ns[index] += span_ns * (1 - want / len(online))
            guest.queue_ns[index] += span_ns * queued / len(online)
        if guest.says and cost:
            guest.wait_ns += span_ns * len(online) * cost / (1 + cost)


def water(pcpus: float, claims: dict[Uuid, tuple[float, float]]) -> dict[Uuid, float]:
    """Who runs how much: by weight, up to what each wants."""
    shares, left = {}, pcpus
    weight = sum(weight for weight, _ in claims.values())
    for key in sorted(claims, key=lambda key: claims[key][1] / claims[key][0]):
        mine, want = claims[key]
        shares[key] = min(want, left * mine / weight)
        left -= shares[key]
        weight -= mine
    return shares


@dataclass
class Kept:
    """Every cycle's record, and what follows from them."""

    records: list[CycleRecord] = field(default_factory=list)

    def record(self, record: CycleRecord) -> None:
        self.records.append(record)

    @property
    def changes(self) -> list[tuple[float, ChangeRecord]]:
        """Changes with the second they were asked for."""
        began_ns = self.records[0].began_ns
        return [
            ((record.began_ns - began_ns) / NS_PER_S, change)
            for record in self.records
            for change in record.changes
        ]

    @property
    def verdicts(self) -> list[Verdict]:
        return [verdict for record in self.records for verdict in record.verdicts]


def manage(
    host: FluidHost,
    policy: Policy[Any],
    seconds: int,
    *,
    ledger: MemoryLedger | None = None,
    limits: Limits | None = None,
) -> Kept:
    """Have the daemon's own loop manage a host for a while; it takes over what is in the ledger."""
    clock: SimulatedClock = host.simulated
    clock.stop_at(clock.now_ns() + seconds * NS_PER_S)
    kept = Kept()
    ControlLoop(
        clock=clock,
        hypervisor=host,
        ledger=MemoryLedger() if ledger is None else ledger,
        inbox=NoRequests(),
        recorder=kept,
        settings=LoopSettings(
            period_ns=NS_PER_S,
            policy=policy,
            policy_name=type(policy).__name__,
            limits=limits or Limits(),
            on_stop_keep=True,
        ),
    ).run(adopt=ledger is not None)
    return kept
