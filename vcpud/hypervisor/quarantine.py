"""Domains for which no call is made for a while, longer each time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from vcpud.model import Uuid

FIRST_SPELL_NS: Final = 5 * NS_PER_S
LONGEST_SPELL_NS: Final = 60 * NS_PER_S
_NOBODY: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class _Spell:
    until_ns: int
    length_ns: int
    why: str


class Quarantine:
    """Who is held back, until when, and why; a spell that is over still awaits its probe."""

    def __init__(self) -> None:
        self._spells: dict[Uuid, _Spell] = {}

    def __contains__(self, uuid: Uuid) -> bool:
        return uuid in self._spells

    def everybody(self) -> frozenset[Uuid]:
        """All domains that are held back."""
        return frozenset(self._spells) if self._spells else _NOBODY

    def why(self, uuid: Uuid) -> str:
        """For people; empty where a domain is not held back."""
        spell = self._spells.get(uuid)
        return spell.why if spell is not None else ""

    def until_ns(self, uuid: Uuid) -> int | None:
        """When a first call may be tried, None where a domain is not held back."""
        spell = self._spells.get(uuid)
        return spell.until_ns if spell is not None else None

    def begin(self, uuid: Uuid, why: str, now_ns: int) -> int:
        """Hold a domain back, twice as long as the last time if it still is.

        Returns:
            Until when.
        """
        before = self._spells.get(uuid)
        length_ns = (
            FIRST_SPELL_NS if before is None else min(2 * before.length_ns, LONGEST_SPELL_NS)
        )
        self._spells[uuid] = _Spell(now_ns + length_ns, length_ns, why)
        return now_ns + length_ns

    def end(self, uuid: Uuid) -> bool:
        """It answers again.

        Returns:
            Whether it was held back.
        """
        return self._spells.pop(uuid, None) is not None
