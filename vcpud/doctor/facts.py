"""What was seen of the host, a domain and its guest; None stands for "could not be looked at"."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vcpud.hypervisor.agent import GuestVcpu
    from vcpud.hypervisor.xml import Description
    from vcpud.model import ShareUnit, Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class XenFacts:
    """What only a Xen host has.

    Attributes:
        scheduler: In force for dom0, None when not told.
        dom0_weight: dom0's weight there.
        dom0_vcpus: vCPUs of dom0.
        lightest: The least weight of a guest.
        heaviest: The largest.
        guests_weight: What the weights of all guests' vCPUs come to.
        version: Xen's, None when not told.
        rate_limit_us: How long, under credit2, whoever runs does so at least, None when not told.
        xl: Why `xl` cannot be used, None when it can.
        ignore_host: The way past libvirt's refusal is configured.
        ignore_host_works: It was tried out, None when it was not.
    """

    scheduler: str | None = None
    dom0_weight: int | None = None
    dom0_vcpus: int | None = None
    lightest: int | None = None
    heaviest: int | None = None
    guests_weight: int | None = None
    version: str | None = None
    rate_limit_us: int | None = None
    xl: str | None = None
    ignore_host: bool = False
    ignore_host_works: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The host and its hypervisor.

    Attributes:
        uri: Which libvirt.
        backend: The one that is configured: libvirt or xen.
        unreachable: Why libvirt does not answer, None when it does.
        denied: Why no connection that may change anything can be had; None when it can.
        driver: As libvirt calls it: QEMU, Xen, TEST.
        libvirt_version: 1000000 * major + 1000 * minor + micro, None when not told.
        hypervisor_version: The same of QEMU or Xen.
        daemon: Why the running vcpud does not answer, "" when it does, None when not asked.
        killed: The kill switch is thrown.
        ledger: Why the ledger cannot be used, None when it can.
        elsewhere: Domains of another hypervisor that are still owed something, with its name.
        cgroup_unified: cgroup version 2 is in charge.
        pcpus: pCPUs online.
        isolated: Taken from the scheduler by `isolcpus=`.
        nohz_full: Without a tick.
        numa: pCPUs of each NUMA node.
        ple_gap: KVM's pause-loop exiting on Intel; 0 is off, None elsewhere.
        controllers: Programs running here that change vCPUs or where they run, by name.
        xen: What only a Xen host has.
    """

    uri: str
    backend: str = "libvirt"
    unreachable: str | None = None
    denied: str | None = None
    driver: str | None = None
    libvirt_version: int | None = None
    hypervisor_version: int | None = None
    daemon: str | None = None
    killed: bool = False
    ledger: str | None = None
    elsewhere: tuple[str, ...] = ()
    cgroup_unified: bool | None = None
    pcpus: frozenset[int] = frozenset({0})
    isolated: frozenset[int] = frozenset()
    nohz_full: frozenset[int] = frozenset()
    numa: tuple[frozenset[int], ...] = ()
    ple_gap: int | None = None
    controllers: tuple[str, ...] = ()
    xen: XenFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What a domain's XML says beyond what the daemon itself reads.

    Attributes:
        kind: The domain's type: kvm, qemu, xen, test.
        os_type: hvm, xen (PV), xenpvh.
        pvspinlock: `<features><pvspinlock state=>`; None when it is not there.
        hint_dedicated: `<kvm><hint-dedicated state='on'/>`: the guest leaves paravirtual locks.
        host_passthrough: The guest has all of the host's CPU features.
        numa_cells: Cells of the guest's own NUMA topology.
        emulator_pin: `<emulatorpin cpuset=>`.
        words: What names and describes it for people: title, description, metadata.
        os_id: libosinfo's name of the operating system.
        hyperv: Hyper-V enlightenments are on.
    """

    kind: str = ""
    os_type: str = ""
    pvspinlock: bool | None = None
    hint_dedicated: bool = False
    host_passthrough: bool = False
    numa_cells: int = 0
    emulator_pin: str | None = None
    words: str = ""
    os_id: str = ""
    hyperv: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFacts:
    """What the guest's agent told.

    Attributes:
        version: The agent's.
        commands: Commands it has, and whether each is enabled.
        os_id: `guest-get-osinfo`.
        vcpus: CPUs as the guest lists them.
        files: Content of the files that were read, None where a file is not there; a path that
            could not be asked for is absent.
    """

    version: str | None = None
    commands: Mapping[str, bool] | None = None
    os_id: str | None = None
    vcpus: tuple[GuestVcpu, ...] | None = None
    files: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class XenDomainFacts:
    """What only a domain on Xen has.

    Attributes:
        scheduler: Its scheduler, None when not told.
        cap_pcpus: Most pCPUs it may use, None without a limit.
        asked: vCPUs that libvirt asked for last.
        online: vCPUs that Xen has online, None when it could not be asked.
        reports: Its guest publishes something; None when xenstore could not be read.
        report_error: Why that cannot be used.
        reports_locks: Waits for spinlocks are part of it.
    """

    scheduler: str | None = None
    cap_pcpus: float | None = None
    asked: int | None = None
    online: int | None = None
    reports: bool | None = None
    report_error: str | None = None
    reports_locks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainFacts:
    """One running domain.

    Attributes:
        name: For people.
        uuid: The key.
        terms: What the configuration and its metadata allow.
        description: As the daemon reads its XML, None where it cannot.
        error: Why not.
        features: What else its XML says.
        share_unit: What the scheduler's weight counts, None when its process cannot be seen.
        realtime: Threads of its QEMU run with a real-time policy set from outside.
        guest: What its agent told, None when it was not asked.
        xen: What only a domain on Xen has.
    """

    name: str
    uuid: str
    terms: Terms
    description: Description | None = None
    error: str | None = None
    features: Features = Features()
    share_unit: ShareUnit | None = None
    realtime: bool | None = None
    guest: GuestFacts | None = None
    xen: XenDomainFacts | None = None
