"""The KVM/QEMU backend over libvirt (entry point `libvirt` of `vcpud.backends`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vcpud.hypervisor.connection import LibvirtLibrary
from vcpud.hypervisor.kvm import KvmHypervisor
from vcpud.hypervisor.options import LibvirtOptions, read_options
from vcpud.hypervisor.proc import ProcFiles

if TYPE_CHECKING:
    from vcpud.backend import Backend, BackendOptions
    from vcpud.ports import Clock, Hypervisor
    from vcpud.terms import TermsBook


class LibvirtBackend:
    """An opened libvirt backend."""

    def __init__(self, options: BackendOptions) -> None:
        section = read_options(options.options, options.argument, LibvirtOptions)
        self._library = LibvirtLibrary(section.uri)
        self._hypervisor = KvmHypervisor(self._library, ProcFiles(), options, section)

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
        options: The daemon around it; `options.options` is the `libvirt:` section, and
            `options.argument`, when given, the URI.

    Raises:
        ConfigError: A key of the section that does not exist.
    """
    return LibvirtBackend(options)
