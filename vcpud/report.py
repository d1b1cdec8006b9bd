"""What vcpud brought over a recorded span: parked vCPU-hours, run delay avoided, outcomes.

Outcomes are the judge's, with its evidence. Run delay avoided is an estimate: it compares what a
domain waited while vCPUs were parked with what it had waited in the minute before, as if its load
had stayed the same; where there was no minute before it is not known, and never guessed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from vcpud.plan import Outcome
from vcpud.status import columns
from vcpud.text import printable
from vcpud.units import NS_PER_S, seconds

if TYPE_CHECKING:
    from vcpud.model import DomainSample, Original, Uuid
    from vcpud.record import CycleRecord

BEFORE_NS = 60 * NS_PER_S
"""How much of what came before counts."""
LEAST_BEFORE_NS = 5 * NS_PER_S
LONGEST_STEP_NS = 60 * NS_PER_S
"""A longer gap between two cycles was not watched: vcpud did not run."""
_S_PER_HOUR = 3600.0


class _Account:
    """One domain's."""

    def __init__(self, sample: DomainSample) -> None:
        self.name = sample.name
        self.last = sample
        self.watched_ns = 0
        self.parked_ns = 0
        self.parked_span_ns = 0
        self.avoided_ns: float | None = None
        self.before: deque[tuple[int, int]] = deque()
        self.outcomes: Counter[str] = Counter()
        self.gains: list[float] = []
        self.undone = 0
        self.changes: Counter[str] = Counter()
        self.foreign = 0

    def pass_on(self, sample: DomainSample, had_vcpus: int | None) -> None:
        """From the last sample to this one."""
        last, self.last = self.last, sample
        self.name = sample.name
        step_ns = sample.taken_at_ns - last.taken_at_ns
        if last.incarnation != sample.incarnation or last.boots != sample.boots:
            self.before.clear()
            return
        if not 0 < step_ns <= LONGEST_STEP_NS:
            return
        self.watched_ns += step_ns
        delay_ns = _delay_ns(last, sample)
        parked = 0 if had_vcpus is None else max(0, had_vcpus - len(sample.active))
        if parked:
            self.parked_ns += parked * step_ns
            self.parked_span_ns += step_ns
            rate = self._rate_before()
            if rate is not None and delay_ns is not None:
                self.avoided_ns = (self.avoided_ns or 0.0) + rate * step_ns - delay_ns
        elif delay_ns is not None:
            self.before.append((step_ns, delay_ns))
            while sum(step for step, _ in self.before) > BEFORE_NS:
                self.before.popleft()

    def _rate_before(self) -> float | None:
        span_ns = sum(step for step, _ in self.before)
        if span_ns < LEAST_BEFORE_NS:
            return None
        return sum(delay for _, delay in self.before) / span_ns

    def shown(self, uuid: Uuid) -> dict[str, Any]:
        avoided = self.avoided_ns
        return {
            "name": self.name,
            "uuid": uuid,
            "watched_s": round(seconds(self.watched_ns), 3),
            "parked_vcpu_hours": _hours(self.parked_ns),
            "run_delay_avoided_vcpu_hours": None if avoided is None else _hours(avoided),
            **{str(outcome): self.outcomes[str(outcome)] for outcome in Outcome},
            "undone": self.undone,
            "mean_gain_ratio": round(sum(self.gains) / len(self.gains), 4) if self.gains else None,
            "changes": self.changes["reached"],
            "changes_failed": self.changes["failed"],
            "foreign_changes": self.foreign,
        }


