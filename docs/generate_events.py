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
Every line has `event`, `level` and, outside journald, `timestamp`. It has `domain` and `uuid` where it concerns one
domain, and `decision_id` where it belongs to a decision: `journalctl -u vcpud | grep ID` shows everything about that
decision. `log.level` sets the lowest level that is logged. `vcpud explain DOMAIN` shows the same for one domain, the
latest first.
"""
MEANINGS = {
    "vcpud.started": "the daemon has started; `adopt` is true if a hold made it take over parked vCPUs as they were",
    "vcpud.stopped": (
        "the daemon has stopped; `kept`: domains not given back; `unplug_pending`: domains given back that "
        "may still lose a vCPU"
    ),
    "config.reloaded": "the new configuration is in force, all of it",
    "config.reload.failed": (
        "the new configuration is wrong, so the old one stays in force; `mistakes` lists every mistake"
    ),
    "config.needs_restart": "these keys have changed, but need a restart of the daemon to take effect",
    "request": (
        "somebody made a request on the control socket: `verb` is the request, `uid` who made it, as the "
        "kernel says"
    ),
    "request.denied": "somebody without the right to do so made a request",
    "hold": "an operator asked for a hold: a stop within this time keeps vCPUs parked",
    "hold.failed": "the note of a hold could not be removed",
    "kill_switch.thrown": "the kill-switch file has appeared: vcpud gives everything back and decides nothing",
    "kill_switch.taken_back": "the kill-switch file is gone: vcpud decides again",
    "libvirt.connected": "the hypervisor answers",
    "libvirt.disconnected": "the hypervisor does not answer: vcpud changes nothing, and keeps what it knows",
    "host.note": "something that an operator should know about this host",
    "sample.failed": "vcpud could not sample the host",
    "sample.recovered": "vcpud can sample the host again",
    "policy.failed": (
        "the policy raised an error: vcpud decides nothing in this cycle, and the policy begins with a fresh "
        "state"
    ),
    "policy.recovered": "the policy decides again",
    "ledger.failed": "vcpud cannot write or read the ledger of originals, so it changes nothing",
    "ledger.recovered": "vcpud can write the ledger again",
    "ledger.stays": (
        "`state_dir` names another folder now, but the ledger stays where it is, because it still holds what "
        "domains are owed"
    ),
    "original.lost": (
        "the ledger holds an original of an earlier boot of the host or run of the domain: it is logged, but "
        "never applied"
    ),
    "original.recovered": (
        "there was no ledger, but a note in a domain's metadata says what it is owed: vcpud gives that back"
    ),
    "original.elsewhere": (
        "the ledger holds what domains of another hypervisor had, because `uri` or `backend` was changed"
    ),
    "metrics.exposed": (
        "anybody on the network can read the metrics, because TLS with client certificates is not configured"
    ),
    "recorder.failed": "a part that takes note of cycles, such as the metrics, failed in one cycle; the loop goes on",
    "recording.failed": "vcpud cannot write the recording; the loop goes on",
    "recording.recovered": "vcpud writes the recording again",
    "decision": "what the policy wants, with its reason",
    "guard.blocked": "a guard blocked a resize",
    "vcpu.change": "vcpud began a change: from, to, purpose (decide, undo, restore), method, reason",
    "vcpu.change.done": "the change was reached, as reading the guest back has shown",
    "vcpu.change.failed": "vcpud gave the change up, and leaves the domain alone for a while",
    "vcpu.change.refused": "the change was not begun; the reason is given",
    "vcpu.restore.failed": (
        "a guest did not take back the vCPUs it had; vcpud tries again, after a longer time each time"
    ),
    "vcpu.change.would": "a dry run would have begun this change",
    "verdict": "the judge has judged a move: helped, neutral, harmed or unknown; kept or undone",
    "domain.started": "a domain started",
    "domain.gone": "a domain ended",
    "domain.rebooted": "a guest rebooted, so all its CPUs are online; vcpud still owes it unplugged vCPUs",
    "domain.job.begun": "a migration, save, snapshot, dump or backup began",
    "domain.job.ended": "that job ended",
    "domain.metadata": "a domain's metadata changed",
    "domain.agent.up": "a guest's agent is connected",
    "domain.agent.down": "a guest's agent is not connected any more",
    "domain.foreign": (
        "somebody else changed a domain's vCPUs, and vcpud leaves that as it is; `owed` is what vcpud will "
        "still give back"
    ),
    "domain.received": (
        "a domain arrived with a note that a vcpud elsewhere had parked vCPUs of it: vcpud gives them back"
    ),
    "domain.unplug.pending": (
        "vcpud gave an unplug up, but the guest may still carry it out: the domain stays in the ledger"
    ),
    "domain.unplug.settled": (
        "that unplug is settled: the guest carried it out and vcpud plugged the vCPU back, or the guest "
        "rebooted, or it will not carry it out any more"
    ),
    "domain.quarantined": "vcpud leaves a domain alone; the reason is given",
    "domain.recovered": "vcpud manages a domain again",
    "domain.phase": "a domain is in another phase of a move",
    "signal.hold": "a domain's data is incomplete or wrong; the reason is given",
    "signal.ok": "the domain's data is complete and right again",
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
