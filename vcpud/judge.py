"""Did a move help? The progress proxy decides, never the signal that triggered the move.

Problem: spinning looks like work to the host, and run delay falls whenever a domain shrinks, so
neither may judge. Approach: compare the progress proxy J (`demand.Progress`) in windows before the
move with windows that lie wholly after its last read-back. A move whose gain is not significant
is undone; the domain is then left alone for a while that doubles with every failure. A move that
only gives vCPUs back is undone only when it did harm: towards what a guest had is the safe side.

A move that takes vCPUs has harmed, too, where a domain of the pool that is *not* in it makes clearly
less of what it is entitled to and its vCPUs wait longer than before: schedulers that keep siblings in
step keep them so beside what the others had. That is not waited for until the move itself can be judged.
Where one of them manages itself, on the other hand, no such move has helped before it is known what
that one makes of it.

Where progress varies too much for two windows to tell, that is no evidence against a move: a trial in
which somebody seems to gain and nobody of the pool to lose goes on until it is clear, and ends when that
ceases.

A move that need prove nothing is watched: how it ended is told like that of any other, but it binds
nobody, teaches nothing and is never undone. Where the next one follows before that can be told, that
is what is told.

Pure. Rates are pCPUs of useful processor time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vcpud.bystanders import Bystander, losing
from vcpud.demand import HostDemand, Progress
from vcpud.docket import Docket, Trial, blame, remembered
from vcpud.gains import (
    LEAST_WINDOWS,
    NOISE_PCPUS,
    SIGNIFICANT_SIGMAS,
    Gain,
    compared,
    sigmas_among,
)
from vcpud.model import Uuid
from vcpud.plan import Move, Outcome, Proof, Verdict
from vcpud.units import NS_PER_S

MOST_GAIN_RATIO = 1000.0
"""What came from nothing gained without bound; a thousandfold says as much."""
SETTLE_NS = 1 * NS_PER_S
"""After the last read-back the guest still migrates tasks and wakes sleepers."""
PATIENCE_NS = 90 * NS_PER_S
"""A move that cannot be judged by then counts as not helping."""


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
            windows[domain.uuid] = remembered((*seen, domain.progress))
    verdicts = []
    trials = []
    blames = dict(docket.blames)
    for trial in docket.trials:
        heard = _heard(trial, fresh)
        beside = _beside(heard, windows, demand)
        verdict = _verdict(heard, beside, now_ns)
        if verdict is not None and verdict.kept and _too_early(heard, beside, now_ns):
            heard, verdict = replace(heard, ready=verdict), None
        if verdict is None:
            trials.append(heard)
            continue
        verdicts.append(verdict)
        for resize in () if trial.watched else trial.move.resizes:
            if verdict.outcome is Outcome.HELPED:
                blames.pop(resize.uuid, None)
            elif not verdict.kept:
                blames[resize.uuid] = blame(blames.get(resize.uuid), now_ns)
    delays = {
        domain.uuid: domain.run_delay_pcpus
        for domain in demand.domains
        if domain.run_delay_pcpus is not None
    }
    counts = {domain.uuid: domain.active_vcpus for domain in demand.domains}
    after = Docket(
        windows=windows,
        trials=tuple(trials),
        blames=blames,
        delays=delays,
        counts=counts,
        alike_from_ns=docket.alike_from_ns if counts.items() <= docket.counts.items() else now_ns,
    )
    return after, tuple(verdicts)


def _heard(trial: Trial, fresh: Mapping[Uuid, Progress]) -> Trial:
    if trial.reached_at_ns is None:
        return trial
    after = dict(trial.after)
    for resize in trial.move.resizes:
        window = fresh.get(resize.uuid)
        if window is not None and window.began_at_ns >= trial.reached_at_ns + SETTLE_NS:
            after[resize.uuid] = (*after.get(resize.uuid, ()), window)
    return replace(trial, after=after)


def _verdict(trial: Trial, beside: Sequence[Bystander], now_ns: int) -> Verdict | None:
    if trial.reached_at_ns is None:
        return None
    if trial.overtaken:
        why = "it was changed again before its effect could be told"
        return _said(trial, Outcome.UNKNOWN, None, now_ns, why)
    lost = [one for one in beside if one.harmed]
    if lost and _takes(trial.move):
        return _said(
            trial,
            Outcome.HARMED,
            None,
            now_ns,
            "beside it: " + ", ".join(one.evidence for one in lost),
            beside={one.uuid: one.gain.before for one in lost if one.gain is not None},
        )
    seem = [one for one in beside if one.seems_harmed]
    verdict = _weighed(trial, trial.reached_at_ns, seem, now_ns)
    if trial.ready is None or (verdict is not None and verdict.outcome is Outcome.HARMED):
        return verdict
    return replace(trial.ready, at_ns=now_ns)


def _too_early(trial: Trial, beside: Sequence[Bystander], now_ns: int) -> bool:
    """Whether somebody who is not in the move may yet turn out to lose by it."""
    in_time = trial.reached_at_ns is not None and now_ns < trial.reached_at_ns + PATIENCE_NS
    return in_time and _takes(trial.move) and any(one.open for one in beside)


def _weighed(
    trial: Trial, reached_at_ns: int, beside: Sequence[Bystander], now_ns: int
) -> Verdict | None:
    """The verdict by the progress of those who are in the move, None while that is open."""
    proof = trial.move.proof
    members = list(trial.move.resizes)
    if proof is Proof.NO_HARM:
        # It was proven before: what cannot be compared now does not speak against it.
        members = [resize for resize in members if trial.before[resize.uuid]]
        if not members:
            settling = now_ns < reached_at_ns + SETTLE_NS
            why = "nothing comparable was seen"
            return None if settling else _said(trial, Outcome.UNKNOWN, None, now_ns, why)
    in_time = now_ns < reached_at_ns + PATIENCE_NS
    sigmas = sigmas_among(len(members))
    seen = {
        one.uuid: compared(
            trial.before[one.uuid],
            trial.after.get(one.uuid, ()),
            one.due_pcpus,
            sigmas,
            moved=(one.from_vcpus, one.to_vcpus),
        )
        for one in members
    }
    gains = {uuid: gain for uuid, gain in seen.items() if gain is not None}
    known = list(gains.values())
    # Whatever the others turn out to have made of it, one that was harmed by it is enough.
    lost = proof is not Proof.SUM and any(gain.harmed for gain in known)
    if len(known) < len(seen) and not lost:
        why = "progress could not be measured"
        return None if in_time else _said(trial, Outcome.UNKNOWN, None, now_ns, why)
    together = Gain(
        before=sum(gain.before for gain in known),
        before_most=sum(gain.before_most for gain in known),
        after=sum(gain.after for gain in known),
        after_most=sum(gain.after_most for gain in known),
        error=math.hypot(*(gain.error for gain in known)),
        sigmas=SIGNIFICANT_SIGMAS,
    )
    outcome = _outcome(trial.move, known, together, in_time=in_time)
    if outcome is None:
        if not beside:
            return None
        outcome = Outcome.NEUTRAL
    ratio: float | None = min(together.after / max(together.before, 1e-9) - 1, MOST_GAIN_RATIO)
    # Of next to nothing a little more is none.
    noise = SIGNIFICANT_SIGMAS * NOISE_PCPUS
    apart = {
        uuid: (gain.after + noise) / (gain.before_most + noise) - 1 for uuid, gain in gains.items()
    }
    detail = ", ".join(f"{g.before:.3g} -> {g.after:.3g} useful pCPUs" for g in known)
    if outcome is Outcome.UNKNOWN:
        ratio, apart = None, {}
        detail += ": too unsteady to tell"
    return replace(_said(trial, outcome, ratio, now_ns, detail), gains=apart)


def _outcome(
    move: Move, gains: Sequence[Gain], together: Gain, *, in_time: bool
) -> Outcome | None:
    """What became of a move of which progress is known; None while that is open."""
    judged = [together] if move.proof is Proof.SUM else gains
    if any(gain.harmed for gain in judged):
        return Outcome.HARMED
    # Later looks are not taken at means: who looks often enough finds a gain in any noise.
    first = min(len(gain.since) for gain in gains) <= LEAST_WINDOWS
    if first and any(gain.helped for gain in judged):
        return Outcome.HELPED
    if _kept_unless_harmed(move) or not _promising(gains):
        return Outcome.NEUTRAL
    if any(gain.outranks(last=not in_time) for gain in gains):
        return Outcome.HELPED
    return None if in_time else Outcome.UNKNOWN


def _said(  # noqa: PLR0913 - what a verdict is made of
    trial: Trial,
    outcome: Outcome,
    gain_ratio: float | None,
    now_ns: int,
    detail: str,
    *,
    beside: Mapping[Uuid, float] | None = None,
) -> Verdict:
    kept = trial.watched or (
        outcome is Outcome.HELPED
        or (outcome is not Outcome.HARMED and _kept_unless_harmed(trial.move))
    )
    return Verdict(
        decision_id=trial.decision_id,
        move=trial.move,
        outcome=outcome,
        gain_ratio=gain_ratio,
        kept=kept,
        at_ns=now_ns,
        detail=detail,
        beside=beside or {},
    )


def _kept_unless_harmed(move: Move) -> bool:
    gives_back = all(resize.to_vcpus >= resize.from_vcpus for resize in move.resizes)
    return gives_back or move.proof is not Proof.GAIN


def _takes(move: Move) -> bool:
    """Whether it takes vCPUs that nobody else gets."""
    taken = any(resize.to_vcpus < resize.from_vcpus for resize in move.resizes)
    return taken and move.proof is not Proof.SUM


def _beside(
    trial: Trial, windows: Mapping[Uuid, tuple[Progress, ...]], demand: HostDemand
) -> list[Bystander]:
    """Who shares a pool with a move that was carried out, and seems to lose by it."""
    if trial.reached_at_ns is None or trial.watched:
        return []
    return losing(
        demand,
        windows,
        moved=trial.before.keys(),
        before=trial.everybody,
        delays=trial.delays,
        comparable_from_ns=trial.move.comparable_from_ns or 0,
        since_ns=trial.reached_at_ns + SETTLE_NS,
        lately=trial.lately,
        among=trial.among,
    )


def _promising(gains: Sequence[Gain]) -> bool:
    """Whether somebody seems to gain and nobody to lose, however unclear that is."""
    return any(gain.seems_more for gain in gains) and not any(gain.seems_less for gain in gains)
