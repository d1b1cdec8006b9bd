"""The lab's real guests beside simulated ones: same threads, same costs, nothing fitted.

Problem: a simulator proves nothing about the world by agreeing with itself. Approach: every static
cell that the lab has measured (`python -m lab --only micro,grid`; tests/lab/grid.py) is simulated
under emulation, platform `tcg`. What a thread computes and how long a section under a lock takes
come from the lab's micro-benchmarks of one guest that has the host to itself, never from a cell.
`agreement` judges what comes out.

The two guests start at different instants, and the host has work of its own, as any real one: the
main loops of the emulators (MAIN_LOOP_NS). Of a section's time a fifth is taken to be under the lock,
as on hardware (`workloads.descriptors`): a micro-benchmark of one thread cannot divide it. Where
lab.json has no `grid`, the single blocks of its scenarios stand in: they have no interval, so no
order is judged by them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from vcpud.errors import ConfigError
from vcpud.units import NS_PER_MS, NS_PER_S
from vcpud_simulator import runner
from vcpud_simulator.guest.locks import QueuedLock, UnfairLock
from vcpud_simulator.laboratory.statistics import Interval
from vcpud_simulator.rng import Chance
from vcpud_simulator.scenario import DomainPlan, Kind, NoisePlan, Pause, Scenario
from vcpud_simulator.workloads.ammp import AmmpLike, Wait
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.noise import Noise

if TYPE_CHECKING:
    from pathlib import Path

    from vcpud_simulator.workloads.base import Workload

THREADS: Final = 4
GRAIN: Final = 20_000
"""Dependent multiplications between synchronisations in the lab's orders."""
SECTIONS_PER_ROUND: Final = 2
"""dup takes the lock of the descriptor table once, close once."""
HELD_RATIO: Final = 0.2
MAIN_LOOP_NS: Final = 12_000
MAIN_LOOP_EVERY_NS: Final = 1_250_000
"""QEMU's main loop keeps the timers of a guest: woken when one is due and when a vCPU that has taken
its tick arms the next, it preempts some vCPU for a moment, and the host then chooses anew. The thread
of a guest that only computes, which has the host to itself, sleeps 827 times a second with one vCPU,
808 to 848 with two, 650 with four, 11 us apart from sleep each time (6 to 15; voluntary switches and
schedstat of the thread, QEMU 7.2, the lab's guest). An idle guest has no ticks."""
ARRIVALS_NS: Final = 300 * NS_PER_MS
WARMUP_NS: Final = NS_PER_S
WINDOW_NS: Final = 3 * NS_PER_S
"""Each PAUSE of a spinning vCPU is an event: longer windows take minutes."""
EEVDF_SINCE: Final = (6, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What the micro-benchmarks say.

    Attributes:
        grain_ns: Computing of one iteration.
        section_ns: One section under the descriptor table's lock, its way there included.
        rounds: Sections of one iteration.
    """

    grain_ns: int
    section_ns: int
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One workload of the lab as it is simulated.

    Attributes:
        kind: What its threads do.
        alone: Whether the other guest idles.
        pause: Which spins of it execute PAUSE, an exit under emulation.
    """

    kind: str
    alone: bool = False
    pause: Pause = Pause.OFF


ROWS: Final[Mapping[str, Row]] = {
    "kernel_lock": Row(kind="queued", pause=Pause.KERNEL),
    "kernel_lock_tas": Row(kind="unfair", pause=Pause.KERNEL),
    "independent": Row(kind="independent"),
    "user_spin_alone": Row(kind="spin", alone=True),
    "user_spin_alone_pause": Row(kind="spin", alone=True, pause=Pause.ANY),
    "user_spin_pair": Row(kind="spin"),
    "user_spin_pair_pause": Row(kind="spin", pause=Pause.ANY),
    "blocking_barrier": Row(kind="block", pause=Pause.KERNEL),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The lab's host, as far as it is simulated.

    Attributes:
        pcpus: Its processors.
        scheduler: Name of its scheduler.
        costs: Of its guests.
    """

    pcpus: int
    scheduler: str
    costs: Costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One cell to simulate.

    Attributes:
        name: The workload.
        active: Constant active vCPUs of the guests that work.
        bench: The host.
        seed: Of all chance.
    """

    name: str
    active: int
    bench: Bench
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """What lab.json says.

    Attributes:
        bench: The host.
        cells: Iterations per second, by workload and active vCPUs.
        commit: Of the lab.
        kernel: Of the host.
    """

    bench: Bench
    cells: Mapping[str, Mapping[int, Interval]]
    commit: str
    kernel: str


# ---------------------------------------------------------------------- reading


def read(path: Path) -> Lab:
    """Read lab.json.

    Raises:
        ConfigError: It is none, or lacks what a comparison needs.
    """
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    try:
        return parse(document)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise ConfigError(f"{path}: nothing to compare with: {_words(error)}") from error


def _words(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else str(error)


def parse(document: Mapping[str, Any]) -> Lab:
    """The same from its contents."""
    if not document.get("micro"):
        raise ValueError("it has no micro-benchmarks: run `python -m lab --only micro,grid`")
    host = document["host"]
    kernel = str(host["kernel"])
    version = tuple(int(part) for part in kernel.split(".")[:2])
    scheduler = "eevdf_groups" if version >= EEVDF_SINCE else "cfs_groups"
    cells = {
        name: {int(count): _measured(cell) for count, cell in row.items()}
        for name, row in document.get("grid", {}).items()
        if name in ROWS
    }
    for name, scenario in document.get("scenarios", {}).items():
        if name in ROWS and name not in cells and "static" in scenario:
            cells[name] = {int(count): _single(rate) for count, rate in scenario["static"].items()}
    return Lab(
        bench=Bench(
            pcpus=int(host["pcpus"]),
            scheduler=scheduler,
            costs=costs_of(document["micro"]),
        ),
        cells=cells,
        commit=str(document["commit"]),
        kernel=kernel,
    )


def _measured(cell: Mapping[str, Any]) -> Interval:
    low, high = cell["ci"]
    return Interval(
        value=float(cell["median"]),
        low=0.0 if low is None else float(low),
        high=float("inf") if high is None else float(high),
    )


def _single(rate: float) -> Interval:
    return Interval(value=float(rate), low=0.0, high=float("inf"))


def costs_of(micro: Mapping[str, Any]) -> Costs:
    """Costs from the micro-benchmarks, the best of their blocks: other work only slows them."""
    bare = micro["kernel_lock_bare"]
    rounds = SECTIONS_PER_ROUND * int(bare["lock_rounds"])
    grain = int(micro["compute"]["grain"])
    return Costs(
        grain_ns=round(NS_PER_S / max(micro["compute"]["rates"]) * GRAIN / grain),
        section_ns=round(NS_PER_S / max(bare["rates"]) / rounds),
        rounds=rounds,
    )


# ---------------------------------------------------------------------- simulating


def _workload(row: Row, costs: Costs) -> Workload:
    if row.kind == "independent":
        return GobmkLike(copies=THREADS, unit_ns=costs.grain_ns)
    if row.kind in {"queued", "unfair"}:
        hold_ns = round(HELD_RATIO * costs.section_ns)
        return Descriptors(
            threads=THREADS,
            grain_ns=costs.grain_ns,
            rounds=costs.rounds,
            gap_ns=costs.section_ns - hold_ns,
            hold_ns=hold_ns,
            lock=QueuedLock if row.kind == "queued" else UnfairLock,
        )
    return AmmpLike(
        threads=THREADS,
        grain_ns=costs.grain_ns,
        cv_ratio=0.0,
        wait=Wait.ACTIVE if row.kind == "spin" else Wait.PASSIVE,
        criticals=0,
    )


def scenario(task: Task) -> Scenario:
    """A cell of the lab in the runner's terms: two guests of four vCPUs."""
    row, bench = ROWS[task.name], task.bench
    working = DomainPlan(
        name="g1", vcpus=THREADS, workload=_workload(row, bench.costs), online=task.active
    )
    guests_at_work = 1 if row.alone else 2
    later_ns = 1 + Chance(task.seed).stream("lab", "second guest").below(ARRIVALS_NS)
    other = replace(working, name="g2", arrives_ns=later_ns)
    if row.alone:
        other = replace(other, workload=Noise(burst_ns=0), online=None)
    return Scenario(
        name=task.name,
        title=f"lab: {task.name} at {task.active} active",
        kind=Kind.LAB,
        domains=(working, other),
        pcpus=bench.pcpus,
        scheduler=bench.scheduler,
        platform="tcg",
        pause=row.pause,
        seed=task.seed,
        warmup_ns=WARMUP_NS,
        duration_ns=WINDOW_NS,
        noise=NoisePlan(
            vcpus=bench.pcpus,
            burst_ns=MAIN_LOOP_NS,
            sleep_ns=MAIN_LOOP_EVERY_NS * bench.pcpus // guests_at_work,
        ),
    )


def simulate(task: Task) -> float:
    """Iterations per second of both guests."""
    result = runner.run(scenario(task), hashed=False)
    return sum(domain.rate for domain in result.domains.values())


def tasks(lab: Lab, seeds: int) -> list[Task]:
    """Everything to simulate."""
    return [
        Task(name=name, active=active, bench=lab.bench, seed=seed)
        for seed in range(1, seeds + 1)
        for name, cells in lab.cells.items()
        for active in cells
    ]
