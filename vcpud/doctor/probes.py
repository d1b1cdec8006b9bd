"""From facts to findings, one probe for each thing that can stand in the way. Pure.

A probe is a function of what was seen; it says nothing where the fact is missing. References:
libvirt docs/formatdomain.rst and NEWS; QEMU qga/qapi-schema.json and accel/kvm; Linux
Documentation/admin-guide/cgroup-v1/cpusets.rst, kernel-parameters.txt; arch/x86/kernel/kvm.c.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vcpud.doctor.findings import Finding, Severity
from vcpud.hypervisor.agent import LOCK_HISTOGRAMS
from vcpud.hypervisor.poller import CHEAP_COUNTERS_VERSION
from vcpud.hypervisor.xml import AgentPort, format_cpuset
from vcpud.model import Mode, ShareUnit

if TYPE_CHECKING:
    from vcpud.doctor.facts import DomainFacts, HostFacts

DELAY_VERSION: Final = 7_002_000
"""From this libvirt on a vCPU's run delay is reported."""
STATS_VERSION: Final = 7_001_000
"""From this QEMU on KVM's own counters are reported."""
NEEDED: Final = ("guest-set-vcpus", "guest-get-vcpus")
WANTED: Final = ("guest-get-cpustats", "guest-file-open", "guest-file-read", "guest-file-close")

CGROUPS: Final = "/proc/self/cgroup"
CMDLINE: Final = "/proc/cmdline"
ISOLATED: Final = "/sys/devices/system/cpu/isolated"
PREFERRED: Final = "/sys/devices/system/cpu/preferred"
INTERRUPTS: Final = "/proc/interrupts"
DEFAULT_AFFINITY: Final = "/proc/irq/default_smp_affinity"
CONTROLLER_FILES: Final = {
    "/run/cpuplugd.pid": "cpuplugd",
    "/var/run/cpuplugd.pid": "cpuplugd",
    "/sys/module/steal_monitor/parameters/interval_ms": "the kernel's steal monitor",
}
UDEV_RULES: Final = (
    "/etc/udev/rules.d/80-hotplug-cpu.rules",
    "/etc/udev/rules.d/80-hotplug-cpu-mem.rules",
    "/lib/udev/rules.d/80-hotplug-cpu.rules",
    "/lib/udev/rules.d/80-hotplug-cpu-mem.rules",
    "/usr/lib/udev/rules.d/40-vm-hotadd.rules",
    "/lib/udev/rules.d/40-vm-hotadd.rules",
    "/etc/udev/rules.d/40-vm-hotadd.rules",
)
GUEST_FILES: Final = (
    CGROUPS,
    CMDLINE,
    ISOLATED,
    PREFERRED,
    INTERRUPTS,
    DEFAULT_AFFINITY,
    *CONTROLLER_FILES,
    *UDEV_RULES,
    *LOCK_HISTOGRAMS,
)
"""What of a guest's files is looked at; nothing is ever written."""

_ALWAYS: Final = frozenset({"xml-unreadable", "metadata-invalid"})
_LICENCE: Final = re.compile(
    r"licen[cs](e|ed|ing)\b|os_license|per[- ](core|cpu|socket)", re.IGNORECASE
)
_ONLINES: Final = re.compile(r'ATTR\{online\}\s*=\s*"1"')
_PINNED_LINE: Final = re.compile(r"^affinity (\d+) (\S+) (.*)$", re.MULTILINE)

Findings = Iterator[Finding]


def examine_host(facts: HostFacts) -> tuple[Finding, ...]:
    """Everything found on the host."""
    return tuple(finding for probe in HOST_PROBES for finding in probe(facts))


def examine_domain(facts: DomainFacts, host: HostFacts) -> tuple[Finding, ...]:
    """Everything found about one domain and in its guest."""
    found = [finding for probe in DOMAIN_PROBES for finding in probe(facts, host)]
    if facts.terms.mode is Mode.ENFORCE:
        return tuple(found)
    # What stands in the way of managing it is no fault while nobody wants it managed.
    return tuple(
        replace(finding, severity=Severity.WARNING)
        if finding.severity is Severity.ERROR and finding.code not in _ALWAYS
        else finding
        for finding in found
    )


# --------------------------------------------------------------------------------- the host


def _host(code: str, severity: Severity, text: str, remedy: str) -> Finding:
    return Finding(code=code, severity=severity, subject="host", text=text, remedy=remedy)


