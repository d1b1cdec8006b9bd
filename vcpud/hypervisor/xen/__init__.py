"""Xen over libvirt's libxl driver (entry point `xen` of `vcpud.backends`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vcpud.hypervisor.options import read_options
from vcpud.hypervisor.xen.host import XenFiles, XenHypervisor
from vcpud.hypervisor.xen.library import XenLibrary
from vcpud.hypervisor.xen.options import XenOptions
from vcpud.hypervisor.xen.roll import Roll
from vcpud.hypervisor.xen.tools import XenTools

if TYPE_CHECKING:
    from vcpud.backend import Backend, BackendOptions
    from vcpud.ports import Clock, Hypervisor
    from vcpud.terms import TermsBook


class XenBackend:
    """An opened Xen backend."""

    def __init__(self, options: BackendOptions) -> None:
        section = read_options(options.options, options.argument, XenOptions)
        roll, tools = Roll(), XenTools()
        self._library = XenLibrary(section.uri, roll=roll, tools=tools, now_ns=options.now_ns)
        self._hypervisor = XenHypervisor(self._library, tools, XenFiles(roll), options, section)

    @property
    def hypervisor(self) -> Hypervisor:
        return self._hypervisor

    @property
    def clock(self) -> Clock | None:
        return None

    def adopt(self, terms: TermsBook) -> None:
        self._hypervisor.adopt(terms)

    def close(self) -> None:
        self._hypervisor.close()
        self._library.close()


def open_backend(options: BackendOptions) -> Backend:
    """Open the backend; an unreachable libvirt is retried by itself, with backoff.

    Args:
        options: The daemon around it; `options.options` holds the `libvirt:` and `xen:` sections,
            and `options.argument`, when given, the URI.

    Raises:
        ConfigError: A key of the sections that does not exist.
    """
    return XenBackend(options)
