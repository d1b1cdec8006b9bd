"""How one domain's counters become rates: what is remembered of it from sample to sample.

Pure. Counters are cumulative; differences of the host's are taken here, of the guest's in
`vcpud.heard`. What is missing, decreasing or absurd moves no figure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from vcpud.heard import NOTHING_HEARD, Heard, Point, hear
from vcpud.model import DomainSample, Original, ShareUnit
from vcpud.swift import maker
from vcpud.units import NS_PER_MS, NS_PER_S

SMOOTH_NS = 3 * NS_PER_S
"""Time constant of host-side smoothing: run delay arrives in jumps, when a wait ends."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What is remembered of one domain between cycles.

    Attributes:
        sample: The latest.
        original: What it had before vcpud first touched it, None while that is what it has.
        weight: Its share of its pool.
        active_vcpus: vCPUs its guest may schedule on.
        most_vcpus: The most it may come to have.
        older: Host readings kept, oldest first, but for those in `points`.
        points: The latest of them, oldest first.
        used_pcpus: Run time per unit of time, smoothed.
        run_delay_pcpus: Run delay per unit of time, smoothed.
        absurd: Its counters ran faster than the clock, or backwards.
        heard: What its guest told.
    """

    sample: DomainSample
    original: Original | None
    weight: int
    active_vcpus: int
    most_vcpus: int
    older: tuple[Point, ...] = ()
    points: tuple[Point, ...] = ()
    used_pcpus: float | None = None
    run_delay_pcpus: float | None = None
    absurd: bool = False
    heard: Heard = NOTHING_HEARD


def follow(before: Track | None, sample: DomainSample, original: Original | None) -> Track:
    """Take in a domain's next sample; another run or boot of it begins anew.

    What it may come to use is bounded by the vCPUs it came with: those vcpud has taken count, and
    those nobody ever gave it do not. An owner who adds some raises that.

    Args:
        before: What is known, None where it was not there before.
        sample: What is read of it now.
        original: What it had before vcpud first touched it, None while that is what it has.
    """
    terms, guest = sample.terms, sample.guest
    active = sample.live_vcpus if sample.online is None else len(sample.online)
    weight, home = sample.weight, max(active, 1)
    if original is not None:
        weight, home = original.weight or weight, max(original.home_vcpus, home)
    # Where weight counts per vCPU, a domain's share is that of all of them together.
    if sample.share_unit is _PER_VCPU:
        weight *= home
    most = min(home, sample.max_vcpus)
    if terms.max_vcpus is not None:
        most = min(most, terms.max_vcpus)
    told = None
    if (
        before is None
        or before.sample.incarnation != sample.incarnation
        or before.sample.boots != sample.boots
    ):
        before = _make_track(sample, original, weight, active, most)
    else:
        told = before.sample.guest
    host = older, points, _, _, _ = _host_side(before, sample)
    heard = before.heard
    if guest is not told or (guest is not None and guest.accounting is not heard.accounting):
        heard = hear(heard, guest, older + points, before.active_vcpus, _perf(sample))
    return _make_track(sample, original, weight, active, most, *host, heard)


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
    keep = keep_ratio(window_ns)
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
    keep = keep_ratio(window_ns)
    return delay if known is None else keep * known + (1 - keep) * delay


def last_window(track: Track) -> tuple[float | None, float | None, int | None]:
    """Run delay and use per unit of time between the latest two readings, and when that ended."""
    points = track.points if len(track.points) > 1 else track.older[-1:] + track.points
    if not points:
        return None, None, None
    now_ns, run_ns, delay_ns = points[-1]
    if len(points) < 2:  # noqa: PLR2004 - a window has two ends
        return None, None, now_ns
    before_ns, before_run_ns, before_delay_ns = points[-2]
    window_ns, most = now_ns - before_ns, float(len(track.sample.vcpus.indices))
    used = min((run_ns - before_run_ns) / window_ns, most)
    if before_delay_ns is None or delay_ns is None or delay_ns < before_delay_ns:
        return None, used, now_ns
    return min((delay_ns - before_delay_ns) / window_ns, most), used, now_ns


@lru_cache(maxsize=64)
def keep_ratio(window_ns: int) -> float:
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


_PER_VCPU = ShareUnit.VCPU  # an enumeration takes its time to say so
_make_track = maker(Track)
