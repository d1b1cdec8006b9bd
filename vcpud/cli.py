"""The command line: what can be asked, and how faults reach the operator.

Commands live in `vcpud.commands`; others (the laboratory's) come from the entry points
`vcpud.commands`, each a callable that is given argparse's subparsers and the
options common to all, and sets a `handler`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import platform
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from vcpud.commands.common import EXIT_CODES, output_option, say, say_json
from vcpud.errors import ConfigError, VcpudError
from vcpud.settings import CONFIG_PATH, RUNTIME_DIR, STATE_DIR
from vcpud.text import printable
from vcpud.version import version

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP = "vcpud.commands"
MODULES = {
    "serve": ("run", "dry-run", "check-config"),
    "ask": ("status", "list", "set", "pause", "resume", "release", "hold", "reload"),
    "top": ("top",),
    "explain": ("explain",),
    "doctor": ("doctor",),
    "mend": ("restore", "deadman"),
    "enforce": ("enable-enforce", "disable-enforce"),
    "record": ("record", "replay"),
    "report": ("report",),
}
"""Where the commands are, in the order of the help: who names one waits for no other's libraries."""
_EXAMPLES = f"""\
examples:
  vcpud check-config --print          show what is configured, and where it was written
  vcpud dry-run --cycles 30           show what vcpud would do on this host
  vcpud status -o json                show what vcpud sees and does
  vcpud explain db                    show why db has its vCPUs, and what would change that
  vcpud doctor db                     find obstacles on the host and in the guest of db
  vcpud set db --mode enforce --min 2 let vcpud manage db, down to two vCPUs
  vcpud pause db --for 1h             leave db alone for an hour
  vcpud release db --wait             give db all its vCPUs back, before a migration
  vcpud hold 120s                     keep vCPUs parked over a restart in the next 120 s
  vcpud restore                       give back everything that vcpud changed

{EXIT_CODES}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code of the process."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser(*arguments[:1])
    options = parser.parse_args(arguments)
    try:
        code = options.handler(options)
        sys.stdout.flush()
    except ConfigError as error:
        mistakes = str(error).splitlines()
        if len(mistakes) > 1:
            _complain(f"{len(mistakes)} mistakes in the configuration:")
        for mistake in mistakes:
            _complain(mistake)
        return error.exit_code
    except VcpudError as error:
        for line in str(error).splitlines() or [type(error).__name__]:
            _complain(line)
        return error.exit_code
    except BrokenPipeError:
        # The reader has seen enough; Python must not complain again when it flushes at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}")
        return 1
    except KeyboardInterrupt:
        return 1
    return int(code or 0)


def _parser(command: str = "") -> argparse.ArgumentParser:
    """Every command, or where that is known the module of this one."""
    parent = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common = parent.add_argument_group("for every command")
    common.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"main configuration file (default: {CONFIG_PATH})",
    )
    common.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help=f"folder of the ledger (default: {STATE_DIR})",
    )
    common.add_argument(
        "--runtime-dir",
        type=Path,
        metavar="DIR",
        help=f"folder of socket and lock (default: {RUNTIME_DIR})",
    )
    common.add_argument(
        "--backend", metavar="NAME[:ARG]", help="use this hypervisor instead of the configured one"
    )
    parser = argparse.ArgumentParser(
        prog="vcpud",
        parents=[parent],
        description="Gives each guest only as many active vCPUs as the host can run.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vcpud {version()}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    named = [module for module, words in MODULES.items() if command in words]
    for module in named or MODULES:
        importlib.import_module(f"vcpud.commands.{module}").add_to(subparsers, parent)
    if named:
        return parser
    show = subparsers.add_parser(
        "version",
        parents=[parent],
        help="print the version of vcpud",
        description="Print the versions of vcpud and Python.",
    )
    output_option(show)
    show.set_defaults(handler=_version)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            entry.load()(subparsers, parent)
        except (ImportError, AttributeError) as error:
            _complain(f"the command {entry.name} cannot be loaded: {error}")
    return parser


def _version(options: argparse.Namespace) -> None:
    versions = {"vcpud": version(), "python": platform.python_version()}
    if options.output == "json":
        say_json(versions)
    else:
        say("\n".join(f"{name} {number}" for name, number in versions.items()))


def _complain(line: str) -> None:
    sys.stderr.write(f"vcpud: {printable(line, 1000)}\n")
