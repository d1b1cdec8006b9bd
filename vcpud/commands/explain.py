"""`explain`: why a domain has the vCPUs it has, and what would have to change."""

from __future__ import annotations

import argparse
from typing import Any

from vcpud.client import NotRunningError, ask
from vcpud.commands.ask import READ_S, look
from vcpud.commands.common import LOOK_HINT, folders, output_option, say, say_json
from vcpud.errors import UnreachableError, UsageError
from vcpud.explain import document, text
from vcpud.text import meant


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the command."""
    explain = subparsers.add_parser(
        "explain",
        parents=[parent],
        help="say why a domain has the vCPUs it has, and what would have to change",
        description="Say why a domain has the vCPUs it has: the figures that the decision is based "
        "on, the numbers of vCPUs that were weighed, the guard that blocks a change, what would "
        "have to change, and what happened before. With --backend it looks at the host itself, "
        "without the daemon.",
    )
    explain.add_argument("domain", help="name or UUID")
    output_option(explain)
    explain.set_defaults(handler=_explain)


def _explain(options: argparse.Namespace) -> None:
    if getattr(options, "backend", None) is not None:
        told = _looked_up(options)
    else:
        _, runtime_dir = folders(options)
        try:
            answer = ask(runtime_dir, "explain", timeout_s=READ_S, domain=options.domain)
        except NotRunningError as error:
            raise UnreachableError(f"{error}{LOOK_HINT}") from error
        told = answer["explanation"]
    if options.output == "json":
        say_json(told)
    else:
        say(text(told))


def _looked_up(options: argparse.Namespace) -> dict[str, Any]:
    latest, history = look(options)
    record = latest.record_
    if record is None:
        raise UnreachableError("stopped before the first cycle was finished")
    known = {domain.name: domain.uuid for domain in record.sample.domains}
    uuid = known.get(options.domain, options.domain)
    told = document(record, latest.verdicts, history.of(uuid), uuid, record.ended_ns)
    if told is None:
        raise UsageError(f"there is no domain {options.domain!r}{meant(options.domain, known)}")
    return told
