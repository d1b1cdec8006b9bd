"""What a figure of a scenario may be: a note on the annotation of a dataclass's field.

    spin_ns: Annotated[int, Within(0, DAY_NS)] = 3_000_000

Without a note a figure of a workload is a positive one, so that no program can run on and on while
time stands still.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, TypeAlias, get_args, get_origin, get_type_hints

from vcpud.text import meant
from vcpud.units import NS_PER_S, duration_text

DAY_NS: Final = 86_400 * NS_PER_S
ENDLESS: Final = 1 << 62
"""No upper bound."""

Key: TypeAlias = tuple[str, ...]
"""Where in a scenario, in the words of its file: durations without their suffix."""
Fault: TypeAlias = tuple[Key, str]
"""Where, and what is wrong."""


@dataclass(frozen=True, slots=True)
class Within:
    """Least and most that a number may be."""

    least: float
    most: float

    def refuses(self, value: float, *, duration: bool) -> str | None:
        """What was expected, where the value is outside."""
        if self.least <= value <= self.most:
            return None
        if duration:
            least = duration_text(int(self.least))
            found = f"{value / NS_PER_S:g} s"
        else:
            least, found = _text(self.least), _text(value)
        if self.most >= ENDLESS:
            return f"expected at least {least}, found {found}"
        most = duration_text(int(self.most)) if duration else _text(self.most)
        return f"expected {least} to {most}, found {found}"


def outside(key: Key, value: Any, *, but: str = "") -> Iterator[Fault]:
    """Numbers outside what their annotation allows, of a dataclass and those inside it.

    Args:
        key: Where it is.
        value: The dataclass.
        but: A field whose parts are looked at elsewhere.
    """
    hints = _hints(value.__class__)
    for item in dataclasses.fields(value):
        found, word = getattr(value, item.name), item.name.removesuffix("_ns")
        if dataclasses.is_dataclass(found):
            yield from outside((*key, word), found)
        elif isinstance(found, tuple) and item.name != but:
            for place, part in enumerate(found):
                if dataclasses.is_dataclass(part):
                    yield from outside((*key, word, str(place)), part)
        elif isinstance(found, int | float) and not isinstance(found, bool):
            within = _within(item.name, hints[item.name], found)
            refusal = within.refuses(found, duration=word != item.name)
            if refusal is not None:
                yield (*key, word), refusal


def misfits(key: Key, costs: Mapping[str, Any], kinds: tuple[type[Any], ...]) -> Iterator[Fault]:
    """Words that are no field of those dataclasses, and numbers no such field should be.

    Costs may be nothing, but must be of a sensible size.
    """
    known = {item.name for kind in kinds for item in dataclasses.fields(kind)}
    yield from unknown(key, costs, known)
    for name, value in costs.items():
        if name in known and isinstance(value, int) and not isinstance(value, bool):
            duration = name.endswith("_ns")
            refusal = _LIMITS.get(name, _ANY_COST).refuses(value, duration=duration)
            if refusal is not None:
                yield (*key, name.removesuffix("_ns")), refusal


def unknown(key: Key, words: Mapping[str, Any], known: set[str]) -> Iterator[Fault]:
    """Words that are none of the known ones."""
    for word in words:
        if word not in known:
            shown = {one.removesuffix("_ns") for one in known}
            yield (
                (*key, word.removesuffix("_ns")),
                f"there is no such key{meant(word.removesuffix('_ns'), shown)}",
            )


@cache
def _hints(kind: type[Any]) -> Mapping[str, Any]:
    """Resolving them takes longer than to simulate a second of a small host."""
    return get_type_hints(kind, include_extras=True)


def _within(name: str, hint: Any, found: float) -> Within:
    """What an annotation allows; without one, what any workload's figure may be."""
    for part in (hint, *get_args(hint)):
        if get_origin(part) is Annotated:
            for note in part.__metadata__:
                if isinstance(note, Within):
                    return note
    if name.endswith("_ns"):
        return _ANY_DURATION
    if name.endswith("_ratio"):
        return _ANY_RATIO
    return _ANY_COUNT if isinstance(found, int) else _ANY_FIGURE


def _text(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


_ANY_DURATION: Final = Within(1, DAY_NS)
_ANY_COUNT: Final = Within(1, 65_536)
_ANY_FIGURE: Final = Within(1e-6, 1_000_000)
_ANY_RATIO: Final = Within(0, 1)
_ANY_COST: Final = Within(0, 10 * NS_PER_S)
_LIMITS: Final = {"hz": Within(1, 10_000), "refill_ns": Within(0, NS_PER_S // 100)}
"""To load 8 MiB from memory line by line takes 10 ms."""
