"""Words for people: what a mistyped word may have meant, and foreign words made harmless."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_FEW = 12
_SHORT = 120


def meant(word: str, known: Collection[str]) -> str:
    """The end of a message: the nearest known words, or all of them where they are few."""
    close = [printable(one) for one in difflib.get_close_matches(word, list(known), n=2)]
    if close:
        return f"; did you mean {' or '.join(map(repr, close))}?"
    if 0 < len(known) <= _FEW:
        return f"; there are: {', '.join(printable(one) for one in sorted(known))}"
    return ""


def raised(error: Exception) -> str:
    """What somebody else's code has raised, and where: `TypeError: what (file.py:12)`."""
    where, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename.rpartition("/")[2]
        where, trace = f" ({name}:{trace.tb_lineno})", trace.tb_next
    return f"{type(error).__name__}: {error}{where}"


def printable(text: str, limit: int = _SHORT) -> str:
    """A foreign text (a domain's name, an agent's words): one line, bounded, no controls."""
    if len(text) <= limit and text.isprintable():
        return text
    cut = text[:limit]
    shown = (
        cut
        if cut.isprintable()
        else "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in cut)
    )
    return shown if len(text) <= limit else f"{shown}..."
