"""Xen over libvirt's libxl driver (entry point `xen` of `vcpud.backends`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vcpud.hypervisor.opened import Opened
from vcpud.hypervisor.options import read_options
from vcpud.hypervisor.xen.host import XenFiles, XenHypervisor
from vcpud.hypervisor.xen.library import XenLibrary
from vcpud.hypervisor.xen.options import XenOptions
from vcpud.hypervisor.xen.roll import Roll
from vcpud.hypervisor.xen.tools import XenTools

if TYPE_CHECKING:
    from vcpud.backend import Backend, BackendOptions


def open_backend(options: BackendOptions) -> Backend:
    """Open the backend; an unreachable libvirt is retried by itself, with backoff.

    Args:
        options: The daemon around it; `options.options` holds the `libvirt:` and `xen:` sections,
            and `options.argument`, when given, the URI.

    Raises:
        ConfigError: A key of the sections that does not exist.
    """
    section = read_options(options.options, options.argument, XenOptions)
    roll, tools = Roll(), XenTools()
    library = XenLibrary(section.uri, roll=roll, tools=tools, now_ns=options.now_ns)
    return Opened(XenHypervisor(library, tools, XenFiles(roll), options, section), library)
