"""What libvirt has been asked of its domains and has not answered: nobody asks that again.

Problem: a call of libvirt's Xen driver that hangs may keep its domain locked, and whoever asks libvirt
about that domain, or for the list of all, then waits behind it. Every question costs a thread, and only
few may be lost; there is no call that would tell, without waiting, which domain it is.
Approach: before a domain is asked about it is written down, for all connections. Only one poll goes on at
a time, so what is still open when the next one comes belongs to a thread that was given up: that domain is
passed over and named. While the list is open, the domains of the last one are looked up one by one. So one
thread is lost to the list, one to the domain, and all others are seen.
References: libvirt src/conf/virdomainobjlist.c (virDomainObjListFilter and virDomainObjListFindByUUID lock
each domain in turn).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vcpud.model import Uuid

LIST: Final = ""
"""Stands for the list of all domains."""


class Questions:
    """Open questions of all connections to one libvirt, from any thread.

    Attributes:
        listed: libvirt's ids of the domains that were listed last.
    """

    def __init__(self) -> None:
        self._since_ns: dict[Uuid, int] = {}
        self.listed: dict[Uuid, int] = {}

    @contextlib.contextmanager
    def asked(self, of: Uuid, at_ns: int) -> Iterator[None]:
        """Something is asked of a domain, or `LIST`, until this ends."""
        self._since_ns[of] = at_ns
        try:
            yield
        finally:
            del self._since_ns[of]

    def open_since_ns(self, of: Uuid) -> int | None:
        """Since when somebody has been waiting for an answer, None where nobody is."""
        return self._since_ns.get(of)
