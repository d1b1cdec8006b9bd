"""Requests of operators, as they come through the control socket.

Reading verbs are answered from the last finished cycle; writing verbs become `vcpud.requests` that
the loop drains, and are answered once a cycle has taken them.

    {"verb": "release", "domain": "db", "for_ns": 600000000000, "wait": true}
    {"ok": true, "cycle": 42, "done": true}
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from vcpud import owed, verbs
from vcpud.errors import UnreachableError, UsageError
from vcpud.peers import Peers
from vcpud.record import Phase
from vcpud.requests import (
    Asked,
    Hold,
    Pause,
    Release,
    Request,
    Restore,
    Resume,
)
from vcpud.units import NS_PER_S, seconds

if TYPE_CHECKING:
    from pathlib import Path

    from vcpud.model import Uuid
    from vcpud.record import CycleRecord
    from vcpud.terms import Wishes

_TAKEN_NS = 30 * NS_PER_S
_WAIT_NS = 60 * NS_PER_S
_RESTORE_CYCLES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the daemon around the inbox does for it.

    Attributes:
        now_ns: The monotonic clock.
        wake: Asks the loop for an early cycle.
        status: The status document of the last finished cycle.
        hold: Writes down durably that the next stop may keep the counts for so long.
        reload: Reads the configuration anew, for this uid; raises `ConfigError`.
        explain: All there is to say of one domain.
        set_terms: Durably sets a domain's terms, or with None takes back what was set; returns
            what of it is of no avail, for people, or "".
    """

    now_ns: Callable[[], int]
    wake: Callable[[], None]
    status: Callable[[], dict[str, Any]]
    hold: Callable[[int], None]
    reload: Callable[[int], None]
    explain: Callable[[Uuid], dict[str, Any] | None] = lambda _uuid: None
    set_terms: Callable[[Uuid, str, Wishes | None], str] = lambda _uuid, _name, _wishes: ""


