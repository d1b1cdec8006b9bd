"""What can stand in the way inside a guest, as its agent tells. Pure.

References: QEMU qga/qapi-schema.json; Linux Documentation/admin-guide/cgroup-v1/cpusets.rst.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from vcpud.doctor.findings import Finding, Findings, Severity, about
from vcpud.hypervisor.cpusets import format_cpuset
from vcpud.hypervisor.guestfiles import LOCK_HISTOGRAMS

if TYPE_CHECKING:
    from vcpud.doctor.facts import DomainFacts, HostFacts

NEEDED: Final = ("guest-set-vcpus", "guest-get-vcpus")
ACCOUNTING: Final = "guest-get-cpustats"
FILES: Final = ("guest-file-open", "guest-file-read", "guest-file-close")

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

_ONLINES: Final = re.compile(r'ATTR\{online\}\s*=\s*"1"')
_PINNED_LINE: Final = re.compile(r"^affinity (\d+) (\S+) (.*)$", re.MULTILINE)


def _commands(facts: DomainFacts, _host: HostFacts) -> Findings:
    guest = facts.guest
    if guest is None or guest.commands is None:
        return
    # Who may read files reads what the accounting is made of.
    wanted = FILES if all(map(guest.commands.get, FILES)) else (ACCOUNTING, *FILES)
    for names, severity, effect in (
        (NEEDED, Severity.ERROR, "vcpud cannot take CPUs offline in the guest"),
        (
            wanted,
            Severity.WARNING,
            "its progress, by which changes are decided and judged, or its lock waits are unknown",
        ),
    ):
        blocked = [name for name in names if guest.commands.get(name) is False]
        absent = [name for name in names if name not in guest.commands]
        if blocked:
            yield about(
                facts,
                "agent-blocked",
                severity,
                f"its agent refuses {', '.join(blocked)}: {effect}",
                "in the guest: allow these commands (/etc/sysconfig/qemu-ga, --block-rpcs or "
                "--allow-rpcs), then `systemctl restart qemu-guest-agent`; see "
                "/usr/share/vcpud/guest/README.md",
            )
        if absent:
            version = f" ({guest.version})" if guest.version else ""
            yield about(
                facts,
                "agent-old",
                severity,
                f"its agent{version} does not know {', '.join(absent)}: {effect}",
                "in the guest: install a newer qemu-guest-agent, or allow guest-file-*. From 7.1 on "
                "the agent reports CPU times itself (guest-get-cpustats); an older one has to read a "
                "file",
            )


def _guest_cpus(facts: DomainFacts, _host: HostFacts) -> Findings:
    guest = facts.guest
    if guest is None or not guest.vcpus:
        return
    fixed = [vcpu.number for vcpu in guest.vcpus if not vcpu.can_offline and vcpu.number]
    if fixed:
        yield about(
            facts,
            "guest-cpus-fixed",
            Severity.WARNING,
            f"the guest's kernel cannot take CPUs {format_cpuset(frozenset(fixed))} offline, so they "
            "stay online whatever vcpud decides",
            "in the guest: run a kernel with CONFIG_HOTPLUG_CPU",
        )


def _guest_files(facts: DomainFacts, _host: HostFacts) -> Findings:
    files = {} if facts.guest is None else facts.guest.files
    cgroups = files.get(CGROUPS)
    if cgroups and any(
        "cpuset" in line.split(":")[1].split(",") for line in cgroups.splitlines() if ":" in line
    ):
        yield about(
            facts,
            "guest-cgroup-v1",
            Severity.WARNING,
            "the guest uses cpusets of cgroup version 1: a cpuset that loses a CPU does not get "
            "it back when the CPU returns",
            "in the guest: use cgroup version 2 (systemd.unified_cgroup_hierarchy=1), or no cpusets "
            "below the root group",
        )
    isolated = (files.get(ISOLATED) or "").strip()
    if isolated or "isolcpus=" in (files.get(CMDLINE) or ""):
        yield about(
            facts,
            "guest-isolated",
            Severity.WARNING,
            f"the guest isolates CPUs {isolated or 'by its command line'}: when vcpud parks one of "
            "them, what is pinned to it moves elsewhere and does not come back",
            "set a floor (`min`) that keeps these CPUs online, or `mode: off`",
        )
    if "nopvspin" in (files.get(CMDLINE) or "").split():
        yield about(
            facts,
            "guest-nopvspin",
            Severity.WARNING,
            "the guest's command line switches paravirtual spinlocks off (nopvspin)",
            "on an overcommitted host, remove nopvspin from it",
        )
    looked = [path for path in LOCK_HISTOGRAMS if path in files]
    if looked and all(files[path] is None for path in looked):
        yield lock_signal_missing(facts)


def lock_signal_missing(facts: DomainFacts) -> Finding:
    """A guest's lock waits are told neither by its agent nor by its reporter."""
    return about(
        facts,
        "lock-signal-missing",
        Severity.WARNING,
        "the guest does not report how long it waits for spinlocks: adaptive then goes by its "
        "progress alone, and spin_feedback does nothing",
        "in the guest: install /usr/share/vcpud/guest/vcpud-lock-histogram",
    )


def _guest_controllers(facts: DomainFacts, _host: HostFacts) -> Findings:
    files = {} if facts.guest is None else facts.guest.files
    if files.get(PREFERRED) is not None:
        yield about(
            facts,
            "guest-preferred",
            Severity.WARNING,
            "the guest's kernel itself steers work to preferred CPUs",
            "set `mode: off` for it: two controllers of the same CPUs do harm",
        )
    found = {name for path, name in CONTROLLER_FILES.items() if files.get(path) is not None}
    for name in sorted(found):
        yield about(
            facts,
            "guest-controller",
            Severity.WARNING,
            f"{name} runs in the guest, and takes CPUs offline and online like vcpud",
            "stop it in the guest, or set `mode: off` for the domain",
        )
    for path in UDEV_RULES:
        content = files.get(path) or ""
        rules = [line for line in content.splitlines() if _ONLINES.search(line)]
        if any('ACTION=="add"' not in line for line in rules):
            yield about(
                facts,
                "guest-udev-online",
                Severity.WARNING,
                f"{path} in the guest brings CPUs online at every event of theirs: it undoes what "
                "vcpud does",
                'in the guest: limit the rule to ACTION=="add"',
            )
        elif rules:
            yield about(
                facts,
                "guest-udev-add",
                Severity.NOTE,
                f"{path} in the guest brings newly plugged CPUs online",
                "nothing: plugging needs this rule, and parking does not trigger it",
            )


def _guest_interrupts(facts: DomainFacts, _host: HostFacts) -> Findings:
    files = {} if facts.guest is None else facts.guest.files
    pinned = _PINNED_LINE.findall(files.get("affinities") or "")
    if pinned:
        shown = ", ".join(f"{number} ({name.strip()}) to {cpus}" for number, cpus, name in pinned)
        yield about(
            facts,
            "guest-irqs-pinned",
            Severity.WARNING,
            f"interrupts in the guest are pinned to single CPUs: {shown}; when such a CPU is "
            "parked, its interrupt moves elsewhere and does not come back by itself",
            "run irqbalance in the guest, or set a floor (`min`) that keeps these CPUs online",
        )


GUEST_PROBES: Final[tuple[Callable[[DomainFacts, HostFacts], Findings], ...]] = (
    _commands,
    _guest_cpus,
    _guest_files,
    _guest_controllers,
    _guest_interrupts,
)
