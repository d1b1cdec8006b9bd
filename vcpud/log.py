"""What is logged: one line per change with its decision id, and each trouble once.

JSON lines when standard error is not a terminal, readable lines when it is. Event names are
stable: `vcpu.change`, `vcpu.change.failed`, `verdict`, `guard.blocked`, `signal.hold`,
`domain.quarantined`, `libvirt.disconnected` and so on. What guests and domains call themselves is
escaped and bounded before it is written.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from vcpud import owed
from vcpud.events import EventKind
from vcpud.model import Accepted, Mode, Reason, Trouble
from vcpud.record import Phase
from vcpud.text import printable
from vcpud.units import seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from vcpud.events import HostEvent
    from vcpud.model import DomainSample, HostSample, Uuid
    from vcpud.record import ChangeRecord, CycleRecord, DomainStatus

_LIMIT = 400
_EVENTS = {
    EventKind.STARTED: "domain.started",
    EventKind.GONE: "domain.gone",
    EventKind.REBOOTED: "domain.rebooted",
    EventKind.JOB_BEGUN: "domain.job.begun",
    EventKind.JOB_ENDED: "domain.job.ended",
    EventKind.METADATA: "domain.metadata",
    EventKind.AGENT_UP: "domain.agent.up",
    EventKind.AGENT_DOWN: "domain.agent.down",
}
_UNDER_WAY = frozenset({Phase.CHANGING, Phase.UNDOING, Phase.RESTORING})
_NO_TROUBLE: frozenset[Trouble] = frozenset()
_ALWAYS = frozenset({Trouble.METADATA_INVALID, Trouble.HUNG, Trouble.AGENT_ABSURD})
"""Troubles that an operator wants to know of a domain that is merely observed, too."""


def configure(
    form: str, level: str, *, environ: Mapping[str, str], stream: TextIO | None = None
) -> None:
    """Set up structlog for the process.

    Args:
        form: json, text, or auto: text on a terminal.
        level: debug, info, warning or error.
        environ: NO_COLOR switches colours off; under JOURNAL_STREAM journald keeps the time.
        stream: Standard error unless told otherwise.
    """
    out = sys.stderr if stream is None else stream
    terminal = out.isatty()
    text = form == "text" or (form == "auto" and terminal)
    processors: list[Any] = [structlog.processors.add_log_level, _harmless]
    if not environ.get("JOURNAL_STREAM"):
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        processors.append(stamp)
    if text:
        colors = terminal and not environ.get("NO_COLOR")
        processors.append(structlog.dev.ConsoleRenderer(colors=colors))
    else:
        processors.append(structlog.processors.JSONRenderer())
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )


def _harmless(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = printable(value, _LIMIT)
    return event


class LogRecorder:
    """A `Recorder` that writes what an operator wants to read, and repeats nothing."""

    def __init__(self) -> None:
        self._log: Any = structlog.get_logger()
        self._troubles: dict[Uuid, frozenset[Trouble]] = {}
        self._phases: dict[Uuid, Phase] = {}
        self._resisting: dict[Uuid, str] = {}
        self._blocked: dict[Uuid, tuple[str, ...]] = {}
        self._refused: dict[Uuid, tuple[str, int]] = {}
        self._errors: dict[str, str] = {}
        self._lost: frozenset[Uuid] = frozenset()
        self._elsewhere = ""
        self._unplugs: dict[Uuid, str] = {}
        self._notes: tuple[str, ...] = ()
        self._connected: bool | None = None

    def record(self, record: CycleRecord) -> None:
        self._host(record)
        for event in record.events:
            self._event(event)
        for change in record.changes:
            self._change(change)
        for done in record.completed:
            write = self._log.debug if done.reached else self._log.warning
            write(
                "vcpu.change.done" if done.reached else "vcpu.change.failed",
                domain=done.name,
                uuid=done.uuid,
                to=done.to_vcpus,
                purpose=str(done.purpose),
                method=str(done.method),
                took_s=round(seconds(done.took_ns), 3),
                detail=done.detail,
                decision_id=done.decision_id,
                **{"from": done.from_vcpus},
            )
        for foreign in record.foreign:
            self._log.warning(
                "domain.foreign",
                domain=foreign.name,
                uuid=foreign.uuid,
                to=foreign.to_vcpus,
                reversal=foreign.reversal,
                owed=foreign.owed_vcpus,
                detail=foreign.detail,
                **{"from": foreign.from_vcpus},
            )
        for original in record.received:
            self._log.info(
                "domain.received",
                domain=original.name,
                uuid=original.uuid,
                owed=original.home_vcpus,
            )
        for original in record.recovered:
            self._log.warning(
                "original.recovered",
                domain=original.name,
                uuid=original.uuid,
                owed=original.home_vcpus,
            )
        for verdict in record.verdicts:
            self._log.info(
                "verdict",
                decision_id=verdict.decision_id,
                outcome=str(verdict.outcome),
                kept=verdict.kept,
                gain_ratio=None if verdict.gain_ratio is None else round(verdict.gain_ratio, 4),
                detail=verdict.detail,
            )
        self._domains(record)

    def _host(self, record: CycleRecord) -> None:
        sample = record.sample
        if sample.connected is not self._connected:
            write = self._log.info if sample.connected else self._log.warning
            write(
                "libvirt.connected" if sample.connected else "libvirt.disconnected",
                domains=len(sample.domains),
            )
            self._connected = sample.connected
        for note in sample.notes:
            if note not in self._notes:
                self._log.info("host.note", note=note)
        self._notes = sample.notes
        self._faults(record)
        for original in record.lost_originals:
            if original.uuid not in self._lost:
                self._log.error("original.lost", domain=original.name, uuid=original.uuid)
        self._lost = frozenset(original.uuid for original in record.lost_originals)
        elsewhere = owed.reminder(record.outstanding, sample) if sample.connected else ""
        if elsewhere and elsewhere != self._elsewhere:
            self._log.error("original.elsewhere", detail=elsewhere)
        self._elsewhere = elsewhere

    def _faults(self, record: CycleRecord) -> None:
        for what, error in (
            ("ledger", record.ledger_error),
            ("policy", record.policy_error),
            ("sample", record.sample_error),
        ):
            if error and self._errors.get(what) != error:
                self._log.error(f"{what}.failed", error=error)
            elif not error and what in self._errors:
                self._log.info(f"{what}.recovered")
            if error:
                self._errors[what] = error
            else:
                self._errors.pop(what, None)

    def _event(self, event: HostEvent) -> None:
        name = _EVENTS.get(event.kind)
        if name is not None:
            more = {"detail": event.detail} if event.detail else {}
            self._log.info(name, domain=event.name, uuid=event.uuid, **more)

    def _change(self, change: ChangeRecord) -> None:
        words: dict[str, Any] = {
            "domain": change.name,
            "uuid": change.uuid,
            "from": change.from_vcpus,
            "to": change.to_vcpus,
            "purpose": str(change.purpose),
            "method": str(change.method),
            "reason": change.reason,
            "decision_id": change.decision_id,
        }
        if isinstance(change.effect, Accepted):
            self._refused.pop(change.uuid, None)
            self._log.info("vcpu.change", **words)
            return
        refusal = change.effect.reason
        if self._refused.get(change.uuid) == (refusal, change.to_vcpus):
            return
        self._refused[change.uuid] = (refusal, change.to_vcpus)
        if refusal is Reason.DRY_RUN:
            self._log.info("vcpu.change.would", **words)
        else:
            detail = change.effect.detail
            self._log.warning("vcpu.change.refused", **words, refusal=str(refusal), detail=detail)

    def _domains(self, record: CycleRecord) -> None:
        by_uuid = {domain.uuid: domain for domain in record.sample.domains}
        self._pending(record, by_uuid)
        for uuid, domain in by_uuid.items():
            if domain.troubles != self._troubles.get(uuid, _NO_TROUBLE):
                self._trouble(domain)
        self._stand(record)
        self._resist(record)
        blocked: dict[Uuid, list[str]] = {}
        for block in record.blocked:
            blocked.setdefault(block.uuid, []).append(block.guard)
            if block.guard not in self._blocked.get(block.uuid, ()):
                self._log.debug(
                    "guard.blocked",
                    domain=_name(record.sample, block.uuid),
                    guard=block.guard,
                    detail=block.detail,
                )
        self._blocked = {uuid: tuple(guards) for uuid, guards in blocked.items()}
        for move in record.proposed.moves:
            self._log.debug(
                "decision",
                reason=move.reason,
                resizes=[(one.uuid, one.from_vcpus, one.to_vcpus) for one in move.resizes],
            )
        for seen in (self._troubles, self._phases, self._refused):
            for uuid in seen.keys() - by_uuid.keys():
                del seen[uuid]

    def _pending(self, record: CycleRecord, by_uuid: Mapping[Uuid, DomainSample]) -> None:
        """Unplugs that nobody waits for any more, and that the guest may still carry out."""
        asked = [one for one in record.outstanding if one.unplug_from is not None]
        if not asked and not self._unplugs:
            return
        waiting = {status.uuid for status in record.domains if status.phase in _UNDER_WAY}
        pending = {
            original.uuid: original.name
            for original in asked
            if original.uuid not in waiting
            and owed.unplug_pending(by_uuid.get(original.uuid), original)
        }
        for uuid in pending.keys() - self._unplugs.keys():
            self._log.warning("domain.unplug.pending", domain=pending[uuid], uuid=uuid)
        for uuid in self._unplugs.keys() - pending.keys():
            self._log.info("domain.unplug.settled", domain=self._unplugs[uuid], uuid=uuid)
        self._unplugs = pending

    def _stand(self, record: CycleRecord) -> None:
        """Where each domain stands, when that has changed."""
        for status in record.domains:
            before = self._phases.get(status.uuid, Phase.IDLE)
            if before is not status.phase:
                name = _name(record.sample, status.uuid)
                self._phase(status, name, before)
                self._phases[status.uuid] = status.phase

    def _resist(self, record: CycleRecord) -> None:
        """Why a domain cannot be given back what it had, once for each reason: it is tried on and on."""
        kept = {}
        for status in record.domains:
            if not status.restoring:
                continue
            uuid, said = status.uuid, self._resisting.get(status.uuid, "")
            if status.failures and status.detail != said:
                said = status.detail
                name = _name(record.sample, uuid)
                self._log.warning("vcpu.restore.failed", domain=name, uuid=uuid, detail=said)
            kept[uuid] = said
        self._resisting = kept

    def _trouble(self, domain: DomainSample) -> None:
        before = self._troubles.get(domain.uuid, _NO_TROUBLE)
        self._troubles[domain.uuid] = domain.troubles
        new, gone = domain.troubles - before, before - domain.troubles
        if domain.terms.mode is not Mode.ENFORCE:
            new, gone = new & _ALWAYS, gone & _ALWAYS
        if new:
            troubles = sorted(map(str, new))
            where = {"domain": domain.name, "uuid": domain.uuid}
            self._log.warning("signal.hold", **where, troubles=troubles)
        if gone:
            troubles = sorted(map(str, gone))
            self._log.info("signal.ok", domain=domain.name, uuid=domain.uuid, troubles=troubles)

    def _phase(self, status: DomainStatus, name: str, before: Phase) -> None:
        uuid, after, detail = status.uuid, status.phase, status.detail
        if after is Phase.QUARANTINED:
            more = {} if status.original_vcpus is None else {"owed": status.original_vcpus}
            self._log.warning("domain.quarantined", domain=name, uuid=uuid, detail=detail, **more)
        elif before is Phase.QUARANTINED:
            self._log.info("domain.recovered", domain=name, uuid=uuid, phase=str(after))
        else:
            self._log.debug("domain.phase", domain=name, phase=str(after), detail=detail)


def _name(sample: HostSample, uuid: Uuid) -> str:
    return next((domain.name for domain in sample.domains if domain.uuid == uuid), uuid)
