"""Every finding of `vcpud doctor`: where it is made, where it is not, and what is not seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.xen import FakeXenLibrary, XenGuest, XenWorld
from unit.hypervisor.stand_in import Guest, StandIn, StandInLink
from vcpud import config
from vcpud.doctor.collect import Doctor
from vcpud.doctor.facts import (
    DomainFacts,
    Features,
    GuestFacts,
    HostFacts,
    XenDomainFacts,
    XenFacts,
)
from vcpud.doctor.features import parse_features
from vcpud.doctor.findings import Examination, Finding, Severity
from vcpud.doctor.probes import examine_domain, examine_host
from vcpud.doctor.probes.guest import (
    CGROUPS,
    CMDLINE,
    INTERRUPTS,
    ISOLATED,
    NEEDED,
    PREFERRED,
    UDEV_RULES,
    WANTED,
)
from vcpud.doctor.xen import XenLook
from vcpud.errors import UnreachableError, UsageError
from vcpud.hypervisor.agent import LOCK_HISTOGRAMS, GuestVcpu
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.xen.roll import Roll
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
    commands=dict.fromkeys((*NEEDED, *WANTED), True),
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


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert examine_host(GOOD_HOST) == ()
    assert examine_domain(GOOD, GOOD_HOST) == ()


def test_nothing_is_found_where_nothing_could_be_seen() -> None:
    assert examine_host(HostFacts(uri="qemu:///system")) == ()
    unseen = DomainFacts(name="db", uuid="u", terms=Terms(mode=Mode.ENFORCE))
    assert examine_domain(unseen, HostFacts(uri="qemu:///system")) == ()


@pytest.mark.parametrize(
    ("code", "severity", "wrong"),
    [
        ("libvirt-unreachable", Severity.ERROR, {"unreachable": "no such file"}),
        ("libvirt-read-only", Severity.NOTE, {"denied": "authentication failed"}),
        ("libvirt-old", Severity.ERROR, {"libvirt_version": 6_000_000}),
        ("qemu-old", Severity.WARNING, {"hypervisor_version": 6_002_000}),
        ("qemu-slow-counters", Severity.NOTE, {"hypervisor_version": 7_002_000}),
        ("backend-wrong", Severity.ERROR, {"driver": "Xen", "hypervisor_version": 4_017_000}),
        ("backend-wrong", Severity.ERROR, {"backend": "xen"}),
        ("driver-unknown", Severity.ERROR, {"driver": "LXC"}),
        ("daemon-down", Severity.WARNING, {"daemon": "nobody listens"}),
        ("kill-switch", Severity.WARNING, {"killed": True}),
        ("ledger", Severity.ERROR, {"ledger": "cannot be understood"}),
        ("host-isolated", Severity.WARNING, {"isolated": frozenset({6, 7})}),
        ("host-nohz-full", Severity.NOTE, {"nohz_full": frozenset({7})}),
        ("host-numa", Severity.NOTE, {"numa": (frozenset({0, 1}), frozenset({2, 3}))}),
        ("ple-off", Severity.NOTE, {"ple_gap": 0}),
        ("host-cgroup-v1", Severity.NOTE, {"cgroup_unified": False}),
        ("other-controller", Severity.WARNING, {"controllers": ("numad",)}),
    ],
)
def test_what_is_wrong_with_a_host(code: str, severity: Severity, wrong: dict[str, Any]) -> None:
    (finding,) = examine_host(replace(GOOD_HOST, **wrong))
    assert (finding.code, finding.severity) == (code, severity)
    assert finding.remedy


def xml(**wrong: Any) -> dict[str, Any]:
    return {"description": replace(GOOD_XML, **wrong)}


def guest(**wrong: Any) -> dict[str, Any]:
    return {"guest": replace(GOOD_GUEST, **wrong)}


def files(**more: str | None) -> dict[str, Any]:
    return guest(files={**GOOD_GUEST.files, **more})


def features(**wrong: Any) -> dict[str, Any]:
    assert isinstance(GOOD.features, Features)
    return {"features": replace(GOOD.features, **wrong)}


@pytest.mark.parametrize(
    ("code", "severity", "wrong"),
    [
        ("xml-unreadable", Severity.ERROR, {"error": "not well-formed", "description": None}),
        ("metadata-invalid", Severity.ERROR, xml(wishes_error="mode='on'")),
        ("not-managed", Severity.NOTE, {"terms": Terms()}),
        ("one-vcpu", Severity.NOTE, xml(max_vcpus=1, live_vcpus=1)),
        ("agent-missing", Severity.ERROR, xml(agent=AgentPort.ABSENT)),
        ("agent-disconnected", Severity.ERROR, xml(agent=AgentPort.DISCONNECTED)),
        ("boot-vcpus-fixed", Severity.NOTE, xml(agent=AgentPort.ABSENT)),
        (
            "agent-blocked",
            Severity.ERROR,
            guest(commands={**(GOOD_GUEST.commands or {}), "guest-set-vcpus": False}),
        ),
        (
            "agent-blocked",
            Severity.WARNING,
            guest(commands={**(GOOD_GUEST.commands or {}), "guest-file-open": False}),
        ),
        ("agent-old", Severity.WARNING, guest(commands=dict.fromkeys(NEEDED, True))),
        ("pinned", Severity.NOTE, xml(affinities=tuple(frozenset({n}) for n in range(4)))),
        (
            "pools-overlap",
            Severity.WARNING,
            xml(affinities=(frozenset({0, 1}), frozenset({2, 3}), None, None)),
        ),
        ("emulator-pinned", Severity.NOTE, features(emulator_pin="0")),
        ("realtime", Severity.ERROR, xml(realtime=True)),
        ("realtime", Severity.ERROR, {"realtime": True}),
        ("guest-numa", Severity.WARNING, features(numa_cells=2)),
        ("share-per-vcpu", Severity.ERROR, {"share_unit": ShareUnit.VCPU}),
        ("quota-per-vcpu", Severity.WARNING, xml(quota_pcpus_per_vcpu=0.5)),
        ("emulated", Severity.NOTE, features(kind="qemu")),
        ("hint-dedicated", Severity.WARNING, features(hint_dedicated=True)),
        ("pvspinlock-off", Severity.WARNING, features(pvspinlock=None)),
        ("pvspinlock-off", Severity.WARNING, features(pvspinlock=False, host_passthrough=True)),
        ("windows", Severity.WARNING, features(os_id="http://microsoft.com/win/2k22")),
        ("windows", Severity.WARNING, guest(os_id="mswindows")),
        ("licence", Severity.NOTE, features(words="Oracle, licensed per core")),
        ("guest-cpus-fixed", Severity.WARNING, guest(vcpus=(GuestVcpu(3, True, False),))),
        ("guest-cgroup-v1", Severity.WARNING, files(**{CGROUPS: "4:cpuset:/\n1:name=systemd:/"})),
        ("guest-isolated", Severity.WARNING, files(**{ISOLATED: "2-3\n"})),
        ("guest-isolated", Severity.WARNING, files(**{CMDLINE: "ro isolcpus=2"})),
        ("guest-nopvspin", Severity.WARNING, files(**{CMDLINE: "ro nopvspin"})),
        ("lock-signal-missing", Severity.WARNING, files(**{LOCK_HISTOGRAMS[0]: None})),
        ("guest-preferred", Severity.WARNING, files(**{PREFERRED: "0-1"})),
        ("guest-controller", Severity.WARNING, files(**{"/run/cpuplugd.pid": "77"})),
        (
            "guest-udev-online",
            Severity.WARNING,
            files(**{UDEV_RULES[0]: 'SUBSYSTEM=="cpu", ATTR{online}="1"'}),
        ),
        (
            "guest-udev-add",
            Severity.NOTE,
            files(**{UDEV_RULES[0]: 'SUBSYSTEM=="cpu", ACTION=="add", ATTR{online}="1"'}),
        ),
        ("guest-irqs-pinned", Severity.WARNING, files(affinities="affinity 24 3 eth0-TxRx-0")),
    ],
)
def test_what_is_wrong_with_a_domain(code: str, severity: Severity, wrong: dict[str, Any]) -> None:
    found = examine_domain(replace(GOOD, **wrong), GOOD_HOST)
    assert (code, severity) in {(one.code, one.severity) for one in found}
    assert all(one.remedy and one.subject == "db" for one in found)
    assert len(found) <= 2


def test_a_xen_hvm_guest_can_only_grow() -> None:
    host = replace(GOOD_HOST, driver="Xen")
    assert "xen-hvm" in codes(examine_domain(GOOD, host))
    pvh = replace(GOOD, features=Features(kind="xen", os_type="xenpvh"))
    assert "xen-hvm" not in codes(examine_domain(pvh, host))


def test_isolated_pcpus_matter_to_domains_that_may_run_there() -> None:
    host = replace(GOOD_HOST, isolated=frozenset({7}))
    assert "on-isolated-pcpus" in codes(examine_domain(GOOD, host))
    elsewhere = replace(GOOD, **xml(affinities=(frozenset({0, 1}),) * 4))
    assert "on-isolated-pcpus" not in codes(examine_domain(elsewhere, host))


def test_what_stands_in_the_way_of_an_observed_domain_is_no_error() -> None:
    observed = replace(GOOD, terms=Terms(), **xml(agent=AgentPort.ABSENT))
    found = examine_domain(observed, GOOD_HOST)
    assert "agent-missing" in codes(found)
    assert Severity.ERROR not in {finding.severity for finding in found}


def test_paravirtual_spinlocks_come_with_the_cpu_of_the_host() -> None:
    passed = replace(GOOD, **features(pvspinlock=None, host_passthrough=True))
    assert examine_domain(passed, GOOD_HOST) == ()


def test_features_are_read_from_the_domain_s_description() -> None:
    found = parse_features(
        "<domain type='kvm'><title>ERP</title><description>3 licences</description>"
        "<metadata><l:libosinfo xmlns:l='http://libosinfo.org/xmlns/libvirt/domain/1.0'>"
        "<l:os id='http://microsoft.com/win/11'/></l:libosinfo></metadata>"
        "<os><type>hvm</type></os><cputune><emulatorpin cpuset='0-1'/></cputune>"
        "<features><pvspinlock state='off'/><kvm><hint-dedicated state='on'/></kvm></features>"
        "<cpu mode='host-passthrough'><numa><cell id='0'/><cell id='1'/></numa></cpu></domain>"
    )
    assert (found.kind, found.os_type, found.pvspinlock) == ("kvm", "hvm", False)
    assert (found.hint_dedicated, found.host_passthrough, found.numa_cells) == (True, True, 2)
    assert found.emulator_pin == "0-1"
    assert found.os_id == "http://microsoft.com/win/11"
    assert "3 licences" in found.words


# ------------------------------------------------------------------------------- collecting


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


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_host_domain_and_guest_are_looked_at_and_nothing_is_changed(room: Room) -> None:
    (room.root / "disabled").touch()
    found = room.examine()
    assert found.domains == ("n-a",)
    assert {
        "daemon-down",
        "kill-switch",
        "other-controller",
        "realtime",
        "pvspinlock-off",
    } <= codes(found.findings)
    assert "guest-set-vcpus" not in room.guest.commands
    assert room.guest.handles == set(), "every file is closed again"
    text = found.text()
    assert "numad runs here" in text
    assert "-> " in text
    json.dumps(found.document())


def test_a_libvirt_that_does_not_answer_is_the_finding(room: Room) -> None:
    room.library.down = True
    found = room.examine()
    assert "libvirt-unreachable" in codes(found.findings)
    assert found.domains == ()
    with pytest.raises(UnreachableError, match="does not answer"):
        room.examine("n-a")


def test_a_domain_that_is_not_there_is_named_with_those_that_are(room: Room) -> None:
    with pytest.raises(UsageError, match="no running domain 'n-b'; did you mean 'n-a'"):
        room.examine("n-b")
    assert room.examine("a").domains == ("n-a",)


def test_without_the_right_to_change_the_guest_is_not_seen_and_that_is_said(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = room.library.open

    def read_only(*, writable: bool) -> StandInLink:
        if writable:
            raise CallFailed(Meaning.DENIED, "authentication unavailable")
        return opened(writable=False)

    monkeypatch.setattr(room.library, "open", read_only)
    found = room.examine()
    assert "libvirt-read-only" in codes(found.findings)
    assert ("n-a", "its guest") in {(one.subject, one.what) for one in found.unseen}
    assert room.guest.commands == []


def test_the_agent_of_a_domain_that_is_only_observed_is_asked_when_it_is_named(room: Room) -> None:
    room.settings = replace(room.settings, terms=TermsBook())
    assert ("n-a", "its guest") in {(one.subject, one.what) for one in room.examine().unseen}
    assert room.guest.commands == []
    room.examine("n-a")
    assert room.guest.commands


def test_a_hung_qemu_is_said_within_the_deadline(room: Room) -> None:
    room.guest.agent = "connected"
    release = room.library.release
    room.library.stopped.add("a")

    def hang(self: StandInLink, uuid: str) -> str:
        release.wait(5)
        return str(self._guest(uuid).xml())

    original = StandInLink.xml
    StandInLink.xml = hang  # type: ignore[method-assign]
    try:
        found = room.examine(deadline_s=0.05)
    finally:
        StandInLink.xml = original  # type: ignore[method-assign]
        release.set()
    assert any("no answer within" in one.why for one in found.unseen)


@pytest.mark.parametrize("whole", [False, True])
def test_after_a_hang_the_others_are_asked_only_while_libvirt_answers(
    room: Room, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    room.library = StandIn(*map(Guest, "abc"))
    asked, versions = [], []
    xml, release = StandInLink.xml, room.library.release

    def hang(self: StandInLink, uuid: str) -> str:
        asked.append(uuid)
        if uuid == "a":
            release.wait(5)
        return xml(self, uuid)

    def version(_: StandInLink) -> int:
        versions.append(1)
        if whole and asked:
            release.wait(5)
        return 9_000_000

    monkeypatch.setattr(StandInLink, "xml", hang)
    monkeypatch.setattr(StandInLink, "library_version", version)
    try:
        found = room.examine(deadline_s=0.2)
    finally:
        release.set()
    missed = {one.subject for one in found.unseen if one.why == "libvirt hangs"}
    assert missed == ({"n-b", "n-c"} if whole else set())
    assert asked == (["a"] if whole else ["a", "b", "c"])
    assert len(versions) == (2 if whole else 3)


def test_a_silent_agent_is_said(room: Room) -> None:
    room.guest.silent = True
    found = room.examine()
    assert any("not available" in one.why for one in found.unseen)


@pytest.mark.parametrize("blocked", ["guest-info", "guest-get-vcpus", "guest-file-open"])
def test_a_refused_command_is_said_and_the_rest_is_asked(room: Room, blocked: str) -> None:
    room.guest.blocked = frozenset({blocked})
    found = room.examine()
    assert any(one.subject == "n-a" for one in found.unseen)


def test_interrupts_bound_to_one_cpu_are_found_in_the_guest(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {
        INTERRUPTS: "      CPU0 CPU1\n 24:  5  0  PCI-MSI  eth0-TxRx-0\n 25: 1 1 virtio0-input.0",
        "/proc/irq/24/smp_affinity_list": "1\n",
    }
    told: Callable[[Guest, str], str] = Guest.answer

    def answer(self: Guest, command: str) -> str:
        import base64  # noqa: PLC0415

        request = json.loads(command)
        if request["execute"] == "guest-file-open":
            path = request["arguments"]["path"]
            if path not in content:
                raise CallFailed(Meaning.AGENT_FAILED, "No such file or directory")
            return json.dumps({"return": list(content).index(path)})
        if request["execute"] == "guest-file-read":
            text = list(content.values())[request["arguments"]["handle"]]
            return json.dumps({"return": {"buf-b64": base64.b64encode(text.encode()).decode()}})
        return told(self, command)

    monkeypatch.setattr(Guest, "answer", answer)
    found = room.examine()
    (finding,) = [one for one in found.findings if one.code == "guest-irqs-pinned"]
    assert "24 (eth0-TxRx-0) to 1" in finding.text
    assert "lock-signal-missing" in codes(found.findings)


# ------------------------------------------------------------------------------------- Xen

XEN_HOST = HostFacts(
    uri="xen:///system",
    backend="xen",
    driver="Xen",
    libvirt_version=9_000_000,
    hypervisor_version=4_017_000,
    daemon="",
    cgroup_unified=True,
    pcpus=frozenset(range(4)),
    xen=XenFacts(scheduler="credit2", dom0_weight=10_000, dom0_vcpus=2, heaviest=256),
)
XEN_DOMAIN = replace(
    GOOD,
    description=replace(GOOD_XML, kvm=False, agent=AgentPort.ABSENT, os_type="linux"),
    features=Features(kind="xen", os_type="linux"),
    share_unit=None,
    guest=None,
    xen=XenDomainFacts(scheduler="credit2", asked=4, online=4, reports=True, reports_locks=True),
)


def xen_facts(**wrong: Any) -> dict[str, Any]:
    assert XEN_HOST.xen is not None
    return {"xen": replace(XEN_HOST.xen, **wrong)}


def xen_domain(**wrong: Any) -> dict[str, Any]:
    assert XEN_DOMAIN.xen is not None
    return {"xen": replace(XEN_DOMAIN.xen, **wrong)}


def test_on_a_good_xen_host_only_what_is_worth_knowing_is_said() -> None:
    assert codes(examine_host(XEN_HOST)) == {"xen-scheduler"}
    assert codes(examine_domain(XEN_DOMAIN, XEN_HOST)) == {"xen-kind"}


@pytest.mark.parametrize(
    ("code", "severity", "wrong"),
    [
        ("backend-wrong", Severity.ERROR, {"backend": "libvirt"}),
        ("xen-scheduler-unknown", Severity.ERROR, xen_facts(scheduler="null")),
        ("dom0-weight", Severity.WARNING, xen_facts(dom0_weight=256)),
        ("dom0-vcpus", Severity.NOTE, xen_facts(dom0_vcpus=4)),
        ("xl-unusable", Severity.WARNING, xen_facts(xl="there is no xl here")),
        ("xl-unusable", Severity.ERROR, xen_facts(xl="no", ignore_host=True)),
        (
            "ignore-host-unusable",
            Severity.ERROR,
            xen_facts(ignore_host=True, ignore_host_works=False),
        ),
    ],
)
def test_what_is_wrong_with_a_xen_host(code: str, severity: Severity, wrong: Any) -> None:
    found = examine_host(replace(XEN_HOST, **wrong))
    assert (code, severity) in {(one.code, one.severity) for one in found}
    assert all(one.remedy for one in found)


@pytest.mark.parametrize(
    ("code", "severity", "wrong"),
    [
        ("xen-hvm", Severity.WARNING, {"features": Features(kind="xen", os_type="hvm")}),
        ("xen-cpus-not-online", Severity.WARNING, xen_domain(online=2)),
        ("xen-count-ignored", Severity.WARNING, xen_domain(asked=2)),
        ("xen-cap", Severity.NOTE, xen_domain(cap_pcpus=1.5)),
        ("xen-report-missing", Severity.WARNING, xen_domain(reports=False)),
        ("xen-report-absurd", Severity.ERROR, xen_domain(report_error="a report of 9 MB")),
        ("lock-signal-missing", Severity.WARNING, xen_domain(reports_locks=False)),
    ],
)
def test_what_is_wrong_with_a_domain_on_xen(code: str, severity: Severity, wrong: Any) -> None:
    found = examine_domain(replace(XEN_DOMAIN, **wrong), XEN_HOST)
    assert (code, severity) in {(one.code, one.severity) for one in found}
    assert all(one.remedy for one in found)


def test_a_guest_that_could_not_be_given_back_is_named_unless_the_way_was_tried_out() -> None:
    small = replace(XEN_HOST, pcpus=frozenset({0, 1}))
    assert "xen-no-way-back" in codes(examine_domain(XEN_DOMAIN, small))
    untried = replace(small, **xen_facts(ignore_host=True, ignore_host_works=False))
    assert "xen-no-way-back" in codes(examine_domain(XEN_DOMAIN, untried))
    tried = replace(small, **xen_facts(ignore_host=True, ignore_host_works=True))
    assert "xen-no-way-back" not in codes(examine_domain(XEN_DOMAIN, tried))


def test_a_xen_host_is_looked_at_and_nothing_is_changed(room: Room) -> None:
    guest = XenGuest("a", number=3, report=b"vcpud1 up=1 hz=100 run=1 lock=-")
    silent = XenGuest("b", number=4, online={0, 1}, weight=512)
    world = XenWorld(guest, silent, pcpus=2)
    roll = Roll()
    doctor = Doctor(
        replace(room.settings, backend="xen"),
        "xen:///system",
        lambda _: FakeXenLibrary(world, roll),
        root=room.root,
        xen=XenLook(tools=world, roll=roll, ignore_host=False),
    )
    found = doctor.examine()
    assert found.domains == ("n-a", "n-b")
    by_domain = {(one.subject, one.code) for one in found.findings}
    assert {
        ("host", "xen-scheduler"),
        ("host", "dom0-weight"),
        ("n-a", "xen-kind"),
        ("n-a", "xen-no-way-back"),
        ("n-a", "xen-report-absurd"),
        ("n-b", "xen-report-missing"),
        ("n-b", "xen-cpus-not-online"),
    } <= by_domain
    assert guest.requests == silent.requests == []
    assert "credit" in found.text()


def test_without_xl_the_doctor_says_what_it_could_not_see(room: Room) -> None:
    world = XenWorld(XenGuest("a"))
    world.xl = False
    roll = Roll()
    doctor = Doctor(
        replace(room.settings, backend="xen"),
        "xen:///system",
        lambda _: FakeXenLibrary(world, roll),
        root=room.root,
        xen=XenLook(tools=world, roll=roll, ignore_host=False),
    )
    assert ("host", "xl-unusable") in {(o.subject, o.code) for o in doctor.examine().findings}
