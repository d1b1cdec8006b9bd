"""YAML files as an operator writes them, with the file and line of every key.

Only what a configuration needs is read: one document of nested mappings, lists and plain scalars
(YAML 1.2: `off` and `no` are words, not booleans). Anchors, aliases, tags and duplicate keys are
mistakes, size and depth are bounded, and the tree is built without recursion, so that no file can
make the reader do anything but list what is wrong with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

_MAX_BYTES = 256 * 1024
_MAX_DEPTH = 12
_MAX_NUMBER = 40
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}

Key: TypeAlias = tuple[str, ...]
"""Where a value stands: keys from the top, list positions as decimal words."""


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where something was written; line 0 stands for the file as a whole."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong, where, and what was expected."""

    origin: Origin
    key: Key
    message: str

    def __str__(self) -> str:
        key = ".".join(self.key)
        return f"{self.origin}: {key}: {self.message}" if key else f"{self.origin}: {self.message}"


@dataclass(slots=True)
class Document:
    """What was read: nested plain data, where each key was written, and what was wrong."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, Origin] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def origin(self, key: Key) -> Origin | None:
        """Where a key, or the nearest one around it, was written."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.origins:
                return self.origins[key[:length]]
        return None


def read(path: Path, owners: Collection[int]) -> Document:
    """Read one file, noting every mistake instead of raising.

    Args:
        path: The file; symbolic links are followed, and where they end must be as safe.
        owners: Users that may own the file and the folder it is in.
    """
    document = Document()
    here = Origin(str(path), 0)
    try:
        text = _trusted_text(path, owners)
    except OSError as error:
        document.mistakes.append(Mistake(here, (), f"cannot be read: {error.strerror}"))
    except (ValueError, RuntimeError) as error:
        document.mistakes.append(Mistake(here, (), str(error)))
    else:
        parse(text, str(path), document)
    return document


def parse(text: str, file: str, into: Document) -> None:
    """Parse the text of one file into a document."""
    try:
        _Builder(file, into).build(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 0
        what = " ".join(part for part in (error.context, error.problem) if part)
        into.mistakes.append(Mistake(Origin(file, line), (), f"not YAML: {what}"))
    except yaml.YAMLError as error:
        message = " ".join(str(error).split())[:200]
        into.mistakes.append(Mistake(Origin(file, 0), (), f"not YAML: {message}"))


def merge(base: Document, later: Document) -> Document:
    """Both, the later one winning: mappings by key, scalars and lists whole.

    A key that the later file touches moves to the end of its mapping, behind those it overrules.
    """
    merged = Document(mistakes=[*base.mistakes, *later.mistakes])
    merged.data = _merged(base.data, later.data)
    replaced = {key for key, value in walk(later.data) if not isinstance(value, dict)}
    merged.origins = {
        key: origin
        for key, origin in base.origins.items()
        if not any(key[:length] in replaced for length in range(1, len(key) + 1))
    } | later.origins
    return merged


def walk(data: dict[str, Any]) -> Iterator[tuple[Key, Any]]:
    """Every key of nested mappings with its value, parents first."""
    pending: list[tuple[Key, dict[str, Any]]] = [((), data)]
    while pending:
        above, mapping = pending.pop()
        for word, value in mapping.items():
            yield (*above, word), value
            if isinstance(value, dict):
                pending.append(((*above, word), value))


def unsafe(path: Path, owners: Collection[int], *, folder: bool = False) -> str | None:
    """Why a file or folder must not be believed, or None.

    Args:
        path: What to look at; symbolic links are followed.
        owners: Users that may own it.
        folder: A folder that is writable for all passes where its sticky bit is set.

    Raises:
        OSError: It cannot be looked at.
    """
    return _unsafe(path.stat(), owners, folder=folder)


def _unsafe(status: os.stat_result, owners: Collection[int], *, folder: bool) -> str | None:
    if status.st_uid not in owners:
        who = " or ".join(str(uid) for uid in sorted(owners))
        return f"is owned by user {status.st_uid}, expected user {who}"
    sticky = folder and status.st_mode & stat.S_ISVTX
    if status.st_mode & 0o022 and not sticky:
        return f"is writable for group or others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _trusted_text(path: Path, owners: Collection[int]) -> str:
    target = path.resolve(strict=True)
    # Whoever may write in the folder of a file, or of a link to it, decides what it says.
    for folder in sorted({path.parent, target.parent}):
        if wrong := unsafe(folder, {0, *owners}, folder=True):
            raise ValueError(f"its folder {folder} {wrong}")
    # Not blocking on a FIFO, and checking what was opened rather than what was named.
    descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    with open(descriptor, "rb") as stream:  # noqa: PTH123  a descriptor, not a path
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        if wrong := _unsafe(status, owners, folder=False):
            raise ValueError(wrong)
        raw = stream.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise ValueError(f"is larger than {_MAX_BYTES // 1024} KiB")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte {error.start})") from error


