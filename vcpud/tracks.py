"""The fold from samples to demand: what is remembered of each domain from cycle to cycle.

Pure. Counters are cumulative and differences are taken here only. Nothing that is missing, stale,
decreasing or absurd moves a figure: the domain is held instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from vcpud.demand import (
    Claim,
    DomainDemand,
    HostDemand,
    PoolDemand,
    wanted_pcpus,
    water_filled,
)
from vcpud.heard import NOTHING_HEARD, Heard, Point, hear
from vcpud.model import (
    DomainSample,
    HostSample,
    ShareUnit,
    Trouble,
    Uuid,
)
from vcpud.swift import maker
from vcpud.units import NS_PER_MS, NS_PER_S

SMOOTH_NS = 3 * NS_PER_S
"""Time constant of host-side smoothing: run delay arrives in jumps, when a wait ends."""
GUEST_STALE_NS = 60 * NS_PER_S
"""A guest's word older than this is no evidence any more."""
KEPT_NS = 120 * NS_PER_S
"""How far back host readings are kept, to match a guest's window with the host's."""
SPARE_NS = 30 * NS_PER_S
"""How much longer they may stay: letting go of one at each sample would cost more than it saves."""
KEPT_UNHEARD = 8
"""How many are kept while a guest says nothing that they could be matched with."""
RECENT = 16
"""How many stand apart from those before: all that is kept would be copied at each sample."""
RUN_TICK_NS = 20 * NS_PER_MS
"""`vcpu.N.time` counts in ticks of 10 ms, off by one at either end of a window."""
MIN_AVAILABLE_RATIO = 0.1
"""However busy the rest of the host, a tenth of a pool is taken to be there for its domains."""
HOLDS = (
    Trouble.PAUSED,
    Trouble.HUNG,
    Trouble.STALE,
    Trouble.JOB,
    Trouble.BOOTING,
    Trouble.PINNED,
    Trouble.POOLS_OVERLAP,
    Trouble.METADATA_INVALID,
    Trouble.COUNTER_RESET,
    Trouble.COUNTER_ABSURD,
    Trouble.AGENT_ABSURD,
    Trouble.SELF_MANAGED,
)
"""Troubles with which nothing may be decided for a domain, gravest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What is remembered of one domain between cycles.

    Attributes:
        sample: The latest.
        weight: Its share of its pool.
        active_vcpus: vCPUs its guest may schedule on.
        most_vcpus: Its ceiling.
        older: Host readings kept, oldest first, but for those in `points`.
        points: The latest of them, oldest first.
        used_pcpus: Run time per unit of time, smoothed.
        run_delay_pcpus: Run delay per unit of time, smoothed.
        absurd: Its counters ran faster than the clock, or backwards.
        heard: What its guest told.
    """

    sample: DomainSample
    weight: int
    active_vcpus: int
    most_vcpus: int
    older: tuple[Point, ...] = ()
    points: tuple[Point, ...] = ()
    used_pcpus: float | None = None
    run_delay_pcpus: float | None = None
    absurd: bool = False
    heard: Heard = NOTHING_HEARD


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """What is remembered of the host between cycles; `Tracks()` is the beginning."""

    domains: Mapping[Uuid, Track] = field(default_factory=dict)
    demands: Mapping[Uuid, DomainDemand] = field(default_factory=dict)
    taken_at_ns: int | None = None
    busy_ns: int | None = None
    unmanaged_pcpus: float = 0.0


def estimate(before: Tracks, sample: HostSample) -> tuple[Tracks, HostDemand]:
    """Fold one sample into what is known, and say what each domain wants.

    Args:
        before: The fold so far.
        sample: The latest readings.

    Returns:
        The fold to pass in next time, and the demand. Nothing that is missing, stale, decreasing
        or absurd moves a figure: the domain is held instead.
    """
    known, said = before.domains, before.demands
    tracks: dict[Uuid, Track] = {}
    running: list[Track] = []
    for domain in sample.domains:
        track = known.get(domain.uuid)
        if track is None or domain is not track.sample:
            track = _track(track, domain)
        tracks[domain.uuid] = track
        if _PAUSED not in domain.troubles:
            running.append(track)
    unmanaged_pcpus = _unmanaged(before, sample, running)
    pools, entitled = _pools(sample, running, unmanaged_pcpus)
    demands: dict[Uuid, DomainDemand] = {}
    for uuid, track in tracks.items():
        pcpus, demand = entitled.get(uuid), said.get(uuid)
        if demand is None or demand.entitled_pcpus != pcpus or track is not known[uuid]:
            demand = _demand(track, pcpus)
        demands[uuid] = demand
    window_ns = 0 if before.taken_at_ns is None else sample.taken_at_ns - before.taken_at_ns
    after = Tracks(
        domains=tracks,
        demands=demands,
        taken_at_ns=sample.taken_at_ns,
        busy_ns=sample.busy_ns,
        unmanaged_pcpus=unmanaged_pcpus,
    )
    return after, HostDemand(window_ns=window_ns, pools=pools, domains=tuple(demands.values()))


