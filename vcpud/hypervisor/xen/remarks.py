"""What an operator should know of a Xen host and its domains, in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud.hypervisor.remarks import on_any
from vcpud.hypervisor.xen.gate import NO_WAY_BACK
from vcpud.model import Mode, ShareUnit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from vcpud.hypervisor.xen.book import XenBook
    from vcpud.model import Uuid

NO_XL: Final = (
    "`xen: {ignore_host: true}` is set, but xl cannot be used here (root, xen-utils): domains with more "
    "vCPUs than the host has pCPUs are not shrunk"
)
HOST_SIGNALS_ONLY: Final = (
    "its guest reports nothing, so it is decided by the host's signals alone: a change that has to prove "
    "itself cannot, and is undone (/usr/share/vcpud/guest/README.md)"
)
NOT_LISTED: Final = (
    "what domains use that libvirt does not list, made by xl perhaps, counts for nobody, so the others "
    "seem entitled to more than there is; these run, by id"
)
NO_SHARE: Final = "its scheduler has no weight that is known to count per vCPU: it is never shrunk"


def remarks(
    books: Collection[XenBook],
    *,
    xl_missing: bool,
    strangers: Collection[int],
    why_hung: Callable[[Uuid], str],
    boot_id: str,
) -> tuple[str, ...]:
    """All of them.

    Args:
        books: Domains.
        xl_missing: The way past libvirt's refusal is configured and does not work.
        strangers: Domains that libvirt does not list, by id.
        why_hung: Why calls for a domain are held back.
        boot_id: This boot of the host.
    """
    notes = [NO_XL] if xl_missing else []
    if strangers:
        notes.append(f"{NOT_LISTED}: {', '.join(map(str, sorted(strangers)))}")
    for book in books:
        name = book.facts.name
        notes.extend(on_any(book, why_hung, boot_id))
        if book.terms.mode is not Mode.ENFORCE:
            continue
        notes.extend(f"{name}: guest reporter: {text}" for text in book.view.absurdities)
        if book.irreversible:
            notes.append(f"{name}: never shrunk: {NO_WAY_BACK}")
        if book.share_unit is ShareUnit.UNKNOWN:
            notes.append(f"{name}: {NO_SHARE}")
        if book.listening is not None and not book.listening.heard:
            notes.append(f"{name}: {HOST_SIGNALS_ONLY}")
    return tuple(notes)
