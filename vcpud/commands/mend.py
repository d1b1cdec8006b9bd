"""`restore` and `deadman`: giving everything back, with the daemon or without it."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from vcpud import log, owed
from vcpud.client import NotRunningError, ask
from vcpud.commands.common import (
    duration,
    folders,
    output_option,
    say,
    say_json,
    settings_to_restore,
    unanswered,
)
from vcpud.daemonless import give_back
from vcpud.errors import LedgerError, PartialError, UnreachableError, UsageError
from vcpud.ledger import FileLedger, clear_hold, read_hold
from vcpud.lock import ledger_folder, locked
from vcpud.text import meant, printable
from vcpud.units import NS_PER_S, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from vcpud.model import Original, Uuid
    from vcpud.record import CycleRecord
    from vcpud.settings import Settings

_WITHIN_NS = 30 * NS_PER_S
_MARGIN_S = 45.0
_LOOK_S = 0.5


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the two commands."""
    restore = subparsers.add_parser(
        "restore",
        parents=[parent],
        help="give back everything that vcpud changed",
        description="Give back everything that vcpud changed: through the running daemon or, if "
        "none runs, directly from the ledger. Without a daemon it also waits until no guest will "
        "carry out an unplug any more that vcpud has given up. What is not settled when the time "
        "is over stays in the ledger; that is no failure.",
    )
    restore.add_argument("domain", nargs="?", help="only this domain: name or UUID")
    restore.add_argument(
        "--timeout", type=duration, default=_WITHIN_NS, help="how long to try (30s)"
    )
    output_option(restore)
    restore.set_defaults(handler=_restore)
    deadman = subparsers.add_parser(
        "deadman",
        parents=[parent],
        help="wait for a hold to end; if no vcpud has taken over, give everything back (for systemd)",
        description="Wait for a hold to end; if no vcpud has taken over, give everything back.",
    )
    deadman.set_defaults(handler=_deadman)


class _Seen:
    """A `Recorder` that notes which originals no longer apply, and whether anybody answers."""

    def __init__(self) -> None:
        self.lost: set[str] = set()
        self.answered = False
        self.notes: tuple[str, ...] = ()
        self.elsewhere = ""
        self.recovered: tuple[Original, ...] = ()

    def record(self, record: CycleRecord) -> None:
        self.lost |= {original.name for original in record.lost_originals}
        self.answered |= record.sample.connected
        self.notes = record.sample.notes
        self.recovered += record.recovered
        self.elsewhere = owed.reminder(record.outstanding, record.sample)


def _restore(options: argparse.Namespace) -> None:
    _, runtime_dir = folders(options)
    try:
        answer = ask(
            runtime_dir,
            "restore",
            timeout_s=seconds(options.timeout) + _MARGIN_S,
            domain=options.domain,
            wait=True,
            wait_ns=options.timeout,
        )
    except NotRunningError:
        log.configure("auto", "warning", environ=os.environ)
        settings, configured = settings_to_restore(options)
        result = _directly(settings, options.timeout, options.domain, configured=configured)
    else:
        left, pending = answer["left"], answer.get("unplug_pending", [])
        done = [] if left or options.domain in pending else [options.domain or "everything"]
        result = _Result(
            given_back=done,
            gone=[],
            left=left,
            unplug_pending=pending,
            elsewhere=answer.get("elsewhere", ""),
        )
    if options.output == "json":
        say_json(dataclasses.asdict(result))
    else:
        result.say()
    result.check()


