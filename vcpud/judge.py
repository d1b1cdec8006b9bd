"""Did a move help? The progress proxy decides, never the signal that triggered the move.

Problem: spinning looks like work to the host, and run delay falls whenever a domain shrinks, so
neither may judge. Approach: compare the progress proxy J (`demand.Progress`) in windows before the
move with windows that lie wholly after its last read-back. A move whose gain is not significant
is undone; the domain is then left alone for a while that doubles with every failure. A move that
only gives vCPUs back is undone only when it did harm: towards what a guest had is the safe side.

Pure. Rates are pCPUs of useful processor time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean, pvariance

from vcpud.demand import HostDemand, Progress
from vcpud.model import Uuid
from vcpud.plan import Move, Outcome, Proof, Verdict
from vcpud.units import NS_PER_S

WINDOWS = 4
"""How many windows of progress are remembered and compared."""
MIN_GAIN_RATIO = 0.05
"""Gains and losses smaller than this are neither."""
NOISE_RATIO = 0.05
"""Least relative standard deviation of one window: tick accounting and other people's work."""
NOISE_PCPUS = 0.02
"""Least absolute standard deviation of one window."""
SIGNIFICANT_SIGMAS = 2.0
MOST_GAIN_RATIO = 1000.0
"""What came from nothing gained without bound; a thousandfold says as much."""
OVERWHELMING_RATIO = 2.0
"""From this factor on one window after the move is enough; smaller effects wait for two."""
SETTLE_NS = 1 * NS_PER_S
"""After the last read-back the guest still migrates tasks and wakes sleepers."""
PATIENCE_NS = 90 * NS_PER_S
"""A move that cannot be judged by then counts as not helping."""
BACKOFF_NS = 60 * NS_PER_S
BACKOFF_MAX_NS = 3600 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A move under way or under judgement.

    Attributes:
        decision_id: Which move.
        move: What was asked.
        before: Windows of progress before it, by domain.
        after: Windows since, by domain.
        reached_at_ns: When its last step was read back, None while under way.
    """

    decision_id: str
    move: Move
    before: Mapping[Uuid, tuple[Progress, ...]]
    after: Mapping[Uuid, tuple[Progress, ...]]
    reached_at_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """A domain whose last moves did not help.

    Attributes:
        failures: How many in a row.
        until_ns: Leave it alone until then.
    """

    failures: int
    until_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Docket:
    """The judge's memory; `Docket()` is the beginning."""

    windows: Mapping[Uuid, tuple[Progress, ...]] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    blames: Mapping[Uuid, Blame] = field(default_factory=dict)

    def tried(self) -> set[Uuid]:
        """Every domain that is part of a trial."""
        return {resize.uuid for trial in self.trials for resize in trial.move.resizes}

    def on_trial(self, uuid: Uuid) -> Trial | None:
        """The trial a domain is part of, if any."""
        for trial in self.trials:
            if any(resize.uuid == uuid for resize in trial.move.resizes):
                return trial
        return None

    def blocked_until_ns(self, uuid: Uuid, now_ns: int) -> int | None:
        """Until when a domain is left alone, None when it is not."""
        blame = self.blames.get(uuid)
        return blame.until_ns if blame is not None and blame.until_ns > now_ns else None


def opened(docket: Docket, decision_id: str, move: Move) -> Docket:
    """Put a move on trial: what was seen so far becomes its "before"."""
    if move.proof is Proof.NONE:
        return docket
    comparable_from_ns = move.comparable_from_ns or 0
    before = {
        resize.uuid: tuple(
            window
            for window in docket.windows.get(resize.uuid, ())
            if window.active_vcpus == resize.from_vcpus
            and window.began_at_ns >= comparable_from_ns
        )
        for resize in move.resizes
    }
    trial = Trial(decision_id=decision_id, move=move, before=before, after={})
    return replace(docket, trials=(*docket.trials, trial))


def reached(docket: Docket, decision_id: str, now_ns: int) -> Docket:
    """Every step of the move has been read back: judging may begin."""
    trials = tuple(
        replace(trial, reached_at_ns=now_ns)
        if trial.decision_id == decision_id and trial.reached_at_ns is None
        else trial
        for trial in docket.trials
    )
    return replace(docket, trials=trials)


def dismissed(docket: Docket, uuid: Uuid) -> Docket:
    """A domain is gone, was rebooted or taken away: its trial ends without a verdict."""
    windows = {key: value for key, value in docket.windows.items() if key != uuid}
    trials = tuple(
        trial
        for trial in docket.trials
        if all(resize.uuid != uuid for resize in trial.move.resizes)
    )
    return replace(docket, windows=windows, trials=trials)


def forgiven(docket: Docket, uuid: Uuid) -> Docket:
    """An operator said so, or the domain is a new incarnation."""
    blames = {key: value for key, value in docket.blames.items() if key != uuid}
    return replace(docket, blames=blames)


