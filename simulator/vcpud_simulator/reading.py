"""Scenarios as YAML files: every mistake of a file at once, each with its line and key.

The keys of a file are the fields of `vcpud_simulator.scenario`'s dataclasses, those of a workload the
fields of its own; a duration is written with its unit ("3s", "60ns") and its key without `_ns`.
`domains` is a mapping of names to plans, a workload its kind alone or with its fields:

    domains:
      db: {vcpus: 4, workload: gobmk}
      web: {vcpus: 2, copies: 3, workload: {kind: descriptors, hold: 80ns}}
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import types
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from vcpud.documents import Document, Key, Mistake, Origin, parse
from vcpud.errors import ConfigError
from vcpud.text import meant, printable
from vcpud.units import parse_duration
from vcpud_simulator.catalogue import LOCKS, SCHEDULERS, WORKLOADS
from vcpud_simulator.guest.costs import GuestConfig
from vcpud_simulator.guest.hotplug import HotplugCosts
from vcpud_simulator.guest.locks import Spinlock
from vcpud_simulator.host import HostCosts
from vcpud_simulator.scenario import DomainPlan, Scenario, faults
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.noise import Noise

SUFFIX: Final = ".yaml"
_MAX_BYTES: Final = 256 * 1024
_NAME: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
_MAX_NAME: Final = 64


def folders() -> tuple[Path, ...]:
    """Where vcpud's own scenarios are: in the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return (package / "scenarios", package.parent / "scenarios")


def scenario_names() -> tuple[str, ...]:
    """The scenarios that come with vcpud."""
    return tuple(sorted({path.stem for one in folders() for path in one.glob(f"*{SUFFIX}")}))


def find_scenario(name_or_path: str) -> Path:
    """The file of one of vcpud's own scenarios, or the path that was given.

    Raises:
        ConfigError: It is neither.
    """
    if "/" in name_or_path or name_or_path.endswith(SUFFIX) or not name_or_path:
        return Path(name_or_path)
    for folder in folders():
        path = folder / f"{name_or_path}{SUFFIX}"
        if path.is_file():
            return path
    hint = (
        meant(name_or_path, scenario_names()) or "; `vcpud simulate --list` names those there are"
    )
    raise ConfigError(f"there is no scenario {printable(name_or_path)!r}{hint}")


def read_scenario(path: Path | str) -> Scenario:
    """Read and check a scenario.

    Args:
        path: A file, or the name of one of vcpud's own.

    Raises:
        ConfigError: Lists every mistake with file, line and key.
    """
    path = find_scenario(path) if isinstance(path, str) else path
    document = Document()
    try:
        parse(_text(path), str(path), document)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(
            str(Mistake(Origin(str(path), 0), (), why or "cannot be read"))
        ) from error
    reader = _Reader(document, str(path))
    scenario = reader.scenario(path.stem)
    if scenario is None or document.mistakes:
        unique = sorted(set(document.mistakes), key=lambda one: (one.origin, one.key))
        raise ConfigError("\n".join(str(mistake) for mistake in unique))
    return scenario