class Report:
    """A `Recorder` that keeps the accounts."""

    def __init__(self) -> None:
        self._accounts: dict[Uuid, _Account] = {}
        self._outcomes: Counter[str] = Counter()
        self._undone = 0
        self._began_ns: int | None = None
        self._ended_ns = 0
        self._cycles = 0
        self._policies: list[str] = []
        self._originals: tuple[tuple[Original, ...], dict[Uuid, int]] = ((), {})

    def record(self, record: CycleRecord) -> None:
        self._cycles += 1
        self._began_ns = record.began_ns if self._began_ns is None else self._began_ns
        self._ended_ns = record.ended_ns
        if record.policy_name not in self._policies:
            self._policies.append(record.policy_name)
        had = self._had(record.outstanding)
        for sample in record.sample.domains:
            account = self._accounts.get(sample.uuid)
            if account is None:
                self._accounts[sample.uuid] = _Account(sample)
            elif sample is not account.last:
                account.pass_on(sample, had.get(sample.uuid))
        self._outcome(record)

    def _had(self, outstanding: tuple[Original, ...]) -> dict[Uuid, int]:
        if outstanding is not self._originals[0]:
            self._originals = (outstanding, {one.uuid: one.home_vcpus for one in outstanding})
        return self._originals[1]

    def _outcome(self, record: CycleRecord) -> None:
        for verdict in record.verdicts:
            self._outcomes[str(verdict.outcome)] += 1
            self._undone += not verdict.kept
            for resize in verdict.move.resizes:
                account = self._accounts.get(resize.uuid)
                if account is not None:
                    account.outcomes[str(verdict.outcome)] += 1
                    account.undone += not verdict.kept
                    if verdict.gain_ratio is not None:
                        account.gains.append(verdict.gain_ratio)
        for done in record.completed:
            if done.uuid in self._accounts:
                word = "reached" if done.reached else "failed"
                self._accounts[done.uuid].changes[word] += 1
        for foreign in record.foreign:
            if foreign.uuid in self._accounts:
                self._accounts[foreign.uuid].foreign += 1

    def document(self) -> dict[str, Any]:
        """Totals and each domain, those with the most parked first."""
        accounts = self._accounts
        avoided = [one.avoided_ns for one in accounts.values() if one.avoided_ns is not None]
        domains = [account.shown(uuid) for uuid, account in accounts.items()]
        domains.sort(key=lambda one: (-one["parked_vcpu_hours"], one["name"]))
        return {
            "cycles": self._cycles,
            "seconds": round(seconds(self._ended_ns - (self._began_ns or 0)), 3),
            "policies": self._policies,
            "total": {
                "domains": len(domains),
                "parked_vcpu_hours": _hours(sum(one.parked_ns for one in accounts.values())),
                "run_delay_avoided_vcpu_hours": _hours(sum(avoided)) if avoided else None,
                **{str(outcome): self._outcomes[str(outcome)] for outcome in Outcome},
                "undone": self._undone,
                "changes": sum(one.changes["reached"] for one in accounts.values()),
                "changes_failed": sum(one.changes["failed"] for one in accounts.values()),
                "foreign_changes": sum(one.foreign for one in accounts.values()),
            },
            "domains": domains,
        }


def told(records: Iterable[CycleRecord]) -> dict[str, Any]:
    """The report over these cycles."""
    report = Report()
    for record in records:
        report.record(record)
    return report.document()


def text(document: dict[str, Any]) -> str:
    """The report for a terminal."""
    total = document["total"]
    avoided = total["run_delay_avoided_vcpu_hours"]
    lines = [
        (
            f"{document['seconds'] / _S_PER_HOUR:.2f} hours, {document['cycles']} cycles, "
            f"{total['domains']} domains, policy {', '.join(document['policies']) or '-'}"
        ),
        f"parked: {total['parked_vcpu_hours']:g} vCPU-hours",
        (
            f"run delay avoided: {_figure(avoided)} vCPU-hours of waiting (estimated from the minute "
            "before each change)"
        ),
        (
            f"judged moves: {total['helped']} helped, {total['neutral']} neutral, "
            f"{total['harmed']} harmed, {total['unknown']} unknown; {total['undone']} undone"
        ),
        (
            f"changes: {total['changes']} reached, {total['changes_failed']} failed, "
            f"{total['foreign_changes']} made by somebody else"
        ),
    ]
    rows = [_HEAD]
    rows += [
        (
            printable(one["name"], 40),
            f"{one['parked_vcpu_hours']:g}",
            _figure(one["run_delay_avoided_vcpu_hours"]),
            *(str(one[word]) for word in ("helped", "neutral", "harmed", "undone", "changes")),
            _figure(one["mean_gain_ratio"]),
        )
        for one in document["domains"]
    ]
    return "\n".join([*lines, "", *columns(rows)] if len(rows) > 1 else lines)


_HEAD: tuple[str, ...] = (
    "DOMAIN",
    "PARKED",
    "AVOIDED",
    "HELPED",
    "NEUTRAL",
    "HARMED",
    "UNDONE",
    "CHANGES",
    "GAIN",
)


def _delay_ns(last: DomainSample, now: DomainSample) -> int | None:
    (_, was_ns), (_, now_ns) = last.vcpus.totals(), now.vcpus.totals()
    if len(last.vcpus) != len(now.vcpus) or was_ns is None or now_ns is None:
        return None
    return now_ns - was_ns if now_ns >= was_ns else None


def _hours(amount_ns: float) -> float:
    return round(amount_ns / NS_PER_S / _S_PER_HOUR, 4)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
