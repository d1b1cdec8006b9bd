"""What is on trial, what of it has been seen so far, and what earlier moves are held against whom.

Pure. What the verdict is, is the judge's. Rates are pCPUs of useful processor time, delays pCPUs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from vcpud.demand import Progress
from vcpud.gains import WINDOWS
from vcpud.model import Uuid
from vcpud.plan import Move, Proof, Verdict
from vcpud.units import NS_PER_S

BACKOFF_NS = 60 * NS_PER_S
BACKOFF_MAX_NS = 3600 * NS_PER_S
REMEMBERED_NS = 60 * NS_PER_S
"""Windows of progress that began within so long are remembered, and `WINDOWS` in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A move under way or under judgement.

    Attributes:
        decision_id: Which move.
        move: What was asked.
        before: Windows of progress before it, by domain.
        after: Windows since, by domain.
        reached_at_ns: When its last step was read back, None while under way.
        everybody: The windows of all domains before it that are compared: others may lose by it, too.
        lately: All their windows since anybody last came or changed in size.
        among: Who was there.
        delays: Their run delay then, in pCPUs, where known.
        overtaken: One of its domains is in a later move.
        ready: What is said of it unless it turns out to harm somebody who is not in it.
    """

    decision_id: str
    move: Move
    before: Mapping[Uuid, tuple[Progress, ...]]
    after: Mapping[Uuid, tuple[Progress, ...]]
    reached_at_ns: int | None = None
    everybody: Mapping[Uuid, tuple[Progress, ...]] = field(default_factory=dict)
    lately: Mapping[Uuid, tuple[Progress, ...]] = field(default_factory=dict)
    among: frozenset[Uuid] = frozenset()
    delays: Mapping[Uuid, float] = field(default_factory=dict)
    overtaken: bool = False
    ready: Verdict | None = None

    @property
    def watched(self) -> bool:
        """Whether nothing follows from how it ends."""
        return self.move.proof is Proof.NONE

    def about(self, uuid: Uuid) -> bool:
        return any(resize.uuid == uuid for resize in self.move.resizes)


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
    """The judge's memory; `Docket()` is the beginning.

    Attributes:
        windows: The latest windows of progress, by domain.
        trials: Moves under way or under judgement.
        blames: What earlier moves are held against whom.
        delays: Run delays as they were last, in pCPUs.
        counts: How many active vCPUs each domain had last.
        alike_from_ns: When somebody last came or changed in size.
    """

    windows: Mapping[Uuid, tuple[Progress, ...]] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    blames: Mapping[Uuid, Blame] = field(default_factory=dict)
    delays: Mapping[Uuid, float] = field(default_factory=dict)
    counts: Mapping[Uuid, int] = field(default_factory=dict)
    alike_from_ns: int = 0

    def tried(self) -> set[Uuid]:
        """Every domain that is part of a trial, but for those that are merely watched."""
        return {
            resize.uuid
            for trial in self.trials
            if not trial.watched
            for resize in trial.move.resizes
        }

    def on_trial(self, uuid: Uuid) -> Trial | None:
        """The trial a domain is part of, if any; it is not where it is merely watched."""
        for trial in self.trials:
            if not trial.watched and trial.about(uuid):
                return trial
        return None

    def blocked_until_ns(self, uuid: Uuid, now_ns: int) -> int | None:
        """Until when a domain is left alone, None when it is not."""
        blame = self.blames.get(uuid)
        return blame.until_ns if blame is not None and blame.until_ns > now_ns else None


def remembered(windows: tuple[Progress, ...]) -> tuple[Progress, ...]:
    """Of windows in the order of time those that are remembered."""
    from_ns = windows[-1].ended_at_ns - REMEMBERED_NS
    late = tuple(one for one in windows if one.began_at_ns >= from_ns)
    return late if len(late) > WINDOWS else windows[-WINDOWS:]


def opened(docket: Docket, decision_id: str, move: Move) -> Docket:
    """Put a move on trial: what was seen so far becomes its "before"."""
    moved = {resize.uuid for resize in move.resizes}
    trials = tuple(
        replace(one, overtaken=True) if any(map(one.about, moved)) else one
        for one in docket.trials
    )
    comparable_from_ns = move.comparable_from_ns or 0
    before = {
        resize.uuid: tuple(
            window
            for window in docket.windows.get(resize.uuid, ())[-WINDOWS:]
            if window.active_vcpus == resize.from_vcpus
            and window.began_at_ns >= comparable_from_ns
        )
        for resize in move.resizes
    }
    trial = Trial(
        decision_id=decision_id,
        move=move,
        before=before,
        after={},
        everybody={uuid: seen[-WINDOWS:] for uuid, seen in docket.windows.items()},
        lately={
            uuid: tuple(one for one in seen if one.began_at_ns >= docket.alike_from_ns)
            for uuid, seen in docket.windows.items()
        },
        among=frozenset(docket.counts),
        delays=docket.delays,
    )
    return replace(docket, trials=(*trials, trial))


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
    trials = tuple(trial for trial in docket.trials if not trial.about(uuid))
    return replace(docket, windows=windows, trials=trials)


def blamed(docket: Docket, uuids: Iterable[Uuid], now_ns: int) -> Docket:
    """What was done to these domains could not stand."""
    blames = {uuid: blame(docket.blames.get(uuid), now_ns) for uuid in uuids}
    return replace(docket, blames={**docket.blames, **blames})


def blame(before: Blame | None, now_ns: int) -> Blame:
    """One more failure: each time the domain is left alone for twice as long, up to an hour."""
    failures = 1 if before is None else before.failures + 1
    pause_ns = min(BACKOFF_NS << (failures - 1), BACKOFF_MAX_NS)
    return Blame(failures=failures, until_ns=now_ns + pause_ns)


def forgiven(docket: Docket, uuid: Uuid) -> Docket:
    """An operator said so, or the domain is a new incarnation."""
    blames = {key: value for key, value in docket.blames.items() if key != uuid}
    return replace(docket, blames=blames)