def _text(path: Path) -> str:
    """The file's text.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no file, too large, or not UTF-8.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as stream:  # noqa: PTH123  a descriptor, not a path
        if not path.is_file():
            raise ValueError("is not a regular file")
        raw = stream.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise ValueError(f"is larger than {_MAX_BYTES // 1024} KiB")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte {error.start})") from error


_STAND_IN: Final = Noise()
_OPTIONS: Final = {
    name for factory in SCHEDULERS.values() for name in inspect.signature(factory).parameters
}


class _Wrong(Exception):  # noqa: N818 - a value that cannot be used, not an error of the program
    """A value is not what its key expects; it has been noted where that could be told."""


class _Reader:
    """Turns plain data into dataclasses, noting every mistake."""

    def __init__(self, document: Document, file: str) -> None:
        self._document = document
        self._file = file

    def scenario(self, name: str) -> Scenario | None:
        """The scenario, or None where something could not be read at all."""
        data = {"name": name, **self._document.data}
        domains = data.pop("domains", None)
        if domains is None:
            self._wrong(("domains",), "is missing")
        values = self._fields(Scenario, data, (), leave_out={"domains"})
        readable = "pcpus" in values
        # What cannot be read is stood in for, so that everything else is looked at, too.
        scenario = Scenario(**{"pcpus": 1, **values}, domains=self._domains(domains))
        for key, message in faults(scenario):
            if isinstance(domains, dict) or key != ("domains",):
                self._wrong(key, message)
        return scenario if readable else None

    def _domains(self, written: Any) -> tuple[DomainPlan, ...]:
        if written is None:
            return ()
        if not isinstance(written, dict):
            self._wrong(("domains",), "expected names, each with what the domain is")
            return ()
        plans = []
        for name, plan in written.items():
            key = ("domains", name)
            if len(name) > _MAX_NAME or not set(name) <= set(_NAME):
                self._wrong(key, "expected a name of letters, digits, '_', '-' and '.'")
                continue
            if not isinstance(plan, dict):
                self._wrong(key, "expected what the domain is: vcpus, workload and so on")
                continue
            values = self._fields(DomainPlan, plan, key, leave_out={"name"})
            values.setdefault("workload", _STAND_IN)
            if "vcpus" in values:
                plans.append(DomainPlan(name=name, **values))
        return tuple(plans)

    # ------------------------------------------------------------------ by type

    def _fields(
        self, kind: type[Any], written: Mapping[str, Any], key: Key, leave_out: set[str]
    ) -> dict[str, Any]:
        """Keyword arguments for a dataclass."""
        hints = get_type_hints(kind, include_extras=True)
        items = {f.name: f for f in dataclasses.fields(kind) if f.name not in leave_out}
        words = {name.removesuffix("_ns"): name for name in items}
        values: dict[str, Any] = {}
        for word, value in written.items():
            if word not in words:
                self._wrong((*key, word), f"there is no such key{meant(word, words)}")
                continue
            name = words[word]
            try:
                values[name] = self._value(hints[name], value, (*key, word), name)
            except _Wrong:
                values.pop(name, None)
        for name, item in items.items():
            needed = (
                item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
            )
            word = name.removesuffix("_ns")
            if needed and word not in written:
                self._wrong((*key, word), "is missing")
        return values

    def _value(self, hint: Any, value: Any, key: Key, name: str) -> Any:  # noqa: C901, PLR0911
        origin = get_origin(hint)
        if origin is Annotated:
            return self._value(get_args(hint)[0], value, key, name)
        if origin in {Union, types.UnionType}:
            options = [one for one in get_args(hint) if one is not type(None)]
            return None if value is None else self._value(options[0], value, key, name)
        if hint is Workload:
            return self._workload(value, key)
        if origin is type and get_args(hint) == (Spinlock,):
            return self._word(value, key, LOCKS)
        if origin is tuple:
            if not isinstance(value, list):
                self._refuse(key, "a list", value)
            inner = get_args(hint)[0]
            return tuple(
                self._value(inner, one, (*key, str(place)), name)
                for place, one in enumerate(value)
            )
        if origin is not None and issubclass(origin, Mapping):
            return self._mapping(value, key, name)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            if not isinstance(value, dict):
                self._refuse(key, "keys and values", value)
            return self._made(hint, self._fields(hint, value, key, set()), key)
        if isinstance(hint, type) and issubclass(hint, StrEnum):
            return hint(self._word(value, key, {str(one): str(one) for one in hint}))
        return self._scalar(hint, value, key, name)

    def _scalar(self, hint: Any, value: Any, key: Key, name: str) -> Any:
        if name.endswith("_ns"):
            return self._duration(value, key)
        if hint is bool and not isinstance(value, bool):
            self._refuse(key, "true or false", value)
        if hint is int and (not isinstance(value, int) or isinstance(value, bool)):
            self._refuse(key, "a whole number", value)
        if hint is float:
            if not isinstance(value, int | float) or isinstance(value, bool):
                self._refuse(key, "a number", value)
            return float(value)
        if hint is str and not isinstance(value, str):
            self._refuse(key, "words", value)
        return value

    def _duration(self, value: Any, key: Key) -> int:
        if isinstance(value, str):
            try:
                return parse_duration(value)
            except ValueError as error:
                self._wrong(key, str(error))
                raise _Wrong from error
        if value == 0 and type(value) is int:
            return 0
        self._refuse(key, 'a duration with its unit, like "500ms", "2s" or "5m"', value)
        raise _Wrong

    def _word(self, value: Any, key: Key, known: Mapping[str, Any]) -> Any:
        if not isinstance(value, str) or value not in known:
            word = value if isinstance(value, str) else ""
            self._wrong(key, f"there is no {printable(str(value), 60)!r}{meant(word, known)}")
            raise _Wrong
        return known[value]

    def _mapping(self, value: Any, key: Key, name: str) -> dict[str, Any]:
        """Fields of a dataclass that the scenario only names: costs, guest; or free options."""
        if not isinstance(value, dict):
            self._refuse(key, "keys and values", value)
        kinds = {"costs": (HostCosts, HotplugCosts), "guest": (GuestConfig,)}.get(name)
        if kinds is None:
            return dict(self._option(word, one, (*key, word)) for word, one in value.items())
        values: dict[str, Any] = {}
        known = {f.name.removesuffix("_ns") for kind in kinds for f in dataclasses.fields(kind)}
        for kind in kinds:
            mine = {f.name.removesuffix("_ns") for f in dataclasses.fields(kind)}
            chosen = {word: one for word, one in value.items() if word in mine}
            values |= self._fields(kind, chosen, key, set())
        for word in value:
            if word not in known:
                self._wrong((*key, word), f"there is no such key{meant(word, known)}")
        return values

    def _option(self, word: str, value: Any, key: Key) -> tuple[str, Any]:
        """An option of a scheduler: which one is asked may not even be known."""
        if f"{word}_ns" in _OPTIONS:
            return f"{word}_ns", self._duration(value, key)
        if isinstance(value, str | dict | list):
            self._refuse(key, "true, false or a number", value)
        return word, value

    def _workload(self, value: Any, key: Key) -> Any:
        written = {"kind": value} if isinstance(value, str) else value
        if not isinstance(written, dict) or "kind" not in written:
            self._refuse(key, "a workload's kind, or keys with its kind among them", value)
        kind = self._word(
            written["kind"], (*key, "kind") if isinstance(value, dict) else key, WORKLOADS
        )
        rest = {word: one for word, one in written.items() if word != "kind"}
        return self._made(kind, self._fields(kind, rest, key, set()), key)

    def _made(self, kind: type[Any], values: dict[str, Any], key: Key) -> Any:
        try:
            return kind(**values)
        except (TypeError, ValueError) as error:
            if isinstance(error, ValueError):
                self._wrong(key, str(error))
            raise _Wrong from error

    # ------------------------------------------------------------------ mistakes

    def _refuse(self, key: Key, expected: str, value: Any) -> None:
        shown = "" if isinstance(value, dict | list) else f", found {printable(repr(value), 60)}"
        self._wrong(key, f"expected {expected}{shown}")
        raise _Wrong

    def _wrong(self, key: Key, message: str) -> None:
        origin = self._document.origin(key) or Origin(self._file, 0)
        self._document.mistakes.append(Mistake(origin, key, message))
