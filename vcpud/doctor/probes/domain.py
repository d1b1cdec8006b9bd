"""What can stand in the way of managing a domain, as its description and the host tell. Pure.

References: libvirt docs/formatdomain.rst; Linux arch/x86/kernel/kvm.c.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from vcpud.doctor.findings import Findings, Severity, about
from vcpud.hypervisor.cpusets import format_cpuset
from vcpud.hypervisor.xml import AgentPort
from vcpud.model import Mode, ShareUnit

if TYPE_CHECKING:
    from vcpud.doctor.facts import DomainFacts, HostFacts

_LICENCE: Final = re.compile(
    r"licen[cs](e|ed|ing)\b|os_license|per[- ](core|cpu|socket)", re.IGNORECASE
)


def _terms(facts: DomainFacts, _host: HostFacts) -> Findings:
    if facts.error is not None:
        yield about(
            facts,
            "xml-unreadable",
            Severity.ERROR,
            f"its description cannot be understood: {facts.error}",
            "correct the description (`virsh dumpxml` shows it); vcpud leaves the domain alone until "
            "then",
        )
        return
    description = facts.description
    if description is not None and description.wishes_error is not None:
        yield about(
            facts,
            "metadata-invalid",
            Severity.ERROR,
            "its vcpud metadata is wrong, so vcpud leaves the domain alone: "
            f"{description.wishes_error}",
            "correct the element <policy mode= min= max=> with `virsh metadata`; see "
            "/usr/share/doc/vcpud/docs/tuning.md",
        )
    elif facts.terms.mode is not Mode.ENFORCE:
        yield about(
            facts,
            "not-managed",
            Severity.NOTE,
            f"its mode is {facts.terms.mode} ({facts.terms.source}): vcpud never changes it",
            f"to let vcpud manage it: `vcpud set {facts.name} --mode enforce`",
        )


def _actuators(facts: DomainFacts, host: HostFacts) -> Findings:
    description = facts.description
    if description is None or host.driver == "Xen":
        return
    if description.max_vcpus == 1:
        yield about(
            facts,
            "one-vcpu",
            Severity.NOTE,
            "it has a single vCPU: there is nothing to manage",
            "nothing",
        )
        return
    if description.agent is AgentPort.ABSENT:
        yield about(
            facts,
            "agent-missing",
            Severity.WARNING if description.unpluggable else Severity.ERROR,
            "it has no channel for the QEMU guest agent: without the agent, vcpud cannot take CPUs "
            "offline in the guest, nor judge the effect of a change",
            "add <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>"
            "</channel> to the domain, and install qemu-guest-agent in the guest",
        )
    elif description.agent is AgentPort.DISCONNECTED:
        yield about(
            facts,
            "agent-disconnected",
            Severity.ERROR,
            "it has a channel for the guest agent, but no agent is connected",
            "in the guest: install qemu-guest-agent, then `systemctl enable --now "
            "qemu-guest-agent`",
        )
    if description.agent is not AgentPort.CONNECTED and not description.unpluggable:
        yield about(
            facts,
            "boot-vcpus-fixed",
            Severity.NOTE,
            "the vCPUs it boots with are not hotpluggable, so they cannot be unplugged",
            "use the guest agent; or `virsh setvcpus DOMAIN 1 --config`, then `virsh setvcpus "
            "DOMAIN N --config --hotpluggable`, and restart the domain",
        )


def _placement(facts: DomainFacts, host: HostFacts) -> Findings:
    description, features = facts.description, facts.features
    if description is None:
        return
    single = [cpus for cpus in description.affinities if cpus is not None and len(cpus) == 1]
    if len(host.pcpus) > 1 and single and len(single) == len(description.affinities):
        yield about(
            facts,
            "pinned",
            Severity.NOTE,
            "each of its vCPUs is pinned to a single pCPU, so there is nothing to share out, and "
            "vcpud only observes it",
            "nothing: vcpud cannot help such a guest. To let vcpud manage it, replace its <vcpupin> "
            "elements by a cpuset",
        )
    elif len({cpus for cpus in description.affinities if cpus is not None}) > 1:
        yield about(
            facts,
            "pools-overlap",
            Severity.WARNING,
            "its vCPUs have different cpusets, so it belongs to several pools: vcpud only observes "
            "it",
            "give all its vCPUs the same cpuset",
        )
    used = frozenset().union(*(cpus or host.pcpus for cpus in description.affinities))
    if host.isolated & used and description.affinities:
        yield about(
            facts,
            "on-isolated-pcpus",
            Severity.WARNING,
            f"it may run on the isolated pCPUs {format_cpuset(host.isolated & used)}, where the "
            "kernel does not balance vCPUs",
            "give it a cpuset without them: isolated pCPUs are for pinned domains",
        )
    if features.emulator_pin:
        yield about(
            facts,
            "emulator-pinned",
            Severity.NOTE,
            f"its emulator threads are pinned to pCPUs {features.emulator_pin}: vcpud counts their "
            "work there as unmanaged",
            "nothing",
        )
    if description.realtime or facts.realtime:
        yield about(
            facts,
            "realtime",
            Severity.ERROR,
            "its vCPUs run with a real-time scheduling policy, under which weights and run delay "
            "mean nothing",
            "set `mode: off` for it; or remove <vcpusched>, or what `chrt` has set",
        )
    if features.numa_cells > 1:
        yield about(
            facts,
            "guest-numa",
            Severity.WARNING,
            f"its guest has {features.numa_cells} NUMA cells: vcpud parks CPUs from the highest "
            "number down, so it empties whole cells, and all memory in these becomes remote",
            "set a floor (`min`) that keeps a vCPU in every cell",
        )


def _shares(facts: DomainFacts, _host: HostFacts) -> Findings:
    if facts.share_unit is ShareUnit.VCPU:
        yield about(
            facts,
            "share-per-vcpu",
            Severity.ERROR,
            "its weight counts for each vCPU, because it has no cgroup of its own with a cpu "
            "controller: with fewer vCPUs its share would be smaller, so vcpud shrinks it only "
            "together with all others on its pCPUs, to the same part",
            "make libvirt use cgroups (cgroup_controllers in qemu.conf) and systemd-machined, then "
            "restart the domain",
        )
    description = facts.description
    if description is not None and description.quota_pcpus_per_vcpu is not None:
        yield about(
            facts,
            "quota-per-vcpu",
            Severity.WARNING,
            f"its quota is {description.quota_pcpus_per_vcpu:g} pCPUs for each vCPU, so fewer vCPUs "
            "mean a lower cap: vcpud shrinks it only where that costs it nothing",
            "cap it with <global_quota> instead, which counts for the whole domain",
        )
    if description is not None and description.cap_pcpus is not None:
        yield about(
            facts,
            "capped",
            Severity.NOTE,
            f"it is capped at {description.cap_pcpus:g} pCPUs: the time for which the cap stops it "
            "looks like waiting for a pCPU",
            "use <shares> instead of <global_quota>; or set a floor (`min`) of enough vCPUs to use "
            "the whole cap",
        )


def _spinlocks(facts: DomainFacts, host: HostFacts) -> Findings:
    features = facts.features
    if features.kind == "qemu":
        yield about(
            facts,
            "emulated",
            Severity.NOTE,
            "it is emulated (TCG) and does not use KVM: it has none of KVM's counters, and vcpud "
            "cannot unplug or plug its vCPUs as devices",
            "use <domain type='kvm'>, except in a laboratory",
        )
    if features.kind != "kvm" or host.driver != "QEMU":
        return
    if features.hint_dedicated:
        yield about(
            facts,
            "hint-dedicated",
            Severity.WARNING,
            "hint-dedicated tells the guest that it has its pCPUs to itself, so the guest does not "
            "use paravirtual spinlocks",
            "on an overcommitted host, remove <kvm><hint-dedicated state='on'/></kvm>",
        )
    elif features.pvspinlock is False or (
        features.pvspinlock is None and not features.host_passthrough
    ):
        yield about(
            facts,
            "pvspinlock-off",
            Severity.WARNING,
            "paravirtual spinlocks are off, so its kernel uses test-and-set locks: no tracepoint "
            "shows how long it waits for them, and each preempted lock holder costs it whole time "
            "slices",
            "set <features><pvspinlock state='on'/></features> and restart the domain; this may be "
            "all it needs",
        )


def _operating_system(facts: DomainFacts, _host: HostFacts) -> Findings:
    features, guest = facts.features, facts.guest
    told = (guest.os_id if guest is not None else None) or ""
    if "windows" in told or "/win" in features.os_id or "microsoft" in features.os_id:
        yield about(
            facts,
            "windows",
            Severity.WARNING,
            "it runs Windows, which can neither take CPUs offline nor unplug them: vcpud can only "
            "grow it",
            "set `mode: observe` for it; Hyper-V enlightenments (hv-spinlocks) help it instead",
        )
    if _LICENCE.search(features.words):
        yield about(
            facts,
            "licence",
            Severity.NOTE,
            "its description mentions a licence: when the number of CPUs changes, software that is "
            "licensed by CPU may refuse to run, or need another licence",
            "ask the holder of the licence; or set `mode: off` for it",
        )


DOMAIN_PROBES: Final[tuple[Callable[[DomainFacts, HostFacts], Findings], ...]] = (
    _terms,
    _actuators,
    _placement,
    _shares,
    _spinlocks,
    _operating_system,
)
