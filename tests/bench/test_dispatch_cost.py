"""The same preemptive host in this engine, through host.py and its accounting, and in SimPy.

pCPUs serve vCPUs round robin with a slice of 1 ms; a vCPU alternates exponential bursts (2 ms) and
thinks (2 ms). All draw the same numbers, so all must count the same dispatches.

SimPy is measured twice. In the preemptive model a vCPU is a process of its own that works until it
is done or interrupted, and the host does not know for how long: that is what this engine simulates,
and what `simpy_cpu_ratio_pure` compares. In the foreknowing model the processor reads how much work
is left and never takes anything away, which is quicker and cannot be extended to guests that react
to what happens to them; it is reported beside.

The compiled build (`make` puts it into build/compiled) is the same source, what runs on vCPUs
included (`bench.thinking`): it must count the same dispatches and come to the same traces, and is
measured in processes of its own.

Figures are ratios of CPU times taken in turns; what is asserted is far enough from what is measured
that a busy machine does not fail it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from bench.studies import whole_study
from bench.thinking import BURST_NS, SLICE_NS, THINK_NS, cpu_s, ours, prepared, run
from vcpud_simulator.rng import Chance, Stream

simpy = pytest.importorskip("simpy")
pytest.importorskip("pytest_benchmark")

MS = 1_000_000
MINUTE_S = 60
TURNS = 7
WARM_UP_NS = 20 * MS
UNTIL_NS = 4_000 * MS


class Job:
    """A vCPU in SimPy."""

    __slots__ = ("done", "granted", "left_ns", "process", "ran_ns", "since_ns", "waited_ns")

    def __init__(self) -> None:
        self.left_ns = self.since_ns = self.waited_ns = self.ran_ns = 0
        self.done: Any = None
        self.granted: Any = None
        self.process: Any = None


def preemptive(pcpus: int, vcpus: int, until_ns: int) -> int:
    """Dispatches in SimPy, vCPUs being processes that are interrupted, as its manual has it."""
    environment = simpy.Environment()
    ready = simpy.Store(environment)
    dispatches = 0

    def processor() -> Generator[Any, Any, None]:
        nonlocal dispatches
        last = None
        while True:
            job = yield ready.get()
            dispatches += job is not last
            job.waited_ns += environment.now - job.since_ns
            job.granted.succeed()
            yield environment.timeout(SLICE_NS) | job.done
            last = None
            if not job.done.triggered:
                job.process.interrupt()
                last = job
                yield ready.put(job)

    def vcpu(job: Job, chance: Stream) -> Generator[Any, Any, None]:
        while True:
            yield environment.timeout(chance.exponential_ns(THINK_NS))
            job.left_ns = chance.exponential_ns(BURST_NS) + 1
            job.done, job.granted = environment.event(), environment.event()
            job.since_ns = environment.now
            yield ready.put(job)
            while job.left_ns:
                yield job.granted
                job.granted = environment.event()
                began_ns = environment.now
                try:
                    yield environment.timeout(job.left_ns)
                except simpy.Interrupt:
                    job.since_ns = environment.now
                job.ran_ns += environment.now - began_ns
                job.left_ns -= environment.now - began_ns
            job.done.succeed()

    for _ in range(pcpus):
        environment.process(processor())
    for number in range(vcpus):
        job = Job()
        job.process = environment.process(vcpu(job, Chance(1).stream("bench", number)))
    environment.run(until=until_ns)
    return dispatches


def foreknowing(pcpus: int, vcpus: int, until_ns: int) -> int:
    """Dispatches in SimPy, the processor knowing how much work each vCPU has left."""
    environment = simpy.Environment()
    ready = simpy.Store(environment)
    dispatches = 0

    def processor() -> Generator[Any, Any, None]:
        nonlocal dispatches
        last = None
        while True:
            job = yield ready.get()
            dispatches += job is not last
            job.waited_ns += environment.now - job.since_ns
            run_ns = min(SLICE_NS, job.left_ns)
            yield environment.timeout(run_ns)
            job.ran_ns += run_ns
            job.left_ns -= run_ns
            job.since_ns = environment.now
            last = job if job.left_ns else None
            if job.left_ns:
                yield ready.put(job)
            else:
                job.done.succeed()

    def thinker(chance: Stream) -> Generator[Any, Any, None]:
        job = Job()
        while True:
            yield environment.timeout(chance.exponential_ns(THINK_NS))
            job.left_ns = chance.exponential_ns(BURST_NS) + 1
            job.done = environment.event()
            job.since_ns = environment.now
            yield ready.put(job)
            yield job.done

    for _ in range(pcpus):
        environment.process(processor())
    for number in range(vcpus):
        environment.process(thinker(Chance(1).stream("bench", number)))
    environment.run(until=until_ns)
    return dispatches


def dispatch_s(pcpus: int, vcpus: int, for_ns: int) -> float:
    """CPU time of a dispatch in the steady state: set-up and the first 20 ms are excluded."""
    host = prepared(pcpus, vcpus)
    before = run(host, WARM_UP_NS)
    spent_s = cpu_s(lambda: run(host, WARM_UP_NS + for_ns))
    return spent_s / (sum(pcpu.dispatches for pcpu in host.pcpus) - before)


def ratios(one: Callable[[], float], other: Callable[[], float]) -> list[float]:
    """Of figures taken in turns, in ascending order; the first turn warms up."""
    found = [one() / other() for _ in range(TURNS + 1)]
    return sorted(found[1:])


Figures = dict[str, Any]
COMPILED = Path(__file__).parents[2] / "build" / "compiled"
IS_COMPILED = bool(list(COMPILED.glob("vcpud_simulator/engine.*.so")))
needs_compiled = pytest.mark.skipif(not IS_COMPILED, reason="make bench builds it")


def test_all_count_the_same_dispatches() -> None:
    counts = {work(8, 32, UNTIL_NS) for work in (ours, preemptive, foreknowing)}
    if IS_COMPILED:
        counts.add(compiled_run()[0])
    assert len(counts) == 1
    assert counts.pop() > 10_000


@pytest.mark.parametrize(
    ("theirs", "key", "least"),
    [(preemptive, "simpy_cpu_ratio_pure", 5), (foreknowing, "simpy_cpu_ratio_foreknowing", 2)],
)
def test_a_dispatch_costs_a_fraction_of_simpys(
    theirs: Callable[[int, int, int], int],
    key: str,
    least: float,
    benchmark: Any,
    figures: Figures,
) -> None:
    found = ratios(
        lambda: cpu_s(lambda: theirs(8, 32, UNTIL_NS)),
        lambda: cpu_s(lambda: ours(8, 32, UNTIL_NS)),
    )
    figures[key] = benchmark.extra_info[key] = round(median(found), 2)
    figures[f"{key}_spread"] = [round(found[0], 2), round(found[-1], 2)]
    benchmark.pedantic(ours, args=(8, 32, 100 * MS), rounds=3)
    assert median(found) >= least


def test_a_dispatch_on_a_large_host_costs_no_more_than_twice_as_much(
    benchmark: Any, figures: Figures
) -> None:
    found = ratios(lambda: dispatch_s(256, 2048, 40 * MS), lambda: dispatch_s(8, 32, 1_000 * MS))
    key = "dispatch_cost_scaling"
    figures[key] = benchmark.extra_info[key] = round(median(found), 2)
    figures[f"{key}_spread"] = [round(found[0], 2), round(found[-1], 2)]
    benchmark.pedantic(ours, args=(256, 2048, 2 * MS), rounds=1)
    assert median(found) <= 2


DISPATCHING = """
import sys
from bench.thinking import cpu_s, ours
ours(8, 32, 20_000_000)
counts = []
spent_s = cpu_s(lambda: counts.append(ours(8, 32, int(sys.argv[1]))))
print(*counts, spent_s, ours)
"""
TRACED = """
from vcpud_simulator.laboratory.study.grid import QUICK
from vcpud_simulator.laboratory.study.runs import Run, scenario
from vcpud_simulator.runner import run
for cell in QUICK.cells()[::7]:
    if not cell.system.managed:
        short = Run(cell=cell, seed=1, warmup_ns=1_100_000_000, window_ns=200_000_000)
        print(cell, run(scenario(short)).trace_hash)
