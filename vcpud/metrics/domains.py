"""The series of domains, written straight as exposition text.

Problem: a thousand domains have tens of thousands of series, and building an object for each of
them costs more than the whole cycle they describe. Approach: one list of lines per family; the
labels of a domain are escaped once and kept while it lives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from vcpud.metrics import catalogue
from vcpud.model import DomainSample, Trouble, Uuid
from vcpud.record import Phase, Why
from vcpud.text import printable
from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from vcpud.counters import VcpuCounters
    from vcpud.demand import DomainDemand
    from vcpud.metrics.catalogue import Family
    from vcpud.metrics.counts import DomainCounts
    from vcpud.record import CycleRecord, DomainStatus

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


@dataclass(slots=True)
class _Seen:
    """One domain in one cycle."""

    label: str
    sample: DomainSample
    demand: DomainDemand | None
    status: DomainStatus | None
    earlier: DomainSample | None
    ended_ns: int


# ------------------------------------------------------------------- figures, one per domain


def _wait(seen: _Seen) -> float | None:
    demand = seen.demand
    if demand is None or demand.run_delay_pcpus is None or not demand.active_vcpus:
        return None
    return min(demand.run_delay_pcpus / demand.active_vcpus, 1.0)


def _lhp(seen: _Seen) -> float | None:
    if seen.demand is None or seen.demand.lock_wait_ratio is None:
        return None
    wait = _wait(seen)
    return None if wait is None else min(wait, seen.demand.lock_wait_ratio)


def _progress(seen: _Seen) -> float | None:
    progress = None if seen.demand is None else seen.demand.progress
    return None if progress is None else progress.rate_pcpus


def _hazard(seen: _Seen) -> float | None:
    earlier, now = seen.earlier, seen.sample
    if earlier is None or earlier.incarnation != now.incarnation:
        return None
    return concurrency_hazard(earlier.vcpus, now.vcpus, now.taken_at_ns - earlier.taken_at_ns)


def concurrency_hazard(earlier: VcpuCounters, now: VcpuCounters, window_ns: int) -> float | None:
    """Share of a window in which some vCPUs of a domain ran while others waited for a pCPU.

    Estimated from how long each vCPU ran and waited, as if they took turns independently:
    P(some run and some wait) = 1 - P(none runs) - P(none waits) + P(none does either). XAPI
    measures the same figure exactly with a patched Xen (`runstate_concurrency_hazard`).

    Args:
        earlier: Counters at the start of the window.
        now: Counters at its end.
        window_ns: Its length.

    Returns:
        A ratio from 0 to 1, or None where it cannot be told.
    """
    width, then, counts = len(now.indices), earlier.counts, now.counts
    if window_ns <= 0 or earlier.indices != now.indices or not width:
        return None
    if min(len(then), len(counts)) < 2 * width:  # run times only, or nothing at all
        return None
    none_runs = none_waits = neither = 1.0
    for was_run_ns, run_ns, was_delay_ns, delay_ns in zip(
        then[:width], counts, then[width:], counts[width:], strict=False
    ):
        if was_run_ns is None or run_ns is None or was_delay_ns is None or delay_ns is None:
            return None
        if run_ns == was_run_ns and delay_ns == was_delay_ns:
            continue
        runs = (run_ns - was_run_ns) / window_ns
        waits = (delay_ns - was_delay_ns) / window_ns
        if runs < 0 or waits < 0 or runs + waits > 1:  # ticks, and waits booked at their end
            runs = min(max(runs, 0.0), 1.0)
            waits = min(max(waits, 0.0), 1.0 - runs)
        none_runs *= 1.0 - runs
        none_waits *= 1.0 - waits
        neither *= 1.0 - runs - waits
    return max(1.0 - none_runs - none_waits + neither, 0.0)


def _wait_error(seen: _Seen) -> float | None:
    earlier, now = seen.earlier, seen.sample
    if earlier is None or earlier.incarnation != now.incarnation:
        return None
    window_ns = now.taken_at_ns - earlier.taken_at_ns
    active = now.live_vcpus if now.online is None else len(now.online)
    return wait_error(earlier.vcpus, now.vcpus, window_ns, active)


def wait_error(
    earlier: VcpuCounters, now: VcpuCounters, window_ns: int, active_vcpus: int
) -> float | None:
    """Standard error of a domain's run-queue wait, per active vCPU and unit of time.

    Errors of vCPUs are their own: they add in squares, as those of one vCPU do over time.

    Args:
        earlier: Counters at the start of the window.
        now: Counters at its end.
        window_ns: Its length.
        active_vcpus: How many vCPUs the wait is shared out to.

    Returns:
        None where waiting is counted, or cannot be told.
    """
    if not now.errors_ns:
        return None
    were = dict(zip(earlier.indices, earlier.errors_ns, strict=False))  # it may have none at all
    squares = [
        error_ns**2 - was**2
        for index, error_ns in zip(now.indices, now.errors_ns, strict=True)
        if error_ns is not None and (was := were.get(index)) is not None
    ]
    if window_ns <= 0 or active_vcpus < 1 or not squares:
        return None
    return math.sqrt(max(sum(squares), 0)) / window_ns / active_vcpus


def _age(seen: _Seen) -> float:
    age_ns = seen.ended_ns - seen.sample.taken_at_ns
    return age_ns / NS_PER_S if age_ns > 0 else 0.0


_FIGURES: tuple[tuple[Family, Callable[[_Seen], float | None]], ...] = (
    (catalogue.DOMAIN_WAIT, _wait),
    (catalogue.DOMAIN_WAIT_ERROR, _wait_error),
    (catalogue.DOMAIN_HAZARD, _hazard),
    (catalogue.DOMAIN_LHP, _lhp),
    (catalogue.DOMAIN_YIELDS, attrgetter("sample.vcpus.yields")),
    (catalogue.DOMAIN_PROGRESS, _progress),
    (catalogue.DOMAIN_AGE, _age),
)
_OF_DEMAND: tuple[tuple[Family, Callable[[DomainDemand], float | None]], ...] = (
    (catalogue.DOMAIN_LOCK_WAIT, attrgetter("lock_wait_ratio")),
    (catalogue.DOMAIN_ENTITLED, attrgetter("entitled_pcpus")),
    (catalogue.DOMAIN_USED, attrgetter("used_pcpus")),
    (catalogue.DOMAIN_QUEUED, attrgetter("queued_tasks")),
    (catalogue.DOMAIN_STEAL, attrgetter("steal_ratio")),
)


# ------------------------------------------------------------------------------------ the text


class DomainText:
    """Writes the series of every domain of a cycle.

    Concurrency hazard is told over the time since the text was written last, so that a scraper
    sees all of the time between its scrapes.
    """

    def __init__(self, hypervisor: str) -> None:
        self._hypervisor = _quoted(hypervisor)
        self._labels: dict[Uuid, tuple[str, str]] = {}
        self._written: dict[Uuid, tuple[tuple[Any, ...], str, str, str]] = {}
        self._earlier: dict[Uuid, DomainSample] = {}

    def write(self, record: CycleRecord, counts: DomainCounts) -> str:
        """The exposition text; nothing but comments where there is no domain."""
        demands = {demand.uuid: demand for demand in record.demand.domains}
        statuses = {status.uuid: status for status in record.domains}
        labels = self._label(record.sample.domains)
        everyone = [
            _Seen(
                labels[sample.uuid],
                sample,
                demands.get(sample.uuid),
                statuses.get(sample.uuid),
                self._earlier.get(sample.uuid),
                record.ended_ns,
            )
            for sample in record.sample.domains
        ]
        self._earlier = {sample.uuid: sample for sample in record.sample.domains}
        lines: list[str] = []
        self._several(lines, everyone)
        wanted = [seen for seen in everyone if seen.demand is not None]
        demanded = [seen.demand for seen in everyone if seen.demand is not None]
        for family, figure in _FIGURES:
            _series(lines, family, everyone, map(figure, everyone))
        for family, of_demand in _OF_DEMAND:
            _series(lines, family, wanted, map(of_demand, demanded))
        _tallies(lines, catalogue.DOMAIN_CHANGES, labels, counts.changes)
        _tallies(lines, catalogue.DOMAIN_OUTCOMES, labels, counts.outcomes)
        _head(lines, catalogue.DOMAIN_GAIN)
        name = catalogue.DOMAIN_GAIN.name
        for uuid, gain in list(counts.gains.items()):
            if uuid in labels:
                lines.append(f"{name}{{domain={labels[uuid]}}} {gain:.10g}")
        lines.append("")
        return "\n".join(lines)

    def _several(self, lines: list[str], everyone: list[_Seen]) -> None:
        """Families with more labels than the domain's name: mostly what they were a cycle ago."""
        written: dict[Uuid, tuple[tuple[Any, ...], str, str, str]] = {}
        for seen in everyone:
            sample, status = seen.sample, seen.status
            terms = sample.terms
            now = (
                seen.label,
                sample.method,
                terms,
                sample.pool,
                sample.live_vcpus if sample.online is None else len(sample.online),
                sample.max_vcpus,
                None if status is None else (status.target_vcpus, status.original_vcpus),
                sample.troubles,
            )
            before = self._written.get(sample.uuid)
            if before is None or before[0] != now:
                before = (now, self._info(seen), _vcpus(seen), _timed_out(seen))
            written[sample.uuid] = before
        self._written = written
        _head(lines, catalogue.DOMAIN_INFO)
        lines.extend([info for _, info, _, _ in written.values()])
        _head(lines, catalogue.DOMAIN_VCPUS)
        lines.extend([vcpus for _, _, vcpus, _ in written.values()])
        _head(lines, catalogue.DOMAIN_TIMED_OUT)
        lines.extend([late for _, _, _, late in written.values()])
        _head(lines, catalogue.DOMAIN_TROUBLE)
        name = catalogue.DOMAIN_TROUBLE.name
        for seen in everyone:
            if seen.sample.troubles:
                lines.extend(
                    f'{name}{{domain={seen.label},reason="{trouble}"}} 1'
                    for trouble in sorted(seen.sample.troubles)
                )
        _head(lines, catalogue.DOMAIN_QUARANTINED)
        name = catalogue.DOMAIN_QUARANTINED.name
        for seen in everyone:
            status = seen.status
            if status is not None and status.phase is Phase.QUARANTINED:
                why = status.why or Why.FAILED
                lines.append(f'{name}{{domain={seen.label},reason="{why}"}} 1')

    def _info(self, seen: _Seen) -> str:
        sample = seen.sample
        return (
            f"{catalogue.DOMAIN_INFO.name}{{domain={seen.label},uuid={_quoted(sample.uuid)},"
            f'hypervisor={self._hypervisor},tier="{sample.method}",'
            f'mode="{sample.terms.mode}",pool={_quoted(sample.pool)}}} 1'
        )

    def _label(self, samples: Iterable[DomainSample]) -> dict[Uuid, str]:
        """Each domain's name, quoted and unique: two series of one name void a whole scrape."""
        kept: dict[Uuid, tuple[str, str]] = {}
        taken: set[str] = set()
        for sample in samples:
            name, label = self._labels.get(sample.uuid, ("", ""))
            if not label or name != sample.name:
                label = _quoted(sample.name)
            if label in taken:
                label = _quoted(printable(sample.name), f"#{printable(sample.uuid)}")
            taken.add(label)
            kept[sample.uuid] = (sample.name, label)
        self._labels = kept
        return {uuid: label for uuid, (_, label) in kept.items()}