def _track(before: Track | None, sample: DomainSample) -> Track:
    terms, guest = sample.terms, sample.guest
    active = sample.live_vcpus if sample.online is None else len(sample.online)
    # Where weight counts per vCPU, a domain's share is that of all of them together.
    weight = sample.weight
    if sample.share_unit is _PER_VCPU:
        weight *= max(active, 1)
    most = sample.max_vcpus
    if terms.max_vcpus is not None:
        most = min(most, terms.max_vcpus)
    told = None
    if (
        before is None
        or before.sample.incarnation != sample.incarnation
        or before.sample.boots != sample.boots
    ):
        before = _make_track(sample, weight, active, most)
    else:
        told = before.sample.guest
    host = older, points, _, _, _ = _host_side(before, sample)
    heard = before.heard
    if guest is not told or (guest is not None and guest.accounting is not heard.accounting):
        heard = hear(heard, guest, older + points, before.active_vcpus, _perf(sample))
    return _make_track(sample, weight, active, most, *host, heard)


_NO_POINT: Point = (-1, 0, None)
_Points: TypeAlias = tuple[Point, ...]
_HostSide: TypeAlias = tuple[_Points, _Points, float | None, float | None, bool]
"""What the host's counters say of one domain: readings kept, use, run delay, absurd or not."""


def _host_side(track: Track, sample: DomainSample) -> _HostSide:
    """Run time and run delay per unit of time, smoothed; each domain and cycle comes by here."""
    points, used, delay_pcpus = track.points, track.used_pcpus, track.run_delay_pcpus
    now_ns = sample.taken_at_ns
    last_ns, last_run_ns, last_delay_ns = points[-1] if points else _NO_POINT
    if now_ns <= last_ns:
        return track.older, points, used, delay_pcpus, track.absurd
    if sample.vcpus is track.sample.vcpus and last_ns == track.sample.taken_at_ns:
        total_ns, delay_ns = last_run_ns, last_delay_ns  # the very same: nothing ran or waited
    else:
        told_ns, delay_ns = sample.vcpus.totals()
        if told_ns is None:
            return track.older, points, used, delay_pcpus, False
        total_ns = told_ns
    point = now_ns, total_ns, delay_ns
    if not points:
        return (), (point,), used, delay_pcpus, False
    window_ns, run_ns = now_ns - last_ns, total_ns - last_run_ns
    count = len(sample.vcpus.indices)
    # An unplugged vCPU takes its counters away, a plugged one brings new ones: start over.
    replugged = sample.vcpus.indices != track.sample.vcpus.indices
    if replugged or run_ns < 0 or run_ns > window_ns * count * 1.25 + RUN_TICK_NS * count:
        return (), (point,), used, delay_pcpus, not replugged
    keep = _keep(window_ns)
    use = run_ns / window_ns
    used = use if used is None else keep * used + (1 - keep) * use
    delay_pcpus = _delay(delay_pcpus, last_delay_ns, delay_ns, window_ns, count)
    older, points = _kept(track, sample)
    return older, (*points, point), used, delay_pcpus, False


def _delay(
    known: float | None, before_ns: int | None, now_ns: int | None, window_ns: int, count: int
) -> float | None:
    """Run delay per unit of time, smoothed; one that runs backwards moves nothing."""
    if before_ns is None or now_ns is None:
        return None
    if now_ns < before_ns:
        return known
    delay = (now_ns - before_ns) / window_ns
    if delay > count:
        delay = float(count)
    keep = _keep(window_ns)
    return delay if known is None else keep * known + (1 - keep) * delay


def _last_delay(track: Track) -> float | None:
    """Run delay per unit of time between the latest two readings."""
    points = track.points if len(track.points) > 1 else track.older[-1:] + track.points
    if len(points) < 2:  # noqa: PLR2004 - a window has two ends
        return None
    (before_ns, _, before_delay_ns), (now_ns, _, delay_ns) = points[-2], points[-1]
    if before_delay_ns is None or delay_ns is None or delay_ns < before_delay_ns:
        return None
    return min((delay_ns - before_delay_ns) / (now_ns - before_ns), float(track.most_vcpus))


@lru_cache(maxsize=64)
def _keep(window_ns: int) -> float:
    """What smoothing keeps of what was, for any spacing: exp(-window / SMOOTH_NS)."""
    return math.exp(-window_ns / SMOOTH_NS)


def _kept(track: Track, sample: DomainSample) -> tuple[_Points, _Points]:
    """Host readings to go on with, before the one of now is added."""
    older, points = track.older, track.points
    if sample.guest is None and track.heard.accounting is None:
        return (), (older + points)[1 - KEPT_UNHEARD :]
    since_ns = sample.taken_at_ns - KEPT_NS
    if (older or points)[0][0] < since_ns - SPARE_NS:
        older, points = tuple([one for one in older + points if one[0] >= since_ns]), ()
    elif len(points) > RECENT:
        older, points = older + points, ()
    return (older, points) if points else (older[:-1], older[-1:])


