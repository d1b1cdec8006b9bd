"""What an operator should know of this platform and its domains, in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud.model import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from vcpud.hypervisor.book import Book
    from vcpud.model import Uuid

SLOW_NOTE: Final = (
    "QEMU is older than 8.1: reading KVM's counters interrupts every vCPU, so vcpud reads them every "
    "5 s at most"
)
NO_PROCESS_NOTE: Final = (
    "vcpud cannot see QEMU processes in /proc: it tells restarts from libvirt's ids alone, and does "
    "not know the unit in which shares count"
)
NOT_OURS_NOTE: Final = (
    "a vcpud elsewhere has parked vCPUs of it; they stay parked until its mode here is enforce, or "
    "until somebody brings them back"
)


def remarks(
    books: Collection[Book], *, slow: bool, boot_id: str, why_hung: Callable[[Uuid], str]
) -> tuple[str, ...]:
    """All of them.

    Args:
        books: Domains.
        slow: KVM's counters are read rarely, because reading disturbs.
        boot_id: This boot of the host.
        why_hung: Why calls for a domain are held back.
    """
    notes = [SLOW_NOTE] if slow else []
    if books and all(book.facts.process is None for book in books):
        notes.append(NO_PROCESS_NOTE)
    for book in books:
        name = book.facts.name
        notes.extend(on_any(book, why_hung, boot_id))
        notes.extend(f"{name}: agent: {text}" for text in book.view.absurdities)
    return tuple(notes)


def on_any(book: Book, why_hung: Callable[[Uuid], str], boot_id: str) -> Iterator[str]:
    """What is to be said of a domain on every platform."""
    if book.terms_error is not None:
        yield f"{book.facts.name}: {book.terms_error}"
    if book.hung:
        yield f"{book.facts.name}: {why_hung(book.uuid)}"
    if book.note_failure:
        yield f"{book.facts.name}: vcpud cannot leave a hand-over note: {book.note_failure}"
    if book.terms.mode is not Mode.ENFORCE and book.noted(boot_id, own=False):
        yield f"{book.facts.name}: {NOT_OURS_NOTE}"