def advance(docket: Docket, demand: HostDemand, now_ns: int) -> tuple[Docket, tuple[Verdict, ...]]:
    """Take in new windows of progress and give the verdicts that have become possible."""
    windows = dict(docket.windows)
    fresh: dict[Uuid, Progress] = {}
    for domain in demand.domains:
        if domain.progress is None:
            continue
        seen = windows.get(domain.uuid, ())
        if not seen or seen[-1].ended_at_ns < domain.progress.ended_at_ns:
            fresh[domain.uuid] = domain.progress
            windows[domain.uuid] = (*seen, domain.progress)[-WINDOWS:]
    verdicts = []
    trials = []
    blames = dict(docket.blames)
    for trial in docket.trials:
        heard = _heard(trial, fresh)
        verdict = _verdict(heard, now_ns)
        if verdict is None:
            trials.append(heard)
            continue
        verdicts.append(verdict)
        for resize in trial.move.resizes:
            if verdict.outcome is Outcome.HELPED:
                blames.pop(resize.uuid, None)
            elif not verdict.kept:
                failures = blames[resize.uuid].failures + 1 if resize.uuid in blames else 1
                pause_ns = min(BACKOFF_NS << (failures - 1), BACKOFF_MAX_NS)
                blames[resize.uuid] = Blame(failures=failures, until_ns=now_ns + pause_ns)
    return Docket(windows=windows, trials=tuple(trials), blames=blames), tuple(verdicts)


def _heard(trial: Trial, fresh: Mapping[Uuid, Progress]) -> Trial:
    if trial.reached_at_ns is None:
        return trial
    after = dict(trial.after)
    for resize in trial.move.resizes:
        window = fresh.get(resize.uuid)
        if window is not None and window.began_at_ns >= trial.reached_at_ns + SETTLE_NS:
            after[resize.uuid] = (*after.get(resize.uuid, ()), window)
    return replace(trial, after=after)


def _verdict(trial: Trial, now_ns: int) -> Verdict | None:
    if trial.reached_at_ns is None:
        return None
    proof = trial.move.proof
    members = list(trial.move.resizes)
    if proof is Proof.NO_HARM:
        # It was proven before: what cannot be compared now does not speak against it.
        members = [resize for resize in members if trial.before[resize.uuid]]
        if not members:
            if now_ns < trial.reached_at_ns + SETTLE_NS:
                return None
            return _said(trial, Outcome.UNKNOWN, None, now_ns, "nothing comparable was seen")
    sigmas = _sigmas(len(members))
    gains = [
        _gain(trial.before[one.uuid], trial.after.get(one.uuid, ()), one.due_pcpus, sigmas)
        for one in members
    ]
    known = [gain for gain in gains if gain is not None]
    if len(known) < len(gains):
        if now_ns < trial.reached_at_ns + PATIENCE_NS:
            return None
        return _said(trial, Outcome.UNKNOWN, None, now_ns, "progress could not be measured")
    detail = ", ".join(f"{g.before:.3g} -> {g.after:.3g} useful pCPUs" for g in known)
    together = _Gain(
        before=sum(gain.before for gain in known),
        after=sum(gain.after for gain in known),
        error=math.hypot(*(gain.error for gain in known)),
        sigmas=SIGNIFICANT_SIGMAS,
    )
    judged = [together] if proof is Proof.SUM else known
    if any(gain.harmed for gain in judged):
        outcome = Outcome.HARMED
    elif any(gain.helped for gain in judged):
        outcome = Outcome.HELPED
    else:
        outcome = Outcome.NEUTRAL
    ratio = min(together.after / max(together.before, 1e-9) - 1, MOST_GAIN_RATIO)
    return _said(trial, outcome, ratio, now_ns, detail)


def _said(
    trial: Trial, outcome: Outcome, gain_ratio: float | None, now_ns: int, detail: str
) -> Verdict:
    gives_back = all(resize.to_vcpus >= resize.from_vcpus for resize in trial.move.resizes)
    innocent = gives_back or trial.move.proof is not Proof.GAIN
    kept = outcome is Outcome.HELPED or (innocent and outcome is not Outcome.HARMED)
    return Verdict(
        decision_id=trial.decision_id,
        move=trial.move,
        outcome=outcome,
        gain_ratio=gain_ratio,
        kept=kept,
        at_ns=now_ns,
        detail=detail,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gain:
    """Mean rates before and after, and the standard error of their difference."""

    before: float
    after: float
    error: float
    sigmas: float

    @property
    def clear(self) -> bool:
        low, high = sorted((self.before, self.after))
        return high - low > self.sigmas * self.error

    @property
    def moved(self) -> bool:
        low, high = sorted((self.before, self.after))
        return self.clear and high >= low * (1 + MIN_GAIN_RATIO)

    @property
    def helped(self) -> bool:
        return self.moved and self.after > self.before

    @property
    def harmed(self) -> bool:
        return self.moved and self.after < self.before


def _gain(
    before: tuple[Progress, ...],
    after: tuple[Progress, ...],
    due_pcpus: float | None,
    sigmas: float,
) -> _Gain | None:
    """Compare mean rates; None while there is too little to compare."""
    if not before or not after:
        return None
    due = math.inf if due_pcpus is None else due_pcpus
    was = [min(window.rate_pcpus, due) for window in before]
    now = [window.rate_pcpus for window in after[-WINDOWS:]]
    gain = _Gain(
        before=fmean(was),
        after=fmean(now),
        error=math.hypot(_error(was), _error(now)),
        sigmas=sigmas,
    )
    low, high = sorted((gain.before, gain.after))
    if len(now) < 2 and not (gain.clear and high >= OVERWHELMING_RATIO * low):  # noqa: PLR2004
        return None
    return gain


def _sigmas(members: int) -> float:
    """How clear a difference must be: among many domains one strays far by chance alone.

    The largest of m normal deviates is about sqrt(2 ln m).
    """
    return math.sqrt(SIGNIFICANT_SIGMAS**2 + 2 * math.log(max(members, 1)))


def _error(rates: list[float]) -> float:
    """Standard error of a mean of a few windows, never below what one window is known to vary."""
    floor = max(NOISE_RATIO * fmean(rates), NOISE_PCPUS)
    return math.sqrt(max(pvariance(rates), floor * floor) / len(rates))
