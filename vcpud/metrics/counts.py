"""What is counted from cycle to cycle, as families of prometheus_client.

Written by the loop's thread, read by the web server's: readers only ever take copies.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, get_args

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from vcpud.metrics import catalogue
from vcpud.model import Accepted
from vcpud.plan import Outcome
from vcpud.record import Purpose
from vcpud.requests import Request
from vcpud.units import NS_PER_MS, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from vcpud.metrics.catalogue import Family
    from vcpud.model import Uuid
    from vcpud.record import CycleRecord

_POLL_BOUNDS = tuple(
    seconds(n * NS_PER_MS) for n in (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)
)
_CHANGE_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_GAIN_BOUNDS = (-0.5, -0.2, -0.05, 0.0, 0.05, 0.2, 0.5, 1.0, 3.0, 10.0)
_VERBS = tuple(sorted(kind.__name__.lower() for kind in get_args(Request)))
_REASONS = {Purpose.DECIDE: "policy", Purpose.UNDO: "undo", Purpose.RESTORE: "restore"}

Words = tuple[str, ...]
"""The values of a family's labels, in its order."""


class Tally:
    """A counter with labels."""

    __slots__ = ("_counts", "_family")

    def __init__(self, family: Family, *begin_with: Words) -> None:
        self._family = family
        self._counts: Counter[Words] = Counter(dict.fromkeys(begin_with, 0))

    def add(self, *words: str, count: int = 1) -> None:
        self._counts[words] += count

    def shown(self) -> CounterMetricFamily:
        return counted(self._family, list(self._counts.items()))


