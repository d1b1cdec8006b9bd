# ruff: noqa: INP001 - a script, beside the page it writes
"""Writes docs/configuration.md from the schema that vcpud.yaml(5) comes from; `--check` compares.

.venv/bin/python docs/generate_configuration.py [--check]
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from generating import written

PAGE = Path(__file__).with_name("configuration.md")
MANUALS = Path(__file__).parents[1] / "deploy/man/generate.py"
HEAD = """\
# Every key of the configuration

`docs/generate_configuration.py` writes this page from the schema, the limits, the shipped
`deploy/vcpud.yaml` and the installed policies; `man vcpud.yaml` has the same. `vcpud check-config`
lists every mistake of every file at once, with file, line and key; `vcpud check-config --print`
shows every setting in force, and which file and line it comes from. Write durations with their unit:
`500ms`, `2s`, `5m`, `1h`.
"""
AFTER = """\
## What may be done with a domain

These sources say it, the one that counts most first: the deny-list (`deny:`); what `vcpud set` has
set; the domain's own libvirt metadata
(`<policy xmlns="https://vcpud.org/xmlns/domain/1.0" mode="enforce" min="2" max="8"/>`, unless
`metadata: false`); the first matching entry of `domains:` (names and UUIDs before globs, later
files before earlier ones); `defaults:`. The owner of a domain's metadata cannot lower a floor or raise
a ceiling that the host's configuration has set. If their floor is above that ceiling, it lifts the
ceiling: so the domain keeps the vCPUs that it has, as with `mode="off"`.
"""


def manuals() -> Any:
    """The generator of the manual pages, which knows the schema."""
    spec = importlib.util.spec_from_file_location("vcpud_manuals", MANUALS)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{MANUALS} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def page() -> str:
    """The whole page."""
    source = manuals()
    lines = [HEAD, "| key | what may be written | what it is for |", "|---|---|---|"]
    keys = list(source.keys())
    lines += [f"| `{key.name}` | {_cell(key.kind)} | {_cell(key.text)} |" for key in keys]
    lines += ["", AFTER, "## Options of the policies", ""]
    for name, doing, options in source.installed_policies():
        lines += [f"### `{name}`", "", doing, ""]
        if options:
            lines += ["| key | what may be written | what it is for |", "|---|---|---|"]
            lines += [
                f"| `policy.{one.name}` | {_cell(one.kind)} | {_cell(one.text)} |"
                for one in options
            ]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(written(PAGE, page()))