def _perf(sample: DomainSample) -> tuple[int, int] | None:
    if sample.cycles is None or sample.instructions is None:
        return None
    return sample.cycles, sample.instructions


def _claim(track: Track) -> Claim:
    """Never more than its owner's ceiling, behind which what is held back looks like a wait."""
    most = float(track.most_vcpus) if (ceiling := _ceiling(track)) is None else ceiling
    wanted = wanted_pcpus(track.used_pcpus, track.run_delay_pcpus, track.heard.queued_tasks, most)
    return track.sample.uuid, float(track.weight), wanted, most


def _ceiling(track: Track) -> float | None:
    """What its owner lets it use; None where only its vCPUs bound it."""
    quota, cap = track.sample.quota_pcpus_per_vcpu, track.sample.cap_pcpus
    if quota is None and cap is None:
        return None
    most = float(track.most_vcpus)
    if quota is not None:
        most *= min(quota, 1.0)
    return most if cap is None else min(most, cap)


def _demand(track: Track, entitled_pcpus: float | None) -> DomainDemand:
    sample, heard = track.sample, track.heard
    terms, guest, locks = sample.terms, sample.guest, heard.locks
    hold = None
    if sample.troubles:
        hold = next((trouble for trouble in HOLDS if trouble in sample.troubles), None)
    if hold is None and track.absurd:
        hold = Trouble.COUNTER_ABSURD
    lock_at_ns = None if locks is None else locks.taken_at_ns
    fresh = lock_at_ns is not None and sample.taken_at_ns - lock_at_ns <= GUEST_STALE_NS
    return _make_demand(
        sample.uuid,
        sample.name,
        terms.mode,
        sample.pool,
        track.weight,
        track.active_vcpus,
        min(terms.min_vcpus, sample.max_vcpus),
        track.most_vcpus,
        sample.method,
        track.used_pcpus,
        track.run_delay_pcpus,
        _last_delay(track),
        entitled_pcpus,
        heard.lock_wait_ratio if fresh else None,
        lock_at_ns,
        heard.queued_tasks,
        guest.runnable.runnable if guest and guest.runnable else None,
        heard.system_ratio,
        heard.steal_ratio,
        heard.progress,
        hold,
        None,
        None,
        _ceiling(track),
    )


_PAUSED, _PER_VCPU = Trouble.PAUSED, ShareUnit.VCPU  # an enumeration takes its time to say so
_make_track = maker(Track)
_make_demand = maker(DomainDemand)


def _unmanaged(before: Tracks, sample: HostSample, running: Sequence[Track]) -> float:
    """pCPUs used by whatever is not a vCPU of a sampled domain, smoothed; the paused use none."""
    if before.busy_ns is None or sample.busy_ns is None or before.taken_at_ns is None:
        return before.unmanaged_pcpus
    window_ns = sample.taken_at_ns - before.taken_at_ns
    busy_ns = sample.busy_ns - before.busy_ns
    if window_ns <= 0 or busy_ns < 0:
        return before.unmanaged_pcpus
    managed_ns = 0
    for track in running:
        points = track.points
        if len(points) > 1:
            # These may be further apart than two samples of the host, and older.
            (was_ns, run_ns, _), (at_ns, more_ns, _) = points[-2:]
            ran_ns, over_ns = more_ns - run_ns, at_ns - was_ns
            managed_ns += ran_ns if over_ns == window_ns else ran_ns * window_ns // over_ns
    keep = _keep(window_ns)
    rate = max(busy_ns - managed_ns, 0) / window_ns
    return keep * before.unmanaged_pcpus + (1 - keep) * rate


def _pools(
    sample: HostSample, running: Sequence[Track], unmanaged_pcpus: float
) -> tuple[tuple[PoolDemand, ...], dict[Uuid, float]]:
    members: dict[str, list[Track]] = {}
    for track in running:
        members.setdefault(track.sample.pool, []).append(track)
    all_pcpus = sum(pool.pcpus for pool in sample.pools) or 1
    pools = []
    entitled: dict[Uuid, float] = {}
    for pool in sample.pools:
        inside = members.get(pool.name, [])
        unmanaged = unmanaged_pcpus * pool.pcpus / all_pcpus
        available = max(pool.pcpus - unmanaged, MIN_AVAILABLE_RATIO * pool.pcpus)
        entitled |= water_filled(available, list(map(_claim, inside)))
        active = sum([t.active_vcpus for t in inside])
        delays = [t.run_delay_pcpus for t in inside if t.run_delay_pcpus is not None]
        pools.append(
            PoolDemand(
                name=pool.name,
                pcpus=pool.pcpus,
                available_pcpus=available,
                active_vcpus=active,
                overcommit_ratio=active / available,
                run_delay_ratio=sum(delays) / active if delays and active else None,
            )
        )
    return tuple(pools), entitled
