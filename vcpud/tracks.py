"""The fold from samples of the host to demand: who wants what, what there is, who is entitled to what.

Pure. How each domain is followed is told by `vcpud.rates`. Nothing that is missing, stale, decreasing
or absurd moves a figure: the domain is held instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from vcpud.demand import (
    Claim,
    DomainDemand,
    HostDemand,
    PoolDemand,
    wanted_pcpus,
    water_filled,
)
from vcpud.model import (
    HostSample,
    Original,
    Trouble,
    Uuid,
)
from vcpud.rates import Track, follow, keep_ratio, last_window
from vcpud.shares import Unmanaged, loose
from vcpud.swift import maker
from vcpud.units import NS_PER_S

GUEST_STALE_NS = 60 * NS_PER_S
"""A guest's word older than this is no evidence any more."""
MIN_AVAILABLE_RATIO = 0.1
"""However busy the rest of the host, a tenth of a pool is taken to be there for its domains."""
HOLDS = (
    Trouble.PAUSED,
    Trouble.HUNG,
    Trouble.SELF_MANAGED,
    Trouble.STALE,
    Trouble.JOB,
    Trouble.BOOTING,
    Trouble.PINNED,
    Trouble.POOLS_OVERLAP,
    Trouble.METADATA_INVALID,
    Trouble.COUNTER_RESET,
    Trouble.COUNTER_ABSURD,
    Trouble.AGENT_ABSURD,
)
"""Troubles with which nothing may be decided for a domain, gravest first. Others go by who manages itself, so what
is the matter for a moment must not hide it."""


_NOBODY_TOUCHED: Mapping[Uuid, Original] = MappingProxyType({})


NOTHING_ELSE = Unmanaged()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """What is remembered of the host between cycles; `Tracks()` is the beginning."""

    domains: Mapping[Uuid, Track] = field(default_factory=dict)
    demands: Mapping[Uuid, DomainDemand] = field(default_factory=dict)
    taken_at_ns: int | None = None
    busy_ns: int | None = None
    unmanaged: Unmanaged = NOTHING_ELSE


def estimate(
    before: Tracks, sample: HostSample, originals: Mapping[Uuid, Original] = _NOBODY_TOUCHED
) -> tuple[Tracks, HostDemand]:
    """Fold one sample into what is known, and say what each domain wants.

    Args:
        before: The fold so far.
        sample: The latest readings.
        originals: What domains had before vcpud first touched them, of those it has touched.

    Returns:
        The fold to pass in next time, and the demand. Nothing that is missing, stale, decreasing
        or absurd moves a figure: the domain is held instead.
    """
    known, said = before.domains, before.demands
    tracks: dict[Uuid, Track] = {}
    running: list[Track] = []
    for domain in sample.domains:
        track, original = known.get(domain.uuid), originals.get(domain.uuid)
        if track is None or domain is not track.sample or original is not track.original:
            track = follow(track, domain, original)
        tracks[domain.uuid] = track
        if _PAUSED not in domain.troubles:
            running.append(track)
    same = known.keys() == tracks.keys()
    unmanaged = _unmanaged(before, sample, running, same=same)
    pools, entitled = _pools(sample, running, unmanaged.pcpus)
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
        unmanaged=unmanaged,
    )
    return after, HostDemand(window_ns=window_ns, pools=pools, domains=tuple(demands.values()))


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
        min(terms.min_vcpus, track.most_vcpus),
        track.most_vcpus,
        sample.method,
        track.used_pcpus,
        track.run_delay_pcpus,
        *last_window(track),
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
        None if track.original is None else track.original.home_vcpus,
        _ceiling(track),
        loose(sample),
    )


_PAUSED = Trouble.PAUSED  # an enumeration takes its time to say so
_make_demand = maker(DomainDemand)


def _unmanaged(
    before: Tracks, sample: HostSample, running: Sequence[Track], *, same: bool
) -> Unmanaged:
    """pCPUs used by whatever is not a vCPU of a sampled domain, smoothed; the paused use none.

    Where they are not the same domains as before, what nobody who is left has used may have been used
    by who came or went: then it is not taken for unmanaged.
    """
    known = before.unmanaged
    window_ns = 0 if before.taken_at_ns is None else sample.taken_at_ns - before.taken_at_ns
    busy_ns = -1
    if before.busy_ns is not None and sample.busy_ns is not None:
        busy_ns = sample.busy_ns - before.busy_ns
    told = window_ns > 0 and busy_ns >= 0
    pcpus = known.pcpus
    if told:
        keep = keep_ratio(window_ns)
        rate = max(busy_ns - _managed_ns(running, window_ns), 0) / window_ns
        if not same:
            rate = min(rate, pcpus)
        pcpus = keep * pcpus + (1 - keep) * rate
    since_ns = known.unknown_since_ns
    if told and not sample.undescribed:
        since_ns = None
    elif since_ns is None:
        since_ns = sample.taken_at_ns
    return Unmanaged(pcpus=pcpus, unknown_since_ns=since_ns)


def _managed_ns(running: Sequence[Track], window_ns: int) -> int:
    """What the vCPUs of these ran for in the last window."""
    managed_ns = 0
    for track in running:
        points = track.points
        if len(points) > 1:
            # These may be further apart than two samples of the host, and older.
            (was_ns, run_ns, _), (at_ns, more_ns, _) = points[-2:]
            ran_ns, over_ns = more_ns - run_ns, at_ns - was_ns
            managed_ns += ran_ns if over_ns == window_ns else ran_ns * window_ns // over_ns
    return managed_ns


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
