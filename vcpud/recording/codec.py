"""Any value of the one pass as plain JSON data, and back with its types checked.

What a field's default says is left out. The reader is led by the annotations of `vcpud.model` and
its fellows, so that a field added there is recorded from that day on and absent in older files.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from vcpud import counters, demand, events, guest, limits, model, plan, record, requests
from vcpud.record import CycleRecord

TAG = "is"
_NAMES: dict[str, Any] = {}
for _module in (counters, guest, model, events, plan, limits, requests, demand, record):
    _NAMES |= vars(_module)

_Reader = Callable[[Any], Any]

LEFT_OUT = frozenset({"cycle", "began_ns", "ended_ns", "sample", "demand", "domains"})
"""Parts of a cycle that are written in another way, or follow from the others."""


class UnreadableError(Exception):
    """Data that is not what vcpud writes."""


def plain(value: Any) -> Any:
    """As JSON would have it: dataclasses with their names, sets sorted, defaults left out."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, frozenset | set):
        return sorted(plain(one) for one in value)
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if dataclasses.is_dataclass(value):
        shown = {TAG: type(value).__name__}
        for field in dataclasses.fields(value):
            inner = getattr(value, field.name)
            if not _is_default(field, inner):
                shown[field.name] = plain(inner)
        return shown
    raise TypeError(f"{type(value).__name__} cannot be recorded")


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        return bool(field.default == value and type(field.default) is type(value))
    if field.default_factory is not dataclasses.MISSING:
        return bool(field.default_factory() == value)
    return False


def read(kind: Any, data: Any) -> Any:
    """A value of this type from plain data.

    Raises:
        UnreadableError: The data is something else.
    """
    return _reader(kind)(data)


@cache
def fields_of(kind: Any) -> dict[str, Any]:
    """The fields of a dataclass with their types."""
    hints = get_type_hints(kind, localns=_NAMES)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


@cache
def _reader(kind: Any) -> _Reader:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is not None:
        return _CONTAINERS[origin](inner)
    if kind is Any:
        return lambda data: data
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind)
    return _word(kind) if issubclass(kind, StrEnum) else _primitive(kind)


def _word(kind: type[StrEnum]) -> _Reader:
    words = {str(one): one for one in kind}

    def reader(data: Any) -> Any:
        if not isinstance(data, str) or data not in words:
            raise UnreadableError(f"expected a {kind.__name__}")
        return words[data]

    return reader


def _primitive(kind: Any) -> _Reader:
    accepted = {float: (int, float), type(None): (type(None),)}.get(kind, (kind,))

    def reader(data: Any) -> Any:
        if type(data) not in accepted:
            raise UnreadableError(f"expected {kind.__name__}, found {type(data).__name__}")
        return data

    return reader


def _either(kinds: tuple[Any, ...]) -> _Reader:
    tagged = {
        kind.__name__: _reader(kind)
        for kind in kinds
        if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    }
    others = [
        _reader(kind)
        for kind in kinds
        if kind is not type(None) and getattr(kind, "__name__", "") not in tagged
    ]
    optional = type(None) in kinds

    def reader(data: Any) -> Any:
        if data is None and optional:
            return None
        if isinstance(data, dict) and data.get(TAG) in tagged:
            return tagged[data[TAG]](data)
        for other in others:
            try:
                return other(data)
            except UnreadableError:
                continue
        raise UnreadableError(f"nothing that fits: {type(data).__name__}")

    return reader


def _tuple(inner: tuple[Any, ...]) -> _Reader:
    if len(inner) == 2 and inner[1] is Ellipsis:  # noqa: PLR2004  as in tuple[X, ...]
        return _many(tuple, inner[0])
    readers = [_reader(kind) for kind in inner]

    def reader(data: Any) -> Any:
        if not isinstance(data, list) or len(data) != len(readers):
            raise UnreadableError(f"expected a list of {len(readers)}")
        return tuple(one(item) for one, item in zip(readers, data, strict=True))

    return reader


def _many(into: Callable[[Any], Any], kind: Any) -> _Reader:
    inner = _reader(kind)

    def reader(data: Any) -> Any:
        if not isinstance(data, list):
            raise UnreadableError(f"expected a list, found {type(data).__name__}")
        return into(inner(item) for item in data)

    return reader


def _mapping(inner: tuple[Any, ...]) -> _Reader:
    keys, values = (_reader(kind) for kind in inner)

    def reader(data: Any) -> Any:
        if not isinstance(data, dict):
            raise UnreadableError(f"expected a mapping, found {type(data).__name__}")
        return {keys(word): values(item) for word, item in data.items()}

    return reader


def _dataclass(kind: Any) -> _Reader:
    hints: dict[str, Any] = fields_of(kind)

    def reader(data: Any) -> Any:
        if not isinstance(data, dict) or data.get(TAG) != kind.__name__:
            raise UnreadableError(f"expected a {kind.__name__}")
        words = {
            name: _reader(hints[name])(item)
            for name, item in data.items()
            if name != TAG and name in hints
        }
        try:
            return kind(**words)
        except TypeError as error:
            raise UnreadableError(str(error)) from error

    return reader


_CONTAINERS: dict[Any, Callable[[tuple[Any, ...]], _Reader]] = {
    Union: _either,
    types.UnionType: _either,
    tuple: _tuple,
    Collection: lambda inner: _many(tuple, inner[0]),
    frozenset: lambda inner: _many(frozenset, inner[0]),
    dict: _mapping,
    Mapping: _mapping,
}


# ------------------------------------------------------------------- a cycle but for its sample


class CycleWriter:
    """What changed of a cycle, but for its sample, since the one before."""

    def __init__(self) -> None:
        self._state: dict[str, Any] = {}

    def told(self, record: CycleRecord) -> dict[str, Any]:
        """What happened in the cycle, and what is different from the cycle before."""
        told: dict[str, Any] = {}
        for name, field in _CYCLE.items():
            value = getattr(record, name)
            if name in _STATE:
                if name not in self._state or self._state[name] != value:
                    self._state[name] = value
                    told[name] = plain(value)
            elif name == "requests":
                # A reload carries a policy, which is code; a replay has its own configuration.
                kept = [one for one in value if not isinstance(one, requests.Reload)]
                if kept:
                    told[name] = plain(kept)
            elif name == "proposed":
                if value.moves:
                    told[name] = plain(plan.Plan(moves=value.moves))
            elif not _is_default(field, value):
                told[name] = plain(value)
        return told


class CycleReader:
    """The reverse."""

    def __init__(self) -> None:
        self._state: dict[str, Any] = {}

    def words(self, told: Any) -> dict[str, Any]:
        """Keyword arguments of the cycle's record.

        Raises:
            UnreadableError: The data is not what `CycleWriter` makes.
        """
        if not isinstance(told, dict):
            raise UnreadableError("expected what happened in a cycle")
        happened: dict[str, Any] = {}
        for name, data in told.items():
            if name not in _CYCLE:
                continue
            value = read(fields_of(CycleRecord)[name], data)
            (self._state if name in _STATE else happened)[name] = value
        return {"proposed": plan.Plan(), **self._state, **happened}


_CYCLE = {
    field.name: field for field in dataclasses.fields(CycleRecord) if field.name not in LEFT_OUT
}
_STATE = frozenset(
    name
    for name, field in _CYCLE.items()
    if name in ("outstanding", "blocked") or (field.default != () and name != "proposed")
)
"""What goes on until it changes; the rest happens once."""