class Spread:
    """A histogram, with at most one label."""

    __slots__ = ("_bounds", "_family", "_seen")

    def __init__(self, family: Family, bounds: tuple[float, ...]) -> None:
        self._family = family
        self._bounds = bounds
        self._seen: dict[Words, tuple[list[int], float]] = {}
        if not family.labels:
            self._seen[()] = ([0] * (len(bounds) + 1), 0.0)

    def observe(self, value: float, *words: str) -> None:
        counts, total = self._seen.get(words, ([0] * (len(self._bounds) + 1), 0.0))
        place = sum(value > bound for bound in self._bounds)
        counts = [count + (at == place) for at, count in enumerate(counts)]
        self._seen[words] = (counts, total + value)

    def shown(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily(
            self._family.name, self._family.text, labels=self._family.labels
        )
        bounds = [*map(str, self._bounds), "+Inf"]
        for words, (counts, total) in sorted(self._seen.copy().items()):
            below = 0
            buckets = []
            for bound, count in zip(bounds, counts, strict=True):
                below += count
                buckets.append((bound, below))
            # A sum that can fall is no counter; Prometheus wants none where values are negative.
            kept = total if self._bounds[0] >= 0 else None
            family.add_metric(words, buckets, sum_value=kept)
        return family


class DomainCounts:
    """What is counted per domain, and forgotten with it."""

    __slots__ = ("changes", "gains", "outcomes")

    def __init__(self) -> None:
        self.changes: dict[Uuid, dict[str, int]] = {}
        self.outcomes: dict[Uuid, dict[str, int]] = {}
        self.gains: dict[Uuid, float] = {}

    def count(self, record: CycleRecord) -> None:
        for done in record.completed:
            if done.reached:
                way = direction(done.from_vcpus, done.to_vcpus)
                _bump(self.changes, done.uuid, way)
        for verdict in record.verdicts:
            for resize in verdict.move.resizes:
                _bump(self.outcomes, resize.uuid, str(verdict.outcome))
                if verdict.gain_ratio is not None:
                    self.gains[resize.uuid] = verdict.gain_ratio

    def keep(self, present: Iterable[Uuid]) -> None:
        """Forget every domain that is not present."""
        known = self.changes.keys() | self.outcomes.keys() | self.gains.keys()
        for uuid in known - set(present):
            for notes in (self.changes, self.outcomes, self.gains):
                notes.pop(uuid, None)


class Counts:
    """Everything that only ever grows, and what the last reload said."""

    def __init__(self) -> None:
        self.domains = DomainCounts()
        self._poll_time = Spread(catalogue.POLL_TIME, _POLL_BOUNDS)
        self._change_time = Spread(catalogue.CHANGE_TIME, _CHANGE_BOUNDS)
        self._gains = Spread(catalogue.GAIN, _GAIN_BOUNDS)
        self._poll_errors = Tally(catalogue.POLL_ERRORS, ("not_connected",), ("failed",))
        self._overruns = Tally(catalogue.OVERRUNS, ())
        self._reconnects = Tally(catalogue.RECONNECTS, ())
        self._decisions = Tally(
            catalogue.DECISIONS,
            *((way, reason) for way in ("grow", "shrink") for reason in _REASONS.values()),
        )
        self._blocked = Tally(catalogue.BLOCKED)
        self._changes = Tally(catalogue.CHANGES)
        self._outcomes = Tally(catalogue.OUTCOMES, *((str(outcome),) for outcome in Outcome))
        self._rollbacks = Tally(catalogue.ROLLBACKS, ())
        self._foreign = Tally(catalogue.FOREIGN, ())
        self._requests = Tally(catalogue.REQUESTS, *((verb,) for verb in _VERBS))
        self._restore_failures = Tally(catalogue.RESTORE_FAILURES, ())
        self._policy_errors = Tally(catalogue.POLICY_ERRORS, ())
        self._journal_errors = Tally(catalogue.JOURNAL_ERRORS, ())
        self._last_overruns = 0
        self._was_connected: bool | None = None
        self.last_good_at_s: float | None = None

    def count(self, record: CycleRecord) -> None:
        """Take note of one finished cycle."""
        self._poll_time.observe(seconds(record.ended_ns - record.began_ns))
        self._overruns.add(count=max(0, record.overruns - self._last_overruns))
        self._last_overruns = record.overruns
        self._journal_errors.add(count=int(record.ledger_error is not None))
        self._policy_errors.add(count=int(record.policy_error is not None))
        self._foreign.add(count=len(record.foreign))
        self._connection(record)
        self._decided(record)
        self._done(record)
        self.domains.count(record)
        if record.sample.connected and (
            record.events or self.domains.outcomes or self.domains.changes
        ):
            self.domains.keep(domain.uuid for domain in record.sample.domains)

    def _connection(self, record: CycleRecord) -> None:
        connected = record.sample.connected
        if not connected:
            self._poll_errors.add("not_connected")
        elif record.sample_error:
            self._poll_errors.add("failed")
        else:
            self.last_good_at_s = time.time()
        self._reconnects.add(count=int(connected and self._was_connected is False))
        self._was_connected = connected

    def _decided(self, record: CycleRecord) -> None:
        for move in record.proposed.moves:
            for resize in move.resizes:
                self._decisions.add(direction(resize.from_vcpus, resize.to_vcpus), "policy")
        for verdict in record.verdicts:
            self._outcomes.add(str(verdict.outcome))
            if verdict.gain_ratio is not None:
                self._gains.observe(verdict.gain_ratio, str(verdict.outcome))
            if not verdict.kept:
                self._rollbacks.add()
                for resize in verdict.move.resizes:
                    self._decisions.add(direction(resize.to_vcpus, resize.from_vcpus), "undo")
        for block in record.blocked:
            self._blocked.add(block.guard)
        for request in record.requests:
            self._requests.add(type(request).__name__.lower())

    def _done(self, record: CycleRecord) -> None:
        for change in record.changes:
            if not isinstance(change.effect, Accepted):
                way = direction(change.from_vcpus, change.to_vcpus)
                self._changes.add(way, str(change.method), str(change.effect.reason))
        for done in record.completed:
            way = direction(done.from_vcpus, done.to_vcpus)
            self._changes.add(way, str(done.method), "reached" if done.reached else "failed")
            self._change_time.observe(seconds(done.took_ns))
            if done.purpose is Purpose.RESTORE:
                self._decisions.add(way, _REASONS[done.purpose])
                self._restore_failures.add(count=int(not done.reached))

    def shown(self) -> Iterator[Metric]:
        """All of it as families."""
        for one in (
            self._poll_time,
            self._change_time,
            self._gains,
            self._poll_errors,
            self._overruns,
            self._reconnects,
            self._decisions,
            self._blocked,
            self._changes,
            self._outcomes,
            self._rollbacks,
            self._foreign,
            self._requests,
            self._restore_failures,
            self._policy_errors,
            self._journal_errors,
        ):
            yield one.shown()
        if self.last_good_at_s is not None:
            yield gauge(catalogue.LAST_GOOD, self.last_good_at_s)


def direction(from_vcpus: int, to_vcpus: int) -> str:
    """What a resize is called in labels."""
    return "grow" if to_vcpus > from_vcpus else "shrink" if to_vcpus < from_vcpus else "none"


def gauge(family: Family, value: float, *words: str) -> GaugeMetricFamily:
    """A family with one series."""
    shown = GaugeMetricFamily(family.name, family.text, labels=family.labels)
    shown.add_metric(words, float(value))
    return shown


def counted(family: Family, counts: list[tuple[Words, int]]) -> CounterMetricFamily:
    """A counter's family with its series."""
    shown = CounterMetricFamily(family.name, family.text, labels=family.labels)
    for words, count in sorted(counts):
        shown.add_metric(words, count)
    return shown


def _bump(notes: dict[Uuid, dict[str, int]], uuid: Uuid, word: str) -> None:
    counts = notes.get(uuid, {})
    notes[uuid] = {**counts, word: counts.get(word, 0) + 1}