def _directly(
    settings: Settings, within_ns: int, word: str | None = None, *, configured: bool
) -> _Result:
    folder = ledger_folder(settings.state_dir, settings.runtime_dir)
    ledger = FileLedger(folder, read_only=True)
    if ledger.fault:
        raise LedgerError(ledger.fault)
    before = ledger.outstanding()
    if word is not None and ledger.lost:
        raise UsageError(
            f"there is no ledger in {folder}: run `vcpud restore` without a domain; it goes by the "
            "notes in the domains' metadata"
        )
    uuid = None if word is None else _uuid(word, before)
    seen = _Seen()
    left = give_back(settings, seen, within_ns, uuid, forget_absent=configured)
    if left and not seen.answered:
        raise UnreachableError(
            f"{unanswered(seen.notes)} (backend {settings.backend}): nothing was given back, and "
            f"the ledger keeps {_names(one.name for one in left)}; start the hypervisor, and run `vcpud "
            "restore` again"
        )
    if ledger.lost and not seen.answered:
        sys.stderr.write(
            f"vcpud: there is no ledger in {folder}, and {unanswered(seen.notes)}: so the "
            "notes in the domains' metadata were not read\n"
        )
    before += seen.recovered
    kept = {original.uuid: original.name for original in _outstanding(folder, uuid)}
    pending = kept.keys() - {original.uuid for original in left}
    if word is None and not left:
        clear_hold(folder)
    return _Result(
        given_back=[
            one.name
            for one in before
            if uuid in (None, one.uuid) and one.uuid not in kept and one.name not in seen.lost
        ],
        gone=sorted(seen.lost),
        left=[original.name for original in left],
        unplug_pending=[kept[one] for one in pending],
        elsewhere=seen.elsewhere if left else "",
    )


def _outstanding(folder: Path, uuid: Uuid | None) -> tuple[Original, ...]:
    """What is in the ledger now."""
    ledger = FileLedger(folder, read_only=True)
    return tuple(one for one in ledger.outstanding() if uuid in (None, one.uuid))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """What became of every domain that was owed something, by name.

    Attributes:
        given_back: Have it.
        gone: Ended or began anew, and need nothing.
        left: Are still owed it.
        unplug_pending: Have it, and may lose a vCPU to an unplug that was given up.
        elsewhere: What has to be done about those that are left because they are of another
            hypervisor, for people; "" where none is.
    """

    given_back: list[str]
    gone: list[str]
    left: list[str]
    unplug_pending: list[str]
    elsewhere: str = ""

    def say(self) -> None:
        """In words."""
        if self.gone:
            say(f"gone or restarted, so nothing to give back: {_names(self.gone)}")
        if self.given_back or not (self.left or self.gone or self.unplug_pending):
            names = _names(self.given_back)
            say(f"given back: {names}" if names else "nothing to give back: nothing was changed")
        if self.unplug_pending:
            say(
                f"given back, but still in the ledger: {_names(self.unplug_pending)}: the guest may "
                "still carry out an unplug that vcpud has given up; the next start of vcpud, `vcpud "
                "restore` without a daemon or a reboot of the guest settles this"
            )

    def check(self) -> None:
        """Done in part is not done.

        Raises:
            PartialError: Something is left; it stays in the ledger.
        """
        if self.left:
            reminder = f" ({printable(self.elsewhere, 300)})" if self.elsewhere else ""
            raise PartialError(
                f"not given back, still in the ledger: {_names(self.left)}{reminder}"
            )


def _deadman(options: argparse.Namespace) -> None:
    settings, configured = settings_to_restore(options)
    log.configure("auto", "info", environ=os.environ)
    folder = ledger_folder(settings.state_dir, settings.runtime_dir)
    while (note := read_hold(folder)) is not None and note.left_ns() > 0:
        time.sleep(min(_LOOK_S, max(0.01, seconds(note.left_ns()))))
    if note is None:
        say("no hold is in force")
    elif locked(settings.runtime_dir):
        say("the hold is over, and a vcpud runs")
    else:
        say("the hold is over, and no vcpud has taken over: giving everything back")
        result = _directly(settings, _WITHIN_NS, configured=configured)
        result.say()
        result.check()
    clear_hold(folder)


def _names(names: Iterable[str]) -> str:
    return ", ".join(printable(name) for name in sorted(names))


def _uuid(word: str, outstanding: tuple[Original, ...]) -> Uuid:
    known = {original.name: original.uuid for original in outstanding}
    if word.lower() in known.values():
        return word.lower()
    if word not in known:
        raise UsageError(f"the ledger holds no domain {word!r}{meant(word, known)}")
    return known[word]
