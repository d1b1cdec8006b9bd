"""Who is not in a move, shares a pool with it, and loses by it?

Problem: schedulers that keep siblings in step keep them so beside what the others have, and a domain
that nobody changed is thrown out of step when its neighbour is. It goes on using what it is entitled
to, so processor time does not show it; and whose progress falls may merely have less to do.
Approach: progress, up to what the domain is entitled to, tells that it loses; that its vCPUs wait longer
than before tells that others have to do with it. A guest that manages itself keeps its waiting where it
wants it, so of that one progress alone tells; and since it answers a move step by step, the first windows
do not tell yet, whatever they say.
    Processor time does show it where a domain gets less of that than it had and is entitled to, though its
vCPUs wait for what it lacks: a scheduler that fills its pCPUs with gangs leaves some empty when one of them
becomes smaller. The host counts that itself, so smaller differences are clear, if what the domain uses is
steady: what varies is what it has to do, more in a short window than in a long one, and of few windows
nobody knows how much. So all of the last minute tells of it, but for what was before somebody came or
changed in size; and where one seems to lack something, more windows may make it clear.
    Who waits less than before may have less to do. Who was seen to be steady, and waits for what it lacks, is
not believed to have got less to do just then.

Pure. Rates and delays are pCPUs.

References: M. Abramowitz, I. A. Stegun, "Handbook of Mathematical Functions", 26.7.5 (Student's t by the
normal deviate).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from vcpud.demand import DomainDemand, HostDemand, Progress
from vcpud.gains import SIGNIFICANT_SIGMAS, WINDOWS, Gain, compared, sigmas_among
from vcpud.model import Trouble, Uuid
from vcpud.units import NS_PER_S

LONGER_RATIO = 0.05
"""Run delay per active vCPU that is more than before by less than this is noise."""
SHORT_RATIO = 0.03
"""What a domain may lack of the smaller of what it had and what it is entitled to."""
STEADY_RATIO = 0.01
"""Least relative standard deviation of processor time over `STEADY_S`: its ends are read, not sampled."""
STEADY_S = 5.0
"""How often guests are asked by default, so that windows are as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uses:
    """Processor time over some windows.

    Attributes:
        time_s: How long they are together.
        mean: pCPUs over all of them.
        squares: Squared deviations of each window, times how long it is: pCPU^2 s.
        windows: How many they are.
    """

    time_s: float
    mean: float
    squares: float
    windows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Less processor time than a domain had and is entitled to.

    Attributes:
        pcpus: How much less.
        had: What it used before.
        gets: What it uses since.
    """

    pcpus: float
    had: Uses
    gets: Uses

    def clear(self, sigmas: float) -> bool:
        return self.pcpus > _by_chance(self.had, self.gets, sigmas)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bystander:
    """A domain of which it seems or may yet turn out that it loses by a move it is not in.

    Attributes:
        uuid: Which.
        gain: Its progress before and since; None where that is too early to tell.
        waits_longer: Whether its vCPUs wait longer for pCPUs than before.
        steers: Whether it manages itself.
        lack: Processor time that it had and is entitled to, and clearly does not get.
        open: Whether it may yet turn out to lose.
    """

    uuid: Uuid
    gain: Gain | None
    waits_longer: bool = False
    steers: bool = False
    lack: Lack | None = None
    open: bool = False

    @property
    def harmed(self) -> bool:
        if self.lack is not None:
            return self.gain is not None
        tells = self.waits_longer or self.steers
        return tells and self.gain is not None and self.gain.harmed

    @property
    def seems_harmed(self) -> bool:
        return self.gain is not None and (self.gain.seems_less or self.lack is not None)

    @property
    def evidence(self) -> str:
        """What tells that it loses, for people."""
        if self.lack is not None:
            return f"{self.lack.had.mean:.3g} -> {self.lack.gets.mean:.3g} used pCPUs"
        if self.gain is None:
            return "not known yet"
        return f"{self.gain.before:.3g} -> {self.gain.after:.3g} useful pCPUs"


def losing(  # noqa: PLR0913 - two instants and what was there at each
    demand: HostDemand,
    windows: Mapping[Uuid, tuple[Progress, ...]],
    *,
    moved: Collection[Uuid],
    before: Mapping[Uuid, tuple[Progress, ...]],
    delays: Mapping[Uuid, float],
    comparable_from_ns: int,
    since_ns: int,
    lately: Mapping[Uuid, tuple[Progress, ...]],
    among: Collection[Uuid],
) -> list[Bystander]:
    """Those who seem to lose, clearly or not, and those of whom that cannot be told yet.

    Args:
        demand: As it is now.
        windows: The latest windows of progress.
        moved: Who is in the move.
        before: Windows of progress before it.
        delays: Run delays then, where known.
        comparable_from_ns: What was seen before this was seen under other conditions.
        since_ns: When the move was over.
        lately: Windows before it that tell how much who uses: as many as are like the latest.
        among: Who was there before it. What others use now is not taken by the move.
    """
    pools = {domain.pool for domain in demand.domains if domain.uuid in moved}
    others = [d for d in demand.domains if d.pool in pools and d.uuid not in moved]
    sigmas = sigmas_among(len(moved) + len(others))
    newcomers_pcpus = sum(
        d.ceiling_pcpus if d.used_pcpus is None else d.used_pcpus
        for d in others
        if d.uuid not in among
    )
    found = []
    for domain in others:
        active, from_ns = domain.active_vcpus, comparable_from_ns
        was = _alike(before.get(domain.uuid, ()), active, from_ns)
        alike = _alike(lately.get(domain.uuid, ()), active, from_ns)
        # One that began before the move was over is diluted by that: it hides a loss and feigns none.
        since = [
            one
            for one in windows.get(domain.uuid, ())
            if one.active_vcpus == active and one.ended_at_ns > since_ns
        ]
        steers = domain.hold is Trouble.SELF_MANAGED
        if steers and was and len(since) < WINDOWS:
            found.append(Bystander(uuid=domain.uuid, gain=None, steers=True, open=True))
            continue
        gain = compared(tuple(was), tuple(since), _due(domain, was), sigmas)
        delay = delays.get(domain.uuid)
        lack = _lack(domain, alike, since, delay, newcomers_pcpus)
        short = lack is not None and lack.clear(sigmas)
        seems = lack is not None and (gain is None or lack.clear(SIGNIFICANT_SIGMAS))
        one = Bystander(
            uuid=domain.uuid,
            gain=gain,
            waits_longer=_waits_longer(domain, delay),
            steers=steers,
            lack=lack if short else None,
            open=seems and (gain is None or not short),
        )
        if one.seems_harmed or one.open:
            found.append(one)
    return found


def _alike(windows: Sequence[Progress], active_vcpus: int, from_ns: int) -> list[Progress]:
    return [
        one for one in windows if one.active_vcpus == active_vcpus and one.began_at_ns >= from_ns
    ]


def _lack(
    domain: DomainDemand,
    was: Sequence[Progress],
    since: Sequence[Progress],
    had_delay_pcpus: float | None,
    newcomers_pcpus: float,
) -> Lack | None:
    """What it lacks of the processor time that it waits for; None where that is nothing, or not known.

    What it may lack is of the smaller of what it had and what it is entitled to, and beyond what newcomers use.
    """
    had, gets = _uses(was), _uses(since)
    delay, entitled = domain.run_delay_pcpus, domain.entitled_pcpus
    if had is None or gets is None or delay is None or had_delay_pcpus is None or entitled is None:
        return None
    owed = min(had.mean, entitled)
    lacks = owed - gets.mean - newcomers_pcpus
    # Who has less to do waits less, too.
    as_long = delay >= had_delay_pcpus - LONGER_RATIO * domain.active_vcpus
    waits = delay >= lacks and (as_long or had.windows >= WINDOWS)
    if lacks <= SHORT_RATIO * owed or not waits:
        return None
    return Lack(pcpus=lacks, had=had, gets=gets)


def _uses(windows: Sequence[Progress]) -> Uses | None:
    """Processor time of the windows whose progress tells it; None where there are none."""
    uses = [
        ((one.ended_at_ns - one.began_at_ns) / NS_PER_S, used)
        for one in windows
        if (used := one.used_pcpus) is not None
    ]
    time_s = sum(long_s for long_s, _ in uses)
    if not time_s:
        return None
    mean = sum(long_s * used for long_s, used in uses) / time_s
    squares = sum(long_s * (used - mean) ** 2 for long_s, used in uses)
    return Uses(time_s=time_s, mean=mean, squares=squares, windows=len(uses))


def _by_chance(had: Uses, gets: Uses, sigmas: float) -> float:
    """By how much two such means differ at most where nothing sets them apart.

    What is used up to an instant varies by so much a second whatever the second, so the mean of a long window
    varies less. By how much is estimated from few windows, which may be alike by accident.
    """
    free = had.windows + gets.windows - 2
    if free < 1:
        return math.inf
    seen = (had.squares + gets.squares) / free * (sigmas + (sigmas**3 + sigmas) / (4 * free)) ** 2
    known = STEADY_S * (STEADY_RATIO * had.mean * sigmas) ** 2
    return math.sqrt(max(seen, known) * (1 / had.time_s + 1 / gets.time_s))


def _due(domain: DomainDemand, was: Sequence[Progress]) -> float | None:
    """Progress it has a right to: its entitlement, at the worth its use had."""
    worths = [one.worth_ratio for one in was if one.worth_ratio is not None]
    if not worths or domain.entitled_pcpus is None:
        return None
    return domain.entitled_pcpus * fmean(worths)


def _waits_longer(domain: DomainDemand, had: float | None) -> bool:
    delay = domain.run_delay_pcpus
    if delay is None or had is None:
        return False
    return delay - had > LONGER_RATIO * domain.active_vcpus
