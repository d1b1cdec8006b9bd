"""A host, a domain and a guest with which nothing is wrong, and a doctor over a libvirt that misbehaves on request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unit.hypervisor.stand_in import Guest, StandIn
from vcpud import config
from vcpud.doctor.collect import Doctor
from vcpud.doctor.facts import (
    DomainFacts,
    Features,
    GuestFacts,
    HostFacts,
)
from vcpud.doctor.findings import Examination, Finding
from vcpud.doctor.probes.guest import (
    ACCOUNTING,
    CGROUPS,
    CMDLINE,
    FILES,
    NEEDED,
)
from vcpud.hypervisor.agent import GuestVcpu
from vcpud.hypervisor.guestfiles import LOCK_HISTOGRAMS
from vcpud.hypervisor.xml import AgentPort, Description
from vcpud.model import Mode, ShareUnit, Terms
from vcpud.settings import Settings
from vcpud.terms import TermsBook

GOOD_HOST = HostFacts(
    uri="qemu:///system",
    driver="QEMU",
    libvirt_version=11_003_000,
    hypervisor_version=10_000_000,
    daemon="",
    cgroup_unified=True,
    pcpus=frozenset(range(8)),
    numa=(frozenset(range(8)),),
    ple_gap=128,
)
GOOD_XML = Description(
    name="db",
    kvm=True,
    max_vcpus=4,
    live_vcpus=4,
    unpluggable=frozenset(),
    affinities=(None,) * 4,
    agent=AgentPort.CONNECTED,
    realtime=False,
    shares=None,
    quota_pcpus_per_vcpu=None,
    wishes=None,
    wishes_error=None,
)
GOOD_GUEST = GuestFacts(
    version="8.2",
    commands=dict.fromkeys((*NEEDED, ACCOUNTING, *FILES), True),
    os_id="debian",
    vcpus=(GuestVcpu(0, True, False), GuestVcpu(1, True, True)),
    files={LOCK_HISTOGRAMS[0]: "# event histogram", CGROUPS: "0::/system.slice", CMDLINE: "ro"},
)
GOOD = DomainFacts(
    name="db",
    uuid="u",
    terms=Terms(mode=Mode.ENFORCE, source="metadata"),
    description=GOOD_XML,
    features=Features(kind="kvm", os_type="hvm", pvspinlock=True),
    share_unit=ShareUnit.DOMAIN,
    realtime=False,
    guest=GOOD_GUEST,
)


def codes(found: tuple[Finding, ...]) -> set[str]:
    return {finding.code for finding in found}


class Room:
    """A doctor over a libvirt that misbehaves on request, and a root of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for path, text in {
            "sys/devices/system/cpu/online": "0-1",
            "sys/devices/system/cpu/isolated": "",
            "sys/devices/system/node/node0/cpulist": "0-1",
            "sys/fs/cgroup/cgroup.controllers": "cpu",
            "proc/77/cmdline": "/usr/sbin/numad\0-i\0",
            "proc/99/cmdline": "qemu\0-name\0guest=n-a\0-uuid\0a\0",
            "proc/99/cgroup": "0::/machine.slice/machine-qemu-1.scope",
            "proc/99/task/99/stat": "99 (CPU 0/KVM) S" + " 0" * 37 + " 2 0 0",
        }.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        self.settings: Settings = replace(
            config.defaults(),
            terms=TermsBook(default=Terms(mode=Mode.ENFORCE)),
            state_dir=root / "state",
            runtime_dir=root / "run",
            kill_switch=root / "disabled",
        )
        self.guest = Guest("a")
        self.library = StandIn(self.guest)

    def examine(self, word: str | None = None, deadline_s: float = 5.0) -> Examination:
        doctor = Doctor(
            self.settings,
            "qemu:///x",
            lambda _: self.library,
            root=self.root,
            deadline_s=deadline_s,
        )
        return doctor.examine(word)
