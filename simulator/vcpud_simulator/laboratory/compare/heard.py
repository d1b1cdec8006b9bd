"""What the loop and the policy say for themselves in a run: kept small, for those who ask why.

A result says how far a policy got; why it got no farther is known to the cycle records alone: what
a guard blocked, what domains were held for, how the judge found, what the policy waited for at the end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from vcpud.model import Uuid
from vcpud.plan import Outcome, Outlook, Proof
from vcpud.record import CycleRecord, Purpose
from vcpud_simulator.laboratory.compare.tasks import Why

COST = "contention_cost_ratio"
"""What `adaptive` believes that contention costs a domain, among an outlook's inputs."""
_MOST = 3
"""So many guards, troubles and kinds of verdict are named, the most frequent first."""


class Heard:
    """A `Recorder` that remembers who was why as they were, whose turns were taken, what helped.

    Attributes:
        turns: Decisions in which one domain gives another what it gets, and no more is wanted.
        helped_at_ns: When a move first turned out to have helped, by name of each domain in it.
    """

    def __init__(self) -> None:
        self.turns: set[str] = set()
        self.helped_at_ns: dict[str, int] = {}
        self._known: set[str] = set()
        self._names: dict[Uuid, str] = {}
        self._cycles: Counter[Uuid] = Counter()
        self._blocked: defaultdict[Uuid, Counter[str]] = defaultdict(Counter)
        self._held: defaultdict[Uuid, Counter[str]] = defaultdict(Counter)
        self._verdicts: defaultdict[Uuid, Counter[str]] = defaultdict(Counter)
        self._outlooks: Collection[Outlook] = ()

    def record(self, record: CycleRecord) -> None:
        for domain in record.demand.domains:
            self._names[domain.uuid] = domain.name
            self._cycles[domain.uuid] += 1
            if domain.hold is not None:
                self._held[domain.uuid][str(domain.hold)] += 1
        self._decided(record)
        for verdict in record.verdicts:
            word = str(verdict.outcome) if verdict.kept else f"{verdict.outcome} and undone"
            for resize in verdict.move.resizes:
                self._verdicts[resize.uuid][word] += 1
                name = self._names.get(resize.uuid)
                if verdict.outcome is Outcome.HELPED and name is not None:
                    self.helped_at_ns.setdefault(name, record.began_ns)
        if len(record.proposed.outlooks):
            self._outlooks = record.proposed.outlooks

    def _decided(self, record: CycleRecord) -> None:
        """Whose moves were blocked, and which decisions are turns: the move of their first change says."""
        if not record.proposed.moves:
            return
        moves = {one.uuid: move for move in record.proposed.moves for one in move.resizes}
        guards: defaultdict[Uuid, set[str]] = defaultdict(set)
        for stop in record.blocked:
            for resize in moves[stop.uuid].resizes if stop.uuid in moves else ():
                guards[resize.uuid].add(stop.guard)
        for uuid, found in guards.items():
            self._blocked[uuid].update(found)
        for change in record.changes:
            if change.purpose is Purpose.DECIDE and change.decision_id not in self._known:
                move = moves.get(change.uuid)
                if move is not None and move.proof is Proof.SUM:
                    self.turns.add(change.decision_id)
        self._known |= {change.decision_id for change in record.changes}

    def why(self) -> Mapping[str, Why]:
        """Of each domain that was ever there, by name."""
        outlooks = {one.uuid: one for one in self._outlooks}
        return {
            name: Why(
                cycles=self._cycles[uuid],
                blocked=tuple(self._blocked[uuid].most_common(_MOST)),
                held=tuple(self._held[uuid].most_common(_MOST)),
                verdicts=tuple(self._verdicts[uuid].most_common(_MOST)),
                outlook=_words(outlooks.get(uuid)),
                cost_ratio=_cost(outlooks.get(uuid)),
            )
            for uuid, name in self._names.items()
        }


def _cost(outlook: Outlook | None) -> float | None:
    return None if outlook is None else dict(outlook.inputs).get(COST)


def _words(outlook: Outlook | None) -> str:
    """Its last word: what it waits for, or why neither more nor fewer."""
    if outlook is None:
        return ""
    if outlook.waits_for:
        return f"in the end {outlook.wanted_vcpus} vCPUs were wanted, and waited for {outlook.waits_for}"
    reasons = {"no more": outlook.why_not_more, "no fewer": outlook.why_not_fewer}
    return ", ".join(f"{which} in the end: {why}" for which, why in reasons.items() if why)
