"""`status`, `pause`, `resume`, `release`, `hold`, `reload`: asking a running vcpud."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from vcpud import log
from vcpud.client import NotRunningError, ask
from vcpud.commands.common import duration, folders, output_option, say, say_json, settings_of
from vcpud.errors import PartialError, UnreachableError, UsageError
from vcpud.ledger import FileLedger, read_hold
from vcpud.service import rehearse
from vcpud.status import LatestCycle, originals, table
from vcpud.text import meant, printable
from vcpud.units import NS_PER_S, seconds

if TYPE_CHECKING:
    from vcpud.record import CycleRecord

_LOOKS = 3
"""Cycles a look of our own takes: rates need two samples, and a backend one to arrive."""
_WAIT_S = 60
_MARGIN_S = 45.0


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the commands."""
    status = _add(subparsers, parent, "status", _status, "show what vcpud sees and does")
    status.add_argument("domain", nargs="?", help="only this domain: name or UUID")
    output_option(status)

    pause = _add(subparsers, parent, "pause", _pause, "decide nothing for a while")
    pause.add_argument("domain", nargs="?", help="only this domain: name or UUID")
    _for(pause, "resume by itself after this time")
    pause.add_argument("--restore", action="store_true", help="also give everything back")

    resume = _add(subparsers, parent, "resume", _resume, "end a pause, a release, a quarantine")
    resume.add_argument("domain", nargs="?", help="only this domain: name or UUID")

    release = _add(
        subparsers,
        parent,
        "release",
        _release,
        "bring every vCPU of a domain back online and keep hands off until it is resumed",
    )
    release.add_argument("domain", help="name or UUID")
    release.add_argument(
        "--wait", action="store_true", help="return only when everything is back online"
    )
    release.add_argument(
        "--timeout", type=duration, default=_WAIT_S * NS_PER_S, help="how long to wait (60s)"
    )
    _for(release, "resume by itself after this time")

    hold = _add(
        subparsers,
        parent,
        "hold",
        _hold,
        "let a stop within this time keep the counts, for a restart or an upgrade",
    )
    hold.add_argument("duration", type=duration, help='like "120s"')

    _add(subparsers, parent, "reload", _reload, "read the configuration anew, all or nothing")


def _add(
    subparsers: Any, parent: argparse.ArgumentParser, name: str, handler: Any, text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, parents=[parent], help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    parser.set_defaults(handler=handler)
    return parser


def _for(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--for", type=duration, dest="for_ns", metavar="DURATION", help=text)


def _status(options: argparse.Namespace) -> None:
    if getattr(options, "backend", None) is not None:
        document = _look(options)
    else:
        state_dir, runtime_dir = folders(options)
        try:
            document = ask(runtime_dir, "status", timeout_s=_MARGIN_S)["status"]
        except NotRunningError as error:
            document = _without_daemon(state_dir)
            if options.output == "json":
                say_json(document)
            else:
                say(_asleep_text(document))
            raise UnreachableError(str(error)) from error
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
        say(f"vcpud {document['version']} runs, and has not finished a cycle yet")
    else:
        say(table(document))


def _look(options: argparse.Namespace) -> dict[str, Any]:
    """One look through a backend of its own, without any daemon."""
    log.configure("auto", "warning", environ=os.environ)
    latest = _LatestDecision()
    rehearse(settings_of(options), latest, cycles=_LOOKS)
    if latest.record_ is None:
        raise UnreachableError("stopped before the first cycle had finished")
    return latest.document(latest.record_.ended_ns)


class _LatestDecision(LatestCycle):
    """Leaves out the cycles in which a rehearsal ends."""

    def record(self, record: CycleRecord) -> None:
        if not record.stopping:
            super().record(record)


def _without_daemon(state_dir: Any) -> dict[str, Any]:
    ledger = FileLedger(state_dir, read_only=True)
    note = read_hold(state_dir)
    return {
        "running": False,
        "ledger_error": ledger.fault,
        "outstanding": originals(ledger.outstanding()),
        "hold_left_s": None if note is None else max(0.0, seconds(note.left_ns())),
    }


def _asleep_text(document: dict[str, Any]) -> str:
    lines = ["vcpud does not run."]
    if document["ledger_error"]:
        lines.append(f"ledger: {document['ledger_error']}")
    if document["outstanding"]:
        lines.append("changed and not given back (`vcpud restore` does):")
        lines += [
            f"  {printable(one['name'])} ({one['uuid']}): had {one['vcpus']} vCPUs"
            for one in document["outstanding"]
        ]
    elif not document["ledger_error"]:
        lines.append("Nothing is left to give back.")
    if document["hold_left_s"]:
        lines.append(f"A hold is in force for another {document['hold_left_s']:.0f} s.")
    return "\n".join(lines)


def _pause(options: argparse.Namespace) -> None:
    _ask(options, "pause", for_ns=options.for_ns, restore=options.restore or None)
    say(f"paused {options.domain or 'all domains'}{_until(options.for_ns)}")


def _resume(options: argparse.Namespace) -> None:
    _ask(options, "resume")
    say(f"resumed {options.domain or 'all domains'}")


def _release(options: argparse.Namespace) -> None:
    answer = _ask(
        options,
        "release",
        timeout_s=seconds(options.timeout) + _MARGIN_S,
        for_ns=options.for_ns,
        wait=options.wait or None,
        wait_ns=options.timeout if options.wait else None,
    )
    if options.wait and not answer["done"]:
        raise PartialError(
            f"{options.domain} is released, but not everything is back online after "
            f"{seconds(options.timeout):g} s: see `vcpud status`"
        )
    what = "released" if options.wait else "is being released"
    say(f"{options.domain} {what}{_until(options.for_ns)}")


def _hold(options: argparse.Namespace) -> None:
    _ask(options, "hold", for_ns=options.duration)
    say(f"a stop within {seconds(options.duration):g} s keeps the counts")


def _reload(options: argparse.Namespace) -> None:
    _ask(options, "reload")
    say("the configuration was read anew")


def _ask(
    options: argparse.Namespace, verb: str, *, timeout_s: float = _MARGIN_S, **fields: Any
) -> dict[str, Any]:
    _, runtime_dir = folders(options)
    domain = getattr(options, "domain", None)
    return ask(runtime_dir, verb, timeout_s=timeout_s, domain=domain, **fields)


def _until(for_ns: int | None) -> str:
    return " until it is resumed" if for_ns is None else f" for {seconds(for_ns):g} s"
