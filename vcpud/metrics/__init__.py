"""Prometheus metrics: what the last finished cycle shows, and counts since the start.

Base units, ratios from 0 to 1, `None` is an absent series and never zero. A domain that is gone
takes its series with it. Nothing is rendered until somebody scrapes, and then once per cycle: who
asks next is served the same bytes.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from vcpud.metrics import catalogue
from vcpud.metrics.counts import Counts, gauge
from vcpud.metrics.domains import DomainText
from vcpud.text import printable
from vcpud.units import seconds
from vcpud.version import version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from vcpud.record import CycleRecord


class Metrics(Collector):
    """A `Recorder` that counts, and the exposition text of what it counted."""

    def __init__(self, digest: str, hypervisor: str = "") -> None:
        """Start counting.

        Args:
            digest: Hash of the configuration in force.
            hypervisor: What the domains run on, as the backend calls itself.
        """
        self._digest = digest
        self._reload_ok = True
        self._reload_at_s = time.time()
        self._counts = Counts()
        self._last: CycleRecord | None = None
        self._domains = DomainText(hypervisor)
        self._turn = threading.Lock()
        self._rendered: tuple[CycleRecord | None, bytes] | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def record(self, record: CycleRecord) -> None:
        self._counts.count(record)
        self._last = record

    def reloaded(self, digest: str | None) -> None:
        """A reload ended: with this configuration, or None where the old one stays."""
        self._reload_ok = digest is not None
        if digest is not None:
            self._digest = digest
            self._reload_at_s = time.time()
        self._rendered = None

    def render(self) -> bytes:
        """The exposition text of the last cycle; the same bytes until the next one ends."""
        with self._turn:
            record = self._last
            rendered = self._rendered
            if rendered is None or rendered[0] is not record:
                text = generate_latest(self._registry)
                if record is not None:
                    text += self._domains.write(record, self._counts.domains).encode()
                rendered = self._rendered = (record, text)
            return rendered[1]

    def collect(self) -> Iterator[Metric]:
        """All but the series of domains, for prometheus_client."""
        record = self._last
        yield gauge(catalogue.BUILD_INFO, 1, version())
        yield gauge(catalogue.CONFIG_INFO, 1, self._digest)
        yield gauge(catalogue.RELOAD_OK, self._reload_ok)
        yield gauge(catalogue.RELOAD_AT, self._reload_at_s)
        yield gauge(catalogue.UP, record is not None)
        yield from self._counts.shown()
        if record is None:
            return
        sample = record.sample
        yield gauge(catalogue.PERIOD, seconds(record.period_ns))
        yield gauge(catalogue.CONNECTED, sample.connected)
        yield gauge(catalogue.PAUSED, record.paused or record.killed)
        yield gauge(catalogue.LOST_THREADS, sample.lost_threads)
        yield gauge(catalogue.DOMAINS_CHANGED, len(record.outstanding))
        families = [
            GaugeMetricFamily(family.name, family.text, labels=family.labels)
            for family in (catalogue.OVERCOMMIT, catalogue.POOL_PCPUS, catalogue.HOST_WAIT)
        ]
        for pool in record.demand.pools:
            values = (pool.overcommit_ratio, pool.pcpus, pool.run_delay_ratio)
            for family, value in zip(families, values, strict=True):
                if value is not None:
                    family.add_metric([printable(pool.name)], value)
        yield from families
