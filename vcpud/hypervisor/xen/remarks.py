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
    "`xen: {ignore_host: true}` is set, but vcpud cannot use xl here (it needs root and xen-utils): so it "
    "does not shrink domains with more vCPUs than the host has pCPUs"
)
HOST_SIGNALS_ONLY: Final = (
    "its guest reports nothing, so its progress is unknown: a change that has to prove its gain cannot, and "
    "is undone; for a reporter see /usr/share/vcpud/guest/README.md"
)
NOT_LISTED: Final = (
    "domains run that libvirt does not list, perhaps made by xl: vcpud does not count what they use, so the "
    "others seem entitled to more than there is; their ids"
)
NO_SHARE: Final = (
    "its scheduler has no weight that is known to count for each vCPU, so vcpud never shrinks it"
)


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
            notes.append(f"{name}: vcpud never shrinks it: {NO_WAY_BACK}")
        if book.share_unit is ShareUnit.UNKNOWN:
            notes.append(f"{name}: {NO_SHARE}")
        if book.listening is not None and not book.listening.heard:
            notes.append(f"{name}: {HOST_SIGNALS_ONLY}")
    return tuple(notes)
