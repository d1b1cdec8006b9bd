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
            "`virsh dumpxml` shows it; the domain is off until then",
        )
        return
    description = facts.description
    if description is not None and description.wishes_error is not None:
        yield about(
            facts,
            "metadata-invalid",
            Severity.ERROR,
            f"its vcpud metadata cannot be followed, so it is off: {description.wishes_error}",
            "`virsh metadata` with the element <policy mode= min= max=>; see "
            "/usr/share/doc/vcpud/docs/tuning.md",
        )
    elif facts.terms.mode is not Mode.ENFORCE:
        yield about(
            facts,
            "not-managed",
            Severity.NOTE,
            f"mode is {facts.terms.mode} ({facts.terms.source}): it is never changed",
            f"`vcpud set {facts.name} --mode enforce` lets vcpud manage it",
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
            "it has no channel for the QEMU guest agent, without which CPUs cannot be taken "
            "offline and the effect of a change cannot be judged",
            "add <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>"
            "</channel>, and install qemu-guest-agent in the guest",
        )
    elif description.agent is AgentPort.DISCONNECTED:
        yield about(
            facts,
            "agent-disconnected",
            Severity.ERROR,
            "the guest agent's channel is there, but no agent is connected",
            "in the guest: install qemu-guest-agent, `systemctl enable --now qemu-guest-agent`",
        )
    if description.agent is not AgentPort.CONNECTED and not description.unpluggable:
        yield about(
            facts,
            "boot-vcpus-fixed",
            Severity.NOTE,
            "its boot vCPUs are not hotpluggable, so they cannot be unplugged either",
            "use the agent; or `virsh setvcpus DOMAIN 1 --config`, then `virsh setvcpus DOMAIN N "
            "--config --hotpluggable`, and start it anew",
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
            "every vCPU is pinned to one pCPU: it shares with nobody, so it is only observed",
            "nothing: such a guest has no use for vcpud. To have it managed, give it a cpuset "
            "instead of <vcpupin>s",
        )
    elif len({cpus for cpus in description.affinities if cpus is not None}) > 1:
        yield about(
            facts,
            "pools-overlap",
            Severity.WARNING,
            "its vCPUs have different cpusets, so it belongs to several pools: only observed",
            "give all its vCPUs the same cpuset",
        )
    used = frozenset().union(*(cpus or host.pcpus for cpus in description.affinities))
    if host.isolated & used and description.affinities:
        yield about(
            facts,
            "on-isolated-pcpus",
            Severity.WARNING,
            f"it may run on isolated pCPUs {format_cpuset(host.isolated & used)}, where vCPUs "
            "are not balanced",
            "keep isolated pCPUs for pinned domains",
        )
    if features.emulator_pin:
        yield about(
            facts,
            "emulator-pinned",
            Severity.NOTE,
            f"its emulator threads are pinned to {features.emulator_pin}: work there counts as "
            "unmanaged",
            "nothing",
        )
    if description.realtime or facts.realtime:
        yield about(
            facts,
            "realtime",
            Severity.ERROR,
            "its vCPUs run with a real-time policy: weights and run delay mean nothing for it",
            "leave it out (`mode: off`), or remove <vcpusched> or what `chrt` has set",
        )
    if features.numa_cells > 1:
        yield about(
            facts,
            "guest-numa",
            Severity.WARNING,
            f"its guest sees {features.numa_cells} NUMA cells: CPUs are parked from the highest "
            "number down, so whole cells empty first and their memory becomes remote",
            "set a floor (`min`) that keeps a vCPU in every cell",
        )


def _shares(facts: DomainFacts, _host: HostFacts) -> Findings:
    if facts.share_unit is ShareUnit.VCPU:
        yield about(
            facts,
            "share-per-vcpu",
            Severity.ERROR,
            "its weight counts per vCPU, because it has no cgroup with a cpu controller of its "
            "own: with fewer vCPUs it would get less, so it is never shrunk under contention",
            "have libvirt use cgroups (cgroup_controllers in qemu.conf) and register with "
            "systemd-machined, then start the domain anew",
        )
    description = facts.description
    if description is not None and description.quota_pcpus_per_vcpu is not None:
        yield about(
            facts,
            "quota-per-vcpu",
            Severity.WARNING,
            f"its quota is {description.quota_pcpus_per_vcpu:g} pCPUs for each vCPU: fewer vCPUs "
            "are a lower cap, so it is shrunk only where that costs nothing",
            "cap it with <global_quota> instead, which counts for the domain as a whole",
        )
    if description is not None and description.cap_pcpus is not None:
        yield about(
            facts,
            "capped",
            Severity.NOTE,
            f"it is capped at {description.cap_pcpus:g} pCPUs: time it is held back looks like "
            "time it waits for a pCPU",
            "<shares> instead of <global_quota>, or a floor (`min`) that it can use its cap with",
        )


def _spinlocks(facts: DomainFacts, host: HostFacts) -> Findings:
    features = facts.features
    if features.kind == "qemu":
        yield about(
            facts,
            "emulated",
            Severity.NOTE,
            "it runs under emulation (TCG), without KVM: KVM's counters are missing, and vCPUs "
            "cannot be had out and in as devices",
            "for anything but a laboratory: <domain type='kvm'>",
        )
    if features.kind != "kvm" or host.driver != "QEMU":
        return
    if features.hint_dedicated:
        yield about(
            facts,
            "hint-dedicated",
            Severity.WARNING,
            "the guest is told that it has its pCPUs to itself (hint-dedicated), so it does not "
            "use paravirtual spinlocks",
            "remove <kvm><hint-dedicated state='on'/></kvm> on an overcommitted host",
        )
    elif features.pvspinlock is False or (
        features.pvspinlock is None and not features.host_passthrough
    ):
        yield about(
            facts,
            "pvspinlock-off",
            Severity.WARNING,
            "paravirtual spinlocks are off: its kernel spins test-and-set, which passes no "
            "tracepoint, and preempted lock holders cost it whole time slices",
            "<features><pvspinlock state='on'/></features>, and start it anew; that alone may be "
            "all a guest needs",
        )


def _operating_system(facts: DomainFacts, _host: HostFacts) -> Findings:
    features, guest = facts.features, facts.guest
    told = (guest.os_id if guest is not None else None) or ""
    if "windows" in told or "/win" in features.os_id or "microsoft" in features.os_id:
        yield about(
            facts,
            "windows",
            Severity.WARNING,
            "it runs Windows, which cannot take CPUs offline or let them be unplugged: it can "
            "only grow",
            "leave it out (`mode: observe`): Hyper-V enlightenments (hv-spinlocks) are what "
            "helps it",
        )
    if _LICENCE.search(features.words):
        yield about(
            facts,
            "licence",
            Severity.NOTE,
            "its description speaks of a licence: software licensed by CPU may refuse to run, or "
            "be counted anew, when the number changes",
            "ask whoever holds the licence, or `mode: off`",
        )


DOMAIN_PROBES: Final[tuple[Callable[[DomainFacts, HostFacts], Findings], ...]] = (
    _terms,
    _actuators,
    _placement,
    _shares,
    _spinlocks,
    _operating_system,
)
