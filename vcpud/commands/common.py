"""What the commands share: which settings hold, options that recur, and output."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcpud.errors import ConfigError, UnreachableError
from vcpud.settings import CONFIG_PATH, RUNTIME_DIR, STATE_DIR, Settings
from vcpud.text import printable
from vcpud.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_CODES = (
    "exit codes: 0 ok, 1 failed, 2 wrong usage, 3 wrong configuration, "
    "4 libvirt or vcpud unreachable, 5 done in part"
)
_MAX_VCPUS = 4096
START_HINT = "; `systemctl start vcpud` starts it"
LOOK_HINT = f"{START_HINT}, and with `--backend libvirt` this command looks at the host itself"


def settings_of(options: argparse.Namespace) -> Settings:
    """The configuration, with what the command line says instead.

    Raises:
        ConfigError: Lists every mistake.
    """
    from vcpud import config  # noqa: PLC0415  its libraries take longer than most commands

    named = getattr(options, "config", None)
    settings = config.load(named or CONFIG_PATH, explicit=named is not None)
    instead = {
        word: getattr(options, word)
        for word in ("backend", "state_dir", "runtime_dir")
        if getattr(options, word, None) is not None
    }
    return dataclasses.replace(settings, **instead)


def settings_to_restore(options: argparse.Namespace) -> tuple[Settings, bool]:
    """The configuration, or the defaults where it is wrong: giving back must not wait for it.

    Returns:
        What to go by, and whether that is what was configured: only then is it certain that the
        domains of this host are looked for where they are.
    """
    try:
        return settings_of(options), True
    except ConfigError as error:
        sys.stderr.write(
            f"{error}\nvcpud: gives everything back nevertheless, with the default configuration\n"
        )
    from vcpud import config  # noqa: PLC0415  as above

    settings = dataclasses.replace(
        config.defaults(),
        backend=getattr(options, "backend", None) or "libvirt",
        state_dir=getattr(options, "state_dir", None) or STATE_DIR,
        runtime_dir=getattr(options, "runtime_dir", None) or RUNTIME_DIR,
    )
    return settings, False


def folders(options: argparse.Namespace) -> tuple[Path, Path]:
    """State and runtime folder, also where the configuration is wrong or may not be read.

    Raises:
        ConfigError: It was named, and is not there: nobody means the default folders then.
    """
    state_dir = getattr(options, "state_dir", None)
    runtime_dir = getattr(options, "runtime_dir", None)
    if state_dir is None or runtime_dir is None:
        try:
            settings = settings_of(options)
        except ConfigError:
            named = getattr(options, "config", None)
            if named is not None and not os.path.lexists(named):
                raise
            return state_dir or STATE_DIR, runtime_dir or RUNTIME_DIR
        return settings.state_dir, settings.runtime_dir
    return state_dir, runtime_dir


def duration(text: str) -> int:
    """For argparse: nanoseconds of "10m"."""
    try:
        duration_ns = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if duration_ns <= 0:
        raise argparse.ArgumentTypeError("must be longer than 0")
    return duration_ns


def count(text: str) -> int:
    """For argparse: a number of vCPUs."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) <= _MAX_VCPUS:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {_MAX_VCPUS}")
    return int(text)


def unanswered(notes: Iterable[str]) -> UnreachableError:
    """The hypervisor did not answer a look of our own; what it is told of that.

    Args:
        notes: Of the last sample.
    """
    why = next((note for note in notes if note.startswith("not connected")), "not connected")
    return UnreachableError(f"the hypervisor did not answer: {printable(why, 300)}")


def output_option(parser: argparse.ArgumentParser) -> None:
    """Add `-o`."""
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "json"),
        default="text",
        help="output format (default: text)",
    )


def say(line: str) -> None:
    """One line, or several, on standard output."""
    sys.stdout.write(f"{line}\n")


def say_json(document: Any) -> None:
    """A document on standard output."""
    say(json.dumps(document, indent=2, ensure_ascii=True))


def done(options: argparse.Namespace, text: str, document: Any) -> None:
    """What was done, in words or as the daemon answered."""
    if options.output == "json":
        say_json(document)
    else:
        say(text)
