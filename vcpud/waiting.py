"""How long each vCPU of a domain waited for a pCPU, where nobody counts it. Pure.

Problem: Xen tells dom0 how long a vCPU ran, to the nanosecond, but not how long it waited. What it
does at an instant can be asked; but whoever asks from dom0 occupies a pCPU while he does, so that
whatever ran there a moment ago is found waiting: "running" and "waiting" cannot be sampled. A vCPU
that blocks is not disturbed by the question.

Approach: waiting time is what is left: time online, minus time run (counted), minus time blocked
(sampled at jittered instants). A sample that finds a vCPU blocked stands for the time since the
sample before. What it stands for goes into a reservoir and is booked from there over the next few
samples' time, never more than the vCPU did not run; what cannot be booked now stays for later.
So the figure never decreases, never exceeds what is possible, and over time books exactly what was
sampled.

Error: a sample is one draw of a coin that shows "blocked" with the share of time blocked, p; it
stands for `gap`, so it adds gap^2 p(1-p) to the variance. p is taken from recent samples, one of
each kind added (Wilson's rule in its simple form), so that no run of equal samples claims to be
exact. States that last longer than the gap between samples make the truth better than this says.
References: Agresti and Coull 1998, "Approximate is better than exact".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from vcpud.units import NS_PER_MS, NS_PER_S

READY_SAMPLES: Final = 4
"""So many samples say something at all; before, nothing is reported."""
SPREAD_GAPS: Final = 4
"""Over so many gaps between samples what one sample stands for is booked."""
STALE_NS: Final = 60 * NS_PER_S
"""The last sample says nothing of what is later than this."""
_USUAL_GAPS: Final = 8
_KEEP: Final = 1 - 1 / 32
_SLACK_NS: Final = 20 * NS_PER_MS
_SLACK_RATIO: Final = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What is known of one vCPU.

    Attributes:
        at_ns: When its run time was last read, None while it is offline.
        run_ns: Its run time then.
        delay_ns: How long it has waited for a pCPU, in all.
        variance_ns2: Variance of that.
        overrun_ns: By how much it ran longer than the clock says, to be made up: two readings of
            time are never quite simultaneous. Zero or negative.
        reservoir_ns: Time blocked that was sampled and is not yet booked.
        sampled_at_ns: The last sample, None while nothing is known.
        gap_ns: Usual time between two samples.
        samples: Samples so far, old ones fading.
        blocked: Of those, so many found it blocked.
        taken: Samples in all.
    """

    at_ns: int | None = None
    run_ns: int = 0
    delay_ns: int = 0
    variance_ns2: float = 0.0
    overrun_ns: int = 0
    reservoir_ns: float = 0.0
    sampled_at_ns: int | None = None
    gap_ns: float = 0.0
    samples: float = 0.0
    blocked: float = 0.0
    taken: int = 0

    @property
    def known(self) -> bool:
        """Whether its delay can be told."""
        return self.taken >= READY_SAMPLES

    @property
    def error_ns(self) -> int:
        """Standard error of its delay."""
        return round(math.sqrt(self.variance_ns2))


def sampled(wait: Wait, *, blocked: bool, at_ns: int) -> Wait:
    """Take in one look at a vCPU that is online.

    Args:
        wait: What is known.
        blocked: Whether it was found blocked; found running or waiting, it was not.
        at_ns: When.
    """
    last_ns = wait.sampled_at_ns
    if last_ns is None or wait.at_ns is None or at_ns <= last_ns:
        return wait
    gap_ns = at_ns - last_ns
    if gap_ns > STALE_NS:
        return replace(wait, sampled_at_ns=at_ns)
    taken = wait.taken + 1
    usual_ns = wait.gap_ns + (gap_ns - wait.gap_ns) / min(taken, _USUAL_GAPS)
    samples = wait.samples * _KEEP + 1
    found = wait.blocked * _KEEP + blocked
    likely = (found + 1) / (samples + 2)
    after = replace(
        wait,
        variance_ns2=wait.variance_ns2 + gap_ns**2 * likely * (1 - likely),
        sampled_at_ns=at_ns,
        gap_ns=usual_ns,
        samples=samples,
        blocked=found,
        taken=taken,
    )
    if taken <= READY_SAMPLES:
        return replace(after, reservoir_ns=_settled_ns(after))
    # Where looks become rarer, what is booked of one takes longer, and as much more is on its way.
    under_way_ns = wait.reservoir_ns * usual_ns / wait.gap_ns
    # Nothing is booked between two readings of the run time: what was seen since the last has room besides.
    most_ns = 2 * SPREAD_GAPS * usual_ns + max(at_ns - wait.at_ns, 0)
    return replace(after, reservoir_ns=min(under_way_ns + gap_ns * blocked, most_ns))


def counted(wait: Wait, *, run_ns: int, at_ns: int, online: bool) -> Wait:
    """Take in a reading of its run time.

    Args:
        wait: What is known.
        run_ns: How long it has run in all.
        at_ns: When that was read.
        online: Whether it could run: one that is offline or paused waits for nothing.
    """
    if not online:
        return replace(
            wait, at_ns=None, overrun_ns=0, reservoir_ns=_settled_ns(wait), sampled_at_ns=None
        )
    fresh = replace(wait, at_ns=at_ns, run_ns=run_ns)
    if wait.at_ns is None:
        return replace(fresh, sampled_at_ns=at_ns)  # what the next sample stands for begins here
    window_ns, ran_ns = at_ns - wait.at_ns, run_ns - wait.run_ns
    if window_ns <= 0:
        return wait
    stepped = not 0 <= ran_ns <= window_ns * _SLACK_RATIO + _SLACK_NS
    if stepped or not wait.known:
        return fresh  # this window tells nothing
    idle_ns = window_ns - ran_ns + wait.overrun_ns
    if idle_ns < 0:
        return replace(fresh, overrun_ns=max(idle_ns, -_SLACK_NS))
    booked_ns = min(
        wait.reservoir_ns * -math.expm1(-window_ns / (SPREAD_GAPS * wait.gap_ns)), float(idle_ns)
    )
    return replace(
        fresh,
        delay_ns=wait.delay_ns + idle_ns - round(booked_ns),
        overrun_ns=0,
        reservoir_ns=wait.reservoir_ns - booked_ns,
    )


def _settled_ns(wait: Wait) -> float:
    """What the reservoir holds when it has long been as the samples say."""
    return SPREAD_GAPS * wait.gap_ns * wait.blocked / wait.samples if wait.samples else 0.0


def told_at(wait: Wait, at_ns: int) -> tuple[int, int] | None:
    """Its delay and the standard error of that, None where they cannot be told.

    Args:
        wait: What is known.
        at_ns: The instant of the sample that this is for.
    """
    if wait.sampled_at_ns is None:
        return wait.delay_ns, wait.error_ns  # offline: it stands still
    stale = at_ns - wait.sampled_at_ns > STALE_NS
    return None if stale or not wait.known else (wait.delay_ns, wait.error_ns)
