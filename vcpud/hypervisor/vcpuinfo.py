"""`virDomainGetVcpus` without libvirt-python, whose own wrapper cannot be used on Xen.

`virDomain.vcpus()` first asks for the host's CPU map (`virNodeGetCPUMap`), which libvirt's Xen
driver does not have, and fails. The function itself works; it is called here through ctypes, in
the same library and on the same connection. Affinities are not asked for, which Xen's driver would
answer with a map of its own size.
References: libvirt include/libvirt/libvirt-domain.h (`virVcpuInfo`), python libvirt-override.c.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, Final

from vcpud.hypervisor.link import VcpuState, VcpuWord

_LIBRARY: Final = "libvirt.so.0"
_WORDS: Final = {1: VcpuWord.RUNNING, 2: VcpuWord.BLOCKED}


class _VcpuInfo(ctypes.Structure):
    _fields_ = (
        ("number", ctypes.c_uint),
        ("state", ctypes.c_int),
        ("cpu_time", ctypes.c_ulonglong),
        ("cpu", ctypes.c_int),
    )


@cache
def _function() -> Any:
    function = ctypes.CDLL(_LIBRARY).virDomainGetVcpus
    function.argtypes = (
        ctypes.c_void_p,
        ctypes.POINTER(_VcpuInfo),
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_int,
    )
    function.restype = ctypes.c_int
    return function


def read_vcpus(domain: int, most: int) -> tuple[VcpuState, ...] | None:
    """What each vCPU of a domain is doing at this instant.

    Args:
        domain: Where libvirt keeps it (`virDomain.c_pointer`), which must outlive the call.
        most: Its maximum of vCPUs; Xen's driver pads a longer list with rows of zeros, which are
            left out.

    Returns:
        By vCPU id, or None when libvirt refused: its error is then the thread's last one.

    Raises:
        OSError: There is no such library here.
    """
    rows = (_VcpuInfo * most)()
    count = _function()(domain, rows, most, None, 0)
    if count < 0:
        return None
    return tuple(
        VcpuState(row.number, _WORDS.get(row.state, VcpuWord.OTHER), row.cpu_time)
        for place, row in enumerate(rows[:count])
        if row.number == place
    )
