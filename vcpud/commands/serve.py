"""`run`, `dry-run`, `check-config`: the daemon, its rehearsal, and what it would read."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from vcpud import log
from vcpud.commands.common import output_option, say, say_json, settings_of, unanswered
from vcpud.daemonless import rehearse
from vcpud.errors import ConfigError
from vcpud.model import Reason, Refused
from vcpud.service import Daemon
from vcpud.text import printable

if TYPE_CHECKING:
    from vcpud.model import Uuid
    from vcpud.record import ChangeRecord, CycleRecord
    from vcpud.settings import Settings

_MAX_CYCLES = 1_000_000


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the three commands."""
    run = subparsers.add_parser(
        "run", parents=[parent], help="run the daemon", description="Run the daemon."
    )
    run.set_defaults(handler=_run)

    dry = subparsers.add_parser(
        "dry-run",
        parents=[parent],
        help="decide on the real host, but only say what vcpud would do",
        description="Decide on the real host, but change nothing: only say what vcpud would do.",
    )
    dry.add_argument(
        "--cycles",
        type=_cycles,
        metavar="N",
        help="stop after N cycles (default: go on until stopped)",
    )
    output_option(dry)
    dry.set_defaults(handler=_dry_run)

    check = subparsers.add_parser(
        "check-config",
        parents=[parent],
        help="check the configuration, and list every mistake in it",
        description="Check the configuration, and list every mistake in it.",
    )
    check.add_argument(
        "--print",
        action="store_true",
        dest="show",
        help="print every setting in force, and which file and line it comes from",
    )
    output_option(check)
    check.set_defaults(handler=_check_config)


def _run(options: argparse.Namespace) -> None:
    settings = settings_of(options)
    log.configure(settings.log_format, settings.log_level, environ=os.environ)
    Daemon(settings, lambda: settings_of(options)).run()


def _dry_run(options: argparse.Namespace) -> None:
    settings = settings_of(options)
    log.configure("auto", "warning", environ=os.environ)
    rehearsal = Rehearsal(as_json=options.output == "json")
    rehearse(settings, rehearsal, options.cycles)
    rehearsal.check()
    if options.output == "text":
        say(rehearsal.summary())


def _check_config(options: argparse.Namespace) -> None:
    try:
        settings = settings_of(options)
    except ConfigError as error:
        if options.output == "json":
            say_json({"valid": False, "mistakes": str(error).splitlines()})
        raise
    if options.output == "json":
        say_json(
            {
                "valid": True,
                "files": list(settings.files),
                "hash": settings.digest,
                "settings": [
                    {"key": ".".join(line.key), "value": line.value, "origin": line.origin}
                    for line in settings.effective
                ],
            }
        )
    elif options.show:
        say(effective_text(settings))
    else:
        say(f"ok: {', '.join(settings.files) or 'no file, all defaults'} (hash {settings.digest})")


def effective_text(settings: Settings) -> str:
    """The effective configuration as YAML that `load` reads back, with the origin of each line."""
    lines: list[str] = []
    above: tuple[str, ...] = ()
    for line in settings.effective:
        in_list = line.key[-1].isdigit() and len(line.key) > 1 and line.key[0] == "deny"
        *parents, word = line.key
        for depth, parent in enumerate(parents):
            if tuple(parents[: depth + 1]) != above[: depth + 1]:
                lines.append(f"{'  ' * depth}{_word(parent)}:")
        above = tuple(parents)
        indent = "  " * len(parents)
        head = "- " if in_list else f"{_word(word)}: "
        lines.append(f"{indent}{head}{line.value}  # {line.origin}")
    return "\n".join(lines)


def _word(word: str) -> str:
    return word if word.isidentifier() else json.dumps(word)


def _cycles(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) <= _MAX_CYCLES:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {_MAX_CYCLES}")
    return int(text)


class Rehearsal:
    """A `Recorder` that says what would be done, each thing once."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._said: dict[Uuid, tuple[str, int]] = {}
        self._cycles = 0
        self._domains: set[Uuid] = set()
        self._changes = 0
        self._seen = False
        self._notes: tuple[str, ...] = ()

    def record(self, record: CycleRecord) -> None:
        self._cycles += not record.stopping
        self._seen |= record.sample.connected
        self._notes = record.sample.notes
        self._domains |= {domain.uuid for domain in record.sample.domains}
        for change in record.changes:
            if isinstance(change.effect, Refused) and change.effect.reason is Reason.DRY_RUN:
                self._would(record.cycle, change)
        for block in record.blocked:
            if self._said.get(block.uuid, ("", 0))[0] != block.guard:
                self._said[block.uuid] = (block.guard, 0)
                name = next(
                    (one.name for one in record.sample.domains if one.uuid == block.uuid),
                    block.uuid,
                )
                words = {"domain": name, "guard": block.guard, "detail": block.detail}
                text = f"{printable(name)}: blocked by {block.guard}: {printable(block.detail)}"
                self._tell(record.cycle, words, text)
        sys.stdout.flush()

    def check(self) -> None:
        """Nothing seen is nothing rehearsed.

        Raises:
            UnreachableError: The hypervisor has never answered.
        """
        if not self._seen:
            raise unanswered(self._notes)

    def summary(self) -> str:
        """How it went."""
        return (
            f"{self._cycles} cycles, {len(self._domains)} domains; vcpud would have made "
            f"{self._changes} changes; nothing was changed"
        )

    def _would(self, cycle: int, change: ChangeRecord) -> None:
        if self._said.get(change.uuid) == ("", change.to_vcpus):
            return
        self._said[change.uuid] = ("", change.to_vcpus)
        self._changes += 1
        words = {
            "domain": change.name,
            "uuid": change.uuid,
            "from": change.from_vcpus,
            "to": change.to_vcpus,
            "method": str(change.method),
            "reason": change.reason,
        }
        text = (
            f"{printable(change.name)}: would go from {change.from_vcpus} to {change.to_vcpus} "
            f"active vCPUs ({change.method}): {printable(change.reason, 300)}"
        )
        self._tell(cycle, words, text)

    def _tell(self, cycle: int, words: dict[str, Any], text: str) -> None:
        say(json.dumps({"cycle": cycle, **words}) if self._as_json else f"cycle {cycle}: {text}")
