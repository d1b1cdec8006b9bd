"""Making many frozen values fast.

Problem: a frozen dataclass sets each field through `object.__setattr__`, which for a domain's
sample takes ten times as long as plain assignment; recording, replaying and estimating make
hundreds of thousands of them. Approach: a twin class with the same slots and no lock; an instance
is filled as the twin and handed out as the real thing.
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
    twin: Callable[..., T] = _twin(cls)
    return twin


def changer(cls: type[T], *names: str) -> Callable[..., T]:
    """`dataclasses.replace` for these fields, given by position after the value to start from.

    Args:
        cls: As for `maker`.
        names: The fields that are given anew; all others are those of the value.

    Raises:
        TypeError: It is something else, or has no such field.
    """
    fields = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    if not set(names) <= set(fields):
        raise TypeError(f"{cls.__name__} has no {sorted(set(names) - set(fields))}")
    values = ", ".join(name if name in names else f"was.{name}" for name in fields)
    source = f"def changed(was, {', '.join(names)}):\n    return Twin({values})"
    scope: dict[str, Any] = {"Twin": _twin(cls)}
    exec(source, scope)  # noqa: S102  as dataclasses do: only names of fields go into it
    changed: Callable[..., T] = scope["changed"]
    return changed


def _twin(cls: type[Any]) -> Any:
    if (
        not dataclasses.is_dataclass(cls)
        or cls.__bases__ != (object,)
        or "__slots__" not in vars(cls)
        or hasattr(cls, "__post_init__")
    ):
        raise TypeError(f"{cls.__name__} is not a plain frozen dataclass with slots")
    fields = dataclasses.fields(cls)
    names = [field.name for field in fields]
    defaults = {
        f"_{field.name}": field.default
        for field in fields
        if field.default is not dataclasses.MISSING
    }
    words = [f"{name}=_{name}" if f"_{name}" in defaults else name for name in names]
    source = "\n".join(
        (
            "class Twin:",
            f"    __slots__ = {tuple(names)!r}",
            f"    def __init__(self, {', '.join(words)}):",
            *(f"        self.{name} = {name}" for name in names),
            "        self.__class__ = cls",
        )
    )
    scope: dict[str, Any] = {"cls": cls, **defaults}
    exec(source, scope)  # noqa: S102  as dataclasses do: only names of fields go into it
    return scope["Twin"]
