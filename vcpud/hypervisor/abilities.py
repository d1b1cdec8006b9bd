"""Which commands one guest's agent carries out, as far as it has said or refused. Pure."""

from __future__ import annotations

from typing import Final

CPUSTATS: Final = "guest-get-cpustats"
_FILES: Final = frozenset({"guest-file-open", "guest-file-read"})
NEEDED: Final = frozenset({CPUSTATS, "guest-set-vcpus", *_FILES})
"""Commands without which something is missing; where one is switched off, the domain says so."""


class Abilities:
    """What one agent process can do.

    Attributes:
        disabled: Commands that it refuses to carry out.
        told: It has been asked for all of them.
    """

    def __init__(self) -> None:
        self.disabled: frozenset[str] = frozenset()
        self.told = False

    @property
    def lacking(self) -> bool:
        """Whether something is missing for want of a command."""
        return bool(self.disabled & NEEDED - ({CPUSTATS} if self.accounts_by_file else set()))

    @property
    def files_blocked(self) -> bool:
        """Whether it reads no files."""
        return bool(self.disabled & _FILES)

    @property
    def accounts_by_file(self) -> bool:
        """An agent older than 7.1 does not know the command, but reads the file behind it."""
        return CPUSTATS in self.disabled and not self.files_blocked

    @property
    def accounts(self) -> bool:
        """Whether it tells processor times, one way or the other."""
        return CPUSTATS not in self.disabled or self.accounts_by_file
