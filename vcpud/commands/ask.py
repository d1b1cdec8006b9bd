"""`status`, `list`, `set`, `pause`, `resume`, `release`, `hold`, `reload`: asking a running vcpud."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from vcpud import log
from vcpud.client import NotRunningError, ask
from vcpud.commands.common import (
    LOOK_HINT,
    START_HINT,
    count,
    done,
    duration,
    folders,
    output_option,
    say,
    say_json,
    settings_of,
    unanswered,
)
from vcpud.daemonless import rehearse
from vcpud.errors import PartialError, UnreachableError, UsageError
from vcpud.fittings import FanOut
from vcpud.history import History
from vcpud.ledger import FileLedger, read_hold
from vcpud.lock import ledger_folder
from vcpud.model import Mode
from vcpud.status import LatestCycle, listing, originals, table
from vcpud.text import meant, printable
from vcpud.units import NS_PER_S, seconds

if TYPE_CHECKING:
    from pathlib import Path

    from vcpud.record import CycleRecord

_LOOKS = 3
"""Cycles a look of our own takes: rates need two samples, and a backend one to arrive."""
_WAIT_S = 60
READ_S = 10.0
"""What is read comes from the last finished cycle: an answer takes milliseconds."""
CHANGE_S = 45.0
"""What is to be done waits until a cycle has taken it, which the daemon limits to 30 s."""


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the commands."""
    status = _add(subparsers, parent, "status", _status, "show what vcpud sees and does")
    status.add_argument("domain", nargs="?", help="only this domain: name or UUID")

    _add(subparsers, parent, "list", _list, "list the domains, and what vcpud may do with each")

    terms = _add(
        subparsers,
        parent,
        "set",
        _set,
        "set a domain's mode and bounds; they hold at once and over restarts, until --reset",
    )
    terms.add_argument("domain", help="name or UUID")
    terms.add_argument("--mode", choices=tuple(map(str, Mode)), help="what vcpud may do with it")
    terms.add_argument("--min", type=count, metavar="N", help="never fewer active vCPUs than this")
    terms.add_argument("--max", type=count, metavar="N", help="never more active vCPUs than this")
    terms.add_argument(
        "--reset",
        action="store_true",
        help="undo earlier `vcpud set`; the configuration applies again",
    )

    pause = _add(subparsers, parent, "pause", _pause, "make vcpud decide nothing for a while")
    pause.add_argument("domain", nargs="?", help="only this domain: name or UUID")
    _for(pause, "end the pause by itself after this time")
    pause.add_argument("--restore", action="store_true", help="also give back every parked vCPU")

    resume = _add(subparsers, parent, "resume", _resume, "end a pause, a release or a quarantine")
    resume.add_argument("domain", nargs="?", help="only this domain: name or UUID")

    release = _add(
        subparsers,
        parent,
        "release",
        _release,
        "give a domain all its vCPUs back, and leave it alone until `vcpud resume`",
    )
    release.add_argument("domain", help="name or UUID")
    release.add_argument(
        "--wait", action="store_true", help="return only when all its vCPUs are back online"
    )
    release.add_argument(
        "--timeout", type=duration, default=_WAIT_S * NS_PER_S, help="how long to wait (60s)"
    )
    _for(release, "end the release by itself after this time")

    hold = _add(
        subparsers,
        parent,
        "hold",
        _hold,
        "for this long, let a stop keep vCPUs parked (restart, upgrade)",
    )
    hold.add_argument("duration", type=duration, help='how long, like "120s"')

    _add(
        subparsers,
        parent,
        "reload",
        _reload,
        "reload the configuration: all of it, or nothing if it is wrong",
    )


