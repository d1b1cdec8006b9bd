"""What becomes of a claim that is held against what was measured. Pure."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What became of a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    OPEN = "not judged"
    """What was run cannot decide it."""

    @property
    def shown(self) -> str:
        """As wide as any other; what failed must not be overlooked."""
        return f"{self.upper() if self is Verdict.FAILS else self.value:<10}"
