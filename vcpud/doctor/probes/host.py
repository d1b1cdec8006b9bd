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
            "start libvirt (`systemctl start libvirtd` or `systemctl start virtqemud.socket`); or "
            "correct libvirt.uri in the configuration; or join the group that may talk to libvirt",
        )
    elif facts.denied is not None:
        yield on_host(
            "libvirt-read-only",
            Severity.NOTE,
            f"the account that runs this may look at domains, but not change them: {facts.denied}",
            "nothing, to observe; to let the daemon change domains, `vcpud enable-enforce` gives it "
            "a right that equals root",
        )


def _versions(facts: HostFacts) -> Findings:
    if facts.driver == XEN:
        return  # it never has the counters that came with these versions
    if facts.libvirt_version is not None and facts.libvirt_version < DELAY_VERSION:
        yield on_host(
            "libvirt-old",
            Severity.ERROR,
            f"libvirt {dotted(facts.libvirt_version)} does not report how long vCPUs wait for a "
            "pCPU (`vcpu.N.delay` came with 7.2): vcpud cannot see contention, and decides nothing",
            "upgrade libvirt to 7.2 or newer",
        )
    version = facts.hypervisor_version
    if facts.driver != "QEMU" or not version:
        return
    if version < STATS_VERSION:
        yield on_host(
            "qemu-old",
            Severity.WARNING,
            f"QEMU {dotted(version)} reports none of KVM's counters (they came with 7.1): vcpud sees "
            "neither preemptions nor directed yields",
            "upgrade QEMU to 7.1 or newer",
        )
    elif version < CHEAP_COUNTERS_VERSION:
        yield on_host(
            "qemu-slow-counters",
            Severity.NOTE,
            f"QEMU {dotted(version)} interrupts every vCPU when it reads KVM's counters, so vcpud "
            "reads them every 5 s at most",
            "upgrade QEMU: from 8.1 on it reads them without disturbing the guest",
        )


def _driver(facts: HostFacts) -> Findings:
    wanted = XEN if facts.backend == "xen" else "QEMU"
    if facts.driver in (XEN, "QEMU") and facts.driver != wanted:
        right = "xen" if facts.driver == XEN else "libvirt"
        yield on_host(
            "backend-wrong",
            Severity.ERROR,
            f"{facts.uri} is {facts.driver}, which the backend {facts.backend} cannot manage",
            f"set `backend: {right}` in the configuration"
            + (", see /usr/share/doc/vcpud/docs/getting-started-xen.md" if right == "xen" else ""),
        )
    elif facts.driver not in (None, XEN, "QEMU"):
        yield on_host(
            "driver-unknown",
            Severity.ERROR,
            f"vcpud cannot manage domains of the libvirt driver {facts.driver}",
            "set `libvirt.uri` to qemu:///system or xen:///system",
        )


def _daemon(facts: HostFacts) -> Findings:
    if facts.daemon:
        yield on_host(
            "daemon-down",
            Severity.WARNING,
            f"the daemon does not answer: {facts.daemon}",
            "see `systemctl status vcpud` and `journalctl -u vcpud`",
        )
    if facts.killed:
        yield on_host(
            "kill-switch",
            Severity.WARNING,
            "the kill switch is thrown: vcpud decides nothing on this host",
            "remove the file that kill_switch names in the configuration (/etc/vcpud/disabled, "
            "unless it was changed)",
        )
    if facts.ledger is not None:
        yield on_host(
            "ledger",
            Severity.ERROR,
            f"vcpud cannot use its ledger of originals, so it may change nothing: {facts.ledger}",
            "check the vCPUs of every domain by hand, then remove the file that is named here",
        )


def _elsewhere(facts: HostFacts) -> Findings:
    if facts.elsewhere:
        yield on_host(
            "ledger-elsewhere",
            Severity.ERROR,
            f"the ledger still holds what vcpud took from {', '.join(facts.elsewhere)}, but vcpud is "
            f"now configured for {facts.uri}",
            "set `libvirt.uri` (and `backend`) as they were before, then `vcpud restore`",
        )


def _pcpus(facts: HostFacts) -> Findings:
    if facts.isolated:
        yield on_host(
            "host-isolated",
            Severity.WARNING,
            f"pCPUs {format_cpuset(facts.isolated)} are isolated from the scheduler: a vCPU there "
            "stays on the pCPU it was put on, and is not balanced",
            "give the domains that run there a cpuset of their own: it becomes a pool of its own",
        )
    if facts.nohz_full:
        yield on_host(
            "host-nohz-full",
            Severity.NOTE,
            f"pCPUs {format_cpuset(facts.nohz_full)} run without a tick, so run time on them is "
            "accounted coarsely",
            "do not overcommit these pCPUs; for pinned domains, nothing",
        )
    if len(facts.numa) > 1:
        cells = ", ".join(format_cpuset(cell) for cell in facts.numa)
        yield on_host(
            "host-numa",
            Severity.NOTE,
            f"the host has {len(facts.numa)} NUMA nodes (pCPUs {cells}): vcpud takes all domains "
            "without a cpuset for one pool across all nodes",
            "to make each node a pool, give each domain the cpuset of its node (`<vcpu cpuset=>`)",
        )
    if facts.ple_gap == 0:
        yield on_host(
            "ple-off",
            Severity.NOTE,
            "pause-loop exiting is off (kvm_intel.ple_gap=0): a spinning vCPU burns its whole "
            "time slice",
            "switch it on where the host is overcommitted: `options kvm_intel ple_gap=128`",
        )


def _host_cgroups(facts: HostFacts) -> Findings:
    if facts.cgroup_unified is False:
        yield on_host(
            "host-cgroup-v1",
            Severity.NOTE,
            "the host uses cgroup version 1: a cpuset that loses a CPU does not get it back",
            "boot the host with systemd.unified_cgroup_hierarchy=1",
        )


def _controllers(facts: HostFacts) -> Findings:
    for name in facts.controllers:
        yield on_host(
            "other-controller",
            Severity.WARNING,
            f"{name} runs here, and also changes vCPUs or where they run: vcpud yields, and after "
            "two reversals leaves a domain to it",
            "let only one of the two manage a domain: exclude the domain there, or here (`deny:`)",
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
