"""`report`: what vcpud brought over a recorded span."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcpud.commands.common import output_option, say, say_json
from vcpud.recording.files import CutError, Recording, found
from vcpud.report import text, told

if TYPE_CHECKING:
    from vcpud.record import CycleRecord


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the command."""
    report = subparsers.add_parser(
        "report",
        parents=[parent],
        help="show what vcpud achieved while it was recorded",
        description="Show what vcpud achieved while it was recorded: vCPU-hours parked, run delay "
        "avoided, and how many moves helped, were neutral or did harm; in total and for each domain.",
    )
    report.add_argument(
        "file", type=Path, nargs="+", help="recordings in order, or folders of them"
    )
    output_option(report)
    report.set_defaults(handler=_report)


def _report(options: argparse.Namespace) -> None:
    cuts: list[CutError] = []
    document = {
        "files": [str(path) for path in options.file],
        **told(_cycles(found(options.file), cuts)),
    }
    if options.output == "json":
        say_json(document)
    else:
        say(text(document))
    if cuts:
        raise cuts[0]


def _cycles(paths: list[Path], cuts: list[CutError]) -> Iterator[CycleRecord]:
    for path in paths:
        with closing(Recording(path)) as recording:
            yield from recording.cycles()
        if recording.cut is not None:
            cuts.append(recording.cut)
