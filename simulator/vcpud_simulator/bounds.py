"""What a figure of a scenario may be: a note on the annotation of a dataclass's field.

    spin_ns: Annotated[int, Within(0, DAY_NS)] = 3_000_000

Without a note a figure of a workload is a positive one, so that no program can run on and on while
time stands still.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vcpud.units import NS_PER_S, duration_text

DAY_NS: Final = 86_400 * NS_PER_S
ENDLESS: Final = 1 << 62
"""No upper bound."""


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


def _text(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
