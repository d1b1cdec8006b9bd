# ruff: noqa: INP001  a program, not part of any package
"""Writes man pages and shell completion from the program itself: `generate.py FOLDER`.

vcpud(1) comes from the command line's parser, vcpud.yaml(5) from the configuration's schema, the
limits, the installed policies and the comments of the shipped configuration; completion for bash
and zsh from the parser again. Nothing is written by hand that the code already knows.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import re
import sys
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import shtab
from argparse_manpage.manpage import Manpage  # type: ignore[import-untyped]

from vcpud import cli, policy, schema
from vcpud.hypervisor.options import LibvirtOptions
from vcpud.hypervisor.xen.options import XenOptions
from vcpud.limits import Limits
from vcpud.units import duration_text
from vcpud.version import version

SHIPPED = Path(__file__).resolve().parents[1] / "vcpud.yaml"
TITLE = "vcpud"
COMMON = "for every command"
"""The title of those options in `vcpud.cli`."""
# Names of domains, from the running daemon; nothing where it does not run.
DOMAINS = r"""vcpud list -o json 2>/dev/null | sed -n 's/^ *"name": "\(.*\)",*$/\1/p'"""
FILES = """\
.TP
.I /etc/vcpud/vcpud.yaml\\fR, \\fI/etc/vcpud/conf.d/*.yaml
the configuration, see
.BR vcpud.yaml (5)
.TP
.I /var/lib/vcpud/originals.json
the ledger: the vCPUs that each changed domain had, until they are given back
.TP
.I /run/vcpud/vcpud.sock
the control socket, for root and the group vcpud
.TP
.I /usr/share/doc/vcpud/docs
getting started, tuning, runbook and more; below /usr/local after `make install`"""
ENVIRONMENT = """\
.TP
.B NO_COLOR
If this is set to anything, vcpud prints no colours.
.TP
.B NOTIFY_SOCKET\\fR, \\fBWATCHDOG_USEC\\fR, \\fBJOURNAL_STREAM
Set by systemd, see
.BR sd_notify (3)\\fR."""


def main() -> int:
    """Write all four files."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    # Usage lines as wide as a page is, whoever's terminal this runs on.
    os.environ["COLUMNS"] = "80"
    parser = cli._parser  # noqa: SLF001  the command line has no other use for a public name
    pages = {
        "vcpud.1": command_page(parser()),
        "vcpud.yaml.5": configuration_page(),
        "vcpud.bash": completion(parser(), "bash"),
        "_vcpud": completion(parser(), "zsh"),
    }
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


# -------------------------------------------------------------------------- the program


def command_page(parser: argparse.ArgumentParser) -> str:
    """The manual of the program; the parser is used up."""
    description = parser.description or ""
    parser._positionals.title = "commands"  # noqa: SLF001
    names = set()
    for command in _commands(parser):
        names.add(command.prog.rpartition(" ")[2])
        _without_common_options(command)
    if missing := {entry.name for entry in entry_points(group=cli.GROUP)} - names:
        raise SystemExit(f"no manual is written while commands are missing: {sorted(missing)}")
    examples, _, codes = (parser.epilog or "").partition("\nexit codes:")
    data = {"project_name": TITLE, "version": version(), "manual_title": "System administration"}
    page = Manpage(parser, _data=data, format="single-commands-section")
    page.date = _date()
    page.description = "dynamic vCPU allocation for Xen and KVM hosts"
    parser.description, parser.epilog = None, None
    for heading, text in (
        ("description", _roff(description)),
        ("examples", _literal(examples.partition("\n")[2])),
        ("exit status", _exit_codes(codes)),
        ("files", FILES),
        ("environment", ENVIRONMENT),
        ("see also", ".BR vcpud.yaml (5),\n.BR virsh (1),\n.BR systemctl (1)"),
    ):
        page.add_section(heading, "=", text)
    return str(page)


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for command in dict.fromkeys(action.choices.values()):
                yield command
                yield from _commands(command)


def _without_common_options(command: argparse.ArgumentParser) -> None:
    """What every command takes is said once, at the top of the page."""
    for group in list(command._action_groups):  # noqa: SLF001
        if group.title == COMMON:
            command._action_groups.remove(group)  # noqa: SLF001
            command._actions = [  # noqa: SLF001
                one
                for one in command._actions  # noqa: SLF001
                if one not in group._group_actions  # noqa: SLF001
            ]


def _exit_codes(text: str) -> str:
    lines = []
    for entry in text.split(","):
        number, _, meaning = entry.strip().partition(" ")
        lines += [".TP", f".B {number}", _roff(meaning)]
    return "\n".join(lines)


# ------------------------------------------------------------------- the configuration


def configuration_page() -> str:
    """The manual of the configuration."""
    stamp = f'"{_date()}" "{TITLE} {version()}" "File formats"'
    lines = [
        f'.TH VCPUD.YAML "5" {stamp}',
        ".SH NAME",
        r"vcpud.yaml \- configuration of vcpud",
        ".SH SYNOPSIS",
        ".I /etc/vcpud/vcpud.yaml",
        ".br",
        ".I /etc/vcpud/conf.d/*.yaml",
        ".SH DESCRIPTION",
        _roff(
            "YAML. The main file is read first, then the files in conf.d in the order of their "
            "names. A later file wins: its scalars and lists replace earlier ones, its mappings are "
            "merged by key. Without any file, vcpud observes every domain and changes none. The files "
            "and their folders must belong to root, and nobody else may have the right to write them."
        ),
        ".PP",
        _roff(
            "Write a duration with its unit: 500ms, 2s, 5m, 1h. `vcpud check-config` lists every "
            "mistake of every file at once; `vcpud check-config --print` shows every setting in "
            "force, and which file and line it comes from. `systemctl reload vcpud` puts a change "
            "into force: all of it, or nothing if it is wrong."
        ),
        ".SH KEYS",
    ]
    for key in keys():
        lines += [
            ".TP",
            f"\\fB{_roff(key.name)}\\fR ({_roff(key.kind)})",
            _roff(key.text) or "\\&",
        ]
    lines += [".SH POLICIES", _roff("For each policy, the keys of `policy` besides `name`.")]
    for name, doing, options in installed_policies():
        lines += [f".SS {_roff(name)}", _roff(doing)]
        for option in options:
            head = f"\\fB{_roff(option.name)}\\fR ({_roff(option.kind)})"
            lines += [".TP", head, _roff(option.text) or "\\&"]
    lines += [
        ".SH EXAMPLE",
        _literal(
            "  # Two groups of guests are managed, a third is never touched.\n"
            "  domains:\n"
            '    "build-*":\n'
            "      mode: enforce\n"
            "      min_vcpus: 2\n"
            "    db:\n"
            "      mode: enforce\n"
            '  deny: ["router-*"]\n'
        ),
        ".SH SEE ALSO",
        ".BR vcpud (1)",
    ]
    return "\n".join(lines) + "\n"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key as an operator needs to know it."""

    name: str
    kind: str
    text: str


def keys() -> Iterator[Key]:
    """Every key of the schema, in its order; what it leaves to a backend has the backend's default."""
    root = schema.ROOT
    read = root.model_json_schema(mode="validation")
    written = root.model_json_schema(mode="serialization")
    texts = _comments(SHIPPED.read_text(encoding="utf-8"))
    for section, source in (("limits", Limits), ("libvirt", LibvirtOptions), ("xen", XenOptions)):
        found = _attributes(inspect.getdoc(source) or "")
        texts |= {f"{section}.{name.removesuffix('_ns')}": text for name, text in found.items()}
    defaults = {
        f"{section}.{field.name.removesuffix('_ns')}": {"default": field.default}
        for section, source in (("libvirt", LibvirtOptions), ("xen", XenOptions))
        for field in dataclasses.fields(source)
    }
    for name, ours, theirs in _walk(read, written, read, written, ""):
        yield Key(
            name=name,
            kind=_kind(ours, theirs | defaults.get(name, {})),
            text=texts.get(name)
            or texts.get(name.replace("domains.NAME.", "defaults."))
            or ours.get("description", ""),
        )


def _walk(
    ours: dict[str, Any],
    theirs: dict[str, Any],
    read: dict[str, Any],
    written: dict[str, Any],
    above: str,
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Leaves of two schemas of the same model: what is read, and what is printed."""
    for word, one in ours["properties"].items():
        field, shown = _resolved(one, read), _resolved(theirs["properties"][word], written)
        inner = field.get("additionalProperties")
        if "properties" in field:
            yield from _walk(field, shown, read, written, f"{above}{word}.")
        elif isinstance(inner, dict):
            inside = _resolved(inner, read), _resolved(shown["additionalProperties"], written)
            yield from _walk(*inside, read, written, f"{above}{word}.NAME.")
        else:
            yield f"{above}{word}", field, shown


def _resolved(one: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Without references and without the alternative of being absent."""
    found = {key: value for key, value in one.items() if key not in ("$ref", "anyOf", "allOf")}
    options = [
        option for option in one.get("anyOf", one.get("allOf", [])) if option.get("type") != "null"
    ]
    for option in options[:1]:
        found = _resolved(option, root) | found
    if "$ref" in one:
        found = root["$defs"][one["$ref"].rpartition("/")[2]] | found
    return found


def _kind(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """What may be written, and what holds where nothing is."""
    default = theirs.get("default", ours.get("default"))
    if ours.get("type") == "integer" and theirs.get("type") == "string":
        said = "duration"
        if isinstance(default, int):
            default = duration_text(default)
    elif "enum" in ours:
        said = " | ".join(ours["enum"])
    elif ours.get("type") == "boolean":
        said = "true | false"
    elif ours.get("type") == "array":
        said, default = "list", None
    else:
        words = {"integer": "number", "number": "number", "string": "text"}
        said = words.get(ours.get("type", ""), "text")
    low = ours.get("minimum", ours.get("exclusiveMinimum"))
    if low is not None and "maximum" in ours:
        said += f" from {low:g} to {ours['maximum']:g}"
    elif low is not None:
        said += f" above {low:g}"
    if default is None:
        return said
    return f"{said}; default {str(default).lower() if isinstance(default, bool) else default}"


def installed_policies() -> Iterator[tuple[str, str, list[Key]]]:
    """Name, summary and options of each policy that can be loaded here."""
    for name in policy.names():
        entry = next(iter(entry_points(group=policy.GROUP, name=name)))
        try:
            factory = entry.load()
        except (ImportError, AttributeError):
            continue  # declared before it exists
        module = inspect.getdoc(inspect.getmodule(factory)) or inspect.getdoc(factory) or ""
        texts = _attributes(inspect.getdoc(factory) or "")
        options = [
            Key(
                name=field.name.removesuffix("_ns"),
                kind=_option_kind(field),
                text=texts.get(field.name, ""),
            )
            for field in dataclasses.fields(factory)
        ]
        yield name, module.partition("\n\n")[0].replace("\n", " "), options


def _option_kind(field: dataclasses.Field[Any]) -> str:
    default = field.default
    if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    if field.name.endswith("_ns") and isinstance(default, int):
        return f"duration; default {duration_text(default)}"
    words = {bool: "true | false", int: "number", float: "number", str: "text"}
    said = words.get(type(default), "value")
    if default is dataclasses.MISSING or not isinstance(default, bool | int | float | str):
        return said
    return f"{said}; default {str(default).lower() if isinstance(default, bool) else default}"


def _comments(text: str) -> dict[str, str]:
    """What the shipped configuration says of each key, behind its value or in lines above it."""
    key_line = re.compile(r"^(?P<indent> *)(?:# )?(?P<more> *)(?P<key>[\w*\"-]+):(?P<rest> .*|)$")
    choices = re.compile(r"^(?:\S+ \| )+\S+: ")  # the schema knows them, too
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    said: list[str] = []
    for line in text.splitlines():
        match = key_line.match(line)
        if match is None:
            words = line.strip()
            said = [*said, words.removeprefix("#").strip()] if words.startswith("#") else []
            continue
        depth = len(match["indent"]) + len(match["more"])
        above = [(indent, word) for indent, word in above if indent < depth]
        name = ".".join([*(word for _, word in above), match["key"]])
        comment = match["rest"].partition(" # ")[2].strip() or " ".join(said)
        found[name] = choices.sub("", comment)
        above.append((depth, match["key"]))
        said = []
    return found


def _attributes(docstring: str) -> dict[str, str]:
    """The `Attributes:` section of a Google-style docstring, by name."""
    section = docstring.partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if not line.startswith("    "):
            break
        start = re.match(r"    (\w+): (.*)$", line)
        if start:
            name = start[1]
            found[name] = start[2]
        elif name:
            found[name] += f" {line.strip()}"
    return found


# ------------------------------------------------------------------------------ completion


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Completion of commands, options, files and names of domains."""
    for action in (one for each in (parser, *_commands(parser)) for one in each._actions):  # noqa: SLF001
        kinds: dict[object, Any] = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}
        if action.metavar in kinds:
            setattr(action, "complete", kinds[action.metavar])  # noqa: B010  shtab's own protocol
        elif action.dest == "domain":
            setattr(action, "complete", shtab.cmd(DOMAINS))  # noqa: B010
    return str(shtab.complete(parser, shell=shell))


# ------------------------------------------------------------------------------------ roff


def _date() -> str:
    """The day of the sources, so that the same sources give the same page."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    return time.strftime("%Y-%m-%d", time.gmtime(epoch))


def _roff(text: str) -> str:
    escaped = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    escaped = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", escaped)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _literal(text: str) -> str:
    lines = [line.replace("\\", "\\e").replace("-", "\\-") for line in text.rstrip().splitlines()]
    return "\n".join([".nf", *lines, ".fi"])


if __name__ == "__main__":
    sys.exit(main())
