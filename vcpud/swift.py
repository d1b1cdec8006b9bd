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
    twin: Callable[..., T] = scope["Twin"]
    return twin
