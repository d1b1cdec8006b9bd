"""The `xen:` section of the configuration, beside what holds for every libvirt."""

from __future__ import annotations

from dataclasses import dataclass

from vcpud.hypervisor.options import LibvirtOptions
from vcpud.units import NS_PER_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class XenOptions(LibvirtOptions):
    """How a Xen host is looked at and changed.

    Attributes:
        uri: URI of libvirt.
        sampling_cost_ratio: Share of one vCPU of dom0 that vcpud may use to sample which vCPUs are
            blocked.
        sampling_period_ns: Time between two such samples of a domain, if they cost next to nothing.
        ignore_host: Use `xl vcpu-set --ignore-host` for domains with more vCPUs than the host has
            pCPUs, because libvirt would not give these vCPUs back. Without it, vcpud never shrinks
            such a domain.
    """

    uri: str = "xen:///system"
    sampling_cost_ratio: float = 0.01
    sampling_period_ns: int = 100 * NS_PER_MS
    ignore_host: bool = False
