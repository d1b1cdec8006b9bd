"""What a vcpud before this one has left owed: whose it is, until each has been met once.

Everybody in the ledger at the first look. Where the ledger is lost, the domains' own notes stand in
for it, and they too are believed at the first look only: later on they say what this vcpud wrote,
and what others have done since counts for more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vcpud import owed
from vcpud.errors import LedgerError

if TYPE_CHECKING:
    from vcpud.model import HostSample, Uuid
    from vcpud.originals import Originals

_NOBODY: frozenset[Uuid] = frozenset()


class Inheritance:
    """Who is owed anything by an earlier run; `unread` while notes are still to be looked at."""

    def __init__(self, originals: Originals) -> None:
        self._originals = originals
        self._unmet: frozenset[Uuid] | None = None
        """Who was owed anything at the first look and has not been described since."""
        self._unlooked: frozenset[Uuid] | None = None
        """Who was there at the first look without the ledger, and has not been described since."""
        self.unread = originals.lost

    def waive(self) -> None:
        """Take nobody to be gone because he does not run."""
        self._unmet = _NOBODY

    def leave_unread(self) -> None:
        """Go by no more notes."""
        self.unread = False

    def unmet(self, sample: HostSample) -> frozenset[Uuid]:
        """Who is owed anything and may be met in this sample for the first time."""
        if self._unmet is None:
            self._unmet = frozenset([one.uuid for one in self._originals.everywhere()])
        if self.unread:
            self._read(sample)
        return self._unmet

    def met(self, sample: HostSample) -> None:
        """Whoever is described has been met; whoever is not there has ended."""
        self._unmet = sample.undescribed & (self._unmet or _NOBODY)

    def _read(self, sample: HostSample) -> None:
        """Take up again what domains' own notes say that they are owed."""
        known = {original.uuid for original in self._originals.everywhere()}
        found = [
            original
            for domain in sample.domains
            if domain.uuid not in known
            and (self._unlooked is None or domain.uuid in self._unlooked)
            if (original := owed.recovered(domain, sample)) is not None
        ]
        try:
            self._originals.recover(*found)
        except LedgerError:
            return  # tried again
        self._unmet = (self._unmet or _NOBODY) | {original.uuid for original in found}
        waiting = sample.undescribed
        self._unlooked = waiting if self._unlooked is None else self._unlooked & waiting
        self.unread = bool(self._unlooked)
