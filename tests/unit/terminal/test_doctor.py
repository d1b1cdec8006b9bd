"""Every finding of `vcpud doctor`: where it is made, where it is not, and what is not seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from unit.hypervisor.stand_in import Guest, StandIn, StandInLink
from unit.terminal.examined import GOOD, GOOD_GUEST, GOOD_HOST, GOOD_XML, Room, codes
from vcpud.doctor.facts import (
    DomainFacts,
    Features,
    HostFacts,
)
from vcpud.doctor.features import parse_features
from vcpud.doctor.findings import Severity
from vcpud.doctor.probes import examine_domain, examine_host
from vcpud.doctor.probes.guest import (
    CGROUPS,
    CMDLINE,
    INTERRUPTS,
    ISOLATED,
    NEEDED,
    PREFERRED,
    UDEV_RULES,
)
from vcpud.errors import UnreachableError, UsageError
from vcpud.hypervisor.agent import GuestVcpu
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.guestfiles import LOCK_HISTOGRAMS
from vcpud.hypervisor.xml import AgentPort
from vcpud.model import Mode, ShareUnit, Terms
from vcpud.terms import TermsBook


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
        ("ledger-elsewhere", Severity.ERROR, {"elsewhere": ("db of qemu:///session",)}),
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
        ("capped", Severity.NOTE, xml(cap_pcpus=1.5)),
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


def test_an_old_agent_that_may_read_files_lacks_nothing() -> None:
    commands = {**(GOOD_GUEST.commands or {})}
    del commands["guest-get-cpustats"]
    assert examine_domain(replace(GOOD, **guest(commands=commands)), GOOD_HOST) == ()


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


def test_who_stops_while_the_running_are_listed_hides_nobody_else(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.library.guests["b"] = Guest("b")
    named: Callable[[StandInLink, str], str] = StandInLink.name

    def name(link: StandInLink, uuid: str) -> str:
        if uuid == "b":
            raise CallFailed(Meaning.GONE, "no domain with matching uuid")
        return named(link, uuid)

    monkeypatch.setattr(StandInLink, "name", name)
    assert room.examine().domains == ("n-a",)


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
