"""Is progress since a move better or worse than before it, or can that not be told yet?

Problem: there are few windows of it, and before the move they do not become more. Where progress is
steady the error of the mean tells after two windows. Where one window of three made a hundredth of the
others, that error says little, and hides a gain for good.
Approach: the means first, of one window where it lies far below all that was seen before vCPUs were
taken; then the order of the windows alone. If nothing set two lots of figures
apart, each order of the two together would be as likely as any other, and in how many of them the
second lot ranks at least so high can be counted. With windows since the move that grows more certain.

Pure. Rates are pCPUs of useful processor time.

References: H. B. Mann, D. R. Whitney, "On a Test of Whether one of Two Random Variables is
Stochastically Larger than the Other" (1947); the counts are coefficients of Gauss's binomials.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean, pvariance, stdev

from vcpud.demand import Progress

WINDOWS = 4
"""How many windows of progress are remembered and compared."""
LEAST_WINDOWS = 2
"""So many are seen after a move before it is judged, unless the first is overwhelming."""
MIN_GAIN_RATIO = 0.05
"""Gains and losses smaller than this are neither."""
NOISE_RATIO = 0.05
"""Least relative standard deviation of one window: tick accounting and other people's work."""
NOISE_PCPUS = 0.02
"""Least absolute standard deviation of one window."""
SIGNIFICANT_SIGMAS = 2.0
OVERWHELMING_RATIO = 2.0
"""From this factor on one window after the move is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Mean rates before and after, and the standard error of their difference.

    Attributes:
        before: Mean of the windows before.
        before_most: What that is at most, as far as the guest can tell.
        after: Mean of the latest windows since.
        after_most: What that is at most.
        error: Standard error of their difference.
        sigmas: How many standard errors make a difference clear.
        was: What the rates of the windows before are at most.
        since: Rates of all windows since.
    """

    before: float
    before_most: float
    after: float
    after_most: float
    error: float
    sigmas: float
    was: Sequence[float] = ()
    since: Sequence[float] = ()

    @property
    def seems_more(self) -> bool:
        # Of next to nothing a little more is none, however steady it is.
        least = self.before_most
        return self.after - least >= max(MIN_GAIN_RATIO * least, NOISE_PCPUS)

    @property
    def seems_less(self) -> bool:
        most = self.after_most
        return most < self.before and self.before >= most * (1 + MIN_GAIN_RATIO)

    @property
    def helped(self) -> bool:
        return self.seems_more and self.after - self.before_most > self.sigmas * self.error

    @property
    def harmed(self) -> bool:
        return self.seems_less and self.before - self.after_most > self.sigmas * self.error

    def outranks(self, *, last: bool) -> bool:
        """Whether so many windows since rank above those before that it is no accident.

        Who looks often enough finds that in any noise, so it is looked at once, at the last; but that
        every window since is above every one before can only cease, and may be looked at always.
        """
        if not last and inversions(self.was, self.since):
            return False
        # As unlikely as that a normal deviate exceeds so many standard deviations.
        return chance(self.was, self.since) <= math.erfc(self.sigmas / math.sqrt(2)) / 2


def compared(
    before: tuple[Progress, ...],
    after: tuple[Progress, ...],
    due_pcpus: float | None,
    sigmas: float,
    *,
    moved: tuple[int, int] | None = None,
) -> Gain | None:
    """Compare mean rates; None while there is too little to compare.

    Args:
        before: Windows before.
        after: Windows since.
        due_pcpus: Progress that it has a right to, None for all it makes.
        sigmas: How many standard errors make a difference clear.
        moved: How many vCPUs it had before and has since, where it was moved. Where it uses clearly more on
            the one number than the other can give it, that difference is certain, and what speaks against it
            must be, too: what it makes on the larger one counts at its most.
    """
    if not before or not after:
        return None
    due = math.inf if due_pcpus is None else due_pcpus
    from_vcpus, to_vcpus = moved or (math.inf, math.inf)
    was = [min(window.rate_pcpus, due) for window in before]
    most = [min(_most(window, to_vcpus), due) for window in before]
    since = [window.rate_pcpus for window in after]
    now = since[-WINDOWS:]
    gain = Gain(
        before=fmean(was),
        before_most=fmean(most),
        after=fmean(now),
        after_most=fmean(_most(window, from_vcpus) for window in after[-WINDOWS:]),
        error=math.hypot(_error(was), _error(now)),
        sigmas=sigmas,
        was=most,
        since=since,
    )
    more = gain.helped and gain.after >= OVERWHELMING_RATIO * gain.before_most
    taken = moved is not None and to_vcpus < from_vcpus
    less = gain.harmed and (
        gain.before >= OVERWHELMING_RATIO * gain.after_most or (taken and _strays(gain))
    )
    return gain if len(now) >= LEAST_WINDOWS or more or less else None


def _strays(gain: Gain) -> bool:
    """Whether the latest window is lower than one of those before would be, by how much each of them strays.

    Who loses by a move loses more the longer it takes. Waiting for a second window is for gains, of which one
    window may be an accident; that of a loss only gives back what was taken.
    """
    if len(gain.was) <= LEAST_WINDOWS:
        return False  # the deviation of two is any figure
    one = max(stdev(gain.was), NOISE_RATIO * fmean(gain.was), NOISE_PCPUS)
    return gain.before - gain.after_most > gain.sigmas * math.hypot(gain.error, one)


def _most(window: Progress, other_vcpus: float) -> float:
    """What it made, at the most where it used clearly more than the other number of vCPUs can give."""
    used, most = window.used_pcpus, window.most_pcpus
    if used is None or most is None or used <= other_vcpus * (1 + MIN_GAIN_RATIO):
        return window.rate_pcpus
    return max(window.rate_pcpus, most)


def sigmas_among(members: int) -> float:
    """How clear a difference must be: among many domains one strays far by chance alone.

    The largest of m normal deviates is about sqrt(2 ln m).
    """
    return math.sqrt(SIGNIFICANT_SIGMAS**2 + 2 * math.log(max(members, 1)))


def _error(rates: list[float]) -> float:
    """Standard error of a mean of a few windows, never below what one window is known to vary."""
    floor = max(NOISE_RATIO * fmean(rates), NOISE_PCPUS)
    return math.sqrt(max(pvariance(rates), floor * floor) / len(rates))


def inversions(before: Collection[float], after: Collection[float]) -> int:
    """Pairs of a figure before and one after of which the one after is not the larger."""
    return sum(one >= other for one in before for other in after)


def chance(before: Collection[float], after: Collection[float]) -> float:
    """How likely so few inversions are where nothing sets the two apart; 1 where one is empty."""
    few, many, most = len(before), len(after), inversions(before, after)
    # Orders with 0, 1, ... inversions: the product of (1 - q^(many + k)) / (1 - q^k) for k to few.
    orders = [1] + [0] * most
    for part in range(1, few + 1):
        for number in range(most, many + part - 1, -1):
            orders[number] -= orders[number - many - part]
        for number in range(part, most + 1):
            orders[number] += orders[number - part]
    return sum(orders) / math.comb(few + many, few)