class SocketInbox:
    """The `Inbox` port behind a unix socket; also a `Recorder`, to know what has been done."""

    def __init__(self, path: Path, group: str, answers: Answers) -> None:
        """Open the socket; nobody is answered before `serve`.

        Raises:
            VcpudError: The socket cannot be made.
        """
        self._answers = answers
        self._log = structlog.get_logger()
        self._turn = threading.Condition()
        self._pending: list[Request] = []
        self._waiting: dict[int, int | None] = {}
        self._last: CycleRecord | None = None
        self._closing = False
        self._peers = Peers(path, group, self._obey)

    # ------------------------------------------------------------------------- for the loop

    def drain(self) -> tuple[Request, ...]:
        with self._turn:
            taken, self._pending = tuple(self._pending), []
        return taken

    def record(self, record: CycleRecord) -> None:
        with self._turn:
            self._last = record
            for request in record.requests:
                if id(request) in self._waiting:
                    self._waiting[id(request)] = record.cycle
            self._turn.notify_all()

    # ---------------------------------------------------------------------- for the service

    def serve(self) -> None:
        """Start answering."""
        self._peers.serve()

    def put(self, request: Request) -> None:
        """Hand a request to the loop, from any thread."""
        with self._turn:
            self._pending.append(request)
        self._answers.wake()

    def close(self) -> None:
        """Answer whoever still waits, and take the socket away."""
        with self._turn:
            self._closing = True
            self._turn.notify_all()
        self._peers.close()

    # ---------------------------------------------------------------------------- for peers

    def _obey(self, ask: dict[str, Any], uid: int) -> dict[str, Any]:
        verb = verbs.verb_of(ask)
        if verb == "status":
            return {"status": self._answers.status()}
        if verb == "explain":
            return self._explain(ask)
        if verb == "set":
            return self._set(ask, uid)
        if verb == "reload":
            self._log.info("request", verb=verb, uid=uid)
            self._answers.reload(uid)
            return {}
        return self._change(verb, ask, uid)

    def _known(self) -> CycleRecord:
        record = self._last
        if record is None:
            raise UnreachableError(
                "vcpud has just started and knows no domains yet: try again in a few seconds"
            )
        return record

    def _explain(self, ask: dict[str, Any]) -> dict[str, Any]:
        if ask.get("domain") is None:
            raise UsageError("explain: which domain?")
        told = self._answers.explain(verbs.uuid_of(ask["domain"], self._known()))
        if told is None:
            raise UsageError("explain: that domain does not run")
        return {"explanation": told}

    def _set(self, ask: dict[str, Any], uid: int) -> dict[str, Any]:
        record = self._known()
        if ask.get("domain") is None:
            raise UsageError("set: which domain?")
        uuid = verbs.uuid_of(ask["domain"], record)
        wishes = verbs.wishes(ask, uuid, record)
        name = verbs.name_of(uuid, record)
        self._log.info(
            "request",
            verb="set",
            uid=uid,
            domain=name,
            mode=None if wishes is None or wishes.mode is None else str(wishes.mode),
            min=None if wishes is None else wishes.min_vcpus,
            max=None if wishes is None else wishes.max_vcpus,
            reset=wishes is None,
        )
        return {"domain": name, "in_vain": self._answers.set_terms(uuid, name, wishes)}

    def _change(self, verb: str, ask: dict[str, Any], uid: int) -> dict[str, Any]:
        record = self._known()
        now_ns = self._answers.now_ns()
        for_ns = verbs.duration_ns(ask, "for_ns")
        until_ns = None if for_ns is None else now_ns + for_ns
        word = ask.get("domain")
        uuid = None if word is None else verbs.uuid_of(word, record)
        asked = Asked(uid=uid, at_ns=now_ns)
        self._log.info(
            "request",
            verb=verb,
            uid=uid,
            domain=word,
            for_s=None if for_ns is None else seconds(for_ns),
        )
        request: Request
        if verb == "pause":
            restore = ask.get("restore") is True
            request = Pause(asked=asked, uuid=uuid, until_ns=until_ns, restore=restore)
        elif verb == "resume":
            request = Resume(asked=asked, uuid=uuid)
        elif verb == "restore":
            request = Restore(asked=asked, uuid=uuid)
        elif verb == "release":
            if uuid is None:
                raise UsageError("release: which domain?")
            request = Release(asked=asked, uuid=uuid, until_ns=until_ns)
        else:
            if until_ns is None or for_ns is None:
                raise UsageError("hold: for how long?")
            # First on the disk: the deadman must know of a hold before the loop acts on it.
            self._answers.hold(for_ns)
            request = Hold(asked=asked, until_ns=until_ns)
        cycle = self._taken(request)
        answer: dict[str, Any] = {"cycle": cycle}
        if ask.get("wait") is True and verb in ("release", "restore"):
            wait_ns = verbs.duration_ns(ask, "wait_ns") or _WAIT_NS
            left, pending = self._done(uuid, cycle, wait_ns, released=verb == "release")
            answer |= {"done": not left, "left": left, "unplug_pending": pending}
            record = self._known()
            asked_for = [one for one in record.outstanding if uuid in (None, one.uuid)]
            if reminder := owed.reminder(asked_for, record.sample):
                answer["elsewhere"] = reminder
        return answer

    def _taken(self, request: Request) -> int:
        """Wait until a cycle has taken it; the cycle's number."""
        with self._turn:
            self._waiting[id(request)] = None
            self._pending.append(request)
            self._answers.wake()
            self._turn.wait_for(
                lambda: self._closing or self._waiting[id(request)] is not None,
                seconds(_TAKEN_NS),
            )
            cycle = self._waiting.pop(id(request))
            if cycle is None:
                if request in self._pending:
                    self._pending.remove(request)
                raise UnreachableError(
                    "vcpud did not take up the request: it is stopping or stuck"
                )
        return cycle

    def _done(
        self, uuid: Uuid | None, cycle: int, wait_ns: int, *, released: bool
    ) -> tuple[list[str], list[str]]:
        """Wait until everything is given back.

        Returns:
            Names of domains that are not, and of those that may still lose a vCPU by an unplug.
        """
        left: list[str] = []
        pending: list[str] = []

        def given_back() -> bool:
            nonlocal left, pending
            record = self._last
            if record is None or record.cycle < cycle:
                return self._closing
            left, pending = _outstanding(record, uuid)
            asked = [status for status in record.domains if uuid in (None, status.uuid)]
            phases = {status.phase for status in asked}
            moving = any(status.restoring for status in asked) or (
                released and Phase.RELEASED not in phases
            )
            present = uuid is None or bool(asked)
            if not present:
                left, pending = [], []
                return True
            tried = record.cycle >= cycle + _RESTORE_CYCLES
            return self._closing or (not moving and (tried or not left))

        with self._turn:
            self._turn.wait_for(given_back, seconds(wait_ns))
        return left, pending


def _outstanding(record: CycleRecord, uuid: Uuid | None) -> tuple[list[str], list[str]]:
    """Who is still owed something, and who has it but may lose a vCPU once more."""
    asked = [one for one in record.outstanding if uuid in (None, one.uuid)]
    left = owed.lacking(asked, record.sample)
    return sorted(one.name for one in left), sorted(one.name for one in asked if one not in left)
