"""The board of a Xen guest: two pages the guest has granted to dom0, mapped there.

References: Linux, include/uapi/xen/gntdev.h.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lab.board import Board

if TYPE_CHECKING:
    from collections.abc import Sequence

DEVICE: Final = Path("/dev/xen/gntdev")
PAGE_BYTES: Final = 4096
_MAP_HEAD: Final = struct.Struct("=IIQ")
_MAP_REFERENCE: Final = struct.Struct("=II")
_MAP_GRANT_REFERENCES: Final = (_MAP_HEAD.size + _MAP_REFERENCE.size) << 16 | ord("G") << 8
"""``IOCTL_GNTDEV_MAP_GRANT_REF``, which counts one reference into its size."""


def map_request(domid: int, references: Sequence[int]) -> bytearray:
    """Return what asks gntdev to map pages of a domain; their offset comes back in bytes 8 to 16."""
    request = bytearray(_MAP_HEAD.pack(len(references), 0, 0))
    for reference in references:
        request += _MAP_REFERENCE.pack(domid, reference)
    return request


class GrantedBoard(Board):
    """The host's side of a Xen guest's board."""

    __slots__ = ("_device",)

    def __init__(self, domid: int, references: Sequence[int]) -> None:
        """Map the pages a domain has granted, in the order of ``references``."""
        self.path = DEVICE
        self._device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        request = map_request(domid, references)
        try:
            fcntl.ioctl(self._device, _MAP_GRANT_REFERENCES, request, True)
            offset = _MAP_HEAD.unpack_from(request)[2]
            self._memory = mmap.mmap(self._device, len(references) * PAGE_BYTES, offset=offset)
        except OSError:
            os.close(self._device)
            raise

    def remove(self) -> None:
        """Unmap the board: until then Xen keeps the pages of a domain that is gone."""
        self._memory.close()
        os.close(self._device)