def _add(
    subparsers: Any, parent: argparse.ArgumentParser, name: str, handler: Any, text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, parents=[parent], help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    output_option(parser)
    parser.set_defaults(handler=handler)
    return parser


def _for(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--for", type=duration, dest="for_ns", metavar="DURATION", help=text)


def _status(options: argparse.Namespace) -> None:
    document = seen(options)
    if options.domain is not None:
        names = {one["name"]: one for one in document["domains"]}
        names |= {one["uuid"]: one for one in document["domains"]}
        if options.domain not in names:
            near = meant(options.domain, [one["name"] for one in document["domains"]])
            raise UsageError(f"there is no domain {options.domain!r}{near}")
        document = {**document, "domains": [names[options.domain]]}
    if options.output == "json":
        say_json(document)
    elif not document["cycle"]:
        say(f"vcpud {document['version']} runs, but has not finished a cycle yet")
    else:
        say(table(document))


def _list(options: argparse.Namespace) -> None:
    document = seen(options)
    if options.output == "json":
        words = (
            "name",
            "uuid",
            "mode",
            "mode_source",
            "active_vcpus",
            "original_vcpus",
            "min_vcpus",
            "max_vcpus",
            "phase",
        )
        say_json([{word: one[word] for word in words} for one in document["domains"]])
    else:
        say(listing(document))


def seen(options: argparse.Namespace) -> dict[str, Any]:
    """The status document: the daemon's, or that of a look of our own.

    Raises:
        UnreachableError: No daemon runs; what the ledger holds has been printed.
    """
    if getattr(options, "backend", None) is not None:
        latest, _ = look(options)
        return latest.document(0 if latest.record_ is None else latest.record_.ended_ns)
    state_dir, runtime_dir = folders(options)
    try:
        document: dict[str, Any] = ask(runtime_dir, "status", timeout_s=READ_S)["status"]
    except NotRunningError as error:
        asleep = _without_daemon(ledger_folder(state_dir, runtime_dir))
        if options.output == "json":
            say_json(asleep)
        else:
            say(_asleep_text(asleep))
        raise UnreachableError(f"{error}{LOOK_HINT}") from error
    return document


def look(options: argparse.Namespace) -> tuple[LatestCycle, History]:
    """One look through a backend of its own, without any daemon."""
    log.configure("auto", "warning", environ=os.environ)
    latest, history = _LatestDecision(), History()
    rehearse(settings_of(options), FanOut(latest, history), cycles=_LOOKS)
    if latest.record_ is None:
        raise UnreachableError("stopped before the first cycle was finished")
    if not latest.record_.sample.connected:
        raise unanswered(latest.record_.sample.notes)
    return latest, history


class _LatestDecision(LatestCycle):
    """Leaves out the cycles in which a rehearsal ends."""

    def record(self, record: CycleRecord) -> None:
        if not record.stopping:
            super().record(record)


def _without_daemon(folder: Path) -> dict[str, Any]:
    ledger = FileLedger(folder, read_only=True)
    note = read_hold(folder)
    return {
        "running": False,
        "ledger_error": ledger.fault,
        "ledger_lost": ledger.lost,
        "outstanding": originals(ledger.outstanding()),
        "hold_left_s": None if note is None else max(0.0, seconds(note.left_ns())),
    }


def _asleep_text(document: dict[str, Any]) -> str:
    lines = ["vcpud does not run."]
    if document["ledger_error"]:
        lines.append(f"ledger: {document['ledger_error']}")
    if document["outstanding"]:
        lines.append("changed and not given back yet (run `vcpud restore`):")
        lines += [
            f"  {printable(one['name'])} ({one['uuid']}): had {one['vcpus']} vCPUs"
            + (f" on {printable(one['hypervisor'])}" if one["hypervisor"] else "")
            + (", and its guest may still carry out an unplug" if one["unplug_pending"] else "")
            for one in document["outstanding"]
        ]
    elif document["ledger_lost"]:
        lines.append(
            "There is no ledger. Either nothing was ever changed, or it is lost: then `vcpud restore` "
            "or a start goes by the notes in the domains' metadata."
        )
    elif not document["ledger_error"]:
        lines.append("Nothing is left to give back.")
    if document["hold_left_s"]:
        lines.append(f"A hold is in force for another {document['hold_left_s']:.0f} s.")
    return "\n".join(lines)


def _set(options: argparse.Namespace) -> None:
    given = [word for word in ("mode", "min", "max") if getattr(options, word) is not None]
    if options.reset and given:
        raise UsageError(f"set: either --{given[0]} or --reset")
    if not options.reset and not given:
        raise UsageError("set: nothing to set: name --mode, --min, --max or --reset")
    answer = _ask(
        options,
        "set",
        mode=options.mode,
        min=options.min,
        max=options.max,
        reset=options.reset or None,
    )
    name = answer["domain"]
    if options.reset:
        text = f"{name}: earlier `vcpud set` is undone, the configuration applies again"
    else:
        terms = ", ".join(f"{word} {getattr(options, word)}" for word in given)
        text = f"{name}: {terms}, until `vcpud set {name} --reset`"
    done(options, text, answer)
    if answer["in_vain"]:
        raise PartialError(f"{name}: set, but {answer['in_vain']}")


def _pause(options: argparse.Namespace) -> None:
    answer = _ask(options, "pause", for_ns=options.for_ns, restore=options.restore or None)
    done(options, f"paused {options.domain or 'all domains'}{_until(options.for_ns)}", answer)


def _resume(options: argparse.Namespace) -> None:
    answer = _ask(options, "resume")
    done(options, f"resumed {options.domain or 'all domains'}", answer)


def _release(options: argparse.Namespace) -> None:
    answer = _ask(
        options,
        "release",
        timeout_s=seconds(options.timeout) + CHANGE_S,
        for_ns=options.for_ns,
        wait=options.wait or None,
        wait_ns=options.timeout if options.wait else None,
    )
    if options.wait and not answer["done"]:
        raise PartialError(
            f"{options.domain} is released, but after {seconds(options.timeout):g} s not all its "
            "vCPUs are back online: see `vcpud status`"
        )
    what = "released" if options.wait else "is being released"
    warning = (
        "; its guest may still carry out an unplug that vcpud has given up: then vcpud gives the "
        "vCPU back"
        if answer.get("unplug_pending")
        else ""
    )
    done(options, f"{options.domain} {what}{_until(options.for_ns)}{warning}", answer)


def _hold(options: argparse.Namespace) -> None:
    answer = _ask(options, "hold", for_ns=options.duration)
    done(options, f"a stop within {seconds(options.duration):g} s keeps vCPUs parked", answer)


def _reload(options: argparse.Namespace) -> None:
    done(options, "the configuration is reloaded", _ask(options, "reload"))


def _ask(
    options: argparse.Namespace, verb: str, *, timeout_s: float | None = None, **fields: Any
) -> dict[str, Any]:
    _, runtime_dir = folders(options)
    domain = getattr(options, "domain", None)
    try:
        patience_s = CHANGE_S if timeout_s is None else timeout_s
        return ask(runtime_dir, verb, timeout_s=patience_s, domain=domain, **fields)
    except NotRunningError as error:
        raise NotRunningError(f"{error}{START_HINT}") from error


def _until(for_ns: int | None) -> str:
    return " until it is resumed" if for_ns is None else f" for {seconds(for_ns):g} s"