"""


def said(program: str, *words: str, compiled: bool) -> str:
    """What a program prints that uses the compiled build, or the source."""
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = [str(COMPILED), *others] if compiled else others
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def compiled_run() -> tuple[int, float]:
    """Dispatches in the compiled build, and the CPU time they took."""
    count, spent_s, how = said(DISPATCHING, str(UNTIL_NS), compiled=True).split(maxsplit=2)
    assert "built-in" in how, "what runs on vCPUs is compiled too"
    return int(count), float(spent_s)


@needs_compiled
def test_compiled_a_dispatch_costs_a_tenth_of_simpys(figures: Figures) -> None:
    found = ratios(lambda: cpu_s(lambda: preemptive(8, 32, UNTIL_NS)), lambda: compiled_run()[1])
    figures["simpy_cpu_ratio_compiled"] = round(median(found), 2)
    figures["simpy_cpu_ratio_compiled_spread"] = [round(found[0], 2), round(found[-1], 2)]
    assert median(found) >= 10


@needs_compiled
def test_compiled_the_same_happens_event_by_event() -> None:
    source, compiled = (said(TRACED, compiled=word) for word in (False, True))
    assert source == compiled
    assert len(source.splitlines()) > 5


CELL = """
from vcpud_simulator.experiment import Laboratory
from vcpud_simulator.schedulers.credit_xen32 import CreditXen32
from vcpud_simulator.workloads.ammp import AmmpLike
lab = Laboratory(pcpus=8, scheduler=CreditXen32())
for number in range(4):
    lab.add(f"d{number}", AmmpLike(), vcpus=8)
lab.run_for(3_000_000_000)
lab.measure(10_000_000_000)
"""
"""The largest cell of the study: 8 pCPUs, four domains of 8 vCPUs, 3 s of warm-up and 10 s."""


def test_a_cell_of_the_study_costs_less_than_a_second_and_little_memory(figures: Figures) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", CELL], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures["study_cell_cpu_s"] = round(after.ru_utime - before.ru_utime, 2)
    assert after.ru_utime - before.ru_utime < 3


@pytest.mark.timeout(10 * MINUTE_S)
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="the bounds are for two cores")
def test_a_short_study_from_source_takes_three_minutes_and_300_mebibytes_at_most(
    figures: Figures, tmp_path: Path
) -> None:
    """Memory is that of the largest of its processes."""
    program = Path(sys.executable).with_name("vcpud")
    words = ["study", "--quick", "--jobs", "2", "--out", str(tmp_path)]
    began_s = time.monotonic()
    subprocess.run([program, *words], check=True, stdout=subprocess.DEVNULL)
    figures["study_quick_wall_s"] = round(time.monotonic() - began_s, 1)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    figures["rss_mib"] = round(peak / 1024, 1)
    assert figures["study_quick_wall_s"] <= 3 * MINUTE_S
    assert figures["rss_mib"] <= 300


def test_a_whole_study_took_twenty_minutes_at_most() -> None:
    """It is that of `make`, which runs one before this where there is none."""
    study = whole_study()
    if study is None:
        pytest.skip("build/study holds no whole study")
    assert study["wall_s"] <= 20 * MINUTE_S
