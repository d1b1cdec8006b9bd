"""What `vcpud status` shows: a finished cycle as a JSON document, and that as a table.

Pure: records and instants in, plain data and text out. Durations in seconds (`_s`), amounts of
processor in pCPUs and vCPUs, shares as ratios; a figure that is not known is null, never zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vcpud import owed
from vcpud.text import printable
from vcpud.units import seconds
from vcpud.version import version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vcpud.demand import DomainDemand
    from vcpud.model import DomainSample, Original, Uuid
    from vcpud.plan import Verdict
    from vcpud.record import CycleRecord, DomainStatus


class LatestCycle:
    """A `Recorder` that keeps the last cycle, and each domain's last verdict."""

    __slots__ = ("record_", "verdicts")

    def __init__(self) -> None:
        self.record_: CycleRecord | None = None
        self.verdicts: dict[Uuid, Verdict] = {}

    def record(self, record: CycleRecord) -> None:
        for verdict in record.verdicts:
            for resize in verdict.move.resizes:
                self.verdicts[resize.uuid] = verdict
        if len(self.verdicts) > len(record.sample.domains):
            present = {domain.uuid for domain in record.sample.domains}
            self.verdicts = {key: one for key, one in self.verdicts.items() if key in present}
        self.record_ = record

    def document(self, now_ns: int) -> dict[str, Any]:
        """The status document at this instant."""
        if self.record_ is None:
            return {"running": True, "version": version(), "cycle": 0, "domains": []}
        return document(self.record_, self.verdicts, now_ns)


def document(record: CycleRecord, verdicts: Mapping[Uuid, Verdict], now_ns: int) -> dict[str, Any]:
    """Everything that an operator may ask about one finished cycle.

    Args:
        record: The cycle.
        verdicts: Each domain's last verdict, of this cycle or an earlier one.
        now_ns: When it is asked; ages and remaining times count from here.
    """
    demands = {demand.uuid: demand for demand in record.demand.domains}
    statuses = {status.uuid: status for status in record.domains}
    blocked: dict[Uuid, list[dict[str, str]]] = {}
    for block in record.blocked:
        entry = {"guard": block.guard, "detail": block.detail}
        blocked.setdefault(block.uuid, []).append(entry)
    return {
        "running": True,
        "version": version(),
        "cycle": record.cycle,
        "age_s": _since(now_ns, record.ended_ns),
        "period_s": seconds(record.period_ns),
        "cycle_s": seconds(record.ended_ns - record.began_ns),
        "policy": record.policy_name,
        "connected": record.sample.connected,
        "paused": record.paused,
        "killed": record.killed,
        "stopping": record.stopping,
        "hold_left_s": _left(record.hold_until_ns, now_ns),
        "lost_threads": record.sample.lost_threads,
        "notes": list(record.sample.notes),
        "errors": {
            what: error
            for what, error in (
                (
                    "ledger",
                    record.ledger_error or owed.reminder(record.outstanding, record.sample),
                ),
                ("policy", record.policy_error),
                ("sample", record.sample_error),
            )
            if error
        },
        "pools": [
            {
                "name": pool.name,
                "pcpus": pool.pcpus,
                "available_pcpus": _round(pool.available_pcpus),
                "active_vcpus": pool.active_vcpus,
                "overcommit_ratio": _round(pool.overcommit_ratio),
                "run_delay_ratio": _round(pool.run_delay_ratio),
            }
            for pool in record.demand.pools
        ],
        "domains": [
            _domain(
                sample,
                demands.get(sample.uuid),
                statuses.get(sample.uuid),
                verdicts.get(sample.uuid),
                now_ns,
            )
            | {"blocked": blocked.get(sample.uuid, [])}
            for sample in sorted(record.sample.domains, key=lambda one: one.name)
        ],
        "outstanding": originals(record.outstanding),
    }


def originals(outstanding: Iterable[Original]) -> list[dict[str, Any]]:
    """What the ledger holds, for people."""
    return [
        {
            "name": original.name,
            "uuid": original.uuid,
            "vcpus": original.home_vcpus,
            "online": None if original.online is None else sorted(original.online),
            "weight": original.weight,
            "unplug_pending": original.unplug_from is not None,
            "boot_id": original.boot_id,
            "hypervisor": original.hypervisor,
        }
        for original in sorted(outstanding, key=lambda one: one.name)
    ]


def table(document: Mapping[str, Any]) -> str:
    """The document for a terminal."""
    lines = [_headline(document)]
    lines += [f"! {what}: {printable(error, 300)}" for what, error in document["errors"].items()]
    lines += [f"note: {printable(note, 300)}" for note in document["notes"]]
    lines += [
        f"pool {printable(pool['name'])}: {pool['pcpus']} pCPUs, "
        f"{_figure(pool['available_pcpus'])} for domains, {pool['active_vcpus']} active vCPUs, "
        f"overcommit {_figure(pool['overcommit_ratio'])}"
        for pool in document["pools"]
    ]
    rows: list[tuple[str, ...]] = [_HEAD]
    rows += [_row(domain) for domain in document["domains"]]
    lines += ["", *columns(rows)] if len(rows) > 1 else ["no domains"]
    for domain in document["domains"]:
        for word in ("detail", "verdict"):
            text = domain["detail"] if word == "detail" else _verdict_text(domain["last_verdict"])
            if text:
                lines.append(f"  {printable(domain['name'])}: {printable(text, 300)}")
    changed = ", ".join(
        f"{printable(one['name'])} ({one['vcpus']})" for one in document["outstanding"]
    )
    lines.append(f"a stop gives back: {changed or 'nothing'}")
    return "\n".join(lines)


