"""What every domain of a world does, second by second and over a measured window.

This is the laboratory's own view, of what nobody on a real host could see: no policy is shown it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from vcpud.demand import water_filled
from vcpud.units import NS_PER_S
from vcpud_simulator.experiment import Totals

if TYPE_CHECKING:
    from vcpud_simulator.workloads.base import Progress
    from vcpud_simulator.world import Resident, World

PERCENTILES: Final = (50, 95, 99)
SHARED_OUT_NS: Final = NS_PER_S // 10
"""How often is asked who is entitled to what: schedulers keep shares over some 30 to 100 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One domain over one second, or over what was left of the run.

    Attributes:
        t_ns: End of that second.
        active_vcpus: CPUs in use at its end.
        rate: Units of work per second.
        run_pcpus: Processor time used, per unit of time.
        run_delay_pcpus: Time runnable without a pCPU, per unit of time.
        spin_pcpus: Processor time burnt waiting, per unit of time.
    """

    t_ns: int
    active_vcpus: int
    rate: float
    run_pcpus: float
    run_delay_pcpus: float
    spin_pcpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainResult:
    """One domain over the measured window, as nobody on a real host could see it.

    Attributes:
        iterations: Units of work.
        rate: Those per second.
        responses_ns: Response times by percentile, where the workload has any.
        run_pcpus: Processor time used, per unit of time.
        run_delay_pcpus: Time runnable without a pCPU, per unit of time.
        useful_pcpus: Processor time of tasks, spinning and kernel overhead excluded.
        spin_pcpus: Processor time burnt waiting.
        mean_active_vcpus: CPUs in use, on average over the window.
        entitled_pcpus: What its weight guaranteed it of what the host's own work left, given what all
            wanted (their use, run delay and waits on their own run queues), the share that others left
            over included. By the tenth of a second: what it did not want in one is not owed to it in another.
        answering_pcpus: Processor time that answers to whoever asks the guest needed.
    """

    iterations: int
    rate: float
    responses_ns: Mapping[int, int]
    run_pcpus: float
    run_delay_pcpus: float
    useful_pcpus: float
    spin_pcpus: float
    mean_active_vcpus: float
    entitled_pcpus: float
    answering_pcpus: float = 0.0


class Meter:
    """Looks at a world once a second, and at both ends of the measured window.

    Attributes:
        timeline: Points so far, by domain.
    """

    def __init__(
        self,
        world: World,
        begin_ns: int,
        end_ns: int,
        progress: Callable[[int, int], None] | None,
        watch: Callable[[Mapping[str, Point]], None] | None,
    ) -> None:
        self.timeline: dict[str, list[Point]] = {}
        self._world = world
        self._begin_ns = begin_ns
        self._end_ns = end_ns
        self._progress = progress
        self._watch = watch
        self._last: dict[str, tuple[int, Totals]] = {}
        self._at_begin: dict[str, tuple[Totals, list[int]]] = {}
        self._entitled_ns: dict[str, float] = {}
        self._shared_out_at_ns = begin_ns
        self._wanted_ns: dict[str, int] = {}
        self._unmanaged_then_ns = 0
        instants = {*range(NS_PER_S, end_ns + 1, NS_PER_S), begin_ns, end_ns} - {0}
        instants |= {*range(begin_ns + SHARED_OUT_NS, end_ns, SHARED_OUT_NS)}
        self._instants = iter(sorted(instants))
        if begin_ns == 0:
            self._begin()
        self._next()

    def _next(self) -> None:
        at_ns = next(self._instants, None)
        if at_ns is not None:
            self._world.engine.at(at_ns, self._look)

    def _look(self) -> None:
        now_ns = self._world.engine.now_ns
        if now_ns == self._begin_ns:
            self._begin()
        elif self._begin_ns < now_ns <= self._end_ns:
            self._share_out(now_ns)
        if now_ns % NS_PER_S == 0 or now_ns == self._end_ns:
            for resident in self._world.everybody():
                self._point(resident, min(now_ns, self._leaves_ns(resident)))
            if self._progress is not None:
                self._progress(now_ns, self._end_ns)
            if self._watch is not None:
                there = (name for name in self._world.residents if name in self.timeline)
                self._watch({name: self.timeline[name][-1] for name in there})
        self._next()

    def _begin(self) -> None:
        for resident in self._world.residents.values():
            inhabitant = resident.inhabitant
            counts = [len(responses) for responses in _responses(inhabitant.progress)]
            self._at_begin[resident.plan.name] = (inhabitant.totals(), counts)
            self._wanted_ns[resident.plan.name] = inhabitant.wanted_ns()
        self._unmanaged_then_ns = self._unmanaged_ns()

    def _unmanaged_ns(self) -> int:
        """Processor time that the host's own work has used so far."""
        work = self._world.unmanaged
        return 0 if work is None else work.totals().run_ns

    def _point(self, resident: Resident, now_ns: int) -> None:
        name, inhabitant = resident.plan.name, resident.inhabitant
        then_ns, then = self._last.get(name, (inhabitant.started_ns, Totals()))
        span_ns = now_ns - then_ns
        if span_ns <= 0:
            return
        now = inhabitant.totals()
        self._last[name] = (now_ns, now)
        self.timeline.setdefault(name, []).append(
            Point(
                t_ns=now_ns,
                active_vcpus=len(inhabitant.kernel.online_cpus),
                rate=(now.iterations - then.iterations) * NS_PER_S / span_ns,
                run_pcpus=(now.run_ns - then.run_ns) / span_ns,
                run_delay_pcpus=(now.run_delay_ns - then.run_delay_ns) / span_ns,
                spin_pcpus=(now.spin_ns - then.spin_ns) / span_ns,
            )
        )

    # ------------------------------------------------------------------ at the end

    def results(self) -> dict[str, DomainResult]:
        """Every domain that was there in the window."""
        window_ns = self._end_ns - self._begin_ns
        residents = [
            resident
            for resident in self._world.everybody()
            if self._begin_ns < self._leaves_ns(resident)
        ]
        grown = {resident.plan.name: self._grown(resident) for resident in residents}
        found = {}
        for resident in residents:
            name, inhabitant = resident.plan.name, resident.inhabitant
            _, counts = self._at_begin.get(name, (Totals(), []))
            phases = _responses(inhabitant.progress)
            counts += [0] * (len(phases) - len(counts))
            responses = [one for part, at in zip(phases, counts, strict=True) for one in part[at:]]
            there_ns = self._end_ns - max(self._begin_ns, inhabitant.started_ns)
            now = grown[name]
            found[name] = DomainResult(
                iterations=now.iterations,
                rate=now.iterations * NS_PER_S / window_ns,
                responses_ns=percentiles(responses),
                run_pcpus=now.run_ns / window_ns,
                run_delay_pcpus=now.run_delay_ns / window_ns,
                useful_pcpus=now.useful_ns / window_ns,
                spin_pcpus=now.spin_ns / window_ns,
                mean_active_vcpus=(resident.plan.vcpus * there_ns - now.offline_ns) / window_ns,
                entitled_pcpus=self._entitled_ns.get(name, 0.0) / window_ns,
                answering_pcpus=now.answering_ns / window_ns,
            )
        return found

    def _grown(self, resident: Resident) -> Totals:
        """What a domain did in the window."""
        then, _ = self._at_begin.get(resident.plan.name, (Totals(), []))
        now = resident.inhabitant.totals()
        return Totals(
            **{f.name: getattr(now, f.name) - getattr(then, f.name) for f in fields(Totals)}
        )

    def _share_out(self, now_ns: int) -> None:
        """What each was entitled to since this was asked last, by weight among those who were there."""
        from_ns, self._shared_out_at_ns = self._shared_out_at_ns, now_ns
        span_ns = now_ns - from_ns
        host = self._world.lab.host
        claims = []
        for resident in self._world.everybody():
            began_ns, leaves_ns = resident.inhabitant.started_ns, self._leaves_ns(resident)
            if leaves_ns <= from_ns:
                continue
            plan, now_wanted_ns = resident.plan, resident.inhabitant.wanted_ns()
            wanted_ns = now_wanted_ns - self._wanted_ns.get(plan.name, 0)
            self._wanted_ns[plan.name] = now_wanted_ns
            present = (min(leaves_ns, now_ns) - max(began_ns, from_ns)) / span_ns
            ceiling = present * min(float(plan.home_vcpus), plan.cap_pcpus or math.inf)
            weight = plan.weight * (1 if host.scheduler.weight_per_domain else plan.home_vcpus)
            claims.append((plan.name, float(weight), min(wanted_ns / span_ns, ceiling), ceiling))
        unmanaged_ns, self._unmanaged_then_ns = self._unmanaged_then_ns, self._unmanaged_ns()
        unmanaged_pcpus = (self._unmanaged_then_ns - unmanaged_ns) / span_ns
        shares = water_filled(len(host.pcpus) - unmanaged_pcpus, claims)
        for name, share_pcpus in shares.items():
            self._entitled_ns[name] = self._entitled_ns.get(name, 0.0) + share_pcpus * span_ns

    def _leaves_ns(self, resident: Resident) -> int:
        departs_ns = resident.plan.departs_ns
        return self._end_ns if departs_ns is None else min(departs_ns, self._end_ns)


def _responses(progress: Progress) -> list[list[int]]:
    """Response times of a workload and of each of its phases, in an order that stays."""
    found = [progress.responses_ns]
    for phase in progress.phases:
        found += _responses(phase)
    return found


def percentiles(responses_ns: list[int]) -> dict[int, int]:
    """Response times by percentile (nearest rank); empty where there are none."""
    ordered = sorted(responses_ns)
    return {
        percent: ordered[-(-len(ordered) * percent // 100) - 1]
        for percent in PERCENTILES
        if ordered
    }