def _vcpus(seen: _Seen) -> str:
    sample, status = seen.sample, seen.status
    active = len(sample.active)
    ceiling = sample.terms.max_vcpus
    counts = {
        "active": active,
        "max": sample.max_vcpus if ceiling is None else min(sample.max_vcpus, ceiling),
        "min": sample.terms.min_vcpus,
    }
    if status is not None:
        had = status.original_vcpus
        counts["target"] = status.target_vcpus
        counts["original"] = active if had is None else had
    begin = f'{catalogue.DOMAIN_VCPUS.name}{{domain={seen.label},kind="'
    return "\n".join(f'{begin}{kind}"}} {count}' for kind, count in counts.items())


def _timed_out(seen: _Seen) -> str:
    late = int(Trouble.HUNG in seen.sample.troubles)
    return f"{catalogue.DOMAIN_TIMED_OUT.name}{{domain={seen.label}}} {late}"


def _series(
    lines: list[str], family: Family, everyone: list[_Seen], values: Iterable[float | None]
) -> None:
    _head(lines, family)
    begin = f"{family.name}{{domain="
    lines.extend(
        [
            f"{begin}{seen.label}}} {value:.10g}"
            for seen, value in zip(everyone, values, strict=True)
            if value is not None
        ]
    )


def _tallies(
    lines: list[str],
    family: Family,
    labels: Mapping[Uuid, str],
    tallies: Mapping[Uuid, Mapping[str, int]],
) -> None:
    _head(lines, family)
    word = family.labels[1]
    for uuid, counts in list(tallies.items()):
        if uuid in labels:
            begin = f'{family.name}{{domain={labels[uuid]},{word}="'
            lines.extend(f'{begin}{value}"}} {count}' for value, count in counts.items())


def _head(lines: list[str], family: Family) -> None:
    lines.append(f"# HELP {family.name} {family.text}")
    lines.append(f"# TYPE {family.name} {family.kind}")


def _quoted(text: str, more: str = "") -> str:
    return f'"{printable(text).translate(_ESCAPES)}{more.translate(_ESCAPES)}"'
