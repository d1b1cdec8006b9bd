"""The KVM/QEMU backend over libvirt (entry point `libvirt` of `vcpud.backends`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vcpud.hypervisor.connection import LibvirtLibrary
from vcpud.hypervisor.kvm import KvmHypervisor
from vcpud.hypervisor.opened import Opened
from vcpud.hypervisor.options import LibvirtOptions, read_options
from vcpud.hypervisor.proc import ProcFiles

if TYPE_CHECKING:
    from vcpud.backend import Backend, BackendOptions


def open_backend(options: BackendOptions) -> Backend:
    """Open the backend; an unreachable libvirt is retried by itself, with backoff.

    Args:
        options: The daemon around it; `options.options` is the `libvirt:` section, and
            `options.argument`, when given, the URI.

    Raises:
        ConfigError: A key of the section that does not exist.
    """
    section = read_options(options.options, options.argument, LibvirtOptions)
    library = LibvirtLibrary(section.uri)
    return Opened(KvmHypervisor(library, ProcFiles(), options, section), library)
