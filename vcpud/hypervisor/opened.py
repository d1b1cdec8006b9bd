"""An opened backend over some libvirt: the hypervisor, and the library its connections come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vcpud.hypervisor.connection import LibvirtLibrary
    from vcpud.hypervisor.host import LibvirtHost
    from vcpud.ports import Clock, Hypervisor
    from vcpud.terms import TermsBook


class Opened:
    """What the daemon holds (`vcpud.backend.Backend`)."""

    def __init__(self, hypervisor: LibvirtHost[Any], library: LibvirtLibrary) -> None:
        self._hypervisor = hypervisor
        self._library = library

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
