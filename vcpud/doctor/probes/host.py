"""What can stand in the way on a host, whatever its hypervisor, and on one with KVM. Pure.

References: libvirt NEWS; Linux Documentation/admin-guide/kernel-parameters.txt; QEMU accel/kvm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from vcpud.doctor.findings import Findings, Severity, on_host
from vcpud.hypervisor.cpusets import format_cpuset
from vcpud.hypervisor.poller import CHEAP_COUNTERS_VERSION

if TYPE_CHECKING:
    from vcpud.doctor.facts import HostFacts

DELAY_VERSION: Final = 7_002_000
"""From this libvirt on a vCPU's run delay is reported."""
XEN: Final = "Xen"
"""As libvirt calls it."""
STATS_VERSION: Final = 7_001_000
"""From this QEMU on KVM's own counters are reported."""


def _libvirt(facts: HostFacts) -> Findings:
    if facts.unreachable is not None:
        yield on_host(
            "libvirt-unreachable",
            Severity.ERROR,
            f"libvirt does not answer on {facts.uri}: {facts.unreachable}",
            "start it (`systemctl start libvirtd` or `virtqemud.socket`), check libvirt.uri in "
            "the configuration, or join the group that may talk to it",
        )
    elif facts.denied is not None:
        yield on_host(
            "libvirt-read-only",
            Severity.NOTE,
            f"whoever runs this may look but change nothing: {facts.denied}",
            "nothing for observing; `vcpud enable-enforce` gives the daemon the right, which "
            "equals root",
        )


def _versions(facts: HostFacts) -> Findings:
    if facts.driver == XEN:
        return  # it never has the counters that came with these versions
    if facts.libvirt_version is not None and facts.libvirt_version < DELAY_VERSION:
        yield on_host(
            "libvirt-old",
            Severity.ERROR,
            f"libvirt {dotted(facts.libvirt_version)} does not report how long vCPUs wait for a "
            "pCPU (`vcpu.N.delay` came with 7.2)",
            "upgrade libvirt; until then contention cannot be seen and nothing is decided",
        )
    version = facts.hypervisor_version
    if facts.driver != "QEMU" or not version:
        return
    if version < STATS_VERSION:
        yield on_host(
            "qemu-old",
            Severity.WARNING,
            f"QEMU {dotted(version)} reports none of KVM's counters (they came with 7.1)",
            "upgrade QEMU; preemptions and directed yields are missing until then",
        )
    elif version < CHEAP_COUNTERS_VERSION:
        yield on_host(
            "qemu-slow-counters",
            Severity.NOTE,
            f"QEMU {dotted(version)} interrupts every vCPU when KVM's counters are read, so "
            "they are read at most every 5 s",
            "QEMU 8.1 or newer reads them without disturbing the guest",
        )


def _driver(facts: HostFacts) -> Findings:
    wanted = XEN if facts.backend == "xen" else "QEMU"
    if facts.driver in (XEN, "QEMU") and facts.driver != wanted:
        right = "xen" if facts.driver == XEN else "libvirt"
        yield on_host(
            "backend-wrong",
            Severity.ERROR,
            f"{facts.uri} is {facts.driver}, which the backend {facts.backend} cannot manage",
            f"`backend: {right}` in the configuration"
            + (", see /usr/share/doc/vcpud/docs/getting-started-xen.md" if right == "xen" else ""),
        )
    elif facts.driver not in (None, XEN, "QEMU"):
        yield on_host(
            "driver-unknown",
            Severity.ERROR,
            f"the libvirt driver {facts.driver} is none that vcpud can manage",
            "use qemu:///system, or xen:///system",
        )


def _daemon(facts: HostFacts) -> Findings:
    if facts.daemon:
        yield on_host(
            "daemon-down",
            Severity.WARNING,
            f"vcpud does not answer: {facts.daemon}",
            "`systemctl status vcpud`, `journalctl -u vcpud`",
        )
    if facts.killed:
        yield on_host(
            "kill-switch",
            Severity.WARNING,
            "the kill switch is thrown: nothing is decided on this host",
            "remove the file named by kill_switch in the configuration (/etc/vcpud/disabled)",
        )
    if facts.ledger is not None:
        yield on_host(
            "ledger",
            Severity.ERROR,
            f"the ledger of originals cannot be used, so nothing may be changed: {facts.ledger}",
            "check the vCPUs of every domain, then remove the file that is named",
        )


def _elsewhere(facts: HostFacts) -> Findings:
    if facts.elsewhere:
        yield on_host(
            "ledger-elsewhere",
            Severity.ERROR,
            f"the ledger keeps what was taken from {', '.join(facts.elsewhere)}, and vcpud is now "
            f"configured for {facts.uri}",
            "set `libvirt.uri` (and `backend`) as they were, then `vcpud restore`",
        )


def _pcpus(facts: HostFacts) -> Findings:
    if facts.isolated:
        yield on_host(
            "host-isolated",
            Severity.WARNING,
            f"pCPUs {format_cpuset(facts.isolated)} are isolated from the scheduler: vCPUs stay "
            "on the pCPU they are put on, and are not balanced",
            "give domains that run there a cpuset of their own, which is then a pool of its own",
        )
    if facts.nohz_full:
        yield on_host(
            "host-nohz-full",
            Severity.NOTE,
            f"pCPUs {format_cpuset(facts.nohz_full)} run without a tick: run time is accounted "
            "coarsely there",
            "nothing for pinned domains; do not overcommit these pCPUs",
        )
    if len(facts.numa) > 1:
        cells = ", ".join(format_cpuset(cell) for cell in facts.numa)
        yield on_host(
            "host-numa",
            Severity.NOTE,
            f"{len(facts.numa)} NUMA nodes (pCPUs {cells}): domains without a cpuset are taken "
            "to share one pool, across all of them",
            "a cpuset per node (`<vcpu cpuset=>`) makes a pool of each",
        )
    if facts.ple_gap == 0:
        yield on_host(
            "ple-off",
            Severity.NOTE,
            "pause-loop exiting is off (kvm_intel.ple_gap=0): a spinning vCPU burns its whole "
            "time slice",
            "leave it on for overcommitted hosts: `options kvm_intel ple_gap=128`",
        )


def _host_cgroups(facts: HostFacts) -> Findings:
    if facts.cgroup_unified is False:
        yield on_host(
            "host-cgroup-v1",
            Severity.NOTE,
            "cgroups are version 1 here: a cpuset that loses a CPU does not get it back",
            "boot with systemd.unified_cgroup_hierarchy=1",
        )


def _controllers(facts: HostFacts) -> Findings:
    for name in facts.controllers:
        yield on_host(
            "other-controller",
            Severity.WARNING,
            f"{name} runs here, which also changes vCPUs or where they run",
            "let one of the two manage a domain: exclude it there, or set it off here (`deny:`); "
            "vcpud yields, and after two reversals leaves a domain to the other one",
        )


HOST_PROBES: Final[tuple[Callable[[HostFacts], Findings], ...]] = (
    _libvirt,
    _driver,
    _versions,
    _daemon,
    _elsewhere,
    _pcpus,
    _host_cgroups,
    _controllers,
)


def dotted(version: int) -> str:
    """Spell out a version as libvirt counts it."""
    return f"{version // 1_000_000}.{version // 1_000 % 1_000}.{version % 1_000}"