def listing(document: Mapping[str, Any]) -> str:
    """Domains, one a line: what each may be done with, and where it stands."""
    rows: list[tuple[str, ...]] = [("DOMAIN", "MODE", "SOURCE", "ACTIVE", "HAD", "MAX", "PHASE")]
    rows += [
        (
            printable(domain["name"], 40),
            domain["mode"],
            printable(domain["mode_source"], 40),
            _figure(domain["active_vcpus"]),
            _figure(domain["original_vcpus"]),
            _figure(domain["max_vcpus"]),
            domain["phase"],
        )
        for domain in document["domains"]
    ]
    return "\n".join(columns(rows)) if len(rows) > 1 else "no domains"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of words in columns; figures to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            word.rjust(width) if word[:1].isdigit() or word in _RIGHT else word.ljust(width)
            for word, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


_HEAD = (
    "DOMAIN",
    "MODE",
    "PHASE",
    "ACTIVE",
    "TARGET",
    "HAD",
    "MAX",
    "ENTITLED",
    "USED",
    "DELAY",
    "LOCKWAIT",
    "METHOD",
    "TROUBLE",
)
_RIGHT = {*_HEAD[3:11], "-"}


def _headline(document: Mapping[str, Any]) -> str:
    words = [
        f"vcpud {document['version']}",
        f"cycle {document['cycle']}",
        f"{document['age_s']:.1f} s ago",
        f"period {document['period_s']:g} s",
        f"policy {document['policy']}",
    ]
    if not document["connected"]:
        words.append("NOT CONNECTED to the hypervisor")
    if document["killed"]:
        words.append("KILL SWITCH THROWN")
    if document["paused"]:
        words.append("PAUSED")
    if document["stopping"]:
        words.append("STOPPING")
    if document["hold_left_s"]:
        words.append(f"holding for {document['hold_left_s']:.0f} s")
    return ", ".join(words)


def _row(domain: Mapping[str, Any]) -> tuple[str, ...]:
    left = domain["phase_left_s"]
    return (
        printable(domain["name"], 40),
        domain["mode"],
        domain["phase"] if left is None else f"{domain['phase']} {left:.0f}s",
        _figure(domain["active_vcpus"]),
        _figure(domain["target_vcpus"]),
        _figure(domain["original_vcpus"]),
        _figure(domain["max_vcpus"]),
        _figure(domain["entitled_pcpus"]),
        _figure(domain["used_pcpus"]),
        _figure(domain["run_delay_pcpus"]),
        _figure(domain["lock_wait_ratio"]),
        domain["method"],
        ",".join(domain["troubles"]) or "",
    )


def _domain(
    sample: DomainSample,
    demand: DomainDemand | None,
    status: DomainStatus | None,
    verdict: Verdict | None,
    now_ns: int,
) -> dict[str, Any]:
    guest = sample.guest
    progress = None if demand is None else demand.progress
    return {
        "name": sample.name,
        "uuid": sample.uuid,
        "mode": str(sample.terms.mode),
        "mode_source": sample.terms.source,
        "method": str(sample.method),
        "pool": sample.pool,
        "share_unit": str(sample.share_unit),
        "weight": sample.weight,
        "job": sample.job,
        "phase": "unknown" if status is None else str(status.phase),
        "phase_left_s": None if status is None else _left(status.until_ns, now_ns),
        "detail": "" if status is None else status.detail,
        "failures": 0 if status is None else status.failures,
        "active_vcpus": len(sample.active),
        "target_vcpus": None if status is None else status.target_vcpus,
        "original_vcpus": None if status is None else status.original_vcpus,
        "min_vcpus": sample.terms.min_vcpus,
        "max_vcpus": sample.max_vcpus,
        "online": None if sample.online is None else sorted(sample.online),
        "entitled_pcpus": _round(None if demand is None else demand.entitled_pcpus),
        "used_pcpus": _round(None if demand is None else demand.used_pcpus),
        "run_delay_pcpus": _round(None if demand is None else demand.run_delay_pcpus),
        "lock_wait_ratio": _round(None if demand is None else demand.lock_wait_ratio),
        "queued_tasks": _round(None if demand is None else demand.queued_tasks),
        "runnable_tasks": _round(None if demand is None else demand.runnable_tasks),
        "progress_pcpus": _round(None if progress is None else progress.rate_pcpus),
        "hold": None if demand is None or demand.hold is None else str(demand.hold),
        "troubles": sorted(map(str, sample.troubles)),
        "sample_age_s": _since(now_ns, sample.taken_at_ns),
        "agent_latency_s": None
        if guest is None or guest.latency_ns is None
        else seconds(guest.latency_ns),
        "last_verdict": None
        if verdict is None
        else {
            "decision_id": verdict.decision_id,
            "outcome": str(verdict.outcome),
            "kept": verdict.kept,
            "gain_ratio": _round(verdict.gain_ratio),
            "age_s": _since(now_ns, verdict.at_ns),
            "detail": verdict.detail,
        },
    }


def _verdict_text(verdict: Mapping[str, Any] | None) -> str:
    if verdict is None:
        return ""
    kept = "kept" if verdict["kept"] else "undone"
    return (
        f"{verdict['age_s']:.0f} s ago {verdict['decision_id']} {verdict['outcome']}, {kept}: "
        f"{verdict['detail']}"
    )


def _left(until_ns: int | None, now_ns: int) -> float | None:
    return None if until_ns is None else max(0.0, round(seconds(until_ns - now_ns), 1))


def _since(now_ns: int, at_ns: int) -> float:
    return max(0.0, round(seconds(now_ns - at_ns), 3))


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