def _libvirt(facts: HostFacts) -> Findings:
    if facts.unreachable is not None:
        yield _host(
            "libvirt-unreachable",
            Severity.ERROR,
            f"libvirt does not answer on {facts.uri}: {facts.unreachable}",
            "start it (`systemctl start libvirtd` or `virtqemud.socket`), check libvirt.uri in "
            "the configuration, or join the group that may talk to it",
        )
    elif facts.denied is not None:
        yield _host(
            "libvirt-read-only",
            Severity.NOTE,
            f"whoever runs this may look but change nothing: {facts.denied}",
            "nothing for observing; `vcpud enable-enforce` gives the daemon the right, which "
            "equals root",
        )


def _versions(facts: HostFacts) -> Findings:
    if facts.libvirt_version is not None and facts.libvirt_version < DELAY_VERSION:
        yield _host(
            "libvirt-old",
            Severity.ERROR,
            f"libvirt {_dotted(facts.libvirt_version)} does not report how long vCPUs wait for a "
            "pCPU (`vcpu.N.delay` came with 7.2)",
            "upgrade libvirt; until then contention cannot be seen and nothing is decided",
        )
    version = facts.hypervisor_version
    if facts.driver != "QEMU" or not version:
        return
    if version < STATS_VERSION:
        yield _host(
            "qemu-old",
            Severity.WARNING,
            f"QEMU {_dotted(version)} reports none of KVM's counters (they came with 7.1)",
            "upgrade QEMU; preemptions and directed yields are missing until then",
        )
    elif version < CHEAP_COUNTERS_VERSION:
        yield _host(
            "qemu-slow-counters",
            Severity.NOTE,
            f"QEMU {_dotted(version)} interrupts every vCPU when KVM's counters are read, so "
            "they are read at most every 5 s",
            "QEMU 8.1 or newer reads them without disturbing the guest",
        )


def _driver(facts: HostFacts) -> Findings:
    if facts.driver == "Xen":
        yield _host(
            "xen-unmanaged",
            Severity.ERROR,
            "libvirt on Xen has no bulk statistics, no run delay and nothing from inside the "
            "guest: the libvirt backend cannot manage it",
            "docs/getting-started-xen.md says what is known, and what the laboratory can show",
        )
    elif facts.driver not in (None, "QEMU"):
        yield _host(
            "driver-unknown",
            Severity.ERROR,
            f"the libvirt driver {facts.driver} is none that vcpud can manage",
            "use qemu:///system, or xen:///system",
        )


def _daemon(facts: HostFacts) -> Findings:
    if facts.daemon:
        yield _host(
            "daemon-down",
            Severity.WARNING,
            f"vcpud does not answer: {facts.daemon}",
            "`systemctl status vcpud`, `journalctl -u vcpud`",
        )
    if facts.killed:
        yield _host(
            "kill-switch",
            Severity.WARNING,
            "the kill switch is thrown: nothing is decided on this host",
            "remove the file named by kill_switch in the configuration (/etc/vcpud/disabled)",
        )
    if facts.ledger is not None:
        yield _host(
            "ledger",
            Severity.ERROR,
            f"the ledger of originals cannot be used, so nothing may be changed: {facts.ledger}",
            "check the vCPUs of every domain, then remove the file that is named",
        )


def _pcpus(facts: HostFacts) -> Findings:
    if facts.isolated:
        yield _host(
            "host-isolated",
            Severity.WARNING,
            f"pCPUs {format_cpuset(facts.isolated)} are isolated from the scheduler: vCPUs stay "
            "on the pCPU they are put on, and are not balanced",
            "give domains that run there a cpuset of their own, which is then a pool of its own",
        )
    if facts.nohz_full:
        yield _host(
            "host-nohz-full",
            Severity.NOTE,
            f"pCPUs {format_cpuset(facts.nohz_full)} run without a tick: run time is accounted "
            "coarsely there",
            "nothing for pinned domains; do not overcommit these pCPUs",
        )
    if len(facts.numa) > 1:
        cells = ", ".join(format_cpuset(cell) for cell in facts.numa)
        yield _host(
            "host-numa",
            Severity.NOTE,
            f"{len(facts.numa)} NUMA nodes (pCPUs {cells}): domains without a cpuset are taken "
            "to share one pool, across all of them",
            "a cpuset per node (`<vcpu cpuset=>`) makes a pool of each",
        )
    if facts.ple_gap == 0:
        yield _host(
            "ple-off",
            Severity.NOTE,
            "pause-loop exiting is off (kvm_intel.ple_gap=0): a spinning vCPU burns its whole "
            "time slice",
            "leave it on for overcommitted hosts: `options kvm_intel ple_gap=128`",
        )


