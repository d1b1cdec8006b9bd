"""The `xen:` section of the configuration, beside what holds for every libvirt."""

from __future__ import annotations

from dataclasses import dataclass

from vcpud.hypervisor.options import LibvirtOptions
from vcpud.units import NS_PER_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class XenOptions(LibvirtOptions):
    """How a Xen host is looked at and changed.

    Attributes:
        uri: Which libvirt.
        sampling_cost_ratio: Share of one vCPU of dom0 that sampling blocked vCPUs may use.
        sampling_period_ns: Spacing of those samples of one domain, where they cost next to nothing.
        ignore_host: Use `xl vcpu-set --ignore-host` for domains with more vCPUs than the host has
            pCPUs, which libvirt would not give back. Without it such a domain is never shrunk.
    """

    uri: str = "xen:///system"
    sampling_cost_ratio: float = 0.01
    sampling_period_ns: int = 100 * NS_PER_MS
    ignore_host: bool = False