def _merged(base: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    result = {word: value for word, value in base.items() if word not in later}
    for word, value in later.items():
        old = base.get(word)
        if isinstance(old, dict) and isinstance(value, dict):
            result[word] = _merged(old, value)
        else:
            result[word] = value
    return result


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being filled."""

    key: Key
    into: dict[str, Any] | list[Any]
    word: str | None = None
    skip: bool = False


class _Builder:
    """Turns parser events into plain data."""

    def __init__(self, file: str, document: Document) -> None:
        self._file = file
        self._document = document
        self._stack: list[_Open] = []
        self._documents = 0

    def build(self, text: str) -> None:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.DocumentStartEvent):
                self._documents += 1
                if self._documents > 1:
                    self._wrong(event, (), "more than one document in a file")
                    return
            elif isinstance(event, yaml.NodeEvent):
                if not self._node(event):
                    return
            elif isinstance(event, yaml.CollectionEndEvent):
                self._stack.pop()
                self._advance()

    def _node(self, event: yaml.NodeEvent) -> bool:
        """Take one node; False where reading cannot go on."""
        top = self._stack[-1] if self._stack else None
        if event.anchor is not None:
            self._wrong(event, self._place(), "anchors and aliases are not allowed here")
            return False
        if top is not None and isinstance(top.into, dict) and top.word is None:
            return self._key(event, top)
        if isinstance(event, yaml.ScalarEvent):
            self._value(event, self._scalar(event))
            self._advance()
            return True
        if len(self._stack) >= _MAX_DEPTH:
            self._wrong(event, (), f"nested more than {_MAX_DEPTH} levels deep")
            return False
        self._tag(event)
        fresh: dict[str, Any] | list[Any] = {}
        if isinstance(event, yaml.SequenceStartEvent):
            fresh = []
        place = self._place()
        if (
            top is not None and top.skip
        ):  # what a repeated key holds is out of the way of the first
            place = (*place, f"line {self._origin(event).line}")
        root = top is None and isinstance(fresh, dict)
        if root:
            self._document.data = fresh  # type: ignore[assignment]
        else:
            self._value(event, fresh)
        self._stack.append(_Open(place, fresh))
        return True

    def _key(self, event: yaml.NodeEvent, top: _Open) -> bool:
        if not isinstance(event, yaml.ScalarEvent) or not event.value:
            self._wrong(event, top.key, "a key must be a plain word")
            return False
        key = (*top.key, event.value)
        top.word = event.value
        if key in self._document.origins:
            first = self._document.origins[key]
            self._wrong(event, key, f"written twice, first in line {first.line}")
            top.skip = True
        else:
            self._document.origins[key] = self._origin(event)
        return True

    def _value(self, event: yaml.NodeEvent, value: Any) -> None:
        if not self._stack:
            if value is not None:
                self._wrong(event, (), "expected keys and values")
            return
        top = self._stack[-1]
        if isinstance(top.into, list):
            self._document.origins[self._place()] = self._origin(event)
            top.into.append(value)
        elif top.word is not None and not top.skip:
            top.into[top.word] = value

    def _advance(self) -> None:
        if self._stack:
            self._stack[-1].word = None
            self._stack[-1].skip = False

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        self._tag(event)
        value = str(event.value)
        if event.style is not None:
            return value
        if value.lower() in _WORDS:
            return _WORDS[value.lower()]
        if len(value) <= _MAX_NUMBER:
            if _INTEGER.fullmatch(value):
                return int(value)
            if _FLOAT.fullmatch(value):
                with contextlib.suppress(OverflowError):
                    return float(value)
        return value

    def _tag(self, event: yaml.NodeEvent) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "tag:yaml.org,2002:str":
            self._wrong(event, self._place(), f"the tag {str(tag)[:60]!r} is not allowed here")

    def _place(self) -> Key:
        if not self._stack:
            return ()
        top = self._stack[-1]
        word = str(len(top.into)) if isinstance(top.into, list) else top.word
        return top.key if word is None else (*top.key, word)

    def _origin(self, event: yaml.Event) -> Origin:
        mark = event.start_mark
        return Origin(self._file, 0 if mark is None else mark.line + 1)

    def _wrong(self, event: yaml.Event, key: Key, message: str) -> None:
        self._document.mistakes.append(Mistake(self._origin(event), key, message))
