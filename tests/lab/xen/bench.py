"""The bench in dom0: its libvirtd, and guests by name."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Self

import libvirt
from lab.bench import Bench
from lab.board import BoardTimeoutError
from lab.xen.domain import XenGuest, XenShape
from lab.xen.toolstack import Xen, tool

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from lab.domain import Shape

URI = "xen:///system"
_RECONNECT_S = 60.0


class XenBench(Bench):
    """dom0's own libvirtd, a connection of the lab's to it, and guests by name."""

    def __init__(self) -> None:
        """Connect."""
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        self.connection = libvirt.open(URI)
        self.guests = {}
        self.xen = Xen()

    def __enter__(self) -> Self:
        """Return the bench."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every guest."""
        for name in tuple(self.guests):
            self.destroy(name)
        with contextlib.suppress(libvirt.libvirtError):
            self.connection.close()

    def write_note(self) -> None:
        """Nobody but this process can reach the guests."""

    def start(self, shapes: Iterable[Shape]) -> list[XenGuest]:  # type: ignore[override]
        """Start guests side by side and wait until all work."""
        started = []
        for shape in shapes:
            assert isinstance(shape, XenShape)
            guest = XenGuest(self.connection, shape)
            self.guests[shape.name] = guest
            started.append(guest)
        for guest in started:
            guest.wait_until_booted()
        return started

    def restart_libvirtd(self) -> None:
        """Restart dom0's libvirtd and reconnect; the guests run on meanwhile."""
        with contextlib.suppress(libvirt.libvirtError):
            self.connection.close()
        tool("systemctl", "restart", "libvirtd.service")
        deadline_s = time.monotonic() + _RECONNECT_S
        while True:
            try:
                self.connection = libvirt.open(URI)
            except libvirt.libvirtError as error:
                if time.monotonic() > deadline_s:
                    raise BoardTimeoutError(f"libvirtd did not come back: {error}") from error
                time.sleep(0.5)
            else:
                break
        for guest in self.guests.values():
            guest.rebind(self.connection)
