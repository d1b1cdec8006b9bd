"""Prometheus metrics: one collector over the last finished cycle, and counts since the start.

Base units, ratios from 0 to 1, `None` is an absent series and never zero. A domain that is gone
takes its series with it. Nothing is rendered until somebody scrapes, and then once per cycle.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from vcpud.model import Accepted, Trouble
from vcpud.plan import Outcome
from vcpud.record import Phase, Purpose
from vcpud.text import printable
from vcpud.units import NS_PER_MS, NS_PER_S, seconds
from vcpud.version import version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from vcpud.model import DomainSample
    from vcpud.record import CycleRecord, DomainStatus

_CYCLE_BUCKETS_NS = tuple(n * NS_PER_MS for n in (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500))
_CHANGE_BUCKETS_NS = tuple(
    n * NS_PER_MS for n in (50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000)
)


class _Histogram:
    """Counts per bucket, as Prometheus wants them."""

    __slots__ = ("_bounds_ns", "_counts", "_sum_ns")

    def __init__(self, bounds_ns: tuple[int, ...]) -> None:
        self._bounds_ns = bounds_ns
        self._counts = [0] * (len(bounds_ns) + 1)
        self._sum_ns = 0

    def observe(self, duration_ns: int) -> None:
        place = 0
        while place < len(self._bounds_ns) and duration_ns > self._bounds_ns[place]:
            place += 1
        self._counts[place] += 1
        self._sum_ns += duration_ns

    def family(self, name: str, text: str) -> HistogramMetricFamily:
        total = 0
        buckets = []
        bounds = [str(seconds(bound)) for bound in self._bounds_ns] + ["+Inf"]
        for bound, count in zip(bounds, self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=seconds(self._sum_ns))


class Metrics(Collector):
    """A `Recorder` that counts, and the collector that shows the counts."""

    def __init__(self, digest: str) -> None:
        """Start counting.

        Args:
            digest: Hash of the configuration in force.
        """
        self._digest = digest
        self._reload_ok = True
        self._reload_at_s = time.time()
        self._last: CycleRecord | None = None
        self._last_good_at_s: float | None = None
        self._cycles = _Histogram(_CYCLE_BUCKETS_NS)
        self._change_times = _Histogram(_CHANGE_BUCKETS_NS)
        self._poll_errors: Counter[str] = Counter()
        self._decisions: Counter[tuple[str, ...]] = Counter()
        self._blocked: Counter[tuple[str, ...]] = Counter()
        self._changes: Counter[tuple[str, ...]] = Counter()
        self._outcomes: Counter[tuple[str, ...]] = Counter({(str(one),): 0 for one in Outcome})
        self._requests: Counter[tuple[str, ...]] = Counter()
        self._rollbacks = 0
        self._reconnects = 0
        self._restore_failures = 0
        self._write_errors = 0
        self._was_connected: bool | None = None
        self._overruns = 0
        self._lock = threading.Lock()
        self._rendered: tuple[int, bytes] | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    # ------------------------------------------------------------------------------- counting

    def record(self, record: CycleRecord) -> None:
        self._cycles.observe(record.ended_ns - record.began_ns)
        connected = record.sample.connected
        if not connected:
            self._poll_errors["not_connected"] += 1
        elif record.sample_error:
            self._poll_errors["failed"] += 1
        else:
            self._last_good_at_s = time.time()
        if connected and self._was_connected is False:
            self._reconnects += 1
        self._was_connected = connected
        self._overruns = record.overruns
        self._write_errors += record.ledger_error is not None
        self._count(record)
        self._last = record

    def _count(self, record: CycleRecord) -> None:
        for move in record.proposed.moves:
            for resize in move.resizes:
                self._decisions[(_direction(resize.from_vcpus, resize.to_vcpus),)] += 1
        for block in record.blocked:
            self._blocked[(block.guard,)] += 1
        for request in record.requests:
            self._requests[(type(request).__name__.lower(),)] += 1
        for change in record.changes:
            if not isinstance(change.effect, Accepted):
                way = _direction(change.from_vcpus, change.to_vcpus)
                self._changes[(way, str(change.method), str(change.effect.reason))] += 1
        for done in record.completed:
            way = _direction(done.from_vcpus, done.to_vcpus)
            result = "reached" if done.reached else "failed"
            self._changes[(way, str(done.method), result)] += 1
            self._change_times.observe(done.took_ns)
            if done.purpose is Purpose.RESTORE and not done.reached:
                self._restore_failures += 1
        for verdict in record.verdicts:
            self._outcomes[(str(verdict.outcome),)] += 1
            self._rollbacks += not verdict.kept

    def reloaded(self, digest: str | None) -> None:
        """A reload ended: with this configuration, or None where the old one stays."""
        self._reload_ok = digest is not None
        if digest is not None:
            self._digest = digest
            self._reload_at_s = time.time()
        self._rendered = None

    # -------------------------------------------------------------------------------- showing

    def render(self) -> bytes:
        """The exposition text of the last cycle; the same bytes until the next one ends."""
        with self._lock:
            cycle = 0 if self._last is None else self._last.cycle
            if self._rendered is None or self._rendered[0] != cycle:
                self._rendered = (cycle, generate_latest(self._registry))
            return self._rendered[1]

    def collect(self) -> Iterator[Metric]:
        yield _gauge("vcpud_build_info", "Which vcpud this is.", 1, version=version())
        yield _gauge("vcpud_config_info", "The configuration in force.", 1, hash=self._digest)
        yield _gauge(
            "vcpud_config_last_reload_successful",
            "1 when the last attempt to read the configuration succeeded, else 0.",
            float(self._reload_ok),
        )
        yield _gauge(
            "vcpud_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read.",
            self._reload_at_s,
        )
        yield _gauge("vcpud_up", "1 once the loop has finished a cycle.", self._last is not None)
        yield self._cycles.family(
            "vcpud_poll_duration_seconds", "Time one cycle of the control loop took."
        )
        yield self._change_times.family(
            "vcpud_change_duration_seconds", "Time from asking for a change to reading it back."
        )
        yield from self._counters()
        if self._last_good_at_s is not None:
            yield _gauge(
                "vcpud_last_successful_poll_timestamp_seconds",
                "When the hypervisor last answered.",
                self._last_good_at_s,
            )
        if self._last is not None:
            yield from _of_host(self._last)
            yield from _of_domains(self._last)

    def _counters(self) -> Iterator[Metric]:
        yield _counts(
            "vcpud_poll_errors_total",
            "Cycles without fresh samples, by reason.",
            ("reason",),
            {(reason,): count for reason, count in self._poll_errors.items()},
        )
        yield _count(
            "vcpud_poll_overruns_total",
            "Cycles that began late because the one before took too long.",
            self._overruns,
        )
        yield _count(
            "vcpud_libvirt_reconnects_total",
            "Times the connection to the hypervisor was lost and made again.",
            self._reconnects,
        )
        yield _counts(
            "vcpud_decisions_total",
            "Resizes a policy asked for, whether or not they were allowed.",
            ("action",),
            self._decisions,
        )
        yield _counts(
            "vcpud_blocked_total",
            "Resizes a guard stood in the way of.",
            ("guard",),
            self._blocked,
        )
        yield _counts(
            "vcpud_changes_total",
            "Changes of active vCPUs and how they ended: reached, failed, or why refused.",
            ("direction", "method", "result"),
            self._changes,
        )
        yield _counts(
            "vcpud_outcomes_total",
            "Judged moves, by what they did to the guests' progress.",
            ("result",),
            self._outcomes,
        )
        yield _count("vcpud_rollbacks_total", "Judged moves that were undone.", self._rollbacks)
        yield _counts(
            "vcpud_requests_total",
            "What operators asked of the running daemon.",
            ("verb",),
            self._requests,
        )
        yield _count(
            "vcpud_restore_failures_total",
            "Attempts to give a domain back its original that failed.",
            self._restore_failures,
        )
        yield _count(
            "vcpud_journal_write_errors_total",
            "Cycles in which originals could not be written durably; nothing is changed then.",
            self._write_errors,
        )


def _of_host(record: CycleRecord) -> Iterator[Metric]:
    sample = record.sample
    yield _gauge(
        "vcpud_libvirt_connected", "1 while the hypervisor answers, else 0.", sample.connected
    )
    yield _gauge("vcpud_paused", "1 while an operator paused all decisions.", record.paused)
    yield _gauge(
        "vcpud_domains_changed",
        "Domains that vcpud changed and has not given back.",
        len(record.outstanding),
    )
    yield _gauge(
        "vcpud_lost_threads",
        "Calls given up and still blocked in the hypervisor's library.",
        sample.lost_threads,
    )
    overcommit = GaugeMetricFamily(
        "vcpud_host_overcommit_ratio",
        "Active vCPUs per pCPU that is there for them.",
        labels=("pool",),
    )
    wait = GaugeMetricFamily(
        "vcpud_host_runqueue_wait_ratio",
        "Time vCPUs waited for a pCPU, per active vCPU and unit of time.",
        labels=("pool",),
    )
    pcpus = GaugeMetricFamily("vcpud_pool_pcpus", "Size of the pool.", labels=("pool",))
    for pool in record.demand.pools:
        label = [printable(pool.name)]
        overcommit.add_metric(label, pool.overcommit_ratio)
        pcpus.add_metric(label, pool.pcpus)
        if pool.run_delay_ratio is not None:
            wait.add_metric(label, pool.run_delay_ratio)
    yield from (overcommit, wait, pcpus)


_DOMAIN_GAUGES = {
    "entitled_pcpus": (
        "vcpud_domain_entitled_pcpus",
        "pCPUs its weight guarantees it now, given what the others want.",
    ),
    "used_pcpus": ("vcpud_domain_used_pcpus", "pCPUs it uses, smoothed."),
    "lock_wait_ratio": (
        "vcpud_domain_lock_wait_ratio",
        "Time its guest waited for spinlocks, per active vCPU and unit of time.",
    ),
    "queued_tasks": (
        "vcpud_domain_queued_tasks",
        "Tasks waiting on its guest's run queues, on average.",
    ),
    "steal_ratio": (
        "vcpud_domain_steal_ratio",
        "Share of its vCPUs' time that its guest calls stolen.",
    ),
}


def _of_domains(record: CycleRecord) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "vcpud_domain_info",
        "What may be done with the domain, and by which means.",
        labels=("domain", "uuid", "mode", "tier", "pool"),
    )
    vcpus = GaugeMetricFamily(
        "vcpud_domain_vcpus",
        "vCPUs: active now, target on the way, original before vcpud came, min and max allowed.",
        labels=("domain", "kind"),
    )
    wait = _per_domain(
        "vcpud_domain_runqueue_wait_ratio",
        "Time its vCPUs waited for a pCPU, per active vCPU and unit of time, smoothed.",
    )
    progress = _per_domain(
        "vcpud_domain_progress_pcpus",
        "Progress proxy: CPU time consumed times the guest's user share, per unit of time.",
    )
    age = _per_domain("vcpud_domain_sample_age_seconds", "Age of its host-side counters.")
    late = _per_domain("vcpud_domain_timed_out", "1 while calls for it do not return.")
    yields = CounterMetricFamily(
        "vcpud_domain_directed_yields_total",
        "Yield hypercalls of its vCPUs: a proxy for lock and IPI waits.",
        labels=("domain",),
    )
    held = GaugeMetricFamily(
        "vcpud_domain_quarantined",
        "1 while it is left alone after failures.",
        labels=("domain",),
    )
    trouble = GaugeMetricFamily(
        "vcpud_domain_trouble",
        "1 for each reason why the domain, or one of its signals, cannot be relied upon.",
        labels=("domain", "reason"),
    )
    gauges = {word: _per_domain(*what) for word, what in _DOMAIN_GAUGES.items()}
    demands = {demand.uuid: demand for demand in record.demand.domains}
    statuses = {status.uuid: status for status in record.domains}
    for sample in record.sample.domains:
        name = printable(sample.name)
        demand, status = demands.get(sample.uuid), statuses.get(sample.uuid)
        info.add_metric(
            [
                name,
                sample.uuid,
                str(sample.terms.mode),
                str(sample.method),
                printable(sample.pool),
            ],
            1,
        )
        for kind, count in _counts_of(sample, status).items():
            vcpus.add_metric([name, kind], count)
        age.add_metric([name], max(0.0, (record.ended_ns - sample.taken_at_ns) / NS_PER_S))
        late.add_metric([name], Trouble.HUNG in sample.troubles)
        quarantined = status is not None and status.phase is Phase.QUARANTINED
        held.add_metric([name], quarantined)
        for one in sorted(map(str, sample.troubles)):
            trouble.add_metric([name, one], 1)
        seen = [vcpu.directed_yields for vcpu in sample.vcpus if vcpu.directed_yields is not None]
        if seen:
            yields.add_metric([name], sum(seen))
        if demand is None:
            continue
        for word, family in gauges.items():
            value = getattr(demand, word)
            if value is not None:
                family.add_metric([name], value)
        if demand.run_delay_pcpus is not None and demand.active_vcpus:
            wait.add_metric([name], demand.run_delay_pcpus / demand.active_vcpus)
        if demand.progress is not None:
            progress.add_metric([name], demand.progress.rate_pcpus)
    yield from (info, vcpus, wait, progress, age, late, held, trouble, yields, *gauges.values())


def _counts_of(sample: DomainSample, status: DomainStatus | None) -> dict[str, int]:
    counts = {
        "active": len(sample.active),
        "max": sample.max_vcpus
        if sample.terms.max_vcpus is None
        else min(sample.max_vcpus, sample.terms.max_vcpus),
        "min": sample.terms.min_vcpus,
    }
    if status is not None:
        counts["target"] = status.target_vcpus
        had = status.original_vcpus
        counts["original"] = counts["active"] if had is None else had
    return counts


def _direction(from_vcpus: int, to_vcpus: int) -> str:
    return "grow" if to_vcpus > from_vcpus else "shrink" if to_vcpus < from_vcpus else "none"


def _gauge(name: str, text: str, value: float, **labels: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), value)
    return family


def _per_domain(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=("domain",))


def _count(name: str, text: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)


def _counts(
    name: str,
    text: str,
    labels: tuple[str, ...],
    counts: Counter[tuple[str, ...]] | dict[tuple[str, ...], int],
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for words, count in sorted(counts.items()):
        family.add_metric(words, count)
    return family
