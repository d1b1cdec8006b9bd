"""`enable-enforce` and `disable-enforce`: the one right that changing domains needs.

Observing needs libvirt's read-only socket, which everybody may use. Changing needs a polkit rule
that equals root; so it is a step of its own, is said aloud, and can be taken back.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from vcpud.client import NotRunningError, ask
from vcpud.commands.common import folders, say
from vcpud.errors import LedgerError, PartialError, UsageError, VcpudError
from vcpud.ledger import FileLedger
from vcpud.lock import ledger_folder
from vcpud.text import printable
from vcpud.units import NS_PER_S

RULES_DIR = Path("/etc/polkit-1/rules.d")
RULE_NAME = "50-vcpud.rules"
_SERVICE = "vcpud.service"
_BOOTED = Path("/run/systemd/system")
"""Exists where systemd is the service manager (sd_booted(3))."""
_WITHIN_S = 30
_MARGIN_S = 45.0
_EQUALS_ROOT = """\
This lets the account vcpud change running domains through libvirt (org.libvirt.unix.manage).
libvirt has no smaller right on its sockets. Whoever holds this right can define a domain that
reads any disk of this host, so it equals root. To observe, or for a dry run, vcpud does not need
it. For a smaller right, use libvirt's fine-grained access control: see
/usr/share/doc/vcpud/deploy/README.md."""


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the two commands."""
    enable = subparsers.add_parser(
        "enable-enforce",
        parents=[parent],
        help="let vcpud change domains: install a polkit rule that equals root",
        description="Install the polkit rule that lets the account vcpud change running domains. "
        "This right equals root; `vcpud disable-enforce` takes it away again. The configuration "
        "still decides which domains are changed.",
    )
    enable.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    enable.add_argument(
        "--print", action="store_true", dest="show", help="print the rule, install nothing"
    )
    enable.set_defaults(handler=_enable)
    disable = subparsers.add_parser(
        "disable-enforce",
        parents=[parent],
        help="give everything back, and take the right to change domains from vcpud",
        description="Give every domain its vCPUs back, remove the polkit rule, and restart the "
        "service, because its open connection would keep the right.",
    )
    disable.set_defaults(handler=_disable)


def rule() -> str:
    """The polkit rule as it is installed."""
    return files("vcpud.commands").joinpath(RULE_NAME).read_text(encoding="utf-8")


def _enable(options: argparse.Namespace) -> None:
    if options.show:
        say(rule().rstrip("\n"))
        return
    target = RULES_DIR / RULE_NAME
    if not RULES_DIR.is_dir():
        raise VcpudError(
            f"{RULES_DIR} does not exist: no polkit on this host reads it. Where libvirt was built "
            "without polkit, a group has the right to its sockets: see "
            "/usr/share/doc/vcpud/deploy/README.md"
        )
    try:
        if _is_there(target) and target.read_text(encoding="utf-8") == rule():
            say(f"{target} exists already: vcpud may change domains")
            return
        say(_EQUALS_ROOT)
        if not options.yes:
            _confirm(target)
        _install(target)
    except PermissionError as error:
        raise VcpudError(f"{target}: not permitted: run this as root") from error
    say(
        f"installed {target}\n"
        "Now set mode: enforce for the domains that vcpud may change, and reload: "
        "vcpud check-config && systemctl reload vcpud"
    )


def _is_there(target: Path) -> bool:
    """Whether there is a rule.

    Raises:
        PermissionError: Whoever asks may not know: polkit's folder is closed to others on some hosts.
    """
    try:
        target.lstat()
    except FileNotFoundError:
        return False
    return True


def _confirm(target: Path) -> None:
    """Ask on the terminal.

    Raises:
        UsageError: There is no terminal to ask on.
        VcpudError: The answer was not yes.
    """
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on: to agree, say --yes")
    sys.stdout.write(f"Install {target}? [y/N] ")
    sys.stdout.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise VcpudError("nothing was changed")


def _install(target: Path) -> None:
    """Put the rule in place whole or not at all; polkit reads only what ends in .rules."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=target.parent, prefix=f".{RULE_NAME}.", delete=False
    ) as stream:
        fresh = Path(stream.name)
        try:
            stream.write(rule())
            fresh.chmod(0o644)
            fresh.rename(target)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise


def _disable(options: argparse.Namespace) -> None:
    target = RULES_DIR / RULE_NAME
    try:
        if not _is_there(target):
            say(f"{target} does not exist: this rule gives vcpud no right")
            return
        # Afterwards nobody could.
        running = _give_back(options)
        target.unlink()
    except PermissionError as error:
        raise VcpudError(f"{target}: not permitted: run this as root") from error
    say(f"removed {target}")
    if running:
        _drop_connection()


def _give_back(options: argparse.Namespace) -> bool:
    """Have every domain restored and kept so; whether a vcpud runs.

    Raises:
        PartialError: Some domain is still changed; the right to change it back must stay.
        LedgerError: Nobody knows what is still changed.
    """
    state_dir, runtime_dir = folders(options)
    try:
        ask(runtime_dir, "pause", timeout_s=_MARGIN_S, restore=True)
        answer = ask(
            runtime_dir,
            "restore",
            timeout_s=_WITHIN_S + _MARGIN_S,
            wait=True,
            wait_ns=_WITHIN_S * NS_PER_S,
        )
    except NotRunningError:
        ledger = FileLedger(ledger_folder(state_dir, runtime_dir), read_only=True)
        if ledger.fault:
            raise LedgerError(ledger.fault) from None
        left, running = [one.name for one in ledger.outstanding()], False
    else:
        left, running = answer["left"], True
        for name in answer.get("unplug_pending", ()):
            say(
                f"{printable(name)} has all its vCPUs again; if its guest still carries out an unplug "
                "that vcpud has given up, nobody will plug that vCPU back"
            )
    if left:
        names = ", ".join(printable(name) for name in sorted(left))
        paused = "; vcpud stays paused until `vcpud resume`" if running else ""
        raise PartialError(
            f"not given back: {names}. vcpud keeps the right, because it needs it to give them back: "
            f"run `vcpud restore` first{paused}"
        )
    return running


def _drop_connection() -> None:
    """polkit is asked when a connection is opened: the one that is open keeps the right.

    Raises:
        VcpudError: The service could not be restarted.
    """
    systemctl = shutil.which("systemctl")
    if systemctl is None or not _BOOTED.is_dir():
        say("vcpud is paused. Restart it: its open connection still has the right")
        return
    command = (systemctl, "try-restart", _SERVICE)
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode != 0:
        raise VcpudError(
            f"{_SERVICE} was not restarted, so its open connection still has the right: "
            f"{printable(done.stderr.strip(), 300)}"
        )
    say(f"restarted {_SERVICE}")
