# ruff: noqa: INP001 - a script, beside the page it writes
"""Writes docs/events.md: every event of the log, found in the code, with what it means.

.venv/bin/python docs/generate_events.py [--check]
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from generating import written

from vcpud import log

PAGE = Path(__file__).with_name("events.md")
SOURCE = Path(__file__).parents[1] / "vcpud"
HEAD = """\
# Every event of the log

Written by `docs/generate_events.py`. One line per event: JSON where standard error is no terminal, words where it is.
Every line has `event`, `level` and, outside journald, `timestamp`; `domain` and `uuid` where it concerns one domain;
`decision_id` where it belongs to a decision, so that `journalctl -u vcpud | grep ID` tells its whole story. Levels are
cut by `log.level`. `vcpud explain DOMAIN` tells the same of one domain, the last first.
"""
MEANINGS = {
    "vcpud.started": "the daemon runs; `adopt` is true where a hold made it take over what was changed",
    "vcpud.stopped": "the daemon has stopped; `kept`: not given back, `unplug_pending`: back, and may lose a vCPU",
    "config.reloaded": "a new configuration is in force, all of it",
    "config.reload.failed": "the new configuration is wrong, the old one stays in force; `mistakes` lists all",
    "config.needs_restart": "these keys have changed and take a restart",
    "request": "somebody asked for something on the control socket: `verb`, and `uid` as the kernel knows it",
    "request.denied": "somebody who may not ask did",
    "hold": "the next stop within this time keeps the counts",
    "hold.failed": "a hold could not be cleared away",
    "kill_switch.thrown": "the kill-switch file has appeared: everything is given back, nothing is decided",
    "kill_switch.taken_back": "the kill-switch file is gone: vcpud decides again",
    "libvirt.connected": "the hypervisor answers",
    "libvirt.disconnected": "the hypervisor does not answer: nothing is changed, nothing is forgotten",
    "host.note": "something an operator should know of this host",
    "sample.failed": "the host could not be sampled",
    "sample.recovered": "it can be sampled again",
    "policy.failed": "the policy raised an error: nothing is decided, its state begins anew",
    "policy.recovered": "the policy decides again",
    "ledger.failed": "originals cannot be written or read: nothing is changed",
    "ledger.recovered": "originals can be written again",
    "ledger.stays": "the ledger still owes something and stays where it is, though `state_dir` names another folder",
    "original.lost": "an original of another boot or run of the domain: named, never applied",
    "original.recovered": "there was no ledger, and a domain's own note says what it is owed: given back",
    "original.elsewhere": "the ledger keeps what domains of another hypervisor had: `uri` or `backend` was changed",
    "metrics.exposed": "anybody on the network may read the metrics: no TLS with client certificates",
    "recorder.failed": "something that takes note of cycles failed once; the loop goes on",
    "recording.failed": "the recording cannot be written; the loop goes on",
    "recording.recovered": "the recording is written again",
    "decision": "what the policy wants, with its reason",
    "guard.blocked": "a guard stands in the way of a resize",
    "vcpu.change": "a change was begun: from, to, purpose (decide, undo, restore), method, reason",
    "vcpu.change.done": "it was reached, as the guest was read back",
    "vcpu.change.failed": "it was given up; the domain is left alone for a while",
    "vcpu.change.refused": "it was not begun, and why",
    "vcpu.restore.failed": "a guest did not take back what it had; it is tried on, each time later",
    "vcpu.change.would": "a dry run would have begun it",
    "verdict": "a move was judged: helped, neutral, harmed or unknown; kept or undone",
    "domain.started": "a domain started",
    "domain.gone": "a domain ended",
    "domain.rebooted": "a guest rebooted: every CPU is online; what was unplugged is still owed",
    "domain.job.begun": "a migration, save, snapshot, dump or backup began",
    "domain.job.ended": "it ended",
    "domain.metadata": "a domain's metadata changed",
    "domain.agent.up": "a guest's agent is connected",
    "domain.agent.down": "a guest's agent is gone",
    "domain.foreign": "somebody else changed a domain's vCPUs, and it stands; `owed` is what is still given back",
    "domain.received": "a domain came with a note that a vcpud elsewhere had parked vCPUs of it: given back",
    "domain.unplug.pending": "an unplug was given up that the guest may still carry out: it stays in the ledger",
    "domain.unplug.settled": "the vCPU went and is plugged back, the guest rebooted, or it will not come any more",
    "domain.quarantined": "a domain is left alone, and why",
    "domain.recovered": "a domain is managed again",
    "domain.phase": "where a domain stands in the life of a move",
    "signal.hold": "something is missing or wrong about a domain's data",
    "signal.ok": "it is there again, or right",
}
_LEVELS = ("debug", "info", "warning", "error", "exception")
_NAME = re.compile(r"[a-z_]+(\.[a-z_]+)*")


def found() -> Iterator[tuple[str, str]]:
    """Names of events in the code and their levels; `*` stands for a part that varies."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            function = node.func
            if isinstance(function, ast.Attribute) and function.attr in _LEVELS:
                if "log" not in ast.unparse(function.value):
                    continue
                level = function.attr
            elif isinstance(function, ast.Name) and function.id == "write":
                level = "info, warning"
            else:
                continue
            for name in _names(node.args[0]):
                yield name, level
    yield from ((name, "info") for name in log._EVENTS.values())  # noqa: SLF001  its own names


def _names(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values
        )
    elif isinstance(node, ast.IfExp):
        yield from _names(node.body)
        yield from _names(node.orelse)
    elif isinstance(node, ast.Constant) and _NAME.fullmatch(str(node.value)):
        yield str(node.value)


def levels() -> dict[str, str]:
    """The level of each event that has a meaning; a name in the code without one is a fault."""
    at: dict[str, str] = {}
    for name, level in found():
        pattern = re.compile(re.escape(name).replace(r"\*", "[a-z_]+"))
        matching = [known for known in MEANINGS if pattern.fullmatch(known)]
        if not matching:
            raise SystemExit(f"the event {name} is not described in {Path(__file__).name}")
        for known in matching:
            at.setdefault(known, "error" if level == "exception" else level)
    idle = sorted(set(MEANINGS) - set(at))
    if idle:
        raise SystemExit(f"described, but in no code: {', '.join(idle)}")
    return at


def page() -> str:
    """The whole page."""
    at = levels()
    lines = [HEAD, "| event | level | what it means |", "|---|---|---|"]
    lines += [f"| `{name}` | {at[name]} | {meaning} |" for name, meaning in MEANINGS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(written(PAGE, page()))
