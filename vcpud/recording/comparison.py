"""Where a replay would have decided otherwise than what was recorded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vcpud.model import Accepted
from vcpud.record import Purpose
from vcpud.units import NS_PER_S, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcpud.model import Uuid
    from vcpud.record import CycleRecord

NEAR_NS = 60 * NS_PER_S
"""The same decision within a minute is the same, sooner or later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One resize decided on, whether or not it was carried out."""

    at_ns: int
    uuid: Uuid
    name: str
    from_vcpus: int
    to_vcpus: int
    reason: str


class Decisions:
    """Those of one side, each told once however often it was tried."""

    def __init__(self) -> None:
        self.all: list[Decision] = []
        self.outcomes: Counter[str] = Counter()
        self._last: dict[Uuid, tuple[str, int, bool]] = {}

    def hear(self, record: CycleRecord) -> None:
        self.outcomes.update(str(verdict.outcome) for verdict in record.verdicts)
        for change in record.changes:
            if change.purpose is not Purpose.DECIDE:
                continue
            done = isinstance(change.effect, Accepted)
            decision_id, to_vcpus, was_done = self._last.get(change.uuid, ("", -1, True))
            again = change.decision_id == decision_id or (
                change.to_vcpus == to_vcpus and not (done and was_done)
            )
            self._last[change.uuid] = (change.decision_id, change.to_vcpus, done)
            if not again:
                self.all.append(
                    Decision(
                        at_ns=record.began_ns,
                        uuid=change.uuid,
                        name=change.name,
                        from_vcpus=change.from_vcpus,
                        to_vcpus=change.to_vcpus,
                        reason=change.reason,
                    )
                )


class Comparison:
    """A `Recorder` of the replay that is told the recorded side as well."""

    def __init__(self, recorded: Callable[[], CycleRecord]) -> None:
        """Prepare.

        Args:
            recorded: The recorded cycle that belongs to the replayed one.
        """
        self._recorded = recorded
        self.recorded = Decisions()
        self.replayed = Decisions()
        self.cycles = 0
        self.began_ns: int | None = None
        self.ended_ns = 0
        self.domains: set[Uuid] = set()
        self.policy_errors: Counter[str] = Counter()

    def record(self, record: CycleRecord) -> None:
        if record.stopping:
            return
        self.cycles += 1
        self.began_ns = record.began_ns if self.began_ns is None else self.began_ns
        self.ended_ns = record.ended_ns
        self.domains.update([domain.uuid for domain in record.sample.domains])
        if record.policy_error:
            self.policy_errors[record.policy_error] += 1
        self.recorded.hear(self._recorded())
        self.replayed.hear(record)

    def document(self) -> dict[str, Any]:
        """The comparison as plain data, differences in order of time."""
        same = shifted = 0
        left = list(self.recorded.all)
        found: list[tuple[Decision, str]] = []
        for mine in self.replayed.all:
            near = [
                one
                for one in left
                if (one.uuid, one.to_vcpus) == (mine.uuid, mine.to_vcpus)
                and abs(one.at_ns - mine.at_ns) <= NEAR_NS
            ]
            if not near:
                found.append((mine, "only_replayed"))
                continue
            match = min(near, key=lambda one: abs(one.at_ns - mine.at_ns))
            left.remove(match)
            same += match.at_ns == mine.at_ns
            shifted += match.at_ns != mine.at_ns
        found += [(one, "only_recorded") for one in left]
        found.sort(key=lambda pair: (pair[0].at_ns, pair[0].name, pair[1]))
        began_ns = self.began_ns or 0
        return {
            "cycles": self.cycles,
            "seconds": round(seconds(self.ended_ns - began_ns), 3),
            "domains": len(self.domains),
            "decisions": {
                "recorded": len(self.recorded.all),
                "replayed": len(self.replayed.all),
                "same": same,
                "same_at_another_time": shifted,
                "only_recorded": len(left),
                "only_replayed": len(self.replayed.all) - same - shifted,
            },
            "outcomes": {
                "recorded": dict(self.recorded.outcomes),
                "replayed": dict(self.replayed.outcomes),
            },
            "policy_errors": dict(self.policy_errors),
            "differences": [
                {
                    "kind": kind,
                    "at_s": round(seconds(one.at_ns - began_ns), 3),
                    "domain": one.name,
                    "uuid": one.uuid,
                    "from": one.from_vcpus,
                    "to": one.to_vcpus,
                    "reason": one.reason,
                }
                for one, kind in found
            ],
        }
