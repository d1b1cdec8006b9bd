"""Hand-over notes: what a domain is owed, written into its live metadata, where it travels along.

Problem: a domain that is saved or migrated while vCPUs are parked takes its number along, and whoever
runs it next, or this host when it is restored, knows nothing of what it had.
Approach: before anything is taken away it is written into the live metadata, which libvirt's drivers put
into save images and send with migrations, and keep out of the persistent configuration: a domain that is
merely started anew has no note. Whoever receives the domain gives back what the note says. Once
everything is back the note is removed. It is a help and no condition: the ledger of this host has it, too.
References: libvirt src/conf/domain_conf.c (virDomainObjSetMetadata, virDomainObjSetDefTransient);
src/libxl/libxl_driver.c (libxlDomainSetMetadata, since 5.7; libxlDoDomainSave and libxlDomainRestoreFlags
format and parse the live definition), libxl_migration.c (libxlDomainMigrationSrcBegin likewise).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, Protocol

from vcpud.hypervisor.errands import Errand
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.xml import format_note
from vcpud.model import Change, SetLive, SetWeight

if TYPE_CHECKING:
    from vcpud.hypervisor.book import Book
    from vcpud.hypervisor.errands import Hand

NOTE_S: Final = 32.0
"""libvirt waits 30 s for a domain that another client is changing."""


class Notebook(Protocol):
    """Where it is kept what a domain's note says."""

    note: str | None

    def noted(self, note: str | None, failure: str) -> None:
        """What it says from now on, or why there is none."""


class Notepad:
    """The notebook of a domain that nobody has a conversation with.

    Attributes:
        note: What was written last, None while nothing was.
        failure: Why no note could be left, empty when one could.
    """

    def __init__(self) -> None:
        self.note: str | None = None
        self.failure = ""

    def noted(self, note: str | None, failure: str) -> None:
        self.note, self.failure = note, failure


class Handover:
    """The note around one change."""

    def __init__(
        self,
        change: Change,
        notebook: Notebook,
        *,
        wanted: bool,
        found: bool,
        weight: int | None = None,
    ) -> None:
        """Nothing is written yet.

        Args:
            change: What is to be done.
            notebook: Of its domain.
            wanted: Whether notes are to be left.
            found: The domain carries a note, whoever wrote it.
            weight: What the domain weighs now, None where weights are never changed.
        """
        self._change = change
        self._notebook = notebook
        self._wanted = wanted
        self._found = found
        self._weight = weight

    @property
    def parks(self) -> bool:
        """Whether the domain is left with less than it had."""
        change = self._change
        if isinstance(change, SetWeight) or change.original is None:
            return False
        if isinstance(change, SetLive):
            return change.count < change.original.live_vcpus
        had = change.original.online
        return had is not None and not change.online >= had

    @property
    def makes_whole(self) -> bool:
        """Whether the domain has everything back that it is owed, once this is done."""
        change = self._change
        if isinstance(change, SetWeight) or change.original is None or self.parks:
            return False
        return self._weight is None or change.original.weight in (None, self._weight)

    def leave(self, hand: Hand) -> None:
        """Before anything is taken away: write down what is owed.

        Raises:
            CallFailed: The domain or the connection is gone, or hangs: nothing is to be taken.
        """
        change = self._change
        if isinstance(change, SetWeight) or change.original is None or not self._wanted:
            return
        text = format_note(change.original)
        if not self.parks or self._notebook.note == text:
            return
        try:
            hand.call(NOTE_S, lambda link: link.set_note(change.uuid, text))
        except CallFailed as failure:
            if failure.meaning in {Meaning.GONE, Meaning.LOST, Meaning.HUNG}:
                raise
            self._notebook.noted(None, failure.message)
        else:
            self._notebook.noted(text, "")

    def take_away(self, hand: Hand) -> None:
        """Everything is back: here too, and not only once it is read back. A daemon that stops looks no more."""
        if not self._found and self._notebook.note is None:
            return
        with contextlib.suppress(CallFailed):  # tried again when the domain is described next
            hand.call(NOTE_S, lambda link: link.set_note(self._change.uuid, None))
            self._notebook.noted(None, "")


def note_removal(book: Book, notebook: Notebook) -> Errand:
    """Removes a domain's note, unless a change has begun by then and has left its own."""
    begun = book.begun

    def remove(hand: Hand) -> None:
        if book.begun != begun:
            return
        try:
            hand.call(NOTE_S, lambda link: link.set_note(book.uuid, None))
        except CallFailed:
            return  # tried again when the domain is described next
        notebook.noted(None, "")

    return Errand(uuid=book.uuid, run=remove, given_up=lambda: None)
