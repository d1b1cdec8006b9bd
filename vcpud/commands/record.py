"""`record` and `replay`: what vcpud sees on a host, written down; and decided upon once more."""

from __future__ import annotations

import argparse
import gc
import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcpud import policy
from vcpud.commands.common import (
    duration,
    output_option,
    say,
    say_json,
    settings_of,
    unanswered,
)
from vcpud.control import ControlLoop
from vcpud.errors import ConfigError, UsageError, VcpudError
from vcpud.memory import MemoryLedger
from vcpud.recording.comparison import Comparison
from vcpud.recording.files import RecordingWriter
from vcpud.replay import ReplayClock, ReplayedHypervisor, ReplayInbox, Tape
from vcpud.requests import LoopSettings
from vcpud.settings import Recordings
from vcpud.text import printable
from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from vcpud.record import CycleRecord
    from vcpud.recording.files import Heading
    from vcpud.terms import TermsBook

_SHOWN = 20
_MIB = 1 << 20


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the two commands."""
    record = subparsers.add_parser(
        "record",
        parents=[parent],
        help="record what vcpud sees here and what it would decide; change nothing",
        description="Record what vcpud sees on this host and what it would decide; change nothing. "
        "A running daemon can record its own cycles: set recording.enabled in its configuration.",
    )
    record.add_argument("directory", type=Path, help="folder for the recording")
    record.add_argument(
        "--for", type=duration, dest="for_ns", metavar="DURATION", help="stop after this time"
    )
    record.add_argument(
        "--max-file-mib",
        type=_number,
        default=32,
        metavar="N",
        help="begin a new file at this size in MiB (32)",
    )
    record.add_argument(
        "--max-files", type=_number, default=24, metavar="N", help="keep the newest N files (24)"
    )
    output_option(record)
    record.set_defaults(handler=_record)

    replay = subparsers.add_parser(
        "replay",
        parents=[parent],
        help="repeat the decisions of a recording, and show where they would differ",
        description="Repeat the decisions of a recording: with the policy and settings of that "
        "time, with another policy, or with the configuration given by --config. Show where they "
        "would differ.",
    )
    replay.add_argument(
        "file", type=Path, nargs="+", help="recordings in order, or folders of them"
    )
    replay.add_argument(
        "--policy", metavar="NAME", help="use this policy with its default options"
    )
    replay.add_argument(
        "--all", action="store_true", help=f"show every difference, not only the first {_SHOWN}"
    )
    output_option(replay)
    replay.set_defaults(handler=_replay)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) <= 1 << 20:
        raise argparse.ArgumentTypeError(f"expected a number from 1, not {text[:20]!r}")
    return int(text)


# ------------------------------------------------------------------------------------- record


class _Watched:
    """A writer whose failure is not lost, and a count of what it saw."""

    def __init__(self, writer: RecordingWriter) -> None:
        self._writer = writer
        self.error: OSError | None = None
        self.domains = 0
        self.seen = False
        self.notes: tuple[str, ...] = ()

    def record(self, record: CycleRecord) -> None:
        if record.stopping:
            return
        self.domains = max(self.domains, len(record.sample.domains))
        self.seen |= record.sample.connected
        self.notes = record.sample.notes
        try:
            self._writer.record(record)
        except OSError as error:
            self.error = error
            raise


def _record(options: argparse.Namespace) -> None:
    from vcpud import log  # noqa: PLC0415  a replay needs neither
    from vcpud.daemonless import rehearse  # noqa: PLC0415

    settings = settings_of(options)
    log.configure("auto", "warning", environ=os.environ)
    options.directory.mkdir(parents=True, exist_ok=True)
    where = Recordings(
        directory=options.directory,
        max_file_bytes=options.max_file_mib * _MIB,
        max_files=options.max_files,
    )
    writer = RecordingWriter(where, backend=settings.backend, loop=settings.loop)
    watched = _Watched(writer)
    cycles = None
    if options.for_ns is not None:
        cycles = max(1, options.for_ns // settings.loop.period_ns)
    try:
        rehearse(settings, watched, cycles)
    finally:
        writer.close()
    if watched.error is not None:
        raise VcpudError(f"{options.directory}: cannot be written: {watched.error.strerror}")
    if not watched.seen:
        raise unanswered(watched.notes)
    document = {
        "directory": str(options.directory),
        "cycles": writer.cycles,
        "domains": watched.domains,
    }
    if options.output == "json":
        say_json(document)
    else:
        say(f"{writer.cycles} cycles of {watched.domains} domains are in {options.directory}")


# ------------------------------------------------------------------------------------- replay


def _replay(options: argparse.Namespace) -> None:
    with closing(Tape(options.file)) as tape:
        _play(options, tape)
    if tape.cut is not None:
        raise tape.cut


def _play(options: argparse.Namespace, tape: Tape) -> None:
    loop_settings, book = _in_force(options, tape.heading)
    comparison = Comparison(lambda: tape.current)
    loop = ControlLoop(
        clock=ReplayClock(tape),
        hypervisor=ReplayedHypervisor(tape, book),
        ledger=MemoryLedger(),
        inbox=ReplayInbox(tape),
        recorder=comparison,
        settings=loop_settings,
    )
    # Nearly nothing here refers to itself: looking for cycles at every turn finds none.
    gc.set_threshold(100_000, 50, 100)
    loop.run()
    document = {
        "files": [str(path) for path in options.file],
        "policy": {"recorded": tape.heading.policy, "replayed": loop_settings.policy_name},
        **comparison.document(),
    }
    if options.output == "json":
        say_json(document)
    else:
        say(_text(document, every=options.all))


def _in_force(
    options: argparse.Namespace, heading: Heading
) -> tuple[LoopSettings, TermsBook | None]:
    """What was in force then, or what is to be tried; terms only where a configuration says."""
    book = None
    if getattr(options, "config", None) is not None:
        settings = settings_of(options)
        loop, book = settings.loop, settings.terms
    else:
        named = heading.policy if options.policy is None else options.policy
        given = heading.options if options.policy is None else {}
        loop = LoopSettings(
            period_ns=heading.period_ns,
            policy=policy.load(named, given) if options.policy is None else _asked_for(named),
            policy_name=named,
            policy_options=given,
            limits=heading.limits,
            foreign=heading.foreign,
        )
    if options.policy is not None and loop.policy_name != options.policy:
        loop = replace(
            loop,
            policy=_asked_for(options.policy),
            policy_name=options.policy,
            policy_options={},
        )
    return replace(loop, period_ns=heading.period_ns), book


def _asked_for(name: str) -> policy.Policy[Any]:
    """A policy that the command line names, as it comes.

    Raises:
        UsageError: There is no such policy, or it cannot be loaded.
    """
    try:
        return policy.load(name, {})
    except ConfigError as error:
        raise UsageError(f"--policy: {error}") from error


def _text(document: dict[str, Any], *, every: bool) -> str:
    counts = document["decisions"]
    names = document["policy"]
    hours = document["seconds"] * NS_PER_S / (3600 * NS_PER_S)
    lines = [
        f"{hours:.2f} hours, {document['cycles']} cycles, {document['domains']} domains",
        (
            f"recorded with {printable(names['recorded'])}: {counts['recorded']} decisions"
            f"{_outcomes(document['outcomes']['recorded'])}"
        ),
        (
            f"replayed with {printable(names['replayed'])}: {counts['replayed']} decisions, "
            f"{counts['same']} at the same moment, {counts['same_at_another_time']} within a minute, "
            f"{counts['only_replayed']} others; {counts['only_recorded']} recorded ones were not made"
        ),
    ]
    lines += [
        f"! the policy failed in {count} cycles: {printable(error, 200)}"
        for error, count in document["policy_errors"].items()
    ]
    differences = document["differences"]
    for one in differences if every else differences[:_SHOWN]:
        what = "would" if one["kind"] == "only_replayed" else "would not"
        lines.append(
            f"  {one['at_s']:10.1f} s  {printable(one['domain'], 40)}: {what} go from "
            f"{one['from']} to {one['to']}: {printable(one['reason'], 200)}"
        )
    hidden = len(differences) - _SHOWN
    if hidden > 0 and not every:
        lines.append(f"  and {hidden} more: --all")
    return "\n".join(lines)


def _outcomes(outcomes: dict[str, int]) -> str:
    if not outcomes:
        return ""
    return f" ({', '.join(f'{count} {word}' for word, count in sorted(outcomes.items()))})"