def _host_cgroups(facts: HostFacts) -> Findings:
    if facts.cgroup_unified is False:
        yield _host(
            "host-cgroup-v1",
            Severity.NOTE,
            "cgroups are version 1 here: a cpuset that loses a CPU does not get it back",
            "boot with systemd.unified_cgroup_hierarchy=1",
        )


def _controllers(facts: HostFacts) -> Findings:
    for name in facts.controllers:
        yield _host(
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
    _pcpus,
    _host_cgroups,
    _controllers,
)


# ------------------------------------------------------------------------------- the domain


def _about(facts: DomainFacts, code: str, severity: Severity, text: str, remedy: str) -> Finding:
    return Finding(code=code, severity=severity, subject=facts.name, text=text, remedy=remedy)


def _terms(facts: DomainFacts, _host: HostFacts) -> Findings:
    if facts.error is not None:
        yield _about(
            facts,
            "xml-unreadable",
            Severity.ERROR,
            f"its description cannot be understood: {facts.error}",
            "`virsh dumpxml` shows it; the domain is off until then",
        )
        return
    description = facts.description
    if description is not None and description.wishes_error is not None:
        yield _about(
            facts,
            "metadata-invalid",
            Severity.ERROR,
            f"its vcpud metadata cannot be followed, so it is off: {description.wishes_error}",
            "`virsh metadata` with the element <policy mode= min= max=>; see docs/tuning.md",
        )
    elif facts.terms.mode is not Mode.ENFORCE:
        yield _about(
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
        yield _about(
            facts,
            "one-vcpu",
            Severity.NOTE,
            "it has a single vCPU: there is nothing to manage",
            "nothing",
        )
        return
    if description.agent is AgentPort.ABSENT:
        yield _about(
            facts,
            "agent-missing",
            Severity.WARNING if description.unpluggable else Severity.ERROR,
            "it has no channel for the QEMU guest agent, without which CPUs cannot be taken "
            "offline and the effect of a change cannot be judged",
            "add <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>"
            "</channel>, and install qemu-guest-agent in the guest",
        )
    elif description.agent is AgentPort.DISCONNECTED:
        yield _about(
            facts,
            "agent-disconnected",
            Severity.ERROR,
            "the guest agent's channel is there, but no agent is connected",
            "in the guest: install qemu-guest-agent, `systemctl enable --now qemu-guest-agent`",
        )
    if description.agent is not AgentPort.CONNECTED and not description.unpluggable:
        yield _about(
            facts,
            "boot-vcpus-fixed",
            Severity.NOTE,
            "its boot vCPUs are not hotpluggable, so they cannot be unplugged either",
            "use the agent; or `virsh setvcpus DOMAIN 1 --config`, then `virsh setvcpus DOMAIN N "
            "--config --hotpluggable`, and start it anew",
        )


def _commands(facts: DomainFacts, _host: HostFacts) -> Findings:
    guest = facts.guest
    if guest is None or guest.commands is None:
        return
    for names, severity, effect in (
        (NEEDED, Severity.ERROR, "CPUs cannot be taken offline in the guest"),
        (WANTED, Severity.WARNING, "the effect of changes or the wait for locks is unknown"),
    ):
        blocked = [name for name in names if guest.commands.get(name) is False]
        absent = [name for name in names if name not in guest.commands]
        if blocked:
            yield _about(
                facts,
                "agent-blocked",
                severity,
                f"its agent refuses {', '.join(blocked)}: {effect}",
                "allow them in the guest (/etc/sysconfig/qemu-ga, --block-rpcs or --allow-rpcs), "
                "then `systemctl restart qemu-guest-agent`; see deploy/guest/README.md",
            )
        if absent:
            version = f" ({guest.version})" if guest.version else ""
            yield _about(
                facts,
                "agent-old",
                severity,
                f"its agent{version} does not know {', '.join(absent)}: {effect}",
                "install a newer qemu-guest-agent (7.1 brings guest-get-cpustats, Linux only)",
            )


def _placement(facts: DomainFacts, host: HostFacts) -> Findings:
    description, features = facts.description, facts.features
    if description is None:
        return
    single = [cpus for cpus in description.affinities if cpus is not None and len(cpus) == 1]
    if len(host.pcpus) > 1 and single and len(single) == len(description.affinities):
        yield _about(
            facts,
            "pinned",
            Severity.NOTE,
            "every vCPU is pinned to one pCPU: it shares with nobody, so it is only observed",
            "nothing: such a guest has no use for vcpud. To have it managed, give it a cpuset "
            "instead of <vcpupin>s",
        )
    elif len({cpus for cpus in description.affinities if cpus is not None}) > 1:
        yield _about(
            facts,
            "pools-overlap",
            Severity.WARNING,
            "its vCPUs have different cpusets, so it belongs to several pools: only observed",
            "give all its vCPUs the same cpuset",
        )
    used = frozenset().union(*(cpus or host.pcpus for cpus in description.affinities))
    if host.isolated & used and description.affinities:
        yield _about(
            facts,
            "on-isolated-pcpus",
            Severity.WARNING,
            f"it may run on isolated pCPUs {format_cpuset(host.isolated & used)}, where vCPUs "
            "are not balanced",
            "keep isolated pCPUs for pinned domains",
        )
    if features.emulator_pin:
        yield _about(
            facts,
            "emulator-pinned",
            Severity.NOTE,
            f"its emulator threads are pinned to {features.emulator_pin}: work there counts as "
            "unmanaged",
            "nothing",
        )
    if description.realtime or facts.realtime:
        yield _about(
            facts,
            "realtime",
            Severity.ERROR,
            "its vCPUs run with a real-time policy: weights and run delay mean nothing for it",
            "leave it out (`mode: off`), or remove <vcpusched> or what `chrt` has set",
        )
    if features.numa_cells > 1:
        yield _about(
            facts,
            "guest-numa",
            Severity.WARNING,
            f"its guest sees {features.numa_cells} NUMA cells: CPUs are parked from the highest "
            "number down, so whole cells empty first and their memory becomes remote",
            "set a floor (`min`) that keeps a vCPU in every cell",
        )


def _shares(facts: DomainFacts, _host: HostFacts) -> Findings:
    if facts.share_unit is ShareUnit.VCPU:
        yield _about(
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
        yield _about(
            facts,
            "quota-per-vcpu",
            Severity.WARNING,
            f"its quota is {description.quota_pcpus_per_vcpu:g} pCPUs for each vCPU: fewer vCPUs "
            "are a lower cap, so it is shrunk only where that costs nothing",
            "cap it with <global_quota> instead, which counts for the domain as a whole",
        )


def _spinlocks(facts: DomainFacts, host: HostFacts) -> Findings:
    features = facts.features
    if features.kind == "qemu":
        yield _about(
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
        yield _about(
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
        yield _about(
            facts,
            "pvspinlock-off",
            Severity.WARNING,
            "paravirtual spinlocks are off: its kernel spins test-and-set, which passes no "
            "tracepoint, and preempted lock holders cost it whole time slices",
            "<features><pvspinlock state='on'/></features>, and start it anew; that alone may be "
            "all a guest needs",
        )


def _xen(facts: DomainFacts, host: HostFacts) -> Findings:
    if host.driver == "Xen" and facts.features.os_type == "hvm":
        yield _about(
            facts,
            "xen-hvm",
            Severity.WARNING,
            "it is a Xen HVM guest: Linux follows xenstore's CPU availability in PV and PVH "
            "guests only, so it can grow but not shrink",
            "type = 'pvh' where the guest's kernel can",
        )


def _operating_system(facts: DomainFacts, _host: HostFacts) -> Findings:
    features, guest = facts.features, facts.guest
    told = (guest.os_id if guest is not None else None) or ""
    if "windows" in told or "/win" in features.os_id or "microsoft" in features.os_id:
        yield _about(
            facts,
            "windows",
            Severity.WARNING,
            "it runs Windows, which cannot take CPUs offline or let them be unplugged: it can "
            "only grow",
            "leave it out (`mode: observe`): Hyper-V enlightenments (hv-spinlocks) are what "
            "helps it",
        )
    if _LICENCE.search(features.words):
        yield _about(
            facts,
            "licence",
            Severity.NOTE,
            "its description speaks of a licence: software licensed by CPU may refuse to run, or "
            "be counted anew, when the number changes",
            "ask whoever holds the licence, or `mode: off`",
        )


# --------------------------------------------------------------------------------- the guest


def _guest_cpus(facts: DomainFacts, _host: HostFacts) -> Findings:
    guest = facts.guest
    if guest is None or not guest.vcpus:
        return
    fixed = [vcpu.number for vcpu in guest.vcpus if not vcpu.can_offline and vcpu.number]
    if fixed:
        yield _about(
            facts,
            "guest-cpus-fixed",
            Severity.WARNING,
            f"the guest's kernel cannot take CPUs {format_cpuset(frozenset(fixed))} offline",
            "a kernel with CONFIG_HOTPLUG_CPU; until then they stay online whatever is decided",
        )


def _guest_files(facts: DomainFacts, _host: HostFacts) -> Findings:
    files = {} if facts.guest is None else facts.guest.files
    cgroups = files.get(CGROUPS)
    if cgroups and any(
        "cpuset" in line.split(":")[1].split(",") for line in cgroups.splitlines() if ":" in line
    ):
        yield _about(
            facts,
            "guest-cgroup-v1",
            Severity.WARNING,
            "the guest uses cpusets of cgroup version 1: a cpuset that loses a CPU does not get "
            "it back when the CPU returns",
            "in the guest: cgroup version 2 (systemd.unified_cgroup_hierarchy=1), or leave "
            "cpusets to the root group",
        )
    isolated = (files.get(ISOLATED) or "").strip()
    if isolated or "isolcpus=" in (files.get(CMDLINE) or ""):
        yield _about(
            facts,
            "guest-isolated",
            Severity.WARNING,
            f"the guest isolates CPUs {isolated or 'by its command line'}: what is pinned there "
            "moves elsewhere for good when they are parked",
            "a floor (`min`) that keeps them, or mode off",
        )
    if "nopvspin" in (files.get(CMDLINE) or "").split():
        yield _about(
            facts,
            "guest-nopvspin",
            Severity.WARNING,
            "the guest's command line switches paravirtual spinlocks off (nopvspin)",
            "remove it there on an overcommitted host",
        )
    looked = [path for path in LOCK_HISTOGRAMS if path in files]
    if looked and all(files[path] is None for path in looked):
        yield _about(
            facts,
            "lock-signal-missing",
            Severity.WARNING,
            "the guest does not report how long it waits for locks: vcpud has only the host's "
            "signals, which cannot tell spinning from work",
            "install deploy/guest/vcpud-lock-histogram in the guest",
        )


def _guest_controllers(facts: DomainFacts, _host: HostFacts) -> Findings:
    files = {} if facts.guest is None else facts.guest.files
    if files.get(PREFERRED) is not None:
        yield _about(
            facts,
            "guest-preferred",
            Severity.WARNING,
            "the guest's kernel steers work to preferred CPUs by itself",
            "leave it alone (`mode: off`): two controllers of the same CPUs do harm",
        )
    found = {name for path, name in CONTROLLER_FILES.items() if files.get(path) is not None}
    for name in sorted(found):
        yield _about(
            facts,
            "guest-controller",
            Severity.WARNING,
            f"{name} runs in the guest and also takes CPUs offline and online",
            "switch one of the two off",
        )
    for path in UDEV_RULES:
        content = files.get(path) or ""
        rules = [line for line in content.splitlines() if _ONLINES.search(line)]
        if any('ACTION=="add"' not in line for line in rules):
            yield _about(
                facts,
                "guest-udev-online",
                Severity.WARNING,
                f"{path} in the guest brings CPUs online whenever something happens to them: it "
                "undoes what vcpud does",
                'limit the rule to ACTION=="add"',
            )
        elif rules:
            yield _about(
                facts,
                "guest-udev-add",
                Severity.NOTE,
                f"{path} in the guest brings newly plugged CPUs online",
                "nothing: plugging needs it, parking does not trigger it",
            )


def _guest_interrupts(facts: DomainFacts, _host: HostFacts) -> Findings:
    files = {} if facts.guest is None else facts.guest.files
    pinned = _PINNED_LINE.findall(files.get("affinities") or "")
    if pinned:
        shown = ", ".join(f"{number} ({name.strip()}) to {cpus}" for number, cpus, name in pinned)
        yield _about(
            facts,
            "guest-irqs-pinned",
            Severity.WARNING,
            f"interrupts in the guest are pinned to single CPUs: {shown}; when one is parked its "
            "interrupt moves elsewhere and does not come back by itself",
            "run irqbalance in the guest, or keep these CPUs with a floor (`min`)",
        )


DOMAIN_PROBES: Final[tuple[Callable[[DomainFacts, HostFacts], Findings], ...]] = (
    _terms,
    _actuators,
    _commands,
    _placement,
    _shares,
    _spinlocks,
    _xen,
    _operating_system,
    _guest_cpus,
    _guest_files,
    _guest_controllers,
    _guest_interrupts,
)


def _dotted(version: int) -> str:
    return f"{version // 1_000_000}.{version // 1_000 % 1_000}.{version % 1_000}"
