"""Making many frozen values fast.

Problem: a frozen dataclass sets each field through `object.__setattr__`, which for a domain's
sample takes ten times as long as plain assignment; recording, replaying and estimating make
hundreds of thousands of them. Approach: a twin class with the same slots and no lock; an instance
is filled as the twin and handed out as the real thing. A function fills it rather than `__init__`,
which the interpreter calls by way of C, at more than what it then does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def maker(cls: type[T]) -> Callable[..., T]:
    """A constructor that takes fields by position, in their order, with their defaults.

    Args:
        cls: A frozen dataclass with slots, no base class and no `__post_init__`.

    Raises:
        TypeError: It is something else.
    """
    fields = dataclasses.fields(_plain(cls))
    defaults = {
        f"_{field.name}": field.default
        for field in fields
        if field.default is not dataclasses.MISSING
    }
    names = [field.name for field in fields]
    words = [f"{name}=_{name}" if f"_{name}" in defaults else name for name in names]
    return _function(cls, words, {name: name for name in names}, defaults)


def changer(cls: type[T], *names: str) -> Callable[..., T]:
    """`dataclasses.replace` for these fields, given by position after the value to start from.

    Args:
        cls: As for `maker`.
        names: The fields that are given anew; all others are those of the value.

    Raises:
        TypeError: It is something else, or has no such field.
    """
    fields = [field.name for field in dataclasses.fields(_plain(cls))]
    if not set(names) <= set(fields):
        raise TypeError(f"{cls.__name__} has no {sorted(set(names) - set(fields))}")
    values = {name: name if name in names else f"was_.{name}" for name in fields}
    return _function(cls, ["was_", *names], values, {})


def _function(
    cls: type[T], words: list[str], values: dict[str, str], scope: dict[str, Any]
) -> Callable[..., T]:
    """A function of these parameters that gives each field its value."""
    twin = type("Twin", (), {"__slots__": tuple(values)})
    source = "\n".join(
        (
            f"def filled({', '.join(words)}):",
            "    new_ = Twin()",
            *(f"    new_.{name} = {value}" for name, value in values.items()),
            "    new_.__class__ = cls",
            "    return new_",
        )
    )
    scope |= {"cls": cls, "Twin": twin}
    exec(source, scope)  # noqa: S102  as dataclasses do: only names of fields go into it
    filled: Callable[..., T] = scope["filled"]
    return filled


def _plain(cls: type[T]) -> Any:
    if (
        not dataclasses.is_dataclass(cls)
        or cls.__bases__ != (object,)
        or "__slots__" not in vars(cls)
        or hasattr(cls, "__post_init__")
    ):
        raise TypeError(f"{cls.__name__} is not a plain frozen dataclass with slots")
    return cls
